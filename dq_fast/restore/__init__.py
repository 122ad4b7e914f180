"""Whole images from a store: patches put back by their keys, the dropped ones filled."""

from __future__ import annotations

from dq_fast.restore.fill import FILLS, Fill, make_fill
from dq_fast.restore.images import Store, open

__all__ = ["FILLS", "Fill", "Store", "make_fill", "open"]
