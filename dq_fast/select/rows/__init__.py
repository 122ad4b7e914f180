"""Rows: whatever holds them, as tensors over files larger than memory; rows of some groups brought together."""

from dq_fast.select.rows.factors import Factors, as_factors

__all__ = ["Factors", "as_factors"]
