"""Cases of graph_cut_bins: CIFAR-10 by class, one class against the published algorithm, random rows, growth with n."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from dq_fast.bench import torch_forms, ways
from dq_fast.bench.case import Call, Case, CheckError, Problem, Setting, Way
from dq_fast.bench.dense import dense_bins
from dq_fast.bench.inputs import CLASSES, cifar10, isotropic, mixture, outer
from dq_fast.bench.judge import RankingJudge, as_array, replay, shifted_similarity

N_BINS = 10
_ISOTROPIC, _QUICK_ISOTROPIC = (5000, 256), (400, 32)
_GROWTH, _GROWTH_WIDTH = (1250, 2500, 5000, 10000), 512
_QUICK_SHARE = 25  # of the rows, one is taken
_IMAGENET, _QUICK_IMAGENET = (1000, 1300), (12, 65)  # groups, rows of each
_SAMPLED = 8  # groups of these that are replayed


class _Judge:
    """Rankings as RankingJudge has it; first rows of similarity matrices; rankings without the last bin."""

    def __init__(self, inputs: ways.Rows) -> None:
        self.inputs = inputs
        self.whole = RankingJudge(self._similarity, inputs.bounds, inputs.sizes)

    def _similarity(self, g: int) -> Any:
        i, j = self.inputs.bounds[g], self.inputs.bounds[g + 1]
        return shifted_similarity([x[i:j] for x in self.inputs.factors], center=self.inputs.center)

    def __call__(self, result: Any) -> float:
        if isinstance(result, list):  # of torch-matrix
            if len(result) != len(self.inputs.bounds) - 1:
                raise CheckError(f"{len(result)} matrices where {len(self.inputs.bounds) - 1} were asked for")
            zero = np.zeros(1, dtype=np.int64)
            rows = [self._similarity(g).rows(zero)[0] for g in range(len(result))]
            # strict: a matrix of another size raises
            return max(float(np.abs(as_array(r) - w).max()) for r, w in zip(result, rows))  # noqa: B905
        if isinstance(result, np.ndarray):  # of the published algorithm: nine bins of one group
            return replay(self._similarity(0), result, self.inputs.sizes[0][:-1])[0]
        return self.whole(result)


def _problem(inputs: ways.Rows, source: str) -> Problem:
    n, widths = len(inputs.factors[0]), [x.shape[1] for x in inputs.factors]
    # any exact method needs the row sums: two reads, two products; and writes the ranking, the bins and the gains
    return Problem(
        inputs, _Judge(inputs), n, "x".join(map(str, widths)), len(inputs.bounds) - 1, "float32", source, inputs.bytes,
        bytes_floor=2 * inputs.bytes + 24 * n, flops_floor=4 * n * int(np.prod(widths)),
    )  # fmt: skip


def _cifar(setting: Setting, wide: bool, center: bool = False) -> Problem:
    e = cifar10(setting, wide)
    return _problem(ways.Rows([e.b, e.h], e.offsets, N_BINS, center=center), e.source)


def _one_class(setting: Setting) -> Problem:
    e = cifar10(setting, wide=True)
    b, h = e.of_class(0)
    return _problem(ways.Rows([b, h], torch.tensor([0, len(b)]), N_BINS), e.source)


def _isotropic(setting: Setting) -> Problem:
    x = isotropic(*(_QUICK_ISOTROPIC if setting.quick else _ISOTROPIC))
    return _problem(ways.Rows([x], torch.tensor([0, len(x)]), N_BINS), "normal rows")


def _growth(setting: Setting, n: int) -> Problem:
    rows = n // _QUICK_SHARE if setting.quick else n
    return _problem(
        ways.Rows(list(mixture(rows, _GROWTH_WIDTH, seed=0)), torch.tensor([0, rows]), N_BINS), "synthetic mixture"
    )


class _SampledJudge:
    """Some of many groups of equal length, as _Judge has it; of the others, that each row is picked once."""

    def __init__(self, inputs: ways.Rows) -> None:
        bounds = inputs.bounds
        self.rows, self.inputs = bounds[1], inputs
        chosen = np.unique(np.linspace(0, len(bounds) - 2, _SAMPLED).astype(int))
        self.sampled = {int(g): _Judge(self._group(int(g))) for g in chosen}

    def _group(self, g: int) -> ways.Rows:
        mine = slice(g * self.rows, (g + 1) * self.rows)
        return ways.Rows([x[mine] for x in self.inputs.factors], torch.tensor([0, self.rows]), self.inputs.n_bins)

    def __call__(self, result: Any) -> float:
        if isinstance(result, list):  # of torch-matrix
            return max(judge([result[g]]) for g, judge in self.sampled.items())
        parts = [as_array(x) for x in result] if isinstance(result, tuple) else [as_array(result)]
        groups = parts[0].reshape(-1, self.rows) - np.arange(len(self.inputs.bounds) - 1)[:, None] * self.rows
        if not (np.sort(groups, 1) == np.arange(self.rows)).all():
            raise CheckError("a group's ranking does not name each of its rows once")
        worst = 0.0
        for g, judge in self.sampled.items():
            mine = [groups[g], *(x[g * self.rows : (g + 1) * self.rows] for x in parts[1:])]
            worst = max(worst, judge(tuple(mine) if len(mine) > 1 else torch.from_numpy(mine[0])))
        return worst


def _imagenet(setting: Setting) -> Problem:
    groups, rows = _QUICK_IMAGENET if setting.quick else _IMAGENET
    parts = [mixture(rows, _GROWTH_WIDTH, seed=g, label=g % CLASSES) for g in range(groups)]
    b, h = (torch.cat(x) for x in zip(*parts))  # noqa: B905
    inputs = ways.Rows([b, h], torch.arange(groups + 1) * rows, N_BINS)
    problem = _problem(inputs, "synthetic mixture")
    problem.judge = _SampledJudge(inputs)
    return problem


def _batched(p: ways.Rows) -> Call:
    return lambda: torch_forms.batched_bins(p.factors, p.bounds[1], p.sizes[0])


def _published(p: ways.Rows) -> Call:
    gradients = outer(*p.factors).numpy()
    return lambda: dense_bins(gradients, p.n_bins)


_NATIVE: dict[str, Way] = {name: ways.bins(method) for name, method in ways.METHODS.items()}
_NATIVE["native-gram-float32"] = ways.bins_float32
_TORCH: dict[str, Way] = {"torch": ways.bins_torch, "torch-gram": ways.gram}
_MATRIX: dict[str, Way] = {"torch-matrix": ways.Matrices}
_LOOP: dict[str, Way] = {"torch-incremental": ways.incremental}


def _case(name: str, about: str, make: Callable[[Setting], Problem], found: dict[str, Way]) -> Case:
    return Case(f"graph_cut_bins/{name}", about, make, found)


def _without(found: dict[str, Way], *names: str) -> dict[str, Way]:
    return {name: way for name, way in found.items() if name not in names}


CASES = [
    _case(
        "cifar10-10x65",
        "all of CIFAR-10, ten classes, ten bins, full ranking, factors 10 and 65",
        partial(_cifar, wide=False),
        {**_NATIVE, **_TORCH, **_MATRIX, **_LOOP},
    ),
    _case(
        "cifar10-10x513",
        "all of CIFAR-10, ten classes, ten bins, full ranking, factors 10 and 513",
        partial(_cifar, wide=True),
        {**_without(_NATIVE, "native-naive"), **_TORCH, **_MATRIX},
    ),
    _case(
        "cifar10-10x65-center",
        "all of CIFAR-10, ten classes, ten bins, full ranking, factors 10 and 65, centred",
        partial(_cifar, wide=False, center=True),
        {"native": _NATIVE["native"], "torch": ways.bins_torch},
    ),
    _case(
        "cifar10-class0-10x513",
        "one class of CIFAR-10, ten bins (the published algorithm picks nine), factors 10 and 513",
        _one_class,
        {**_NATIVE, **_TORCH, **_MATRIX, **_LOOP, "published": _published},
    ),
    _case("isotropic", "random rows, ten bins, one group", _isotropic, {**_NATIVE, **_TORCH, **_LOOP}),
    *(
        _case(
            f"growth-{n}",
            f"made-up mixture of {n:,} rows, ten bins, factors 10 and {_GROWTH_WIDTH + 1}",
            partial(_growth, n=n),
            {"native": _NATIVE["native"], **_TORCH, **_LOOP},
        )
        for n in _GROWTH
    ),
    Case(
        "graph_cut_bins/imagenet-1000x1300",
        "made-up groups as many and as long as ImageNet-1K's classes, ten bins, factors 10 and 513",
        _imagenet,
        {"native": _NATIVE["native"], **_MATRIX, "torch-batched": _batched},
        only="cuda",
    ),
]
