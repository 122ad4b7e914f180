"""Scores of an image's patches by GradCAM++: weights of channels, attention map, means over the patch grid.

`patch_scores` is the public function, `definition` the same in torch for any device, `native_cpu` and `native_cuda` run
the compiled kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dq_fast.ops import checks, native, registry
from dq_fast.ops.cuda.patch_scores import patch_scores as native_cuda
from dq_fast.ops.layout import DTYPES, as_dense, dense

VARIANTS = {"paper": 0, "torchcam": 1, "grad-cam": 2}  # numbers as in csrc/cpu/patch_scores/job.h
PAPER, TORCHCAM, GRAD_CAM = VARIANTS.values()
CELL_PIXELS = 16  # a score is the mean of the upsampled map over 16 x 16 pixels, the paper's patch
GRAD_CAM_EPS = 1e-6  # as the grad-cam package
POLE_GUARD = 1e-6  # nearer to the pole than this, float32 activations decide a weight by their rounding

_CORE = native.find("cpu")[0]  # looked up once, not at every call: that has 10 microseconds in all


def patch_scores(activations: Tensor, gradients: Tensor, grid: tuple[int, int], *, variant: str = "paper") -> Tensor:
    r"""GradCAM++ score of every patch of every image.

    With S_k the sum of channel k's activations A_k over the map, g its gradients, and w_k the channel's weight,

        map = relu(sum_k w_k A_k),    scores = R_h · map · R_wᵀ

    where R averages over 16 pixels after bilinear upsampling (align_corners=False) from the map's h (w) positions to
    16·rows (16·cols) pixels: the paper's upsampling to the image and averaging over its patches, in two small products.

    Args:
        activations: [batch, channels, h, w], float32, float16, bfloat16 or float64; contiguous and channels-last memory
            are read where they lie, other strides are copied.
        gradients: of the target logit, [batch, channels, h, w], or [batch, channels] where they are constant over the
            map (sums over the map are then h·w times one term).
        grid: (rows, cols) of patches.
        variant: how a channel is weighed; terms with g <= 0 are 0 in all of them.
            "paper": w = sum α·relu(g), α = g² / (2g² + S·g³) (Dataset Quantization, Eq. 4; GradCAM++), computed as
            1 / (2 + g·S), which neither underflows nor divides 0 by 0.
            "torchcam": w = sum relu(g)³, what the official code ran.
            "grad-cam": w = sum α·relu(g), α = g² / (2g² + S·g³ + 1e-6), the package of that name.

    Returns:
        Scores, float32 [batch, rows, cols], >= 0; higher is more informative. They carry no gradient.

    The packages also scale every map to [0, 1]. That is an increasing function of each image's scores, so it changes no
    order within an image, and is left out.

    Signed activations: S may be negative, and then 2 + g·S has a zero. Nearer to it than 1e-6 the term counts as 0 (for
    "grad-cam": where the whole denominator is below 1e-12), because the seventh digit of S, which float32 activations
    don't have, would decide the sign of a weight a million times the others'. Beyond it the formula is followed as
    it stands, negative weights included.

    Accuracy of float32, float16 and bfloat16 inputs: every score is right to 2e-6 of itself where no activation is
    negative, and to 2e-6 of R_h · (sum_k sum |terms of w_k| |A_k|) · R_wᵀ where some are: terms of both signs cancel in
    the map, not in the denominators, which keep their digits down to the guard. Measured: 3e-7 of either. Float64
    inputs are computed in float64 throughout, as all inputs are by the torch definition, on CUDA, by processors without
    AVX2, for maps (channels-last: channels) of fewer than 8 numbers, and for images whose scores leave float32's range.
    NaN activations and gradients give NaN scores.

    Raises:
        InputError: a wrong shape, dtype, device, grid or variant.
    """
    if variant not in VARIANTS:
        checks.one_of("variant", variant, tuple(VARIANTS))
    if not (isinstance(grid, (tuple, list)) and len(grid) == 2):
        raise checks.bad("grid", "(rows, cols)", repr(grid))
    rows, cols = grid
    if not (type(rows) is int and type(cols) is int and rows > 0 and cols > 0):
        rows, cols = checks.integer("grid[0]", rows, 1), checks.integer("grid[1]", cols, 1)
    _check(activations, gradients)
    if activations.requires_grad or gradients.requires_grad:
        activations, gradients = activations.detach(), gradients.detach()
    op = registry.quickest("patch_scores", (activations, gradients))
    scores: Tensor = op(activations, gradients, rows, cols, VARIANTS[variant])
    return scores


def _check(activations: Tensor, gradients: Tensor) -> None:
    """Types, shapes and devices of the two tensors."""
    for name, tensor in (("activations", activations), ("gradients", gradients)):
        if not isinstance(tensor, Tensor):
            raise checks.bad(name, "a torch.Tensor", type(tensor).__name__)
        if tensor.dtype not in DTYPES:
            raise checks.bad(name, "float32, float64, float16 or bfloat16", str(tensor.dtype))
    shape = activations.shape
    if len(shape) != 4:
        raise checks.bad("activations", "4-D [batch, channels, h, w]", checks.shape_of(activations))
    if shape[2] == 0 or shape[3] == 0:
        raise checks.bad("activations", "a map of at least one position", checks.shape_of(activations))
    if gradients.shape != shape and gradients.shape != shape[:2]:
        raise checks.bad(
            "gradients",
            f"[batch, channels, h, w] or [batch, channels] like activations of shape {tuple(shape)}",
            checks.shape_of(gradients),
        )
    if gradients.device != activations.device:
        raise checks.bad("gradients", f"on {activations.device} like activations", f"one on {gradients.device}")


def resize_matrix(size: int, cells: int, device: torch.device | None = None) -> Tensor:
    """R [cells, size], float64: the share of each of `size` map positions in the mean over each cell of 16 pixels.

    Bilinear sampling as torch's `interpolate(mode="bilinear", align_corners=False)` from `size` to 16·cells, averaged.
    """
    pixels = cells * CELL_PIXELS
    place = (torch.arange(pixels, dtype=torch.float64, device=device) + 0.5) * (size / pixels) - 0.5
    place = place.clamp_(min=0)
    low = place.long().clamp_(max=size - 1)
    share = (place - low).clamp_(max=1)
    taps = torch.zeros(pixels, size, dtype=torch.float64, device=device)
    taps.scatter_add_(1, low[:, None], (1 - share)[:, None])
    taps.scatter_add_(1, (low + 1).clamp_(max=size - 1)[:, None], share[:, None])
    return taps.view(cells, CELL_PIXELS, size).mean(1)


def definition(activations: Tensor, gradients: Tensor, rows: int, cols: int, variant: int) -> Tensor:
    """The op in torch, in float64 throughout: what every backend must equal. Arguments as the op's schema."""
    batch, _, height, width = activations.shape
    if batch == 0:
        return fake(activations, gradients, rows, cols, variant)
    a = activations.double()
    g = gradients.double()
    total = a.sum((2, 3))
    if g.dim() == 2:
        weight = _terms(g, total, variant) * (height * width)
    else:
        weight = _terms(g, total[:, :, None, None], variant).sum((2, 3))
    attention = torch.einsum("bk,bkhw->bhw", weight, a).relu()
    in_rows = resize_matrix(height, rows, a.device)
    in_cols = resize_matrix(width, cols, a.device)
    return (in_rows @ attention @ in_cols.T).float()


