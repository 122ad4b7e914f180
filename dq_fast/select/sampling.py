"""Moved to `dq_fast.select.samplers`."""

from dq_fast.select.samplers import draw, quotas

__all__ = ["draw", "quotas"]
