"""PixelQuantizer: scores of an image's patches by a classifier's attention, and the positions that are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dq_fast import ops
from dq_fast.embed.precision import check_precision, computing, fastest, measure, resolve
from dq_fast.errors import InputError
from dq_fast.ops.patch_scores import VARIANTS
from dq_fast.patches.grid import check_drop, default_patch, keep_top, kept_count, patch_grid
from dq_fast.patches.maps import Maps, Plan, Within, evaluating, make_plan, read_activations, read_maps
from dq_fast.patches.scores import SCORES, Grid, energy, uniform

TARGETS = ("label", "prediction")


class PixelQuantizer:
    """Chooses the patches of images that inform a classifier's decision (Dataset Quantization, section 3.3).

    Patches are scored by GradCAM++ on the model's last map, upsampled to the image and averaged over each patch; the
    fraction `drop` with the lowest scores is dropped. The model is run in evaluation mode and left as it was found.

    Args:
        model: any module that returns logits [b, C] for images [b, 3, H, W].
        grid: (rows, cols) of patches; None: that of `default_patch` for the images' size.
        drop: ratio θ of patches to drop from every image, 0 <= θ < 1; or one for each class: {label: θ}, or a sequence
            in the order of labels. Labels must then be given and `keep` be called: images keep different numbers.
        score: what ranks the patches: "gradcam++"; "energy", the mean square of the map's channels, which needs no
            label and no gradient; or "random", which runs no model.
        seed: of score "random".
        variant: of GradCAM++, see `dq.ops.patch_scores`: "paper", "torchcam" or "grad-cam".
        target: whose logit is explained: "label", or "prediction" (labels are then not needed).
        layer: dotted name of the module whose output is the map; None: found by itself, see `dq_fast.patches.layers`.
        precision: of the forward pass. None: as the model is, within the caller's autocast if there is one; "float32":
            autocast off; "bfloat16", "float16" (CUDA): within autocast; "auto": bfloat16 where the processor
            multiplies it, else float32; "fastest": the faster of the two, timed with the first batch of each shape, so
            that another run may choose otherwise. Lower precisions change some kept patches (docs/SCORING.md); a model
            whose weights are not float32 runs as it is with "auto" and "fastest".

    The layer, and whether the head allows the closed form, are found out with the first batch of each image size: after
    a change to the model's structure (not its weights) make a new quantizer.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        grid: Grid | None = None,
        drop: float | Mapping[int, float] | Sequence[float] = 0.2,
        score: str = "gradcam++",
        seed: int = 0,
        variant: str = "paper",
        target: str = "label",
        layer: str | None = None,
        precision: str | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        if grid is not None and (len(grid) != 2 or min(grid) < 1):
            raise InputError(f"grid must be (rows, cols) of at least 1, got {grid!r}")
        for ratio in _ratios(drop):
            check_drop(ratio)
        if score not in SCORES:
            raise InputError(f"score must be one of {', '.join(map(repr, SCORES))}, got {score!r}")
        if variant not in VARIANTS:
            raise InputError(f"variant must be one of {', '.join(map(repr, VARIANTS))}, got {variant!r}")
        if target not in TARGETS:
            raise InputError(f"target must be one of {', '.join(map(repr, TARGETS))}, got {target!r}")
        if precision is not None:
            check_precision("precision", precision)
        self.model = model
        self.grid = grid
        self.drop = drop
        self.score = score
        self.seed = seed
        self._unnamed = 0  # images so far that "random" was given no ids for
        self.variant = variant
        self.target = target
        self.layer = layer
        self.precision = precision
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def __call__(
        self, images: Tensor, labels: Any = None, *, ids: Sequence[str] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Score every patch and choose the kept ones.

        Args:
            images: [b, 3, H, W], preprocessed as the model wants them.
            labels: int [b] (tensor, array or list); not needed for target="prediction" and other scores.
            ids: of the images, so that score "random" is the same whatever the batches; None: their numbers so far.

        Returns:
            scores float32 [b, P] with P = rows·cols, and kept int64 [b, P_kept], ascending positions row by row;
            of equal scores the lowest positions are kept. Both on the images' device.

        Raises:
            InputError: wrong shapes or labels; a model without a map; scores that are not finite.
        """
        _check_images(images)
        if not isinstance(self.drop, (int, float)):
            raise InputError("drop must be one ratio for all images here, got one for each class; call keep() instead")
        height, width = images.shape[2:]
        rows, cols = self.grid or patch_grid(height, width, default_patch(height, width))
        count = kept_count(rows * cols, self.drop)
        if len(images) == 0:
            nothing = images.new_empty((0, rows * cols), dtype=torch.float32)
            return nothing, keep_top(nothing, count)
        ((_, scores),) = self._by_grid(images, labels, [(rows, cols)] * len(images), ids)
        scores = scores.to(images.device)
        return scores, keep_top(scores, count)

    def scores(
        self, images: Tensor, labels: Any, grids: Sequence[Grid], *, ids: Sequence[str] | None = None
    ) -> list[Tensor]:
        """Scores float32 [P_i] of each image on its own grid, in one forward pass; equal grids are scored together.

        For images of several sizes that were squashed to the model's input: `grids` holds each one's `patch_grid`.
        """
        found: dict[int, Tensor] = {}
        for members, part in self._by_grid(images, labels, grids, ids):
            found.update(zip(members, part.unbind(), strict=True))
        return [found[i] for i in range(len(images))]

    def keep(
        self,
        images: Tensor,
        labels: Any,
        grids: Sequence[Grid],
        *,
        ids: Sequence[str] | None = None,
        drop: Sequence[float] | None = None,
    ) -> list[np.ndarray]:
        """Kept positions, int64 ascending, of each image on its own grid; arguments as for `scores`.

        `drop` is the θ of each image, instead of the quantizer's.
        """
        ratios = self._ratios(labels, len(images)) if drop is None else list(drop)
        if len(ratios) != len(images):
            raise InputError(f"drop must have one ratio an image, {len(images)}, got {len(ratios)}")
        found: dict[int, np.ndarray] = {}
        for members, part in self._by_grid(images, labels, grids, ids):
            counts = {i: kept_count(part.shape[1], ratios[i]) for i in members}
            for count in set(counts.values()):
                mine = [k for k, i in enumerate(members) if counts[i] == count]
                some = part if len(mine) == len(members) else part[torch.tensor(mine, device=part.device)]
                kept = keep_top(some, count).cpu().numpy()  # at once: on a GPU each copy back is a wait
                found.update(zip((members[k] for k in mine), kept, strict=True))
        return [found[i] for i in range(len(images))]

    def _ratios(self, labels: Any, count: int) -> list[float]:
        """θ of each of some images."""
        if isinstance(self.drop, (int, float)):
            return [self.drop] * count
        drop = self.drop if isinstance(self.drop, Mapping) else dict(enumerate(self.drop))
        wanted = _labels(labels, count).tolist()
        missing = sorted(set(wanted) - set(drop))
        if missing:
            raise InputError(f"drop must have a ratio for every class, got none for label {missing[0]}")
        return [drop[label] for label in wanted]

    def _by_grid(
        self, images: Tensor, labels: Any, grids: Sequence[Grid], ids: Sequence[str] | None
    ) -> list[tuple[list[int], Tensor]]:
        """For every grid the images that have it, and their scores [members, P]."""
        _check_images(images)
        if len(grids) != len(images):
            raise InputError(f"grids must have one (rows, cols) an image, {len(images)}, got {len(grids)}")
        if ids is not None and len(ids) != len(images):
            raise InputError(f"ids must have one text an image, {len(images)}, got {len(ids)}")
        groups: dict[Grid, list[int]] = {}
        for i, (rows, cols) in enumerate(grids):
            groups.setdefault((int(rows), int(cols)), []).append(i)
        if self.score == "random":
            names = [str(self._unnamed + i) for i in range(len(images))] if ids is None else ids
            self._unnamed += 0 if ids is not None else len(images)
            return [(own, uniform(self.seed, [names[i] for i in own], grid)) for grid, own in groups.items()]
        if len(images) == 0:
            return []
        score = self._scorer(images, labels)
        if len(groups) == 1:
            return [(members, score(None, grid)) for grid, members in groups.items()]
        return [(members, score(torch.tensor(members), grid)) for grid, members in groups.items()]

    def _scorer(self, images: Tensor, labels: Any) -> Callable[[Tensor | None, Grid], Tensor]:
        """A function of which of the images (None: all) and a grid, which gives their scores [members, P]."""
        if self.score == "energy":
            model, images = self._placed(images)
            activations = read_activations(model, images, self.plan(images), self._within(model, images))
            return lambda some, grid: _finite(energy(activations if some is None else activations[some], grid))
        maps = self.maps(images, labels)

        def gradcam(some: Tensor | None, grid: Grid) -> Tensor:
            mine = maps if some is None else Maps(maps.activations[some], maps.gradients[some])
            return _finite(ops.patch_scores(mine.activations, mine.gradients, grid, variant=self.variant).flatten(1))

        return gradcam

    def maps(self, images: Tensor, labels: Any = None) -> Maps:
        """(activations [b, c, h, w], gradients [b, c, h, w] or [b, c]) of the model's last map; at least one image.

        Use it to score on several grids by `dq.ops.patch_scores`, or for a map of your own.
        """
        _check_images(images)
        if len(images) == 0:
            raise InputError("images must have at least one image, got none")
        target = None if self.target == "prediction" else _labels(labels, len(images))
        model, images = self._placed(images)
        return read_maps(model, images, target, self.plan(images), self._within(model, images))

    def _placed(self, images: Tensor) -> tuple[nn.Module, Tensor]:
        """The model that hooks run in, and the images where it is."""
        model = _unwrapped(self.model)
        parameter = next(model.parameters(), None)
        if parameter is not None:
            images = images.to(parameter.device)
        return model, images

    def chosen_precision(self, images: Tensor) -> str | None:
        """What `precision` comes to for images [b, 3, H, W]; "fastest" times the model with them, once a shape."""
        model, images = self._placed(images)
        if self.precision not in ("auto", "fastest"):
            if self.precision is not None:
                check_precision("precision", self.precision, images.device)
            return self.precision
        if any(p.is_floating_point() and p.dtype != torch.float32 for p in model.parameters()):
            return None
        if self.precision == "auto":
            return resolve("auto", images.device)[0]
        with evaluating(model):
            return fastest(measure(model, images, [("float32", None), ("bfloat16", None)]))[0]

    def _within(self, model: nn.Module, images: Tensor) -> Within:
        precision = self.chosen_precision(images)
        return lambda: computing(images.device, precision)

    def plan(self, images: Tensor) -> Plan:
        """Where the map is read for images of this size and type, and whether in closed form; found once.

        It is looked for without autocast where a precision was asked for: rounding blurs what tells heads apart.
        """
        key = (tuple(images.shape[1:]), images.dtype, images.device)
        if key not in self._plans:
            with computing(images.device, None if self.precision is None else "float32"):
                self._plans[key] = make_plan(_unwrapped(self.model), images, self.layer)
        return self._plans[key]


def _finite(scores: Tensor) -> Tensor:
    """The scores, if all are finite."""
    bad = (~torch.isfinite(scores)).any(1)
    if bool(bad.any()):
        raise InputError(
            f"images must give finite activations and gradients, got NaN or infinity for {int(bad.sum())} of "
            f"{len(scores)} (first: number {int(bad.nonzero()[0, 0])}); look at their values, at the weights, "
            "and at the precision if it is float16, whose largest number is 65504"
        )
    return scores


def _ratios(drop: Any) -> list[float]:
    """All the ratios there are."""
    if isinstance(drop, (int, float)):
        return [drop]
    values = list(drop.values() if isinstance(drop, Mapping) else drop)
    if not values or not all(isinstance(value, (int, float)) for value in values):
        raise InputError(f"drop must be a ratio, or one for each class, got {drop!r}")
    return values


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