def _terms(g: Tensor, total: Tensor, variant: int) -> Tensor:
    """α·relu(g) of every position, float64, with the guards that `patch_scores` documents."""
    if variant == TORCHCAM:
        return torch.where(g <= 0, 0, g**3)
    if variant == PAPER:
        denominator = 2 + g * total
        value, guard = g / denominator, POLE_GUARD
    else:
        denominator = g**2 * (2 + g * total) + GRAD_CAM_EPS
        value, guard = g**3 / denominator, POLE_GUARD * GRAD_CAM_EPS
    return torch.where((g <= 0) | (denominator.abs() <= guard), 0, value)


def fake(activations: Tensor, gradients: Tensor, rows: int, cols: int, variant: int) -> Tensor:
    """The result's shape and dtype, for tracing."""
    return activations.new_empty((activations.shape[0], rows, cols), dtype=torch.float32)


def native_cpu(activations: Tensor, gradients: Tensor, rows: int, cols: int, variant: int) -> Tensor:
    """The compiled kernel.

    It reads contiguous and channels-last tensors where they lie, and views that only skip between images (a token
    model's patch tokens without its class token).
    """
    batch, channels, height, width = activations.shape
    # Asked first: it is the usual case, the quickest question, and strides of contiguous tensors need not be asked for.
    contiguous = activations.is_contiguous()
    channels_last = not contiguous and (
        dense(activations, channels_last=True) and not dense(activations, channels_last=False)
    )
    constant = gradients.dim() == 2
    if constant:
        if not gradients.is_contiguous():
            gradients = gradients.contiguous()
    elif gradients.dtype != activations.dtype:
        wide = torch.promote_types(gradients.dtype, activations.dtype)
        gradients, activations = gradients.to(wide), activations.to(wide)
    activation_stride = gradient_stride = channels * height * width
    if not contiguous:
        activations = as_dense(activations, channels_last)
        activation_stride = activations.stride(0)
    if not constant and (channels_last or not gradients.is_contiguous()):
        gradients = as_dense(gradients, channels_last)
        gradient_stride = gradients.stride(0)
    scores = torch.empty(batch, rows, cols, dtype=torch.float32)  # sizes in a tuple would cost 0.7 microseconds more
    assert _CORE is not None  # else this function is not registered
    _CORE.patch_scores(
        activations.data_ptr(), DTYPES[activations.dtype], activation_stride,
        gradients.data_ptr(), DTYPES[gradients.dtype], gradient_stride, constant, channels_last,
        variant, scores.data_ptr(), batch, channels, height, width, rows, cols, torch.get_num_threads(),
    )  # fmt: skip
    return scores


registry.define(
    "patch_scores(Tensor activations, Tensor gradients, SymInt rows, SymInt cols, int variant) -> Tensor",
    reference=definition,
    fake=fake,
)
registry.impl("patch_scores", "cpu", native_cpu)
registry.impl("patch_scores", "cuda", native_cuda)
