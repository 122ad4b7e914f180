"""From what a user writes to a source."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dq_fast.data import arrays, cifar, imagefolder, parquet, webdataset
from dq_fast.data.source import Source
from dq_fast.data.splits import canonical, choose, offered_splits
from dq_fast.errors import InputError

KINDS = ("imagefolder", "cifar", "parquet", "webdataset", "npz")
ACCEPTED = (
    "an ImageFolder (class/image.jpg, or train/class/image.jpg), a folder with CIFAR-10 or CIFAR-100 python batches, a "
    'parquet file or folder, WebDataset shards (a folder, a .tar, or "shard-{000..009}.tar"), an .npz with x and y, or '
    "mnist5k"
)


@dataclass(frozen=True)
class _Found:
    """What a spec stands for: its splits, and how to open one (None: everything)."""

    spec: str
    splits: tuple[str, ...]
    open: Callable[[str | None], Source]


def open_source(
    spec: str | os.PathLike[str],
    *,
    split: str | None = "train",
    image_column: str | None = None,
    label_column: str | None = None,
) -> Source:
    """Open a data set of labelled images.

    Args:
        spec: a path, "mnist5k", or "kind:path" to force a reader (imagefolder, cifar, parquet, webdataset, npz).
            What a path holds is found by itself.
        split: "train", "val" or "test" (usual synonyms work); None is all there is, with ids of several splits
            told apart by a prefix where they need it. A data set without splits is its own "train". Of a single file
            such as photos_train.parquet, the splits are its siblings photos_test.parquet, …; None is the file alone.
        image_column: of a parquet source, where it is not found by itself.
        label_column: likewise.

    Raises:
        InputError: nothing is there, it is none of the known kinds, it has no such split or no labels.
    """
    try:
        found = _find(spec, image_column, label_column)
        source = found.open(choose(found.splits, split, found.spec))
    except OSError as error:
        raise InputError(f"{spec} cannot be read: {error.strerror or error} ({error.filename})") from None
    if not len(source):
        raise InputError(f"{spec} has no images")
    return source


def has_split(spec: str | os.PathLike[str], split: str) -> bool:
    """Whether `open_source(spec, split=split)` finds such a part.

    Raises:
        InputError: as `open_source`, where the spec itself stands for nothing.
    """
    try:
        found = _find(spec, None, None)
    except OSError as error:
        raise InputError(f"{spec} cannot be read: {error.strerror or error} ({error.filename})") from None
    wanted = canonical(split)
    return wanted in found.splits or (not found.splits and wanted == "train")


def _find(spec: str | os.PathLike[str], image_column: str | None, label_column: str | None) -> _Found:
    text = os.fspath(spec)
    if not text:
        raise InputError(f"source must not be empty; it is {ACCEPTED}")
    forced, _, rest = text.partition(":")
    kind = forced if forced in KINDS and rest else None
    path = Path(rest if kind else text).expanduser()
    if kind is None and text == arrays.MNIST5K:
        return _Found(text, ("train", "test"), lambda split: arrays.open_mnist5k(text, split))
    columns = image_column is not None or label_column is not None
    pattern = not path.exists() and re.search(r"[*?\[{]", str(path)) is not None
    if not path.exists() and not pattern:
        raise InputError(f"there is no file or folder {path}; a source is {ACCEPTED}")
    if kind is None:
        kind = "webdataset" if pattern else _kind_of(path, text)
    if columns and kind != "parquet":
        raise InputError(f"image_column and label_column are for parquet, but {text} is {kind}")
    if kind == "imagefolder":
        splits = imagefolder.find_splits(path) if path.is_dir() else ()
        return _Found(text, splits, lambda split: imagefolder.open_imagefolder(path, text, split))
    if kind == "cifar":
        return _Found(text, cifar.find_splits(path), lambda split: cifar.open_cifar(path, text, split))
    if kind == "npz":
        return _Found(text, arrays.find_npz_splits(path), lambda split: arrays.open_npz(path, text, split))
    if kind == "parquet":
        files = parquet.find_files(path, text)
        return _Found(
            text,
            offered_splits(path, files),
            lambda split: parquet.open_parquet(path, files, text, split, image_column, label_column),
        )
    shards = webdataset.find_shards(path, text)
    return _Found(
        text, offered_splits(path, shards), lambda split: webdataset.open_webdataset(path, shards, text, split)
    )


def _kind_of(path: Path, spec: str) -> str:
    """Which reader a path is for, by its name or what it holds."""
    if path.is_file():
        name = path.name.lower()
        for suffix, kind in ((".parquet", "parquet"), (".npz", "npz"), (".tar", "webdataset")):
            if name.endswith(suffix):
                return kind
        if re.search(r"\.(tar\.\w+|tgz)$", name):
            raise InputError(f"{spec} is a compressed tar, which cannot be read by offset: decompress it to a .tar")
        raise InputError(f"{spec} is a file of no known kind; a source is {ACCEPTED}")
    if cifar.find_folder(path) is not None:
        return "cifar"
    if parquet.holds_parquet(path):
        return "parquet"
    if webdataset.holds_shards(path):
        return "webdataset"
    return "imagefolder"
