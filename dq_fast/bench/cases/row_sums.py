"""Cases of cosine_row_sums: one factor in several types and sizes, two factors by class."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from dq_fast.bench import torch_forms, ways
from dq_fast.bench.case import Call, Case, Problem, Setting
from dq_fast.bench.inputs import cifar10, isotropic
from dq_fast.bench.judge import Array, relative_error, shifted_similarity, sum_of, unit_rows

_ROWS, _WIDTH = 200_000, 512
_QUICK_SHARE = 40  # of the rows, one is taken
_GROWTH = (2_000, 20_000)
_SAMPLED = 128  # rows whose sums are also taken over all pairs, by the definition
_CHUNK = 8192

# Sums of float64 numbers over float32 products differ from the definition by that much of the largest sum.
_EXACT, _SINGLE = 1e-6, 1e-4


def _linear(x: torch.Tensor) -> Array:
    """Row sums of 1/2 + 1/2 cos in float64, in chunks: the definition's linear form."""
    n = len(x)
    pieces = [slice(i, i + _CHUNK) for i in range(0, n, _CHUNK)]
    total = np.add.reduce([unit_rows(x[p]).sum(0) for p in pieces])
    return 0.5 * n + 0.5 * np.concatenate([unit_rows(x[p]) @ total for p in pieces])


def _one_factor(setting: Setting, rows: int, dtype: torch.dtype) -> Problem:
    n = rows // _QUICK_SHARE if setting.quick else rows
    # a common direction, so that the sums are not all noise about n / 2
    x = (isotropic(n, _WIDTH) + 0.5).to(dtype)
    want = _linear(x)
    sample = np.linspace(0, n - 1, min(n, _SAMPLED)).astype(int)
    chosen, by_pairs = unit_rows(x[torch.from_numpy(sample)]), np.zeros(len(sample))
    for i in range(0, n, _CHUNK):
        by_pairs += (0.5 + 0.5 * (chosen @ unit_rows(x[i : i + _CHUNK]).T)).sum(1)
    assert np.allclose(by_pairs, want[sample], rtol=1e-9)  # the definition and its linear form: REFERENCE, section 1
    inputs = ways.Rows([x], torch.tensor([0, n]))
    return Problem(
        inputs, partial(relative_error, want=want), n, str(_WIDTH), 1, str(dtype).removeprefix("torch."),
        "normal rows around a common direction", inputs.bytes,
        bytes_floor=2 * inputs.bytes, flops_floor=4 * n * _WIDTH, exact_tolerance=_EXACT, single_tolerance=_SINGLE,
    )  # fmt: skip


def _two_factors(setting: Setting, wide: bool, center: bool = False) -> Problem:
    e = cifar10(setting, wide)
    inputs = ways.Rows([e.b, e.h], e.offsets, center=center)
    bounds = inputs.bounds
    want = []
    for i, j in pairwise(bounds):
        group = shifted_similarity([e.b[i:j], e.h[i:j]], center=center)
        want.append(sum_of(group.rows, np.arange(j - i)))
    n, d1, d2 = len(e.b), e.b.shape[1], e.h.shape[1]
    return Problem(
        inputs, partial(relative_error, want=np.concatenate(want)), n, f"{d1}x{d2}", len(bounds) - 1, "float32",
        e.source, inputs.bytes, bytes_floor=2 * inputs.bytes, flops_floor=4 * n * d1 * d2,
        exact_tolerance=_EXACT, single_tolerance=_SINGLE,
    )  # fmt: skip


def _torch_linear(p: ways.Rows) -> Call:
    if len(p.factors) == 1:
        return lambda: torch_forms.linear_row_sums(p.factors[0])
    b, h = p.factors
    return lambda: torch_forms.linear_factor_sums(b, h, p.bounds)


def _case(name: str, about: str, make: Callable[[Setting], Problem], *, linear: bool = True) -> Case:
    found: dict[str, Any] = {"native": ways.row_sums, "torch": ways.row_sums_torch}
    if linear:
        found["torch-linear"] = _torch_linear
    return Case(f"cosine_row_sums/{name}", about, make, found)


CASES = [
    *(
        _case(
            f"{_ROWS}x{_WIDTH}-{str(dtype).removeprefix('torch.')}",
            f"one factor, {_ROWS:,} x {_WIDTH}, {str(dtype).removeprefix('torch.')}",
            partial(_one_factor, rows=_ROWS, dtype=dtype),
        )
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    ),
    _case("cifar10-10x65", "CIFAR-10 by class, factors 10 and 65", partial(_two_factors, wide=False)),
    _case("cifar10-10x513", "CIFAR-10 by class, factors 10 and 513", partial(_two_factors, wide=True)),
    _case(
        "cifar10-10x65-center",
        "CIFAR-10 by class, factors 10 and 65, centred",
        partial(_two_factors, wide=False, center=True),
        linear=False,
    ),
    *(
        _case(f"growth-{n}", f"one factor, {n:,} x {_WIDTH}", partial(_one_factor, rows=n, dtype=torch.float32))
        for n in _GROWTH
    ),
]
