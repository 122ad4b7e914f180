"""Activations and gradients of a classifier's last map, in one forward pass and never a backward pass through its body.

A hook on the map's layer cuts the pass in two: what comes before runs without a graph; the map becomes a leaf, and only
the head behind it is recorded. Where the head is global average pooling and one linear layer, the gradient is a row of
its weights over the map's size, and nothing is recorded at all.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dq_fast.errors import InputError
from dq_fast.patches.layers import MapLayer, find_layers

logger = logging.getLogger(__name__)

Within = Callable[[], AbstractContextManager[None]]  # what forward passes run in: a precision

PROBE_IMAGES = 2  # enough to tell the batch from other dimensions
PROBE_SCALE = 100.0  # the made-up map's spread: its means then pass the limits of ReLU6 and the like on both sides
HALF_GRADIENT_SCALE = 1024.0  # a power of two, exact: keeps float16 gradients of a large map out of the subnormals
_PROBE_TOLERANCE = 1e-5  # of float32 means of a few thousand numbers; half precisions: a few of their own steps


class Maps(NamedTuple):
    """A batch's maps.

    Attributes:
        activations: [b, c, h, w], in the model's precision and memory order.
        gradients: of the target logit, [b, c, h, w], or [b, c] where it is constant over the map.
    """

    activations: Tensor
    gradients: Tensor


@dataclass(frozen=True)
class Plan:
    """How a model's maps are read.

    Attributes:
        layer: the map's place.
        closed_form: whether the head is global average pooling and `layer.linear`.
    """

    layer: MapLayer
    closed_form: bool


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode for a while, and then in the mode it was in.

    By the flag alone: models that do more in `train()` are left as they are.
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def make_plan(model: nn.Module, images: Tensor, layer: str | None) -> Plan:
    """Find the map's layer and what kind of head follows it, with a few of the images.

    Raises:
        InputError: no layer has a map that the logits depend on.
    """
    few = images[:PROBE_IMAGES]
    with evaluating(model), torch.inference_mode(False):
        few = few.clone() if few.is_inference() else few
        candidates = find_layers(model, few, layer)
        for candidate in candidates:
            if _closed_form(model, few, candidate):
                plan = Plan(candidate, closed_form=True)
                break
            gradient = _head_gradient(model, few, candidate, lambda logits: logits.argmax(1))[1]
            if gradient is not None and bool((gradient != 0).any()):
                plan = Plan(candidate, closed_form=False)
                break
        else:
            raise InputError(
                f"model must have a map that its logits depend on, got none (tried {candidates[0].name!r} and "
                f"{len(candidates) - 1} more); give the layer's dotted name as layer="
            )
    logger.debug("map: %s %s %s, closed form: %s", candidate.name, candidate.layout, candidate.grid, plan.closed_form)
    return plan


def read_maps(
    model: nn.Module, images: Tensor, labels: Tensor | None, plan: Plan, within: Within = nullcontext
) -> Maps:
    """Maps of images [b, 3, H, W] by a plan for images of this size; labels int64 [b], None for the predicted class."""

    def target_of(logits: Tensor) -> Tensor:
        return logits.argmax(1) if labels is None else check_labels(labels, logits)

    with evaluating(model), torch.inference_mode(False):
        images = images.clone() if images.is_inference() else images
        labels = labels.clone() if labels is not None and labels.is_inference() else labels
        if not plan.closed_form:
            activations, gradient = _head_gradient(model, images, plan.layer, target_of, within)
            if gradient is None:
                raise InputError(f"layer must be one that the logits depend on, got {plan.layer.name!r}")
            return Maps(activations, gradient)
        seen: list[Tensor] = []
        with torch.no_grad():
            target = target_of(_cut(model, images, plan.layer, seen.append, within))
            linear = plan.layer.linear
            assert linear is not None  # a closed form has one
            activations = plan.layer.to_map(seen[0])
            gradient = linear.weight[target] / (activations.shape[2] * activations.shape[3])
        return Maps(activations, gradient)


def read_activations(model: nn.Module, images: Tensor, plan: Plan, within: Within = nullcontext) -> Tensor:
    """The maps alone [b, c, h, w], without any gradient."""
    seen: list[Tensor] = []
    with evaluating(model), torch.no_grad():
        _cut(model, images, plan.layer, seen.append, within)
        return plan.layer.to_map(seen[0])


def check_labels(labels: Tensor, logits: Tensor) -> Tensor:
    """The labels on the logits' device, once they are classes of the model."""
    classes = logits.shape[1]
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise InputError(
            f"labels must be classes of the model, 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())}"
        )
    return labels.to(logits.device)


