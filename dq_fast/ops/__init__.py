"""The kernels as torch ops: each is defined in torch, which serves everywhere, and native where that is faster."""

from dq_fast.ops.graph_cut import graph_cut_bins, graph_cut_greedy
from dq_fast.ops.patch_scores import patch_scores
from dq_fast.ops.precision import similarity_precision
from dq_fast.ops.registry import Backend, backends
from dq_fast.ops.row_sums import cosine_row_sums

__all__ = [
    "Backend",
    "backends",
    "cosine_row_sums",
    "graph_cut_bins",
    "graph_cut_greedy",
    "patch_scores",
    "similarity_precision",
]
