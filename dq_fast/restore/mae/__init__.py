"""Restoration by a masked autoencoder (MAE, He et al. 2022): published weights, or a small one trained here."""

from __future__ import annotations

from dq_fast.restore.mae.checkpoints import load_mae, save_mae
from dq_fast.restore.mae.fill import MAEFill
from dq_fast.restore.mae.model import MAE, MAEConfig
from dq_fast.restore.mae.recipe import MAERecipe
from dq_fast.restore.mae.training import MAETraining, train_mae

__all__ = ["MAE", "MAEConfig", "MAEFill", "MAERecipe", "MAETraining", "load_mae", "save_mae", "train_mae"]
