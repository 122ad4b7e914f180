"""MAE's forward pass in float64 numpy, written from the paper and the published weights' layout, image to image."""

from __future__ import annotations

import math
import re

import numpy as np

State = dict[str, np.ndarray]


def positions(rows: int, cols: int, dim: int) -> np.ndarray:
    """[1 + rows * cols, dim]: entry by entry."""
    table = np.zeros((1 + rows * cols, dim))
    quarter = dim // 4
    for row in range(rows):
        for col in range(cols):
            for k in range(quarter):
                frequency = 1 / 10000 ** (k / quarter)
                at = table[1 + row * cols + col]
                at[k], at[quarter + k] = math.sin(col * frequency), math.cos(col * frequency)
                at[2 * quarter + k], at[3 * quarter + k] = math.sin(row * frequency), math.cos(row * frequency)
    return table


def published_shapes(size: str) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Names and shapes of the published weights, as Meta and as Hugging Face write them; ViT base, large or huge."""
    dim, depth, patch = {"base": (768, 12, 16), "large": (1024, 24, 16), "huge": (1280, 32, 14)}[size]
    return shapes(dim, depth, patch, (224 // patch, 224 // patch), 512, 8)


def shapes(
    dim: int, depth: int, patch: int, grid: tuple[int, int], decoder_dim: int, decoder_depth: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    places = 1 + grid[0] * grid[1]
    meta: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, places, dim),
        "mask_token": (1, 1, decoder_dim),
        "decoder_pos_embed": (1, places, decoder_dim),
        "patch_embed.proj.weight": (dim, 3, patch, patch),
        "patch_embed.proj.bias": (dim,),
    }
    face = {
        "vit.embeddings.cls_token": (1, 1, dim),
        "vit.embeddings.position_embeddings": (1, places, dim),
        "vit.embeddings.patch_embeddings.projection.weight": (dim, 3, patch, patch),
        "vit.embeddings.patch_embeddings.projection.bias": (dim,),
        "decoder.mask_token": (1, 1, decoder_dim),
        "decoder.decoder_pos_embed": (1, places, decoder_dim),
    }

    def linear(name: str, hf_name: str, out: int, width: int) -> None:
        meta.update({f"{name}.weight": (out, width), f"{name}.bias": (out,)})
        face.update({f"{hf_name}.weight": (out, width), f"{hf_name}.bias": (out,)})

    def norm(name: str, hf_name: str, width: int) -> None:
        for kind in ("weight", "bias"):
            meta[f"{name}.{kind}"] = face[f"{hf_name}.{kind}"] = (width,)

    for stack, hf_stack, width, count in (
        ("blocks", "vit.encoder.layer", dim, depth),
        ("decoder_blocks", "decoder.decoder_layers", decoder_dim, decoder_depth),
    ):
        for i in range(count):
            own, hf = f"{stack}.{i}", f"{hf_stack}.{i}"
            norm(f"{own}.norm1", f"{hf}.layernorm_before", width)
            norm(f"{own}.norm2", f"{hf}.layernorm_after", width)
            meta.update({f"{own}.attn.qkv.weight": (3 * width, width), f"{own}.attn.qkv.bias": (3 * width,)})
            for part in ("query", "key", "value"):
                face[f"{hf}.attention.attention.{part}.weight"] = (width, width)
                face[f"{hf}.attention.attention.{part}.bias"] = (width,)
            linear(f"{own}.attn.proj", f"{hf}.attention.output.dense", width, width)
            linear(f"{own}.mlp.fc1", f"{hf}.intermediate.dense", 4 * width, width)
            linear(f"{own}.mlp.fc2", f"{hf}.output.dense", width, 4 * width)
    norm("norm", "vit.layernorm", dim)
    linear("decoder_embed", "decoder.decoder_embed", decoder_dim, dim)
    norm("decoder_norm", "decoder.decoder_norm", decoder_dim)
    linear("decoder_pred", "decoder.decoder_pred", 3 * patch**2, decoder_dim)
    return meta, face


def as_hugging_face(state: State) -> State:
    """Meta's weights in Hugging Face's layout."""
    found: State = {}
    parts = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    names = {
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj.weight": "vit.embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "vit.embeddings.patch_embeddings.projection.bias",
        "norm.weight": "vit.layernorm.weight",
        "norm.bias": "vit.layernorm.bias",
    }
    for name, value in state.items():
        block = re.match(r"(blocks|decoder_blocks)\.(\d+)\.(.+)\.(weight|bias)$", name)
        if block is None:
            found[names.get(name, f"decoder.{name}")] = value
            continue
        stack, number, part, kind = block.groups()
        layer = {"blocks": "vit.encoder.layer", "decoder_blocks": "decoder.decoder_layers"}[stack] + f".{number}"
        if part == "attn.qkv":
            for third, which in zip(np.split(value, 3), ("query", "key", "value"), strict=True):
                found[f"{layer}.attention.attention.{which}.{kind}"] = third
        else:
            found[f"{layer}.{parts[part]}.{kind}"] = value
    return found


def forward(
    state: State, image: np.ndarray, kept: list[int], *, heads: int, decoder_heads: int, eps: float
) -> np.ndarray:
    """Predictions for every patch [P, 3 p²], mask tokens put back into the grid's order, as published.

    image: [h, w, 3], already normalised; all its patches are cut, and the kept ones seen.
    """
    s = {name: value.astype(np.float64) for name, value in state.items()}
    dim, _, patch, _ = s["patch_embed.proj.weight"].shape
    rows, cols = image.shape[0] // patch, image.shape[1] // patch
    tokens = np.zeros((rows * cols, dim))
    for row in range(rows):
        for col in range(cols):
            block = image[row * patch : (row + 1) * patch, col * patch : (col + 1) * patch]  # [p, p, 3]
            for out in range(dim):  # the convolution, by its definition
                tokens[row * cols + col, out] = (s["patch_embed.proj.weight"][out] * block.transpose(2, 0, 1)).sum()
    tokens += s["patch_embed.proj.bias"]
    at = positions(rows, cols, dim)
    x = np.concatenate([s["cls_token"][0] + at[:1], (tokens + at[1:])[kept]])
    depth = len({name.split(".")[1] for name in s if name.startswith("blocks.")})
    for i in range(depth):
        x = _block(s, f"blocks.{i}", x, heads, eps)
    x = _norm(s, "norm", x, eps) @ s["decoder_embed.weight"].T + s["decoder_embed.bias"]
    whole = np.repeat(s["mask_token"][0], rows * cols, axis=0)
    whole[kept] = x[1:]
    y = np.concatenate([x[:1], whole]) + positions(rows, cols, whole.shape[1])
    depth = len({name.split(".")[1] for name in s if name.startswith("decoder_blocks.")})
    for i in range(depth):
        y = _block(s, f"decoder_blocks.{i}", y, decoder_heads, eps)
    return _norm(s, "decoder_norm", y, eps)[1:] @ s["decoder_pred.weight"].T + s["decoder_pred.bias"]


def _norm(s: State, name: str, x: np.ndarray, eps: float) -> np.ndarray:
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + eps) * s[f"{name}.weight"] + s[f"{name}.bias"]


def _block(s: State, name: str, x: np.ndarray, heads: int, eps: float) -> np.ndarray:
    n, dim = x.shape
    size = dim // heads
    qkv = _norm(s, f"{name}.norm1", x, eps) @ s[f"{name}.attn.qkv.weight"].T + s[f"{name}.attn.qkv.bias"]
    q, k, v = qkv[:, :dim], qkv[:, dim : 2 * dim], qkv[:, 2 * dim :]
    mixed = np.zeros((n, dim))
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        logits = q[:, part] @ k[:, part].T / math.sqrt(size)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        mixed[:, part] = weights / weights.sum(axis=1, keepdims=True) @ v[:, part]
    x = x + mixed @ s[f"{name}.attn.proj.weight"].T + s[f"{name}.attn.proj.bias"]
    hidden = _norm(s, f"{name}.norm2", x, eps) @ s[f"{name}.mlp.fc1.weight"].T + s[f"{name}.mlp.fc1.bias"]
    error = np.vectorize(math.erf)
    hidden = 0.5 * hidden * (1 + error(hidden / math.sqrt(2)))
    return x + hidden @ s[f"{name}.mlp.fc2.weight"].T + s[f"{name}.mlp.fc2.bias"]
