"""Samples: bins of diverse samples, and uniform draws from them."""

from dq_fast.select.quantizer import SampleQuantizer
from dq_fast.select.samplers import draw, quotas

__all__ = ["SampleQuantizer", "draw", "quotas"]
