"""patch_scores against an independent GradCAM++ in float64, written as loops over the formulas."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import dq_fast as dq
from dq_fast.ops import registry
from dq_fast.ops.patch_scores import VARIANTS, _terms, definition, fake, resize_matrix

SHAPES = [  # batch, channels, h, w, rows, cols
    (2, 8, 7, 7, 14, 14),
    (3, 5, 4, 6, 3, 8),
    (1, 1, 1, 1, 2, 3),
    (2, 7, 14, 10, 5, 4),  # grid smaller than the map
    (2, 4, 9, 3, 1, 1),
    (1, 13, 1, 5, 4, 2),
    (4, 66, 3, 3, 8, 8),
    (2, 3, 40, 40, 2, 2),  # map finer than 16 pixels a cell
    (2, 9, 2, 4, 3, 3),  # whole vectors of eight, and one channel more
    (1, 17, 3, 5, 2, 4),
    (2, 8, 4, 4, 4, 5),
    (1, 10, 13, 13, 5, 6),  # longer than a float32 sum may be
]


def independent(activations, gradients, grid, variant):
    """float64 [b, rows, cols] by the definitions of REFERENCE.md, sections 1 and 3, with torch's own resizing."""
    a = activations.double().numpy()
    batch, channels, h, w = a.shape
    g = gradients.double().numpy()
    if g.ndim == 2:
        g = np.broadcast_to(g[:, :, None, None], a.shape)
    maps = np.zeros((batch, h, w))
    for i in range(batch):
        for k in range(channels):
            s = a[i, k].sum()
            weight = 0.0
            for y in range(h):
                for x in range(w):
                    d = g[i, k, y, x]
                    if d <= 0:
                        continue
                    if variant == "torchcam":
                        weight += d**3
                    elif variant == "paper":
                        weight += d * d**2 / (2 * d**2 + s * d**3)
                    else:
                        weight += d * d**2 / (2 * d**2 + s * d**3 + 1e-6)
            maps[i] += weight * a[i, k]
    attention = torch.from_numpy(np.maximum(maps, 0))[:, None]
    big = F.interpolate(attention, size=(16 * grid[0], 16 * grid[1]), mode="bilinear", align_corners=False)
    return F.avg_pool2d(big, 16)[:, 0]


def absolute(a, g, grid, variant):
    """float64 [b, rows, cols]: the scores if every product in them were positive, the scale of rounding errors."""
    total = a.double().sum((2, 3))
    full = g if g.dim() == 4 else g[:, :, None, None].expand_as(a)
    weight = _terms(full.double(), total[:, :, None, None], VARIANTS[variant]).abs().sum((2, 3))
    maps = torch.einsum("bk,bkhw->bhw", weight, a.double().abs())
    return resize_matrix(a.shape[2], grid[0]) @ maps @ resize_matrix(a.shape[3], grid[1]).T


def case(shape, *, signed, constant, seed=0, scale=0.1):
    batch, channels, h, w, rows, cols = shape
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(batch, channels, h, w, generator=generator)
    g = torch.randn((batch, channels) if constant else a.shape, generator=generator) * scale
    return (a if signed else a.relu()), g, (rows, cols)


def close(found, expected, tolerance=2e-6):
    scale = expected.abs().amax().clamp(min=1e-300)
    assert found.dtype == torch.float32
    assert ((found.double() - expected).abs() / scale).max() < tolerance


@pytest.mark.parametrize(("size", "cells"), [(7, 14), (1, 3), (4, 3), (14, 5), (40, 2), (3, 1), (5, 5)])
def test_resize_matrix_is_upsampling_then_averaging(size, cells):
    lines = torch.randn(6, size, dtype=torch.float64)
    big = F.interpolate(lines[:, None], size=16 * cells, mode="linear", align_corners=False)
    assert (lines @ resize_matrix(size, cells).T - F.avg_pool1d(big, 16)[:, 0]).abs().max() < 1e-12


