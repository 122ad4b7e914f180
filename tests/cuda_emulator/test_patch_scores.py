"""patch_scores by its CUDA kernels, emulated, against the float64 definition and the loops of tests/ops.

Tests that end in plain_only are not run again under sanitizers (test_sanitizers.py): they are long, and other tests
take the same ways through the kernels.
"""

from __future__ import annotations

import itertools

import pytest
import torch

import dq_fast as dq
from dq_fast.ops.patch_scores import VARIANTS, definition, resize_matrix

from ..ops.test_patch_scores import case, independent

FIRST, LAST = torch.contiguous_format, torch.channels_last
one_order = pytest.mark.parametrize("emulated", ["random"], indirect=True)
variants = pytest.mark.parametrize("variant", VARIANTS)
constants = pytest.mark.parametrize("constant", [False, True], ids=["full", "constant"])
layouts = pytest.mark.parametrize("layout", [FIRST, LAST], ids=["nchw", "nhwc"])

SMALL = [  # batch, channels, h, w, rows, cols
    (1, 1, 1, 1, 2, 3),
    (2, 5, 1, 5, 4, 2),
    (3, 19, 4, 4, 4, 5),  # a channel has 4 lanes
    (1, 70, 5, 6, 3, 8),
    (2, 37, 7, 7, 14, 14),  # 8 lanes
    (1, 130, 8, 8, 4, 4),  # more tiles than warps
    (1, 7, 13, 5, 5, 6),  # 32 lanes
    (2, 34, 9, 14, 4, 4),  # grid smaller than the map
    (1, 18, 16, 16, 1, 1),
]
LARGE = [
    (1, 3, 17, 16, 2, 2),
    (2, 40, 20, 19, 3, 4),
    (1, 131, 4, 70, 5, 1),  # two parts
]


def exact(a, g, grid, variant):
    return definition(a.double(), g.double(), *grid, VARIANTS[variant])


def same(found, expected, tolerance=2e-7):
    """Equal but for the last rounding to float32, on the scale of each image's largest score."""
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    scale = expected.double().abs().amax((1, 2), keepdim=True).clamp(min=1e-300)
    assert ((found.double() - expected.double()).abs() / scale).max() <= tolerance


@one_order
@variants
@constants
@layouts
def test_equals_definition(emulated, layout, constant, variant):
    for i, shape in enumerate(SMALL):
        a, g, grid = case(shape, signed=i % 2 == 0, constant=constant)
        found = dq.ops.patch_scores(a.contiguous(memory_format=layout), g, grid, variant=variant)
        same(found, exact(a, g, grid, variant))
    assert emulated.launched("patch_maps") == len(SMALL)
    if layout is FIRST:  # channels last some tiles are too large for a whole image's warps in one block
        assert emulated.launched("patch_scores_finish") == 0


@one_order
@variants
@constants
@layouts
def test_large_maps(emulated, layout, constant, variant):
    for shape in LARGE:
        a, g, grid = case(shape, signed=True, constant=constant)
        found = dq.ops.patch_scores(a.contiguous(memory_format=layout), g, grid, variant=variant)
        same(found, exact(a, g, grid, variant))
    assert emulated.launched("patch_maps_large") == emulated.launched("patch_scores_finish") == len(LARGE)


@pytest.mark.parametrize("emulated", ["forward", "reverse"], indirect=True)
@constants
@layouts
def test_other_thread_orders_plain_only(emulated, layout, constant):
    for shape, variant in zip((*SMALL, *LARGE), itertools.cycle(VARIANTS)):
        a, g, grid = case(shape, signed=True, constant=constant)
        found = dq.ops.patch_scores(a.contiguous(memory_format=layout), g, grid, variant=variant)
        same(found, exact(a, g, grid, variant))
    assert emulated.launched("patch_maps") == len(SMALL) + len(LARGE)


@one_order
@variants
@constants
def test_equals_loops(emulated, constant, variant):
    for shape, layout in itertools.product([(2, 6, 4, 5, 3, 4), (1, 3, 7, 9, 5, 2)], (FIRST, LAST)):
        a, g, grid = case(shape, signed=False, constant=constant)
        found = dq.ops.patch_scores(a.contiguous(memory_format=layout), g, grid, variant=variant)
        same(found, independent(a, g, grid, variant))
    assert emulated.launched("patch_maps") == 4


@one_order
@layouts
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_dtypes_plain_only(emulated, dtype, layout):
    for shape, constant, variant in itertools.product((*SMALL[2:5], SMALL[7], LARGE[1]), (False, True), VARIANTS):
        a, g, grid = case(shape, signed=False, constant=constant)
        a, g = a.to(dtype).contiguous(memory_format=layout), g.to(dtype)
        same(dq.ops.patch_scores(a, g, grid, variant=variant), exact(a, g, grid, variant))
    assert emulated.launched("patch_maps") > 0


