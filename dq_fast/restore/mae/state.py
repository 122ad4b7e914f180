"""What a training has to remember to go on where it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.files import atomic_write
from dq_fast.restore.mae.model import MAE
from dq_fast.restore.mae.recipe import MAERecipe

STATE_FILE = "state.safetensors"
_BETAS = (0.9, 0.95)  # as published for MAE
_EMA_START = 10  # the mean forgets its start within so many updates


class TrainingState:
    """Weights, AdamW's moments, the running mean of the weights, and the log of a training.

    Args:
        model: trained in place.
        recipe: of the training.
    """

    def __init__(self, model: MAE, recipe: MAERecipe) -> None:
        self.model, self.recipe = model, recipe
        self.step = 0
        self.losses = 0.0  # since the last row of the log
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.names = [name for name, _ in model.named_parameters()]
        self.parameters = [parameter for _, parameter in model.named_parameters()]
        self.mean = [parameter.detach().clone() for parameter in self.parameters]
        matrices = [p for p in self.parameters if p.ndim >= 2 and min(p.shape[:2]) > 1]
        others = [p for p in self.parameters if not (p.ndim >= 2 and min(p.shape[:2]) > 1)]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=recipe.lr,
            betas=_BETAS,
            foreach=True,
        )

    def update(self, loss: Tensor, lr: float) -> None:
        """One step of AdamW, and of the running mean."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        decay = min(self.recipe.ema, self.step / (self.step + _EMA_START))  # no decay: the weights themselves
        with torch.no_grad():
            torch._foreach_lerp_(
                self.mean, [p.detach() for p in self.parameters], 1 - decay if self.recipe.ema else 1.0
            )

    @contextlib.contextmanager
    def mean_weights(self) -> Iterator[None]:
        """The model with the running mean of its weights, in eval mode, for a while."""
        own = [parameter.detach().clone() for parameter in self.parameters]
        self.use_mean()
        self.model.eval()
        try:
            yield
        finally:
            self._set(own)
            self.model.train()

    def use_mean(self) -> None:
        """Give the model the running mean of its weights for good."""
        self._set(self.mean)

    def _set(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.copy_(value)

    def save(self, folder: Path, parameters: dict[str, Any]) -> None:
        """Write the state, whole or not at all."""
        from safetensors.torch import save

        tensors: dict[str, Tensor] = {}
        for name, parameter, mean in zip(self.names, self.parameters, self.mean, strict=True):
            tensors[f"weight.{name}"], tensors[f"mean.{name}"] = parameter.detach(), mean
            moments = self.optimizer.state.get(parameter, {})
            for key in ("exp_avg", "exp_avg_sq"):
                if key in moments:
                    tensors[f"{key}.{name}"] = moments[key]
        own = {"step": self.step, "losses": self.losses, "seconds": self.seconds, "history": self.history}
        tensors = {key: value.to("cpu").contiguous().clone() for key, value in tensors.items()}
        metadata = {"dq_fast": json.dumps({"parameters": parameters, "state": own})}
        with atomic_write(folder / STATE_FILE) as file:
            file.write(save(tensors, metadata=metadata))

    def resume(self, folder: Path, parameters: dict[str, Any]) -> None:
        """Go on with the state in the folder, if there is one.

        Raises:
            InputError: it belongs to a training with other parameters, or is broken.
        """
        path = folder / STATE_FILE
        if not path.is_file():
            return
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                saved = json.loads(file.metadata()["dq_fast"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            other = _differing(saved["parameters"], json.loads(json.dumps(parameters)))
            if other:
                raise InputError(
                    f"{folder} holds an unfinished training with another {', '.join(other)}: "
                    f"give the same options to continue it, or another OUT"
                )
            for name, parameter, mean in zip(self.names, self.parameters, self.mean, strict=True):
                with torch.no_grad():
                    parameter.copy_(tensors[f"weight.{name}"])
                    mean.copy_(tensors[f"mean.{name}"])
                if saved["state"]["step"]:
                    self.optimizer.state[parameter] = {
                        "step": torch.tensor(float(saved["state"]["step"])),
                        **{key: tensors[f"{key}.{name}"].to(parameter.device) for key in ("exp_avg", "exp_avg_sq")},
                    }
        except (SafetensorError, KeyError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is broken ({error}): delete it to start over") from None
        for name, value in saved["state"].items():
            setattr(self, name, value)

    @staticmethod
    def forget(folder: Path) -> None:
        """Delete the state: the training is done."""
        (folder / STATE_FILE).unlink(missing_ok=True)


def _differing(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of what differs between two JSON objects."""
    found: list[str] = []
    for key in sorted(a.keys() | b.keys()):
        if isinstance(a.get(key), dict) and isinstance(b.get(key), dict):
            found += _differing(a[key], b[key], f"{prefix}{key}.")
        elif a.get(key) != b.get(key):
            found.append(prefix + key)
    return found
