"""Cases of graph_cut_greedy: a tenth of all CIFAR-10 in one group, a given matrix against packages, random rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dq_fast import ops
from dq_fast.bench import ways
from dq_fast.bench.case import Call, Case, Problem, Setting, Way
from dq_fast.bench.inputs import cifar10, isotropic, mixture, outer
from dq_fast.bench.judge import RankingJudge, given_similarity, shifted_similarity
from dq_fast.bench.packages import apricot_greedy, submodlib_greedy, triton_greedy
from dq_fast.bench.torch_forms import matrix_bins
from dq_fast.ops import registry

_GIVEN, _QUICK_GIVEN = (5000, 500), (400, 40)
_ISOTROPIC, _QUICK_ISOTROPIC = (10_000, 256, 1000), (600, 32, 60)


def _problem(inputs: ways.Rows, source: str) -> Problem:
    n, widths = len(inputs.factors[0]), [x.shape[1] for x in inputs.factors]
    judge = RankingJudge(lambda g: shifted_similarity(inputs.factors), inputs.bounds, inputs.sizes)
    return Problem(
        inputs, judge, n, "x".join(map(str, widths)), 1, "float32", source, inputs.bytes,
        bytes_floor=2 * inputs.bytes, flops_floor=4 * n * int(np.prod(widths)),
    )  # fmt: skip


def _all_cifar(setting: Setting, product: bool) -> Problem:
    e = cifar10(setting)
    n = len(e.b)
    factors = [outer(e.b, e.h)] if product else [e.b, e.h]
    return _problem(ways.Rows(factors, torch.tensor([0, n]), budget=n // 10), e.source)


def _isotropic(setting: Setting) -> Problem:
    n, d, budget = _QUICK_ISOTROPIC if setting.quick else _ISOTROPIC
    return _problem(ways.Rows([isotropic(n, d)], torch.tensor([0, n]), budget=budget), "normal rows")


@dataclass
class _Given:
    """A similarity matrix float32 [n, n], ones on its diagonal, and how many rows are picked."""

    similarity: Tensor
    budget: int

    def to(self, device: torch.device) -> _Given:
        """On a device."""
        return _Given(self.similarity.to(device), self.budget)


def _given(setting: Setting) -> Problem:
    n, budget = _QUICK_GIVEN if setting.quick else _GIVEN
    if setting.data:
        e = cifar10(setting)
        b, h, source = e.b[:n], e.h[:n], e.source + ", first class"
    else:
        b, h = mixture(n, 64, seed=0)
        source = "synthetic mixture"
    n, budget = len(b), min(budget, len(b) // 10)
    s = torch.from_numpy(shifted_similarity([b, h]).rows(np.arange(n))).float()
    s = torch.maximum(s, s.T).fill_diagonal_(1)  # the packages subtract s_ii, which then is the same for all
    judge = RankingJudge(lambda g: given_similarity(s.numpy()), [0, n], [[budget]])
    return Problem(
        _Given(s, budget), judge, n, str(n), 1, "float32", source, s.numel() * 4,
        bytes_floor=s.numel() * 4, flops_floor=0,
    )  # fmt: skip


def _native(p: _Given) -> Call:
    return lambda: ops.graph_cut_greedy(None, p.budget, similarity=p.similarity)


def _torch(p: _Given) -> Call:
    definition = registry.reference("graph_cut_greedy")
    offsets = torch.tensor([0, len(p.similarity)])
    return lambda: definition([], p.similarity, offsets, [p.budget], 1.0, True, False, "auto")


_NATIVE: dict[str, Way] = {name: ways.greedy(method) for name, method in ways.METHODS.items()}
_TORCH: dict[str, Way] = {"torch": ways.greedy_torch}
_LOOP: dict[str, Way] = {"torch-incremental": ways.incremental}


def _case(name: str, about: str, make: Callable[[Setting], Problem], found: dict[str, Way]) -> Case:
    return Case(f"graph_cut_greedy/{name}", about, make, found)


CASES = [
    _case(
        "5000-of-50000x650",
        "a tenth of all CIFAR-10 in one group, 650 numbers a row",
        partial(_all_cifar, product=True),
        {"native": _NATIVE["native"], "native-lazy": _NATIVE["native-lazy"], **_TORCH, **_LOOP},
    ),
    _case(
        "5000-of-50000x10x65",
        "the same, given as its factors 10 and 65",
        partial(_all_cifar, product=False),
        {"native": _NATIVE["native"], "native-lazy": _NATIVE["native-lazy"], **_TORCH, **_LOOP},
    ),
    _case(
        "500-of-5000-given",
        "a tenth of a given similarity matrix",
        _given,
        {
            "native": _native,
            "torch": _torch,
            "torch-gram": lambda p: lambda: torch.tensor(matrix_bins(p.similarity, [p.budget])),
            "apricot": lambda p: apricot_greedy(p.similarity, p.budget),
            "submodlib": lambda p: submodlib_greedy(p.similarity, p.budget),
            "submodlib-built": lambda p: submodlib_greedy(p.similarity, p.budget, built=True),
            "triton-submodular": lambda p: triton_greedy(p.similarity, p.budget, "LazyGreedyTriton"),
            "triton-submodular-naive": lambda p: triton_greedy(p.similarity, p.budget, "NaiveGreedyTriton"),
        },
    ),
    _case(
        "isotropic",
        "a tenth of random rows",
        _isotropic,
        {**_NATIVE, **_TORCH, "torch-gram": ways.gram, **_LOOP},
    ),
]
