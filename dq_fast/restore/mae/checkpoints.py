"""MAE checkpoints: this project's own, Meta's and Hugging Face's."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dq_fast.embed.classifier import check_device
from dq_fast.embed.weights import read_content, unwrap
from dq_fast.errors import InputError
from dq_fast.files import atomic_write, read_json
from dq_fast.restore.mae.keymaps import HUGGING_FACE_EPS, META_EPS, from_hugging_face, is_hugging_face, read_config
from dq_fast.restore.mae.model import IMAGENET_MEAN, IMAGENET_STD, MAE, Grid, MAEConfig

MODEL_FILE = "mae.safetensors"
SHIPPED = {"cifar10": Path(__file__).parent / "weights" / "cifar10.safetensors"}
"""Checkpoints that come with the package, by name; docs/MAE.md tells how they were made."""
_IN_FOLDERS = (MODEL_FILE, "model.safetensors", "pytorch_model.bin")  # this project's, Hugging Face's
_NAMED = 3  # names that an error lists
Triple = tuple[float, float, float]


def save_mae(
    path: str | os.PathLike[str], model: MAE, notes: dict[str, Any] | None = None, *, half: bool = False
) -> None:
    """Write an MAE as one safetensors file, whole or not at all; `load_mae` reads it.

    Args:
        path: the file.
        model: what to write.
        notes: JSON-able, kept in the file's metadata beside the configuration: recipe, source, log.
        half: weights as float16.
    """
    from safetensors.torch import save

    dtype = torch.float16 if half else torch.float32
    tensors = {key: value.detach().to("cpu", dtype).contiguous().clone() for key, value in model.state_dict().items()}
    content = {**(notes or {}), "kind": "mae", "config": model.config.to_dict()}
    with atomic_write(Path(path)) as file:
        file.write(save(tensors, metadata={"dq_fast": json.dumps(content, sort_keys=True)}))


def load_mae(
    path: str | os.PathLike[str],
    *,
    heads: int | None = None,
    decoder_heads: int | None = None,
    grid: Grid | None = None,
    norm_pix: bool | None = None,
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
    device: str = "cpu",
) -> MAE:
    """Load an MAE: one of this project's, Meta's ``mae_visualize_vit_*.pth``, or a Hugging Face ViTMAE.

    Nothing in a file is executed: safetensors, or torch files read with ``weights_only=True``; besides tensors and
    plain values only `argparse.Namespace` is allowed in them, where Meta's training script puts its options.

    Args:
        path: a file, "cifar10" (comes with the package), or a folder with mae.safetensors (of `train_mae`) or
            model.safetensors or pytorch_model.bin (of Hugging Face; config.json beside it is read).
        heads: of the encoder's attention, where the weights are neither this project's nor as wide as the published
            ones and no config.json tells.
        decoder_heads: likewise.
        grid: (rows, cols), where the positions are no square.
        norm_pix: whether the weights predict normalised pixels; None: as config.json or the file's options say, else
            no, as ``mae_visualize_*``.
        mean: of the channels, on the scale 0..1, for weights that are not this project's.
        std: likewise.
        device: where to.

    Returns:
        The model in eval mode, float32.

    Raises:
        InputError: the file cannot be read safely, is no MAE with a decoder, or its weights do not fit.
    """
    path, where = find_checkpoint(path), check_device(device)
    state, metadata, options = _read(path)
    if "dq_fast" in metadata:
        notes = json.loads(metadata["dq_fast"])
        if notes.get("kind") != "mae":
            raise InputError(f"{path} must be an MAE, got another model of dq_fast's")
        config = MAEConfig.from_dict(notes["config"])
    else:
        given: dict[str, Any] = {"eps": META_EPS, "norm_pix": getattr(options, "norm_pix_loss", False)}
        try:
            if is_hugging_face(state):
                state = from_hugging_face(state)
                given = {"eps": HUGGING_FACE_EPS, **_hugging_face_config(path)}
            asked = {"heads": heads, "decoder_heads": decoder_heads, "grid": grid, "norm_pix": norm_pix}
            given.update({name: value for name, value in asked.items() if value is not None})
            config, state = read_config(state, {**given, "mean": mean, "std": std})
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    return build(config, state, path).to(where)


def build(config: MAEConfig, state: dict[str, Tensor], path: Path) -> MAE:
    """A model of these weights, which become its own; InputError if they do not fit or are not finite."""
    with torch.device("meta"):  # its first weights are never made
        model = MAE(config)
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown:
        raise InputError(
            f"{path} must hold the weights of an MAE; missing: {_some(missing)}; unknown: {_some(unknown)}"
        )
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise InputError(f"{path}: {name} must have shape {tuple(own[name].shape)}, got {tuple(value.shape)}")
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"{path}: {name} must be finite, got NaN or infinity")
    model.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
    return model.requires_grad_(True).eval()


def read_notes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a checkpoint of this project's tells about itself: configuration, recipe, source, log."""
    path = find_checkpoint(path)
    _, metadata, _ = _read(path)
    if "dq_fast" not in metadata:
        raise InputError(f"{path} must be a checkpoint of dq_fast's to tell how it was made")
    notes: dict[str, Any] = json.loads(metadata["dq_fast"])
    return notes


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The file that a path means: itself, what lies in the folder, or what comes with the package by that name."""
    path = SHIPPED.get(os.fspath(path), Path(path)) if not Path(path).exists() else Path(path)
    if path.is_dir():
        for name in _IN_FOLDERS:
            if (path / name).is_file():
                return path / name
        raise InputError(f"MAE checkpoint must be a file, or a folder with {', '.join(_IN_FOLDERS)}, got {path}")
    if not path.is_file():
        raise InputError(f"MAE checkpoint must be an existing file, got {path}")
    return path


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str], Any]:
    """State dict, metadata of a safetensors file, and the options that a torch file holds."""
    content, metadata = read_content(path, allow=[argparse.Namespace])  # a bag of values: making one runs nothing
    if path.suffix == ".safetensors":
        return content, metadata, None
    return unwrap(content, path), {}, content.get("args") if isinstance(content, dict) else None


def _hugging_face_config(path: Path) -> dict[str, Any]:
    """Fields of the configuration that config.json beside the weights tells; nothing without one."""
    file = path.parent / "config.json"
    if not file.is_file():
        return {}
    told = read_json(file)
    if not isinstance(told, dict) or told.get("model_type") != "vit_mae":
        return {}
    if told.get("hidden_act", "gelu") != "gelu" or not told.get("qkv_bias", True):
        raise InputError(f"{file} must have hidden_act gelu and qkv_bias true, as the published MAEs")
    names = {
        "heads": "num_attention_heads",
        "decoder_heads": "decoder_num_attention_heads",
        "eps": "layer_norm_eps",
        "norm_pix": "norm_pix_loss",
    }
    return {field: told[name] for field, name in names.items() if name in told}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (", ".join(names[:_NAMED]) or "none") + more
