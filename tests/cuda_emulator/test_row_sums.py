"""Cosine row sums, and the rows that graph cut asks for, on the emulated CUDA kernels against float64 definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dq_fast import ops
from dq_fast.errors import InputError
from dq_fast.ops.cuda import rows as cuda_rows
from dq_fast.ops.cuda.rows import Rows
from dq_fast.ops.embedding import Centre, Group, merged

from ..ops.exhaustive import similarities
from ..ops.inputs import HARD, gradient_like
from .conftest import ORDERS

HALVES = (torch.float16, torch.bfloat16)
DTYPES = (torch.float32, *HALVES)
FORWARD = pytest.mark.parametrize("emulated", ["forward"], indirect=True)


def plainly(value):
    """A parameter for the plain build only: a sanitizer sees nothing in it that it does not see in others."""
    return pytest.param(value, id=f"{value}-plain_only")


ORDERLY = pytest.mark.parametrize("emulated", ["forward", plainly("reverse"), plainly("random")], indirect=True)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unaligned(x, by=1):
    """The same rows, contiguous, `by` elements behind an address that is a multiple of 16."""
    flat = torch.empty(x.numel() + 16, dtype=x.dtype)
    start = (-flat.data_ptr() // x.element_size()) % (16 // x.element_size()) + by
    out = flat[start : start + x.numel()].view(x.shape)
    return out.copy_(x)


def definition(factors, offsets, shifted=True, center=False):
    """Sums over the explicit matrix of each group, numpy float64."""
    parts = [np.zeros(0)]
    for begin, end in itertools.pairwise(offsets):
        parts.append(similarities([x[begin:end].double().numpy() for x in factors], shifted, center).sum(1))
    return np.concatenate(parts)


def check(out, want, n):
    assert out.dtype == torch.float64
    np.testing.assert_allclose(out.numpy(), want, rtol=1e-12, atol=1e-11 * max(1, n))


@ORDERLY
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("shifted", [plainly(False), True])
@pytest.mark.parametrize("name", HARD)
def test_hard_inputs(emulated, name, shifted, center):
    factors, offsets = HARD[name]
    out = ops.cosine_row_sums(tuple(factors), offsets=offsets, shifted=shifted, center=center)
    check(out, definition(factors, offsets, shifted, center), len(out))
    ours = len(factors) <= 2 and len(out) > 0
    assert emulated.launched("add_rows") >= ours
    assert bool(emulated.launches()) == ours  # three factors, and no rows, launch nothing


WIDTHS = {  # width -> what is special about it
    1: "a number", 3: "odd", 8: "16 bytes", 33: "8 slices no more", 64: "4 slices", 65: "2 slices", 129: "one slice",
    257: "two columns a thread", 513: "eight", 1030: "fewer rows a tile than teams", 2049: "many columns a thread",
}  # fmt: skip


@FORWARD
@pytest.mark.parametrize("by", [plainly(0), 1, plainly(3)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("d", WIDTHS)
def test_widths_types_and_alignments(emulated, d, dtype, by):
    n = 71 if d < 1000 else 37
    x = unaligned(randn(n, d, seed=d).to(dtype), by)
    x[n // 2] = 0
    for center in (False, True):
        check(ops.cosine_row_sums(x, center=center), definition([x], [0, n], center=center), n)


@ORDERLY
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_too_wide_for_shared_memory(emulated, dtype):
    x, offsets = unaligned(randn(5, 6147).to(dtype)), [0, 3, 3, 5]
    x[2] = 0
    for center in (False, True):
        out = ops.cosine_row_sums(x, offsets=offsets, center=center)
        check(out, definition([x], offsets, center=center), 5)
    assert emulated.launched("add_wide_rows") == 3  # the mean takes one more
    assert emulated.launched("add_rows") == 0


@FORWARD
@pytest.mark.parametrize("shape", [(2600, 3), plainly((3200, 40)), plainly((300, 500))])
def test_many_parts(emulated, shape):
    n, d = shape
    x = randn(n, d, seed=n) + 0.5
    for center in (False, True):
        check(ops.cosine_row_sums(x, center=center), definition([x], [0, n], center=center), n)
    assert emulated.launched("add_parts<32>") == (d != 500) * 3


@ORDERLY
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("two", [False, True])
def test_groups_of_all_sizes(emulated, two, center):
    offsets = [0, 0, 1, 3, 3, 40, 41, 105, 105]
    x = randn(105, 45, seed=3)
    x[1:3] = 1  # a group of equal rows
    factors = (x[:, :7], x[:, 7:]) if two else (x,)
    out = ops.cosine_row_sums(factors, offsets=offsets, center=center)
    check(out, definition(factors, offsets, center=center), 105)


@FORWARD
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(
    "dtypes", [d if d[0] == d[1] else plainly(d) for d in itertools.product(DTYPES, DTYPES)], ids=str
)
def test_two_factors_of_all_types(emulated, dtypes, center, monkeypatch):
    monkeypatch.setattr(cuda_rows, "_CHUNK_NUMBERS", 2000)  # several chunks
    for d1, kernel in ((6, "narrow_dots"), (17, "pair_dots")):
        b, h = gradient_like(70, d1, 40, 5)
        factors = (unaligned(h.to(dtypes[0])), b.to(dtypes[1]))
        check(ops.cosine_row_sums(factors, center=center), definition(factors, [0, 70], center=center), 70)
        assert emulated.launched(kernel) >= 1
        assert emulated.launched("centred_norms") > 1 or not center


@FORWARD
def test_float64_rows_go_to_the_definition(emulated):
    x = randn(20, 9).double() * 1e200
    for factors in ((x,), (x, randn(20, 3))):
        check(ops.cosine_row_sums(factors), definition(factors, [0, 20]), 20)
    assert emulated.launches() == {}


@FORWARD
@pytest.mark.parametrize("bad", [float("nan"), plainly(float("inf")), plainly(-float("inf"))])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_that_are_not_finite(emulated, dtype, bad):
    cases = [(64, 5, 0, None), (64, 130, 63, [0, 20, 64]), (3, 6145, 1, None)]
    for n, d, row, offsets in cases[: 3 if dtype == torch.float32 else 2]:
        x = randn(n, d).to(dtype)
        x[row, d - 1] = bad
        if row < n - 1:
            x[row + 1, 0] = bad  # the first one is told
        for center in (False, True):
            with pytest.raises(InputError, match=rf"embedding must be finite, got NaN or infinity in row {row};"):
                ops.cosine_row_sums(x, offsets=offsets, center=center)
            with pytest.raises(InputError, match=rf"embedding\[1\] must be finite, got NaN or infinity in row {row};"):
                ops.cosine_row_sums((torch.ones(len(x), 2), x), offsets=offsets, center=center)


@FORWARD
def test_same_bits_in_every_order_of_threads_plain_only(emulated):
    x, offsets = randn(400, 70, seed=9), [0, 150, 400]
    found = []
    for order in ORDERS:
        emulated.emulator.configure(order)
        found.append(ops.cosine_row_sums(x, offsets=offsets, center=True))
        found.append(ops.cosine_row_sums(x[:, :40], offsets=offsets))
    for other in (2, 4):
        assert torch.equal(found[0], found[other])
        assert torch.equal(found[1], found[other + 1])


@FORWARD
@pytest.mark.parametrize("argument", ["offsets", "embedding"])
def test_what_is_refused(emulated, argument):
    x = randn(4, 3)
    with pytest.raises(InputError, match=f"^{argument} must be"):
        ops.cosine_row_sums(x if argument == "offsets" else x[0], offsets=[0, 5])
    assert emulated.launches() == {}


def definition_of_group(factors, center):
    b, h = merged(factors)
    return Group(b, h, Centre.of(b, h) if center else None)


CASES = {
    "one": (randn(90, 37, seed=1),),
    "tight": (randn(1, 20, seed=2) + 1e-3 * randn(90, 20, seed=3),),
    "halves": (randn(90, 65, seed=4).half(),),
    "wide": (randn(6, 6150, seed=5),),
    "two": (randn(90, 5, seed=6).bfloat16(), randn(90, 33, seed=7) + 1),
    "two, wider first": (randn(90, 21, seed=8), randn(90, 4, seed=9)),
    "two, neither narrow": (randn(60, 17, seed=16), randn(60, 19, seed=17)),
    "two, sixteen and many columns": (randn(140, 16, seed=18), randn(140, 300, seed=19)),
    "two, tight": (1 + 1e-3 * randn(60, 4, seed=10), 1 + 1e-3 * randn(60, 11, seed=11)),
    "three": (randn(30, 2, seed=12), randn(30, 3, seed=13), randn(30, 4, seed=14)),
    "float64": (randn(30, 5, seed=15).double(),),
}


@ORDERLY
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_rows(emulated, name, center):
    factors, n = list(CASES[name]), len(CASES[name][0])
    begin, end = n // 3, n
    inner = [x[begin:end] for x in factors]
    group = definition_of_group(inner, center)
    rows = Rows(factors, begin, end, center)
    assert rows.n == end - begin == len(rows.group)
    assert rows.first_bad() == -1

    close = {"rtol": 1e-11, "atol": 1e-10}
    torch.testing.assert_close(rows.total(), group.total(), **close)
    torch.testing.assert_close(rows.group.total(), group.total(), **close)

    w = randn(*group.total().shape, seed=20).double()
    torch.testing.assert_close(rows.dots(w), group.dot(w), **close)
    out = torch.full((rows.n + 2,), -1.0, dtype=torch.float64)
    rows.dots(w.T.contiguous().T, out=out[1:-1])
    torch.testing.assert_close(out[1:-1], group.dot(w), **close)
    assert out[0] == out[-1] == -1

    some = torch.tensor([rows.n - 1, 0, 0, 3])
    part, want = rows.gather(some), group.take(some)
    torch.testing.assert_close(part.total(), want.total(), **close)
    torch.testing.assert_close(part.dot(w), want.dot(w), **close)
    torch.testing.assert_close(part.cosines(part), want.cosines(want), **close)
    assert len(rows.gather(some[:0])) == 0


@FORWARD
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_first_bad_row(emulated, name, center):
    factors = [x.clone() for x in CASES[name]]
    factors[-1][4, 1] = float("nan")
    factors[0][5, 0] = float("inf")
    assert Rows(factors, 1, len(factors[0]), center).first_bad() == 3
    assert Rows(factors, 0, 4, center).first_bad() == -1