@one_order
def test_mixed_dtypes_plain_only(emulated):
    a, g, grid = case((2, 6, 4, 4, 3, 3), signed=False, constant=False)
    half = a.bfloat16()
    same(dq.ops.patch_scores(half, g, grid), exact(half, g, grid, "paper"))
    same(dq.ops.patch_scores(a, g.double(), grid), exact(a, g, grid, "paper"))
    types = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    for x, y, layout in itertools.product(types, types, (FIRST, LAST)):  # constant ones are read as they are
        for shape in ((2, 21, 4, 5, 3, 3), (1, 35, 17, 16, 2, 2)):
            a, g, grid = case(shape, signed=False, constant=True)
            a, g = a.to(x).contiguous(memory_format=layout), g.to(y)
            same(dq.ops.patch_scores(a, g, grid), exact(a, g, grid, "paper"))
    assert emulated.launched("patch_maps") == 2 + 4 * 4 * 2 * 2


@one_order
@variants
@constants
def test_memory_orders(emulated, constant, variant):
    a, g, grid = case((3, 10, 5, 6, 4, 7), signed=False, constant=constant)
    expected = exact(a, g, grid, variant)
    wide = torch.full((3, 10, 5, 9), float("nan"))
    wide[..., :6] = a
    tokens = torch.full((3, 1 + 30, 10), float("nan"))  # a class token before the patches
    tokens[:, 1:] = a.flatten(2).transpose(1, 2)
    orders = {
        "channels last": a.contiguous(memory_format=LAST),
        "rows with gaps": wide[..., :6],
        "transposed": a.transpose(2, 3).contiguous().transpose(2, 3),
        "tokens": tokens[:, 1:].unflatten(1, (5, 6)).permute(0, 3, 1, 2),
        "every second image": a.repeat_interleave(2, 0)[::2],
    }
    for name, x in orders.items():
        for gradients in [g] if constant else [g, g.contiguous(memory_format=LAST)]:
            assert torch.equal(x, a), name
            same(dq.ops.patch_scores(x, gradients, grid, variant=variant), expected)
    gradients = g[:1].expand_as(g)
    same(dq.ops.patch_scores(a, gradients, grid, variant=variant), exact(a, gradients, grid, variant))
    if constant:  # a column of a larger matrix
        table = torch.randn(3, 25)
        table[:, ::2][:, :10] = g
        same(dq.ops.patch_scores(a, table[:, ::2][:, :10], grid, variant=variant), expected)
    assert emulated.launched("patch_maps") >= 6


@one_order
@constants
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_any_alignment_and_nothing_beside_the_tensors(emulated, dtype, constant):
    """Tensors that begin anywhere in a page of NaN: what is read beside them has no part in the scores."""

    def inside(x, skip, last):
        order, back = ((0, 2, 3, 1), (0, 3, 1, 2)) if last and x.dim() == 4 else (range(x.dim()), range(x.dim()))
        x = x.permute(*order).contiguous()
        page = torch.full((x.numel() + 64,), float("nan"), dtype=dtype)
        page[skip : skip + x.numel()] = x.flatten()
        return page[skip : skip + x.numel()].view(x.shape).permute(*back)

    for shape in ((2, 9, 3, 5, 2, 2), (2, 33, 7, 7, 3, 3), (2, 3, 9, 9, 2, 2), (2, 5, 17, 17, 2, 2)):
        a, g, grid = case(shape, signed=False, constant=constant)
        a, g = a.to(dtype), g.to(dtype)
        expected, bits = exact(a, g, grid, "paper"), {}
        for skip, last in itertools.product((0, 1, 2, 3, 5, 7), (False, True)):
            found = dq.ops.patch_scores(inside(a, skip, last), inside(g, 8 - skip, last), grid)
            same(found, expected)
            assert torch.equal(bits.setdefault(last, found), found)  # nor does it matter where they begin
    assert emulated.launched("patch_maps") == 4 * 12


@pytest.mark.parametrize("emulated", ["forward"], indirect=True)
@layouts
def test_same_bits_in_any_batch_and_thread_order_plain_only(emulated, layout):
    for shape in ((3, 680, 7, 7, 14, 14), (2, 70, 20, 20, 4, 4), (2, 200, 14, 14, 4, 4)):
        a, g, grid = case(shape, signed=True, constant=False)
        a = a.contiguous(memory_format=layout)
        before = emulated.launched("patch_scores_finish")
        found = dq.ops.patch_scores(a, g, grid)
        same(found, exact(a, g, grid, "paper"))
        assert emulated.launched("patch_scores_finish") == before + 1  # split between blocks, or large
        for order in ("reverse", "random"):
            emulated.emulator.configure(order)
            each = [dq.ops.patch_scores(a[i : i + 1], g[i : i + 1], grid) for i in range(len(a))]
            assert torch.equal(torch.cat(each), found)
        emulated.emulator.configure("forward")
        if layout is FIRST and shape[2] == 7:  # so many that no image is split: other blocks, no second launch
            before = emulated.launched("patch_scores_finish")
            many = dq.ops.patch_scores(a[:1].expand(133, -1, -1, -1), g[:1].expand(133, -1, -1, -1), grid)
            assert emulated.launched("patch_scores_finish") == before
            assert torch.equal(many, found[:1].expand_as(many))


