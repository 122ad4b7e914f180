"""Samples: bins of diverse samples and draws from them, and other selection methods on the same embeddings."""

from dq_fast.select.groups import Groups, kmeans_groups
from dq_fast.select.methods import METHODS, Evidence, select
from dq_fast.select.presets import PRESETS
from dq_fast.select.quantizer import SampleQuantizer
from dq_fast.select.samplers import SAMPLERS, draw, quotas

__all__ = [
    "METHODS",
    "PRESETS",
    "SAMPLERS",
    "Evidence",
    "Groups",
    "SampleQuantizer",
    "draw",
    "kmeans_groups",
    "quotas",
    "select",
]
