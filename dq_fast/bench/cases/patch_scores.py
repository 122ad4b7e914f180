"""Cases of patch_scores: three variants, gradients constant over the map and not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dq_fast import ops
from dq_fast.bench.case import Call, Case, Problem, Setting, Way
from dq_fast.bench.judge import Array, relative_error
from dq_fast.bench.packages import grad_cam_scores, torchcam_scores
from dq_fast.bench.torch_forms import upsampled_scores
from dq_fast.ops import registry
from dq_fast.ops.patch_scores import VARIANTS

_SHAPE, _QUICK_SHAPE, _GRID = (128, 512, 7, 7), (8, 32, 7, 7), (14, 14)
_PATCH = 16  # pixels
_EPS = {"paper": 0.0, "grad-cam": 1e-6}
# The result is float32; the largest score of the batch is the scale.
_EXACT, _SINGLE = 1e-6, 1e-4


@dataclass
class _Maps:
    activations: Tensor
    gradients: Tensor
    variant: str

    def to(self, device: torch.device) -> _Maps:
        """On a device."""
        return _Maps(self.activations.to(device), self.gradients.to(device), self.variant)


def _scores(a: Tensor, g: Tensor, variant: str) -> Array:
    """GradCAM++ by its formula in float64, image by image: the map upsampled to pixels, averaged over patches."""
    out = []
    for maps, slopes in zip(a.double().numpy(), g.double().numpy()):  # noqa: B905
        slopes = slopes if slopes.ndim == 3 else np.broadcast_to(slopes[:, None, None], maps.shape)
        total = maps.sum((1, 2))[:, None, None]
        positive = np.maximum(slopes, 0)
        if variant == "torchcam":
            weight = (positive**3).sum((1, 2))
        else:
            denominator = 2 * slopes**2 + total * slopes**3 + _EPS[variant]
            alpha = np.divide(slopes**2, denominator, out=np.zeros_like(denominator), where=positive > 0)
            weight = (alpha * positive).sum((1, 2))
        cam = np.maximum((weight[:, None, None] * maps).sum(0), 0)
        size = (_GRID[0] * _PATCH, _GRID[1] * _PATCH)
        pixels = F.interpolate(torch.from_numpy(cam)[None, None], size=size, mode="bilinear", align_corners=False)
        out.append(pixels[0, 0].view(_GRID[0], _PATCH, _GRID[1], _PATCH).mean((1, 3)).numpy())
    return np.stack(out)


def _make(setting: Setting, variant: str, constant: bool) -> Problem:
    shape = _QUICK_SHAPE if setting.quick else _SHAPE
    generator = torch.Generator().manual_seed(0)
    a = torch.relu(torch.randn(shape, generator=generator))  # as after a ReLU: the denominator has no zero
    g = torch.randn(shape[:2] if constant else shape, generator=generator) / 10
    floor = 4 * (a.numel() + g.numel() + shape[0] * _GRID[0] * _GRID[1])
    return Problem(
        _Maps(a, g, variant), partial(relative_error, want=_scores(a, g, variant)), shape[0],
        "x".join(map(str, shape[1:])), 1, "float32", "normal activations after a ReLU, normal gradients",
        4 * (a.numel() + g.numel()), bytes_floor=floor, flops_floor=4 * a.numel(),
        exact_tolerance=_EXACT, single_tolerance=_SINGLE,
    )  # fmt: skip


def _native(p: _Maps) -> Call:
    return lambda: ops.patch_scores(p.activations, p.gradients, _GRID, variant=p.variant)


def _torch(p: _Maps) -> Call:
    definition = registry.reference("patch_scores")
    return lambda: definition(p.activations, p.gradients, *_GRID, VARIANTS[p.variant])


def _case(variant: str, constant: bool) -> Case:
    found: dict[str, Way] = {
        "native": _native,
        "torch": _torch,
        "torch-upsample": lambda p: lambda: upsampled_scores(p.activations, p.gradients, _GRID, p.variant),
    }
    if variant == "torchcam":
        found["torchcam"] = lambda p: torchcam_scores(p.activations, p.gradients, _GRID)
    if variant == "grad-cam":
        found["grad-cam"] = lambda p: grad_cam_scores(p.activations, p.gradients, _GRID)
    kind = "constant" if constant else "full"
    return Case(
        f"patch_scores/{variant}-{kind}",
        f"{list(_SHAPE)} to {list(_GRID)}, variant {variant}, gradients {kind}",
        partial(_make, variant=variant, constant=constant),
        found,
    )


CASES = [_case(variant, constant) for variant in VARIANTS for constant in (True, False)]
