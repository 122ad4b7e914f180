"""Parquet files with an image column, as Hugging Face data sets are published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from dq_fast.data.columns import Columns, find_columns
from dq_fast.data.decode import decode_image
from dq_fast.data.labels import check_unique, number_labels
from dq_fast.data.rowblocks import RowBlocks
from dq_fast.data.source import Source, usable_as_id
from dq_fast.data.splits import SPLITS, shard_splits
from dq_fast.errors import BadImageError, InputError, missing_extra

_SUFFIX = ".parquet"


class ParquetSource(Source):
    """Rows of parquet files with encoded images.

    Images are read block by block and a few blocks kept (see `RowBlocks`): reading in order is fast, and so is reading
    in any order within what is kept; a data set beyond that, read in random order, is better exported to files first.
    """

    kind = "parquet"

    def __init__(
        self,
        spec: str,
        files: list[tuple[str, Path]],
        columns: Columns,
        *,
        other_files: list[tuple[str, Path]],
    ) -> None:
        """Args: files: (name for ids, path) of what is read; other_files: of the other splits, whose classes count."""
        self.spec = spec
        self._blocks = RowBlocks([path for _, path in files], columns.image)
        values: list[Any] = []
        paths: list[str | None] = []
        fallback: list[str] = []
        for name, path in files:
            found = _column(path, columns.label)
            values += found
            fallback += [f"{name}/{row:07d}" for row in range(len(found))]
            paths += _column(path, f"{columns.image}.path") if columns.has_path else [None] * len(found)
        if len(values) != self._blocks.rows:
            raise InputError(f"{spec}: {len(values)} labels for {self._blocks.rows} images; a file changed while read")
        times = Counter(paths)
        self.ids = [
            path if path and times[path] == 1 and usable_as_id(path) else row
            for path, row in zip(paths, fallback, strict=True)
        ]
        check_unique(self.ids, spec)
        more = [] if columns.names else [v for _, path in other_files for v in _column(path, columns.label)]
        self.labels, self.class_names = number_labels(
            values, lambda i: f"row {fallback[i]} (column {columns.label})", class_names=columns.names, more=more
        )

    def read(self, i: int) -> np.ndarray:
        """See `Source.read`."""
        try:
            data = self._blocks.read(i)
        except OSError as error:  # pyarrow's own errors are OSError and ValueError
            raise BadImageError(self.ids[i], f"its row group cannot be read: {' '.join(str(error).split())}") from None
        if data is None:
            raise BadImageError(self.ids[i], "its row holds no bytes (files beside a parquet file are not followed)")
        return decode_image(data, self.ids[i])

    def size_of(self, i: int) -> int:
        """See `Source.size_of`; reads the row's block when it has not been read yet. Unreadable rows have size 0."""
        try:
            return self._blocks.size_of(i)
        except OSError:
            return 0

    def fingerprint(self) -> str:
        """Of ids, labels, and each row group's rows and bytes from the files' footers: no image is read."""
        digest = self._names_digest()
        digest.update(np.array(self._blocks.group_sizes, np.int64).tobytes())
        return digest.hexdigest()


def holds_parquet(path: Path) -> bool:
    """Whether a folder holds parquet files where data sets have them."""
    return bool(shard_splits(path, _SUFFIX))


def find_files(path: Path, spec: str) -> dict[str, list[Path]]:
    """Parquet files by split ("" without splits)."""
    found = shard_splits(path, _SUFFIX)
    if not found:
        raise InputError(f"{spec} must be a .parquet file or a folder with some (also in data/, train/, test/)")
    return found


def open_parquet(
    path: Path,
    files: dict[str, list[Path]],
    spec: str,
    split: str | None,
    image_column: str | None,
    label_column: str | None,
) -> ParquetSource:
    """Open one split, or all files (a single file for `path` a file).

    Raises:
        InputError: pyarrow is missing, columns are not found, or a label is missing.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise missing_extra("pyarrow", "images", "reading parquet") from None
    if split is not None:
        chosen = files[split]
    elif path.is_file():
        chosen = [path]
    else:
        chosen = [file for key in ("", *SPLITS) for file in files.get(key, [])]
    every = [file for group in files.values() for file in group]
    columns = find_columns(chosen, image_column, label_column)
    root = path if path.is_dir() else path.parent

    def named(paths: list[Path]) -> list[tuple[str, Path]]:
        return [(p.relative_to(root).as_posix(), p) for p in paths]

    return ParquetSource(spec, named(chosen), columns, other_files=named([p for p in every if p not in chosen]))


def _column(path: Path, name: str) -> list[Any]:
    """All values of one column, or of one field of a struct column ("image.path")."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            column = file.read(columns=[name]).column(0)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: column {name!r} cannot be read: {' '.join(str(error).split())}") from None
    values = column.to_pylist()
    field = name.rpartition(".")[2]
    if values and str(column.type).startswith("struct"):
        return [None if value is None else value[field] for value in values]
    return list(values)
