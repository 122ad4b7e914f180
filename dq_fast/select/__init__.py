"""Samples: bins of diverse samples and draws from them, and other selection methods on the same embeddings.

Each part uses those before it only:

    rows, groups, settings   what there is to choose from, and by which rules
    dots, plan, ranking      bins: graph cut on raw dot products; how it will be done; doing it
    methods, samplers        other selection methods; draws from bins
    official                 the published code's bins, draws and files
    certificate, partition   picks looked at again; rows added and taken out
    presets, quantizer       `SampleQuantizer`, the one estimator that offers it all
"""

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
