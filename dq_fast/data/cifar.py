"""CIFAR-10 and CIFAR-100 in their published form, "python batches"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dq_fast.data.arrays import ArraySource
from dq_fast.data.labels import number_labels
from dq_fast.data.unpickle import load_plain_pickle
from dq_fast.errors import InputError

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


def find_folder(path: Path) -> Path | None:
    """The folder with the batches: `path`, or one directly below it; None where there is none."""
    if not path.is_dir():
        return None
    for folder in (path, path / "cifar-10-batches-py", path / "cifar-100-python"):
        if _files(folder):
            return folder
    return None


def _files(folder: Path) -> dict[str, list[Path]]:
    """Batch files by split; none where the folder is something else."""
    batches = sorted(p for p in folder.glob("data_batch_*") if p.suffix == "" and p.is_file())
    if batches or (folder / "test_batch").is_file():  # CIFAR-10
        tests = [folder / "test_batch"] if (folder / "test_batch").is_file() else []
        return {split: files for split, files in (("train", batches), ("test", tests)) if files}
    if (folder / "meta").is_file():  # CIFAR-100
        return {split: [folder / split] for split in ("train", "test") if (folder / split).is_file()}
    return {}


def find_splits(path: Path) -> tuple[str, ...]:
    """Splits whose batches are there."""
    folder = find_folder(path)
    return tuple(_files(folder)) if folder is not None else ()


def open_cifar(path: Path, spec: str, split: str | None) -> ArraySource:
    """All batches of a split in memory (150 MB for CIFAR-10); ids are "data_batch_1/00042" (CIFAR-100: "train/00042").

    CIFAR-100 has its 100 fine labels.

    Raises:
        InputError: no batches, or a file that is not one.
    """
    folder = find_folder(path)
    if folder is None:
        raise InputError(f"{spec} needs data_batch_1 … and test_batch (CIFAR-10), or train, test and meta (CIFAR-100)")
    files = _files(folder)
    images, values, ids = [], [], []
    for name in files if split is None else (split,):
        for file in files[name]:
            x, y = _batch(file)
            images.append(x)
            values += y
            ids += [f"{file.name}/{i:05d}" for i in range(len(x))]
    labels, class_names = number_labels(values, lambda i: f"image {ids[i]}", class_names=_class_names(folder))
    return ArraySource("cifar", spec, np.concatenate(images), labels, class_names, ids)


def _batch(file: Path) -> tuple[np.ndarray, list[Any]]:
    """Images uint8 [n, 32, 32, 3] and n labels of one batch file."""
    batch = _texts(load_plain_pickle(file), file)
    data = batch.get("data")
    labels = batch.get("fine_labels", batch.get("labels"))
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _PIXELS:
        got = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise InputError(f"{file}: data must be uint8 [n, {_PIXELS}], got {got}")
    labels = labels.tolist() if isinstance(labels, np.ndarray) else labels
    if not isinstance(labels, list) or len(labels) != len(data):
        raise InputError(f"{file}: labels (or fine_labels) must be a list of {len(data)}")
    # Contiguous, channels last: every later stage reads images that way.
    return np.ascontiguousarray(data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)), labels


def _class_names(folder: Path) -> list[str] | None:
    """Names from batches.meta or meta; None where that file is missing."""
    for name, key in (("batches.meta", "label_names"), ("meta", "fine_label_names")):
        if (folder / name).is_file():
            names = _texts(load_plain_pickle(folder / name), folder / name).get(key)
            if not isinstance(names, list) or not names:
                raise InputError(f"{folder / name}: {key} must be a list of names")
            return [item.decode() if isinstance(item, bytes) else str(item) for item in names]
    return None


def _texts(value: Any, file: Path) -> dict[str, Any]:
    """A batch's dict with keys as texts: Python 2 wrote bytes."""
    if not isinstance(value, dict):
        raise InputError(f"{file} must hold a dict, got {type(value).__name__}")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): item for key, item in value.items()}
