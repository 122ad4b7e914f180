"""Marks of tests."""

from __future__ import annotations

import pytest

from dq_fast.ops import registry

_BACKEND = registry.backends()["graph_cut_bins"]["cpu"]

native = pytest.mark.skipif(
    _BACKEND.serves != "native",
    reason=f"its limits of memory are chosen for the native code, which takes less than torch; {_BACKEND.detail}",
)
