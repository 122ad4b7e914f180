"""Cases of graph_cut_bins: CIFAR-10 by class, one class against the published algorithm, random rows, growth with n."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from dq_fast.bench import ways
from dq_fast.bench.case import Call, Case, CheckError, Problem, Setting, Way
from dq_fast.bench.dense import dense_bins
from dq_fast.bench.inputs import cifar10, isotropic, mixture, outer
from dq_fast.bench.judge import RankingJudge, as_array, replay, shifted_similarity

N_BINS = 10
_ISOTROPIC, _QUICK_ISOTROPIC = (5000, 256), (400, 32)
_GROWTH, _GROWTH_WIDTH = (1250, 2500, 5000, 10000), 512
_QUICK_SHARE = 25  # of the rows, one is taken


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


def _published(p: ways.Rows) -> Call:
    gradients = outer(*p.factors).numpy()
    return lambda: dense_bins(gradients, p.n_bins)


_NATIVE: dict[str, Way] = {name: ways.bins(method) for name, method in ways.METHODS.items()}
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
]
