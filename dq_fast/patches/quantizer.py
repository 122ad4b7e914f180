"""PixelQuantizer: scores of an image's patches by GradCAM++ on any classifier, and the positions that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dq_fast import ops
from dq_fast.errors import InputError
from dq_fast.ops.patch_scores import VARIANTS
from dq_fast.patches.grid import check_drop, default_patch, keep_top, kept_count, patch_grid
from dq_fast.patches.maps import Maps, Plan, make_plan, read_maps

Grid = tuple[int, int]
TARGETS = ("label", "prediction")


class PixelQuantizer:
    """Chooses the patches of images that inform a classifier's decision (Dataset Quantization, section 3.3).

    Patches are scored by GradCAM++ on the model's last map, upsampled to the image and averaged over each patch; the
    fraction `drop` with the lowest scores is dropped. The model is run in evaluation mode and left as it was found.

    Args:
        model: any module that returns logits [b, C] for images [b, 3, H, W].
        grid: (rows, cols) of patches; None: that of `default_patch` for the images' size.
        drop: ratio θ of patches to drop, 0 <= θ < 1.
        variant: of GradCAM++, see `dq.ops.patch_scores`: "paper", "torchcam" or "grad-cam".
        target: whose logit is explained: "label", or "prediction" (labels are then not needed).
        layer: dotted name of the module whose output is the map; None: found by itself, see `dq_fast.patches.layers`.

    The layer, and whether the head allows the closed form, are found out with the first batch of each image size: after
    a change to the model's structure (not its weights) make a new quantizer.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        grid: Grid | None = None,
        drop: float = 0.2,
        variant: str = "paper",
        target: str = "label",
        layer: str | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        if grid is not None and (len(grid) != 2 or min(grid) < 1):
            raise InputError(f"grid must be (rows, cols) of at least 1, got {grid!r}")
        check_drop(drop)
        if variant not in VARIANTS:
            raise InputError(f"variant must be one of {', '.join(map(repr, VARIANTS))}, got {variant!r}")
        if target not in TARGETS:
            raise InputError(f"target must be one of {', '.join(map(repr, TARGETS))}, got {target!r}")
        self.model = model
        self.grid = grid
        self.drop = drop
        self.variant = variant
        self.target = target
        self.layer = layer
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def __call__(self, images: Tensor, labels: Any = None) -> tuple[Tensor, Tensor]:
        """Score every patch and choose the kept ones.

        Args:
            images: [b, 3, H, W], preprocessed as the model wants them.
            labels: int [b] (tensor, array or list); not needed for target="prediction".

        Returns:
            scores float32 [b, P] with P = rows·cols, and kept int64 [b, P_kept], ascending positions row by row;
            of equal scores the lowest positions are kept. Both on the images' device.

        Raises:
            InputError: wrong shapes or labels; a model without a map; scores that are not finite.
        """
        _check_images(images)
        height, width = images.shape[2:]
        rows, cols = self.grid or patch_grid(height, width, default_patch(height, width))
        count = kept_count(rows * cols, self.drop)
        if len(images) == 0:
            nothing = images.new_empty((0, rows * cols), dtype=torch.float32)
            return nothing, keep_top(nothing, count)
        scores = self._score(self.maps(images, labels), (rows, cols)).to(images.device)
        return scores, keep_top(scores, count)

    def scores(self, images: Tensor, labels: Any, grids: Sequence[Grid]) -> list[Tensor]:
        """Scores float32 [P_i] of each image on its own grid, in one forward pass; equal grids are scored together.

        For images of several sizes that were squashed to the model's input: `grids` holds each one's `patch_grid`.
        """
        found: dict[int, Tensor] = {}
        for members, part in self._by_grid(images, labels, grids):
            found.update(zip(members, part.unbind(), strict=True))
        return [found[i] for i in range(len(images))]

    def keep(self, images: Tensor, labels: Any, grids: Sequence[Grid]) -> list[np.ndarray]:
        """Kept positions, int64 ascending, of each image on its own grid; arguments as for `scores`."""
        found: dict[int, np.ndarray] = {}
        for members, part in self._by_grid(images, labels, grids):
            kept = keep_top(part, kept_count(part.shape[1], self.drop))  # at once: on a GPU each copy back is a wait
            found.update(zip(members, kept.cpu().numpy(), strict=True))
        return [found[i] for i in range(len(images))]

    def _by_grid(self, images: Tensor, labels: Any, grids: Sequence[Grid]) -> list[tuple[list[int], Tensor]]:
        """For every grid the images that have it, and their scores [members, P]."""
        _check_images(images)
        if len(grids) != len(images):
            raise InputError(f"grids must have one (rows, cols) an image, {len(images)}, got {len(grids)}")
        if len(images) == 0:
            return []
        maps = self.maps(images, labels)
        groups: dict[Grid, list[int]] = {}
        for i, (rows, cols) in enumerate(grids):
            groups.setdefault((int(rows), int(cols)), []).append(i)
        if len(groups) == 1:
            return [(members, self._score(maps, grid)) for grid, members in groups.items()]
        found = []
        for grid, members in groups.items():
            rows_of = torch.tensor(members, device=maps.activations.device)
            found.append((members, self._score(Maps(maps.activations[rows_of], maps.gradients[rows_of]), grid)))
        return found

    def maps(self, images: Tensor, labels: Any = None) -> Maps:
        """(activations [b, c, h, w], gradients [b, c, h, w] or [b, c]) of the model's last map; at least one image.

        Use it to score on several grids by `dq.ops.patch_scores`, or for a map of your own.
        """
        _check_images(images)
        if len(images) == 0:
            raise InputError("images must have at least one image, got none")
        target = None if self.target == "prediction" else _labels(labels, len(images))
        model = _unwrapped(self.model)
        parameter = next(model.parameters(), None)
        if parameter is not None:
            images = images.to(parameter.device)
        return read_maps(model, images, target, self.plan(images))

    def plan(self, images: Tensor) -> Plan:
        """Where the map is read for images of this size and type, and whether in closed form; found once."""
        key = (tuple(images.shape[1:]), images.dtype, images.device)
        if key not in self._plans:
            self._plans[key] = make_plan(_unwrapped(self.model), images, self.layer)
        return self._plans[key]

    def _score(self, maps: Maps, grid: Grid) -> Tensor:
        scores = ops.patch_scores(maps.activations, maps.gradients, grid, variant=self.variant).flatten(1)
        bad = (~torch.isfinite(scores)).any(1)
        if bool(bad.any()):
            raise InputError(
                f"images must give finite activations and gradients, got NaN or infinity for {int(bad.sum())} of "
                f"{len(scores)} (first: number {int(bad.nonzero()[0, 0])}); look at their values and at the weights"
            )
        return scores


def _check_images(images: Any) -> None:
    if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point():
        got = f"{images.dtype} of shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images must be a float tensor [b, 3, H, W], got {got}")


def _labels(labels: Any, count: int) -> Tensor:
    if labels is None:
        raise InputError('labels must be given for target="label", got None; target="prediction" needs none')
    found = torch.as_tensor(labels)
    if found.shape != (count,) or found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise InputError(f"labels must be integers [{count}], got {found.dtype} of shape {tuple(found.shape)}")
    return found.long()


def _unwrapped(model: nn.Module) -> nn.Module:
    """The module inside torch.compile's or a parallel wrapper, whose hooks would not run."""
    inner = getattr(model, "_orig_mod", model)
    if isinstance(inner, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inner = inner.module
    return inner if isinstance(inner, nn.Module) else model
