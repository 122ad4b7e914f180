"""Tiny inputs: what a call costs where there is nothing to do."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from dq_fast import ops
from dq_fast.bench import ways
from dq_fast.bench.case import Call, Case, Problem, Setting, Way
from dq_fast.bench.inputs import isotropic
from dq_fast.bench.judge import RankingJudge, relative_error, shifted_similarity
from dq_fast.ops import registry

_ROWS, _WIDTH, _BINS, _BUDGET = 8, 4, 2, 2
_MAPS = (1, 4, 2, 2)

# The arguments after the tensors, as the ops' schemas have them.
_SETTINGS = (1.0, True, False, "auto")


def _rows(setting: Setting, op: str) -> Problem:
    x = isotropic(_ROWS, _WIDTH)
    inputs = ways.Rows([x], torch.tensor([0, _ROWS]), n_bins=_BINS if op == "graph_cut_bins" else 0, budget=_BUDGET)
    if op == "cosine_row_sums":
        judge: Any = partial(relative_error, want=shifted_similarity([x]).sums)
    else:
        judge = RankingJudge(lambda g: shifted_similarity([x]), inputs.bounds, inputs.sizes)
    return Problem(
        inputs, judge, _ROWS, str(_WIDTH), 1, "float32", "normal rows", inputs.bytes, exact_tolerance=1e-6
    )  # fmt: skip


def _maps(setting: Setting) -> Problem:
    a = torch.ones(_MAPS)
    g = torch.ones(_MAPS[:2])
    # all ones: S = 4, weight = 4 / (2 + 4) a channel, four channels
    want = np.full((1, 2, 2), 4 * 4 / 6)
    return Problem(
        (a, g), partial(relative_error, want=want), 1, "4x2x2", 1, "float32", "ones", 80, exact_tolerance=1e-6
    )  # fmt: skip


def _arguments(op: str, p: Any) -> tuple[Any, ...]:
    """As torch.ops and the definitions take them."""
    if op == "patch_scores":
        return (*p, 2, 2, 0)
    if op == "cosine_row_sums":
        return (p.factors, p.offsets, True, False)
    count = p.n_bins if op == "graph_cut_bins" else [p.budget]
    return (p.factors, None, p.offsets, count, *_SETTINGS)


def _public(op: str) -> Way:
    def way(p: Any) -> Call:
        if op == "patch_scores":
            a, g = p
            return lambda: ops.patch_scores(a, g, (2, 2))
        if op == "cosine_row_sums":
            x = p.factors[0]
            return lambda: ops.cosine_row_sums(x)
        x, count = p.factors[0], p.n_bins or p.budget
        function = getattr(ops, op)
        return lambda: function(x, count)

    return way


def _dispatch(op: str) -> Way:
    def way(p: Any) -> Call:
        function, arguments = getattr(torch.ops.dq_fast, op).default, _arguments(op, p)
        return lambda: function(*arguments)

    return way


def _definition(op: str) -> Way:
    def way(p: Any) -> Call:
        function, arguments = registry.reference(op), _arguments(op, p)
        return lambda: function(*arguments)

    return way


CASES = [
    Case(
        f"{op}/tiny",
        "a call on a tiny input",
        _maps if op == "patch_scores" else partial(_rows, op=op),
        {"native": _public(op), "native-dispatch": _dispatch(op), "torch": _definition(op)},
        cold=False,
    )
    for op in ("cosine_row_sums", "graph_cut_greedy", "graph_cut_bins", "patch_scores")
]
