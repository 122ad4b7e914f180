"""Plans: how rows will be ranked within a limit of memory, and what it will take."""

from dq_fast.select.plan.bins import ALGORITHMS, plan_bins
from dq_fast.select.plan.memory import parse_bytes
from dq_fast.select.plan.plan import Plan

__all__ = ["ALGORITHMS", "Plan", "parse_bytes", "plan_bins"]
