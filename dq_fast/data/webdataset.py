"""WebDataset: tar shards in which members that share a name up to the first dot are one sample."""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from dq_fast.data.decode import decode_image
from dq_fast.data.labels import check_unique, number_labels
from dq_fast.data.source import Source
from dq_fast.data.splits import SPLITS, shard_splits
from dq_fast.data.tarindex import Sample, read_index
from dq_fast.errors import BadImageError, InputError

_SUFFIX = ".tar"


class WebDataset(Source):
    """Samples of tar shards, read by offset; ids are "<shard name>/<key>".

    Opening reads every member's header and the labels once, nothing else.
    """

    kind = "webdataset"

    def __init__(self, spec: str, shards: list[tuple[str, Path]], *, other_shards: list[tuple[str, Path]]) -> None:
        """Args: shards: (name for ids, path) of what is read; other_shards: of other splits, whose classes count."""
        self.spec = spec
        self._paths = [path for _, path in shards]
        self.ids: list[str] = []
        values: list[Any] = []
        places: list[tuple[int, int, int]] = []
        for number, (name, path) in enumerate(shards):
            for sample in read_index(path):
                self.ids.append(f"{name}/{sample.key}")
                values.append(_label(sample, path))
                places.append((number, sample.offset, sample.size))
        if not self.ids:
            raise InputError(f"{spec} has no samples with an image")
        self._places = np.array(places, np.int64).reshape(-1, 3)
        check_unique(self.ids, spec, "sample keys")
        names = any(isinstance(value, str) for value in values)
        if names:  # "3" among names is a name
            values = [str(value) for value in values]
        more = [_label(sample, path) for _, path in other_shards for sample in read_index(path)]
        more = [str(value) for value in more] if names else [value for value in more if isinstance(value, int)]
        self.labels, self.class_names = number_labels(values, lambda i: f"sample {self.ids[i]}", more=more)

    def read(self, i: int) -> np.ndarray:
        """See `Source.read`."""
        shard, offset, size = self._places[i].tolist()
        try:
            with open(self._paths[shard], "rb") as file:
                data = os.pread(file.fileno(), size, offset)
        except OSError as error:
            raise BadImageError(self.ids[i], error.strerror or type(error).__name__) from None
        if len(data) < size:
            raise BadImageError(self.ids[i], f"its shard {self._paths[shard].name} has become shorter")
        return decode_image(data, self.ids[i])

    def size_of(self, i: int) -> int:
        """See `Source.size_of`."""
        return int(self._places[i, 2])


def holds_shards(path: Path) -> bool:
    """Whether a folder holds tar files where data sets have them."""
    return bool(shard_splits(path, _SUFFIX))


def find_shards(path: Path, spec: str) -> dict[str, list[Path]]:
    """Shards by split ("" without splits) of a folder, a file, or a pattern with {000..009}, {a,b}, *, ?."""
    found = shard_splits(path, _SUFFIX) if path.exists() else {"": _expand(str(path), spec)}
    if not found:
        raise InputError(f"{spec} must be a .tar, a folder with some, or a pattern of their names")
    return found


def open_webdataset(path: Path, shards: dict[str, list[Path]], spec: str, split: str | None) -> WebDataset:
    """Open one split, or all shards (a single one for `path` a file).

    Raises:
        InputError: a shard is broken or compressed, a sample has no image or no label, or keys repeat.
    """
    if split is not None:
        chosen = shards[split]
    elif path.is_file():
        chosen = [path]
    else:
        chosen = [file for key in ("", *SPLITS) for file in shards.get(key, [])]
    others = [file for group in shards.values() for file in group if file not in chosen]
    root = path if path.is_dir() else Path(os.path.commonpath([str(p.parent) for p in chosen + others]))

    def named(paths: list[Path]) -> list[tuple[str, Path]]:
        return [(p.relative_to(root).as_posix().removesuffix(_SUFFIX), p) for p in paths]

    return WebDataset(spec, named(chosen), other_shards=named(others))


def _expand(pattern: str, spec: str) -> list[Path]:
    names: list[str] = []
    for text in _braces(pattern):
        names += sorted(glob.glob(text)) if glob.has_magic(text) else [text]
    if not names:
        raise InputError(f"no file matches {spec}")
    for name in names:
        if not name.endswith(_SUFFIX):
            raise InputError(f"a pattern must name .tar files, got {name}")
        if not os.path.isfile(name):
            raise InputError(f"there is no file {name} (from {spec})")
    return [Path(name) for name in dict.fromkeys(names)]


def _braces(pattern: str) -> list[str]:
    """Expand {000..009} and {a,b} as a shell does."""
    pieces = re.split(r"(\{[^{}]*\})", pattern)
    options: list[list[str]] = []
    for piece in pieces:
        numbers = re.fullmatch(r"\{(\d+)\.\.(\d+)\}", piece)
        if numbers:
            first, last = numbers.groups()
            width = len(first) if first.startswith("0") or len(first) == len(last) else 0
            options.append([str(k).zfill(width) for k in range(int(first), int(last) + 1)])
        elif piece.startswith("{") and "," in piece:
            options.append(piece[1:-1].split(","))
        else:
            options.append([piece])
    return ["".join(parts) for parts in itertools.product(*options)]


def _label(sample: Sample, path: Path) -> int | str:
    """The label of a sample's .cls, or of "label" in its .json."""
    place = f"sample {sample.key!r} of {path}"
    value: Any = None
    try:
        if sample.cls is not None:
            value = sample.cls.decode().strip()
        elif sample.json is not None:
            content = json.loads(sample.json)
            value = content.get("label") if isinstance(content, dict) else None
    except ValueError as error:
        raise InputError(f"label of {place} must be text or JSON, but is broken: {error}") from None
    if value is None or value == "":
        raise InputError(f'{place} has no label: a .cls member, or a .json one with "label"')
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"[+-]?\d{1,18}", value) else value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise InputError(f"label of {place} must be an integer or a text, got {value!r:.80}")
