"""Which layer's output is the attention map's basis, and in which order its numbers lie.

The map is the last output with more than one position that the logits depend on at every position: feature maps
[b, c, h, w] of CNNs, [b, h, w, c] of Swin, or patch tokens [b, prefix + h·w, c]. Vision transformers that classify by a
class token lose the other tokens' influence after their last attention, so there it is that block's first norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dq_fast.errors import InputError

MAX_PREFIX = 16  # class, distillation and register tokens; more of them than this is not taken for a prefix


@dataclass(frozen=True)
class MapLayer:
    """A place in a model's forward pass whose output is a map.

    Attributes:
        name: dotted name of the module.
        module: the module.
        call: which of its calls in one forward pass, from 0 (an activation module may serve many places).
        layout: "nchw", "nhwc" or "tokens".
        grid: (h, w) of the map.
        prefix: for tokens, how many come before the patches'.
        linear: the last nn.Linear that ran after it, which a closed form may be read from; None without one.
    """

    name: str
    module: nn.Module
    call: int
    layout: str
    grid: tuple[int, int]
    prefix: int
    linear: nn.Linear | None

    def to_map(self, output: Tensor) -> Tensor:
        """The output as a view [b, c, h, w]."""
        if self.layout == "tokens":
            output = output[:, self.prefix :].unflatten(1, self.grid)
        return output if self.layout == "nchw" else output.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Call:
    name: str
    module: nn.Module
    call: int
    shape: tuple[int, ...]


def find_layers(model: nn.Module, images: Tensor, layer: str | None) -> list[MapLayer]:
    """Places whose output may be the map, best first, found in one forward pass of `images` [b, 3, H, W].

    Raises:
        InputError: no module is named `layer`, or its output is no map; or no place is found.
    """
    calls = _trace(model, images)
    if layer is None:
        layer = _vision_transformer(model)
    if layer is not None:
        names = [name for name, _ in model.named_modules() if name]
        if layer not in names:
            raise InputError(f"layer must name a module of the model, got {layer!r}; the last ones are {names[-12:]}")
        found = [k for k, call in enumerate(calls) if call.module is model.get_submodule(layer)]
        if not found:
            raise InputError(f"layer must be one that runs and returns a tensor, got {layer!r}")
        place = _as_map(model, images, calls, found[-1], strict=False)
        if place is None:
            shape = calls[found[-1]].shape
            raise InputError(f"layer must return a map [b, c, h, w] or [b, h, w, c] or tokens, got {layer!r}: {shape}")
        return [place]
    places = [_as_map(model, images, calls, k, strict=True) for k in reversed(range(len(calls)))]
    good = [place for place in places if place is not None]
    if not good:
        raise InputError(
            "model must have a layer that returns a map of more than one position, got none; "
            "give its dotted name as layer=, or larger images"
        )
    return good


def _trace(model: nn.Module, images: Tensor) -> list[_Call]:
    """Every call of a module that returned a tensor with one row an image, in the order in which they ended."""
    calls: list[_Call] = []
    counts: dict[nn.Module, int] = {}

    def record(name: str, module: nn.Module, output: Any) -> None:
        counts[module] = counts.get(module, -1) + 1
        if isinstance(output, Tensor) and output.dim() >= 2 and output.shape[0] == len(images):
            calls.append(_Call(name, module, counts[module], tuple(output.shape)))

    handles = []
    try:
        for name, module in model.named_modules():
            if name:
                handles.append(
                    module.register_forward_hook(lambda m, _, output, name=name: record(name, m, output))  # type: ignore[misc]
                )
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _vision_transformer(model: nn.Module) -> str | None:
    """For timm's vision transformers: the last block's first norm."""
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.Sequential) or not len(blocks) or not hasattr(model, "patch_embed"):
        return None
    return f"blocks.{len(blocks) - 1}.norm1" if isinstance(getattr(blocks[-1], "norm1", None), nn.Module) else None


def _as_map(model: nn.Module, images: Tensor, calls: list[_Call], k: int, *, strict: bool) -> MapLayer | None:
    """Call k as a place of a map, or None where it is none; strict: only if the layers after it take its channels."""
    call = calls[k]
    widths = set(_widths(calls[k + 1 :]))
    linears = [after.module for after in calls[k + 1 :] if isinstance(after.module, nn.Linear)]
    linear = linears[-1] if linears else None
    if len(call.shape) == 4:
        _, first, second, third = call.shape
        layout = _layout(model, first, third, widths)
        channels, grid = (first, (second, third)) if layout == "nchw" else (third, (first, second))
        fits = not widths or any(width in (channels, channels * math.prod(grid)) for width in widths)
        if math.prod(grid) > 1 and (fits or not strict):
            return MapLayer(call.name, call.module, call.call, layout, grid, 0, linear)
    if len(call.shape) == 3 and (not strict or call.shape[2] in widths):
        tokens = _token_grid(model, images, call.shape[1])
        if tokens is not None:
            prefix, grid = tokens
            return MapLayer(call.name, call.module, call.call, "tokens", grid, prefix, linear)
    return None


def _widths(calls: list[_Call]) -> Iterator[int]:
    """Numbers of channels that these calls' modules take."""
    for call in calls:
        module = call.module
        if isinstance(module, nn.Linear):
            yield module.in_features
        elif isinstance(module, nn.modules.conv._ConvNd):
            yield module.in_channels
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            yield module.num_features
        elif isinstance(module, nn.LayerNorm):
            yield module.normalized_shape[-1]


def _layout(model: nn.Module, first: int, last: int, widths: set[int]) -> str:
    """Order of a 4-D output: as timm says, or by which axis is as long as what the layers after it take."""
    declared = str(getattr(model, "output_fmt", "")).rsplit(".", 1)[-1].lower()
    if declared in ("nchw", "nhwc"):
        return declared
    return "nhwc" if last in widths and first not in widths else "nchw"


def _token_grid(model: nn.Module, images: Tensor, tokens: int) -> tuple[int, tuple[int, int]] | None:
    """(prefix, (h, w)) of a sequence of tokens: by timm's grid where it fits, else by the images' aspect ratio."""
    height, width = images.shape[-2:]
    declared = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if isinstance(declared, (tuple, list)) and len(declared) == 2:
        grid = (int(declared[0]), int(declared[1]))
        if 0 <= tokens - math.prod(grid) <= MAX_PREFIX:
            return tokens - math.prod(grid), grid
    for prefix in range(MAX_PREFIX + 1):
        rows = math.isqrt(max(0, (tokens - prefix) * height // width))
        if rows and (tokens - prefix) % rows == 0:
            cols = (tokens - prefix) // rows
            if rows * width == cols * height and rows * cols > 1:
                return prefix, (rows, cols)
    return None