def test_resize_matrix_of_7_by_7_is_the_papers_224():
    maps = torch.rand(3, 7, 7, dtype=torch.float64)
    resize = resize_matrix(7, 14)
    paper = F.avg_pool2d(F.interpolate(maps[:, None], size=224, mode="bilinear", align_corners=False), 16)[:, 0]
    official = F.interpolate(maps[:, None], size=14, mode="bilinear", align_corners=False)[:, 0]
    assert (resize @ maps @ resize.T - paper).abs().max() < 1e-12
    assert (resize @ maps @ resize.T - official).abs().max() < 1e-12


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("constant", [False, True], ids=["full", "constant"])
@pytest.mark.parametrize("signed", [False, True], ids=["relu", "signed"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_independent(shape, signed, constant, variant):
    a, g, grid = case(shape, signed=signed, constant=constant)
    expected = independent(a, g, grid, variant)
    close(dq.ops.patch_scores(a, g, grid, variant=variant), expected)
    close(definition(a, g, *grid, VARIANTS[variant]), expected)


LONG = [(2, 512, 7, 7, 14, 14), (1, 2048, 4, 4, 8, 8), (1, 24, 56, 56, 14, 14), (2, 70, 15, 9, 4, 4)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("signed", [False, True], ids=["relu", "signed"])
def test_accuracy_that_is_promised(signed, layout, variant):
    for shape, constant, scale in itertools.product(LONG, (False, True), (1e-3, 0.1, 3.0)):
        a, g, grid = case(shape, signed=signed, constant=constant, scale=scale)
        a = a.contiguous(memory_format=layout)
        expected = definition(a.double(), g.double(), *grid, VARIANTS[variant]).double()
        found = dq.ops.patch_scores(a, g, grid, variant=variant)
        # with signed activations terms cancel, so that the error is one of what is added up, not of the score
        scale_of_errors = absolute(a, g, grid, variant) if signed else expected
        assert ((found - expected).abs() / scale_of_errors).max() < 2e-6


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("constant", [False, True], ids=["full", "constant"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_numbers_beyond_the_squares_of_float32(layout, constant, variant):
    # 2 + g S up to 1e25: products of two of them overflow; gradients of 1e-14: their cubes underflow
    for a_scale, g_scale in ((1e20, 1e3), (1e25, 1e-2), (1e4, 1e12), (1e30, 1e-14), (1.0, 1e-8), (1e-30, 1e4)):
        a, g, grid = case((2, 19, 5, 5, 4, 4), signed=False, constant=constant, scale=1.0)
        a, g = (a * a_scale).contiguous(memory_format=layout), g.abs() * g_scale
        expected = definition(a.double(), g.double(), *grid, VARIANTS[variant]).double()
        found = dq.ops.patch_scores(a, g, grid, variant=variant)
        if expected.max() > 3e38:  # no float32
            assert torch.equal(found, expected.float())
        elif expected.max() > 1e-30:  # else float32 itself has too few digits left
            close(found, expected)


@pytest.mark.parametrize("constant", [False, True], ids=["full", "constant"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("variant", ["paper", "grad-cam"])
def test_near_the_pole_float32_keeps_its_digits(variant, layout, constant):
    # S = -2 + distance over a 3 x 3 map, g = 1 (and, in other channels, ordinary numbers)
    for distance in (2e-6, -2e-6, 1e-5, -1e-4, 1e-3, -1e-2, -9e-7, -1.1e-6):
        a, g, grid = case((1, 11, 3, 3, 3, 3), signed=True, constant=constant, scale=0.5)
        a[:, ::2] = torch.tensor([-0.25] * 8 + [0.0]).view(3, 3)
        a[:, ::2, 2, 2] = torch.tensor(distance)  # kept to its last digit: only the sum meets -2
        g[:, ::2] = 1.0
        a = a.contiguous(memory_format=layout)
        expected = definition(a.double(), g.double(), *grid, VARIANTS[variant]).double()
        found = dq.ops.patch_scores(a, g, grid, variant=variant)
        assert ((found - expected).abs() / absolute(a, g, grid, variant)).max() < 2e-6


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_grad_cam_denominators_keep_their_digits_where_they_cancel_twice(layout):
    for distance in (1e-1, -1e-2, 1e-3, -1e-4):  # g^2 (2 + g S) + 1e-6 = -1e-6 distance with g = 1/8
        a, g, grid = case((1, 11, 3, 3, 3, 3), signed=True, constant=False, scale=0.5)
        a[:, ::2] = torch.tensor([-2.0] * 8 + [-64e-6 * 8 * (1 + distance)]).view(3, 3)
        g[:, ::2] = 0.125
        a = a.contiguous(memory_format=layout)
        expected = definition(a.double(), g.double(), *grid, VARIANTS["grad-cam"]).double()
        found = dq.ops.patch_scores(a, g, grid, variant="grad-cam")
        assert ((found - expected).abs() / absolute(a, g, grid, "grad-cam")).max() < 2e-6


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("constant", [False, True], ids=["full", "constant"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(dtype, constant, variant):
    a, g, grid = case((3, 11, 5, 6, 4, 7), signed=True, constant=constant)
    a, g = a.to(dtype), g.to(dtype)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = a.contiguous(memory_format=layout)
        close(dq.ops.patch_scores(x, g, grid, variant=variant), independent(a, g, grid, variant))


def test_every_half_is_read_right():
    values = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    values = values[values.isfinite()].reshape(-1, 1, 1, 1)
    found = dq.ops.patch_scores(values, torch.ones(len(values), 1), (1, 1), variant="torchcam").flatten()
    assert torch.equal(found, values.flatten().float().relu())
    values = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    values = values[values.isfinite()].reshape(-1, 1, 1, 1)
    found = dq.ops.patch_scores(values, torch.ones(len(values), 1), (1, 1), variant="torchcam").flatten()
    assert torch.equal(found, values.flatten().float().relu())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("constant", [False, True], ids=["full", "constant"])
def test_memory_orders(constant, variant):
    a, g, grid = case((3, 10, 5, 6, 4, 7), signed=False, constant=constant)
    expected = independent(a, g, grid, variant)
    nhwc = torch.channels_last
    wide = torch.randn(3, 10, 5, 9)
    wide[..., :6] = a
    tokens = torch.randn(3, 1 + 30, 10)  # a class token before the patches
    tokens[:, 1:] = a.flatten(2).transpose(1, 2)
    orders = {
        "channels last": a.contiguous(memory_format=nhwc),
        "rows with gaps": wide[..., :6],
        "transposed": a.transpose(2, 3).contiguous().transpose(2, 3),
        "tokens": tokens[:, 1:].unflatten(1, (5, 6)).permute(0, 3, 1, 2),
        "every second image": a.repeat_interleave(2, 0)[::2],
    }
    for name, x in orders.items():
        for gradients in [g] if constant else [g, g.contiguous(memory_format=nhwc)]:
            found = dq.ops.patch_scores(x, gradients, grid, variant=variant)
            assert torch.equal(x, a), name
            close(found, expected)
    gradients = g[:1].expand_as(g)
    close(dq.ops.patch_scores(a, gradients, grid, variant=variant), independent(a, gradients, grid, variant))


def test_mixed_dtypes():
    a, g, grid = case((2, 6, 4, 4, 3, 3), signed=False, constant=False)
    half = a.bfloat16()
    close(dq.ops.patch_scores(half, g, grid), independent(half, g, grid, "paper"))
    close(dq.ops.patch_scores(half, g[:, :, 0, 0], grid), independent(half, g[:, :, 0, 0], grid, "paper"))
    close(dq.ops.patch_scores(a, g.double(), grid), independent(a, g, grid, "paper"))


def test_empty():
    assert dq.ops.patch_scores(torch.rand(0, 4, 3, 3), torch.rand(0, 4), (2, 5)).shape == (0, 2, 5)
    assert dq.ops.patch_scores(torch.rand(0, 4, 3, 3), torch.rand(0, 4, 3, 3), (2, 5)).shape == (0, 2, 5)
    assert torch.equal(dq.ops.patch_scores(torch.rand(2, 0, 3, 3), torch.rand(2, 0), (2, 5)), torch.zeros(2, 2, 5))
    a = torch.rand(2, 4, 3, 3)
    assert torch.equal(dq.ops.patch_scores(a, -torch.rand(2, 4), (2, 2)), torch.zeros(2, 2, 2))
    assert torch.equal(dq.ops.patch_scores(torch.zeros_like(a), torch.rand(2, 4), (2, 2)), torch.zeros(2, 2, 2))


@pytest.mark.parametrize("scale", [1e-5, 1e-12, 1e-20, 1e4])
@pytest.mark.parametrize("constant", [False, True])
def test_paper_does_not_underflow(scale, constant):
    a, g, grid = case((2, 8, 4, 4, 4, 4), signed=False, constant=constant, scale=scale)
    found = dq.ops.patch_scores(a, g, grid)
    small = dq.ops.patch_scores(a.double(), g.double(), grid)
    assert found.max() > 0
    close(found, small.double())
    if scale < 1e-4:  # there w is half of relu(g): the scores scale with it, to first order
        once = dq.ops.patch_scores(a.double(), g.double() * (1e-5 / scale), grid)
        close(found, once.double() * (scale / 1e-5), 1e-3)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pole_of_signed_activations(layout, constant):
    a = torch.zeros(1, 6, 2, 2)
    a[0, :, 0, 0] = torch.tensor([-2.0, -2.0 + 1e-7, -2.5, -1.0, 3.0, -2.0])  # S of each channel
    a[0, :, 1, 1] = 0
    g = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, -1.0]])  # 2 + g S: 0, 1e-7, -0.5, 1, 5, and a gradient below 0
    weight = torch.tensor([0, 0, -2.0, 1.0, 0.2, 0]) * 4
    full = g[:, :, None, None].expand(1, 6, 2, 2)
    expected = (weight[:, None, None] * a[0]).sum(0).relu()
    x = a.contiguous(memory_format=layout)
    found = dq.ops.patch_scores(x, g if constant else full, (2, 2))
    resize = resize_matrix(2, 2).float()
    torch.testing.assert_close(found[0], resize @ expected @ resize.T)
    assert torch.isfinite(dq.ops.patch_scores(x, g if constant else full, (2, 2), variant="grad-cam")).all()


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_nan_stays_visible_in_its_image_only(layout, constant):
    for variant in VARIANTS:
        a, g, grid = case((3, 6, 4, 5, 4, 4), signed=False, constant=constant)
        clean = dq.ops.patch_scores(a, g, grid, variant=variant)
        for in_gradients in (False, True):
            x, y = a.clone(memory_format=layout), g.clone()
            (y if in_gradients else x)[1, 2] = float("nan")
            for found in (dq.ops.patch_scores(x, y, grid, variant=variant), definition(x, y, *grid, VARIANTS[variant])):
                assert found[1].isnan().any()
                close(found[[0, 2]], clean[[0, 2]].double())


def test_same_bits_for_any_thread_count():
    a, g, grid = case((9, 64, 9, 9, 14, 14), signed=True, constant=False)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(dq.ops.patch_scores(a, g, grid))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    each = torch.cat([dq.ops.patch_scores(a[i : i + 1], g[i : i + 1], grid) for i in range(9)])
    assert torch.equal(each, found[0])  # an image's scores don't depend on its batch


def test_no_gradient_is_carried():
    a, g, grid = case((2, 4, 3, 3, 2, 2), signed=False, constant=True)
    assert not dq.ops.patch_scores(a.requires_grad_(), g.requires_grad_(), grid).requires_grad


def test_opcheck():
    op = torch.ops.dq_fast.patch_scores.default
    for constant in (False, True):
        a, g, grid = case((2, 4, 3, 5, 2, 3), signed=False, constant=constant)
        torch.library.opcheck(op, (a, g, *grid, 0))
    a, g = torch.rand(2, 4, 3, 3, device="meta"), torch.rand(2, 4, device="meta")
    assert op(a, g, 3, 4, 0).shape == fake(a, g, 3, 4, 0).shape == (2, 3, 4)


def test_compiles_whole():
    compiled = torch.compile(
        lambda a, g: dq.ops.patch_scores(a * 2, g, (3, 4), variant="grad-cam") + 1, fullgraph=True, backend="aot_eager"
    )
    a, g, grid = case((2, 4, 3, 5, 3, 4), signed=False, constant=False)
    torch.testing.assert_close(compiled(a, g), dq.ops.patch_scores(a * 2, g, grid, variant="grad-cam") + 1)


def test_without_native_code_the_definition_serves():
    code = (
        "import torch, dq_fast as dq\n"
        "from dq_fast.ops import backends\n"
        "assert backends()['patch_scores']['cpu'].serves == 'torch'\n"
        "torch.manual_seed(0)\n"
        "print(dq.ops.patch_scores(torch.rand(2, 9, 3, 4), torch.randn(2, 9, 3, 4), (2, 3)).flatten().tolist())\n"
    )
    environment = {**os.environ, "DQ_FAST_DISABLE_NATIVE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    here = dq.ops.patch_scores(torch.rand(2, 9, 3, 4), torch.randn(2, 9, 3, 4), (2, 3))
    np.testing.assert_allclose(here.flatten().numpy(), json.loads(done.stdout), rtol=1e-6)
    assert registry.reference("patch_scores") is definition


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"activations": torch.rand(2, 3, 4)},
            r"activations must be 4-D \[batch, channels, h, w\], got shape \(2, 3, 4\)",
        ),
        ({"activations": torch.rand(2, 3, 0, 4)}, "activations must be a map of at least one position"),
        ({"activations": torch.ones(2, 3, 4, 4, dtype=torch.int64)}, "activations must be float32.*got torch.int64"),
        ({"activations": [1.0]}, "activations must be a torch.Tensor, got list"),
        ({"gradients": torch.rand(2, 4)}, r"gradients must be \[batch, channels, h, w\] or .* got shape \(2, 4\)"),
        ({"gradients": torch.rand(2, 3, 4, 5)}, r"gradients must be .* got shape \(2, 3, 4, 5\)"),
        ({"gradients": torch.rand(2, 3, device="meta")}, "gradients must be on cpu like activations, got one on meta"),
        ({"gradients": torch.rand(2, 3).to(torch.complex64)}, "gradients must be float32"),
        ({"grid": (0, 3)}, r"grid\[0\] must be an integer >= 1, got 0"),
        ({"grid": (2, 1.5)}, r"grid\[1\] must be an integer >= 1, got 1.5"),
        ({"grid": 14}, r"grid must be \(rows, cols\), got 14"),
        ({"variant": "gradcam"}, "variant must be one of 'paper', 'torchcam', 'grad-cam', got 'gradcam'"),
    ],
)
def test_mistakes_are_named(change, message):
    given = {"activations": torch.rand(2, 3, 4, 4), "gradients": torch.rand(2, 3), "grid": (2, 2), "variant": "paper"}
    given.update(change)
    variant = given.pop("variant")
    with pytest.raises(dq.InputError, match=message):
        dq.ops.patch_scores(*given.values(), variant=variant)


BESIDE_A_FORBIDDEN_PAGE = """
import ctypes, mmap, itertools, torch, dq_fast as dq
page = mmap.PAGESIZE
memory = mmap.mmap(-1, 64 * page)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
libc = ctypes.CDLL(None, use_errno=True)
for k in (20, 41, 63):
    assert libc.mprotect(ctypes.c_void_p(address + k * page), ctypes.c_size_t(page), 0) == 0
def at_the_end(x, last):
    flat = x.contiguous().view(-1)
    begin = last * page - flat.numel() * x.element_size()
    raw = torch.frombuffer(memory, dtype=x.dtype, count=flat.numel(), offset=begin)
    raw.copy_(flat)
    return raw.view(x.shape)
types = (torch.float32, torch.float16, torch.float64)
for c, h, w, dtype in itertools.product((1, 3, 6, 9, 17), (1, 3), (1, 5), types):
    a, g = torch.rand(2, c, h, w).to(dtype), torch.rand(2, c, h, w).to(dtype)
    for constant, last in itertools.product((False, True), (False, True)):
        order = (0, 2, 3, 1) if last else (0, 1, 2, 3)
        back = (0, 3, 1, 2) if last else (0, 1, 2, 3)
        x = at_the_end(a.permute(order), 20).permute(back)
        y = at_the_end(g[:, :, 0, 0], 41) if constant else at_the_end(g.permute(order), 41).permute(back)
        assert dq.ops.patch_scores(x, y, (2, 2)).isfinite().all()
print("read nothing else")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="uses mprotect")
def test_reads_nothing_behind_the_tensors():
    done = subprocess.run([sys.executable, "-c", BESIDE_A_FORBIDDEN_PAGE], capture_output=True, text=True, check=False)
    assert done.stdout == "read nothing else\n", (done.returncode, done.stderr)
