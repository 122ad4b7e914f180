"""Samplers: how many of each bin and class, and which of them."""

from dq_fast.select.samplers.active import active_class_counts
from dq_fast.select.samplers.draws import draw
from dq_fast.select.samplers.importance import bin_importance
from dq_fast.select.samplers.rates import (
    SAMPLERS,
    Sampler,
    adq_rates,
    class_difficulty,
    difficulty_rates,
    early_weights,
)
from dq_fast.select.samplers.shares import quotas

__all__ = [
    "SAMPLERS",
    "Sampler",
    "active_class_counts",
    "adq_rates",
    "bin_importance",
    "class_difficulty",
    "difficulty_rates",
    "draw",
    "early_weights",
    "quotas",
]