def _cut(
    model: nn.Module,
    images: Tensor,
    layer: MapLayer,
    at_map: Callable[[Tensor], Tensor | None],
    within: Within = nullcontext,
) -> Tensor:
    """Logits [b, C] of one forward pass in which `at_map` sees, and may replace, the layer's output."""
    calls = -1

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        nonlocal calls
        calls += 1
        return at_map(output) if calls == layer.call else None

    handle = layer.module.register_forward_hook(hook)
    try:
        with within():
            logits = model(images)
    finally:
        handle.remove()
    if calls < layer.call:
        raise InputError(f"model must run its layers as for the first batch, got no call of {layer.name!r}")
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[0] != images.shape[0]:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"model must return logits [b, classes], got {got}")
    return logits


def _head_gradient(
    model: nn.Module,
    images: Tensor,
    layer: MapLayer,
    target_of: Callable[[Tensor], Tensor],
    within: Within = nullcontext,
) -> tuple[Tensor, Tensor | None]:
    """Map and gradient [b, c, h, w] of the target logits; None where they don't depend on the layer's output."""
    leaves: list[Tensor] = []

    def make_leaf(output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        leaves.append(leaf)
        torch.set_grad_enabled(True)  # from here on; no_grad below restores the caller's mode
        return leaf.clone()  # the head may write into it in place, which a leaf forbids

    with torch.no_grad():
        logits = _cut(model, images, layer, make_leaf, within)
        leaf = leaves[0]
        if not logits.requires_grad:
            return layer.to_map(leaf.detach()), None
        half = torch.float16 in (leaf.dtype, logits.dtype)  # a norm can make float32 of what autocast had in float16
        chosen = logits.gather(1, target_of(logits)[:, None]).float().sum()
        (gradient,) = torch.autograd.grad(chosen * HALF_GRADIENT_SCALE if half else chosen, leaf, allow_unused=True)
    if gradient is None:
        return layer.to_map(leaf.detach()), None
    if half:
        gradient = gradient.float() / HALF_GRADIENT_SCALE
    return layer.to_map(leaf.detach()), layer.to_map(gradient)


def _closed_form(model: nn.Module, images: Tensor, layer: MapLayer) -> bool:
    """Whether the head is global average pooling and one linear layer, also for maps unlike those of the images.

    The map is replaced by random numbers of both signs, and the linear layer's input must be their means and its output
    the logits: a norm, an activation or a pooling of another kind in between would show.
    """
    linear = layer.linear
    if linear is None:
        return False
    maps: list[Tensor] = []
    inputs: list[Tensor] = []

    def replace(output: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        made = torch.randn(output.shape, generator=generator) * PROBE_SCALE
        maps.append(made.to(output.device, output.dtype, copy=True))
        return maps[0].clone()

    handle = linear.register_forward_hook(lambda module, arguments, output: inputs.append(arguments[0].detach()))
    try:
        with torch.no_grad():
            logits = _cut(model, images, layer, replace)
    finally:
        handle.remove()
    pooled = layer.to_map(maps[0]).double().mean((2, 3))
    if not inputs or inputs[-1].shape != pooled.shape:
        return False
    bias = 0 if linear.bias is None else linear.bias.detach().double()
    expected = pooled @ linear.weight.detach().double().T + bias
    return _same(inputs[-1], pooled) and logits.shape == expected.shape and _same(logits, expected)


def _same(x: Tensor, expected: Tensor) -> bool:
    tolerance = max(_PROBE_TOLERANCE, 4 * torch.finfo(x.dtype).eps)
    return bool((x.double() - expected).abs().max() <= tolerance * expected.abs().max())
