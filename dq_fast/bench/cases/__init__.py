"""All cases, in the order in which they are run."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from dq_fast.bench.case import Case
from dq_fast.bench.cases import graph_cut_bins, graph_cut_greedy, patch_scores, row_sums, tiny
from dq_fast.errors import InputError

CASES: dict[str, Case] = {
    case.name: case
    for module in (row_sums, graph_cut_bins, graph_cut_greedy, patch_scores, tiny)
    for case in module.CASES
}


def select(patterns: Sequence[str]) -> list[Case]:
    """The cases whose names are, start with, or match as a shell pattern, one of the texts; all of them for none."""
    if not patterns:
        return list(CASES.values())
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in CASES):
            raise InputError(f"case must be one of {', '.join(CASES)}, or the beginning of one, got {pattern!r}")
    return [case for name, case in CASES.items() if any(_matches(name, p) for p in patterns)]


def _matches(name: str, pattern: str) -> bool:
    if pattern in CASES:
        return name == pattern
    return name.startswith(pattern) or fnmatch.fnmatchcase(name, pattern)