@one_order
def test_empty(emulated):
    assert dq.ops.patch_scores(torch.rand(0, 4, 3, 3), torch.rand(0, 4), (2, 5)).shape == (0, 2, 5)
    assert dq.ops.patch_scores(torch.rand(0, 4, 3, 3), torch.rand(0, 4, 3, 3), (2, 5)).shape == (0, 2, 5)
    assert torch.equal(dq.ops.patch_scores(torch.rand(2, 0, 3, 3), torch.rand(2, 0), (2, 5)), torch.zeros(2, 2, 5))
    assert torch.equal(dq.ops.patch_scores(torch.rand(2, 0, 30, 30), torch.rand(2, 0), (2, 5)), torch.zeros(2, 2, 5))
    assert emulated.launched("") == 0  # nothing to launch
    a = torch.rand(2, 4, 3, 3)
    assert torch.equal(dq.ops.patch_scores(a, -torch.rand(2, 4), (2, 2)), torch.zeros(2, 2, 2))
    assert torch.equal(dq.ops.patch_scores(torch.zeros_like(a), torch.rand(2, 4), (2, 2)), torch.zeros(2, 2, 2))
    assert emulated.launched("patch_maps") == 2


@one_order
@constants
@layouts
def test_pole_of_signed_activations(emulated, layout, constant):
    a = torch.zeros(1, 6, 2, 2)
    a[0, :, 0, 0] = torch.tensor([-2.0, -2.0 + 1e-7, -2.5, -1.0, 3.0, -2.0])  # S of each channel
    g = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, -1.0]])  # 2 + g S: 0, 1e-7, -0.5, 1, 5, and a gradient below 0
    weight = torch.tensor([0, 0, -2.0, 1.0, 0.2, 0]) * 4
    full = g[:, :, None, None].expand(1, 6, 2, 2)
    expected = (weight[:, None, None] * a[0]).sum(0).relu()
    x, y = a.contiguous(memory_format=layout), (g if constant else full)
    resize = resize_matrix(2, 2).float()
    torch.testing.assert_close(dq.ops.patch_scores(x, y, (2, 2))[0], resize @ expected @ resize.T)
    assert torch.isfinite(dq.ops.patch_scores(x, y, (2, 2), variant="grad-cam")).all()
    assert emulated.launched("patch_maps") == 2


@one_order
@constants
@layouts
def test_nan_stays_visible_in_its_image_only(emulated, layout, constant):
    for variant, shape in itertools.product(VARIANTS, ((3, 6, 4, 5, 4, 4), (3, 6, 17, 17, 4, 4))):
        a, g, grid = case(shape, signed=False, constant=constant)
        clean = dq.ops.patch_scores(a.contiguous(memory_format=layout), g, grid, variant=variant)
        for in_gradients in (False, True):
            x, y = a.clone(memory_format=layout), g.clone()
            (y if in_gradients else x)[1, 2] = float("nan")
            found = dq.ops.patch_scores(x, y, grid, variant=variant)
            assert found[1].isnan().any()
            assert torch.equal(found[[0, 2]], clean[[0, 2]])
    assert emulated.launched("patch_maps") > 0


@one_order
@variants
@layouts
def test_numbers_beyond_the_squares_of_float32(emulated, layout, variant):
    for a_scale, g_scale in ((1e20, 1e3), (1e25, 1e-2), (1e4, 1e12), (1e30, 1e-14), (1.0, 1e-8), (1e-30, 1e4)):
        a, g, grid = case((2, 19, 5, 5, 4, 4), signed=False, constant=False, scale=1.0)
        a, g = (a * a_scale).contiguous(memory_format=layout), g.abs() * g_scale
        found, expected = dq.ops.patch_scores(a, g, grid, variant=variant), exact(a, g, grid, variant)
        if expected.max() > 3e38:  # no float32
            assert torch.equal(found, expected)
        else:
            same(found, expected)
    assert emulated.launched("patch_maps") == 6


@one_order
@layouts
def test_what_does_not_fit_in_shared_memory_plain_only(emulated, layout):
    for shape in (
        (2, 3, 107, 107, 2, 2),  # the map
        (1, 2, 30, 30, 60, 60),  # shares of a large map's rows and columns
        (2, 20, 16, 16, 300, 290),  # of a small one's
        (1, 4, 1, 12000, 1, 3),
    ):
        for constant in (False, True):
            a, g, grid = case(shape, signed=False, constant=constant)
            found = dq.ops.patch_scores(a.contiguous(memory_format=layout), g, grid)
            same(found, exact(a, g, grid, "paper"))
    assert emulated.launched("patch_scores_finish") == 8


@one_order
def test_no_gradient_is_carried(emulated):
    a, g, grid = case((2, 4, 3, 3, 2, 2), signed=False, constant=True)
    assert not dq.ops.patch_scores(a.requires_grad_(), g.requires_grad_(), grid).requires_grad
    assert emulated.launched("patch_maps") == 1
