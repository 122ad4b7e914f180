"""State dicts of published MAE weights, turned into this project's: names, and the configuration read off the shapes.

Two layouts: Meta's (``blocks.0.attn.qkv.weight``; this project's own names) and Hugging Face's ViTMAEForPreTraining
(``vit.encoder.layer.0.attention.attention.query.weight``: queries, keys and values apart). Both hold their fixed
positions, which are computed here: they are compared with the formula and left out.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.restore.mae.model import Grid, MAEConfig
from dq_fast.restore.mae.positions import sincos_positions

State = dict[str, Tensor]

# Heads of the published models by width; no shape tells them.
PUBLISHED_HEADS = {768: 12, 1024: 16, 1280: 16}
PUBLISHED_DECODER_HEADS = {512: 16}
META_EPS, HUGGING_FACE_EPS = 1e-6, 1e-12
_POSITION_TOLERANCE = 2e-3  # of float16; any other positions differ by about 1

_HF_NAMES = {
    "vit.embeddings.cls_token": "cls_token",
    "vit.embeddings.position_embeddings": "pos_embed",
    "vit.embeddings.patch_embeddings.projection": "patch_embed.proj",
    "vit.layernorm": "norm",
    "decoder.mask_token": "mask_token",
    "decoder.decoder_pos_embed": "decoder_pos_embed",
    "decoder.decoder_embed": "decoder_embed",
    "decoder.decoder_norm": "decoder_norm",
    "decoder.decoder_pred": "decoder_pred",
}
_HF_STACKS = {"vit.encoder.layer": "blocks", "decoder.decoder_layers": "decoder_blocks"}
_HF_PARTS = {
    "attention.output.dense": "attn.proj",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_HF_QKV = re.compile(r"attention\.attention\.(query|key|value)\Z")
_HF_BLOCK = re.compile(r"(vit\.encoder\.layer|decoder\.decoder_layers)\.(\d+)\.(.+)\.(weight|bias)\Z")


def is_hugging_face(state: State) -> bool:
    """Whether the names are those of Hugging Face's ViTMAE."""
    return any(name.startswith(("vit.", "decoder.decoder_layers.")) for name in state)


def from_hugging_face(state: State) -> State:
    """Rename to Meta's layout, and join queries, keys and values (in this order, along the outputs).

    Raises:
        InputError: a name that ViTMAEForPreTraining does not have, or a query without its key and value.
    """
    found: State = {}
    split: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        stem, _, kind = name.rpartition(".")
        block = _HF_BLOCK.match(name)
        if name in _HF_NAMES:
            found[_HF_NAMES[name]] = value
        elif stem in _HF_NAMES:
            found[f"{_HF_NAMES[stem]}.{kind}"] = value
        elif block and (part := _HF_QKV.match(block[3])):
            split.setdefault(f"{_HF_STACKS[block[1]]}.{block[2]}.attn.qkv.{block[4]}", {})[part[1]] = value
        elif block and block[3] in _HF_PARTS:
            found[f"{_HF_STACKS[block[1]]}.{block[2]}.{_HF_PARTS[block[3]]}.{block[4]}"] = value
        else:
            raise InputError(f"weights must be those of ViTMAEForPreTraining, got one named {name!r}")
    for name, parts in split.items():
        if len(parts) != 3:
            raise InputError(f"weights must have query, key and value of {name}, got only {', '.join(sorted(parts))}")
        found[name] = torch.cat([parts["query"], parts["key"], parts["value"]])
    return found


def read_config(state: State, given: dict[str, Any]) -> tuple[MAEConfig, State]:
    """The configuration that a state dict in Meta's layout has, and the state without its positions.

    Args:
        state: as published.
        given: fields of `MAEConfig` that are known otherwise (heads, eps, norm_pix, …); None values do not count.

    Raises:
        InputError: there is no decoder; heads or grid cannot be told; the positions are not the fixed ones.
    """
    if "mask_token" not in state or "decoder_pred.weight" not in state:
        raise InputError(
            "weights must hold encoder and decoder, got an encoder alone: take mae_visualize_vit_*.pth "
            "(mae_pretrain_vit_*.pth cannot predict pixels)"
        )
    try:
        projection = state["patch_embed.proj.weight"]
        dim, channels, patch, across = projection.shape
        decoder_dim = state["mask_token"].shape[-1]
        hidden = state["blocks.0.mlp.fc1.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise InputError(f"weights must be an MAE's, but lack or misshape {error}") from None
    if channels != 3 or patch != across:
        raise InputError(f"weights must take square patches of 3 channels, got {tuple(projection.shape)}")
    fields: dict[str, Any] = {
        "patch": patch,
        "dim": dim,
        "decoder_dim": decoder_dim,
        "depth": _depth(state, "blocks"),
        "decoder_depth": _depth(state, "decoder_blocks"),
        "mlp_ratio": hidden / dim,
        "heads": PUBLISHED_HEADS.get(dim),
        "decoder_heads": PUBLISHED_DECODER_HEADS.get(decoder_dim),
        **{name: value for name, value in given.items() if value is not None},
    }
    for name in ("heads", "decoder_heads"):
        if fields[name] is None:
            width = fields["dim" if name == "heads" else "decoder_dim"]
            raise InputError(f"{name} must be given for weights {width} wide, which are not published ones")
    if "grid" not in fields:
        fields["grid"] = _square(state)
    config = MAEConfig(**fields)
    for name, width in (("pos_embed", config.dim), ("decoder_pos_embed", config.decoder_dim)):
        if name in state:
            _check_positions(name, state[name], config.grid, width)
    return config, {name: v for name, v in state.items() if name not in ("pos_embed", "decoder_pos_embed")}


def _depth(state: State, stack: str) -> int:
    numbers = {int(m[1]) for name in state if (m := re.match(rf"{stack}\.(\d+)\.", name))}
    return max(numbers, default=-1) + 1


def _square(state: State) -> Grid:
    """(rows, cols) of the grid from the number of positions, if that is a square and a class token's."""
    places = state["pos_embed"].shape[-2] - 1 if "pos_embed" in state else 0
    side = math.isqrt(max(0, places))
    if side == 0 or side * side != places:
        raise InputError(f"grid must be given as (rows, cols): {places} positions are no square")
    return side, side


def _check_positions(name: str, held: Tensor, grid: Grid, dim: int) -> None:
    expected = torch.from_numpy(sincos_positions(grid, dim))
    shape = (1, *expected.shape)
    if tuple(held.shape) != shape:
        raise InputError(f"{name} must have shape {shape}, got {tuple(held.shape)}")
    worst = float((held[0].double() - expected).abs().max())
    if not worst < _POSITION_TOLERANCE:
        raise InputError(f"{name} must be MAE's fixed sine-cosine positions, but differs from them by {worst:.2g}")
