"""Weights from local files, and into them: safetensors, or torch files read without executing anything."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dq_fast.errors import InputError
from dq_fast.files import atomic_write

# Where training programs put the weights inside their checkpoints, the better one first.
_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "net")
# Wrappers' prefixes: DataParallel and DistributedDataParallel, torch.compile, Lightning.
_PREFIXES = ("module.", "_orig_mod.", "model.")
_NAMED = 5  # how many keys an error names


def read_weights(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a state dict and its metadata (empty for torch files).

    Takes safetensors, and torch files with ``weights_only=True``; a dictionary nested under "state_dict", "model" and
    the like is unwrapped.

    Raises:
        InputError: no such file, or none that holds weights alone.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"weights must be an existing file, got {path}")
    content, metadata = read_content(path)
    return (content, metadata) if path.suffix == ".safetensors" else (unwrap(content, path), metadata)


def read_content(path: Path, *, allow: Sequence[type] = ()) -> tuple[Any, dict[str, str]]:
    """What a weights file holds, and its metadata (empty for torch files); nothing in it is executed.

    Args:
        path: an existing file; ".safetensors" says that it is one, others are torch files.
        allow: types that a torch file may hold besides torch's own, where torch can be told so (from 2.5 on). Only
            types that making one of them runs nothing.

    Raises:
        InputError: it holds something else, or cannot be read.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
        except SafetensorError as error:
            raise InputError(f"weights {path} must be a safetensors file, but cannot be read: {error}") from None
    allowing = getattr(torch.serialization, "safe_globals", None)
    with contextlib.nullcontext() if allowing is None else allowing(list(allow)):
        try:
            return torch.load(path, map_location="cpu", weights_only=True), {}
        except pickle.UnpicklingError as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"weights {path} must hold tensors alone, but reading them would run code ({reason}); "
                "save the state dict by itself, best as safetensors"
            ) from None
        except (RuntimeError, EOFError, ValueError, KeyError) as error:
            raise InputError(
                f"weights {path} must be a torch or safetensors file, but cannot be read: {error}"
            ) from None


def unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict inside a checkpoint's content."""
    if isinstance(content, dict):
        for key in _NESTS:
            if isinstance(content.get(key), dict) and content[key]:
                content = content[key]
                break
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        kind = type(content).__name__
        raise InputError(f"weights {path} must hold a state dict (names to tensors), got {kind}")
    return dict(content)


def load_weights(module: nn.Module, state: dict[str, Tensor], *, head: str | None, source: str) -> bool:
    """Copy a state dict into a module; a prefix that all its names share ("module.", ...) is dropped where needed.

    Args:
        module: takes the weights.
        state: names to tensors; every name must be there, and no other.
        head: name of the last linear layer. Where only its tensors differ in shape (another number of classes), the
            rest is loaded and the head stays as it is; None asks for everything.
        source: what to call the weights in an error.

    Returns:
        Whether the head was loaded too.

    Raises:
        InputError: keys or shapes do not match; the first of them are named.
    """
    own = module.state_dict()
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state) and not all(key.startswith(prefix) for key in own):
            state = {key[len(prefix) :]: value for key, value in state.items()}
    # Counters that some programs leave out; they only matter for batch norms without momentum.
    optional = {key for key in own if key.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - state.keys() - optional)
    unexpected = sorted(state.keys() - own.keys())
    if missing or unexpected:
        raise InputError(
            f"weights {source} do not fit the model: {_named('missing', missing)}; {_named('unexpected', unexpected)}"
        )
    wrong = sorted(key for key in state if state[key].shape != own[key].shape)
    head_keys = {f"{head}.weight", f"{head}.bias"} if head is not None else set()
    if set(wrong) - head_keys:
        key = next(key for key in wrong if key not in head_keys)
        raise InputError(
            f"weights {source} do not fit the model: {key} must have shape {tuple(own[key].shape)}, "
            f"got {tuple(state[key].shape)}" + (f" ({len(wrong)} such)" if len(wrong) > 1 else "")
        )
    if wrong:
        state = {key: value for key, value in state.items() if key not in head_keys}
    module.load_state_dict(state, strict=False)
    return not wrong


def _named(word: str, keys: list[str]) -> str:
    if not keys:
        return f"nothing {word}"
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return f"{word} {', '.join(keys[:_NAMED])}{more}"


def write_weights(path: str | os.PathLike[str], module: nn.Module, metadata: dict[str, Any]) -> None:
    """Write a module's state dict as safetensors, with metadata as JSON under "dq_fast"; whole or not at all."""
    from safetensors.torch import save

    # clone: tensors that share memory may not be stored as they are
    tensors = {key: value.detach().to("cpu").contiguous().clone() for key, value in module.state_dict().items()}
    content = save(tensors, metadata={"dq_fast": json.dumps(metadata, sort_keys=True)})
    with atomic_write(path) as file:
        file.write(content)
