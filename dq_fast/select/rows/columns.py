"""Rows in columns: parquet files, and tables of pandas and pyarrow. Decoded batch by batch, once."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dq_fast.errors import InputError, missing_extra
from dq_fast.select.rows.scratch import scratch

_BATCH_BYTES = 4 << 20  # of decoded numbers; pyarrow holds a few times as much for a batch
_BUFFER_BYTES = 1 << 20  # of one read from a file


def read_parquet(path: Path, column: str | None) -> Tensor:
    """Rows of one parquet file, or of all "*.parquet" in a folder in order of their names.

    `column`: one column of lists of numbers, or several of numbers: "a,b,c", patterns like "feature_*" included.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise missing_extra("pyarrow", "images", "reading parquet") from None
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} must be a folder of parquet files, but none is in it")
    try:
        schema = pq.read_schema(files[0])
        names = _columns(schema, column, path)
        n = sum(pq.read_metadata(file).num_rows for file in files)
        width = _width(next(_tables(files, names, 1), None), schema, names)
        batch = max(1, _BATCH_BYTES // max(1, 8 * width))
        return _collect(_tables(files, names, batch), n, width, f"{path}:{column or names[0]}")
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path} must be a parquet file, but is broken: {' '.join(str(error).split())}") from None


def _tables(files: list[Path], names: list[str], batch: int) -> Iterator[Any]:
    import pyarrow.parquet as pq

    for path in files:
        # Buffered, not mapped: a map of the whole file would count as this process's memory.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
            for got in file.iter_batches(batch_size=batch, columns=names, use_threads=False):
                yield got.select(names)


def _columns(schema: Any, column: str | None, where: object) -> list[str]:
    """Names of the columns that are asked for; without a request the only column of lists, or all numeric ones."""
    fitting = {f.name: _is_list(f.type) for f in schema if _is_list(f.type) or _is_number(f.type)}
    listing = ", ".join(f"{f.name} ({f.type})" for f in schema) or "none"
    if column is None:
        lists = [name for name, is_list in fitting.items() if is_list]
        if len(lists) == 1 or not lists:
            found = lists or list(fitting)
        else:
            raise InputError(f"{where} must be given with the column to use, {where}:NAME; it has {listing}")
    elif column in fitting:
        found = [column]
    else:
        found = []
        for part in column.split(","):
            matching = [part] if part in fitting else fnmatch.filter(fitting, part)
            if not matching:
                raise InputError(f"{where} must have a column of numbers or lists {part!r}; it has {listing}")
            found += [name for name in matching if name not in found]
    if not found:
        raise InputError(f"{where} must have columns of numbers or lists of numbers; it has {listing}")
    if len(found) > 1 and any(fitting[name] for name in found):
        raise InputError(f"{where}: several columns must all be numbers, got {', '.join(found)}; it has {listing}")
    return found


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    kind = getattr(kind, "storage_type", kind)  # extension types, such as fixed-shape tensors
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_number(kind.value_type)
    return False


def _is_number(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind))


def _width(first: Any, schema: Any, names: list[str]) -> int:
    """Numbers a row."""
    if len(names) > 1 or not _is_list(schema.field(names[0]).type):
        return len(names)
    kind = schema.field(names[0]).type
    size = getattr(getattr(kind, "storage_type", kind), "list_size", None)
    if size is not None:
        return int(size)
    if first is None or not len(first):
        return 1  # no rows: any width will do
    row = first.column(0)[0]
    return len(row) if row.is_valid else 0


def _collect(batches: Iterable[Any], n: int, width: int, what: str) -> Tensor:
    """All rows [n, width] of record batches."""
    if width == 0:
        raise InputError(f"{what} must have at least one number in every row, got none in row 0")
    out: Tensor | None = None
    row = 0
    for batch in batches:
        block = _block(batch, width, what, row)
        if out is None:
            dtype = torch.from_numpy(np.empty(0, block.dtype)).dtype
            out = scratch((n, width), dtype, purpose=f"the decoded rows of {what}")
        out[row : row + len(block)] = torch.from_numpy(block)
        row += len(block)
    return torch.empty(0, width) if out is None else out


def _block(batch: Any, width: int, what: str, row: int) -> np.ndarray:
    """Numbers [rows, width] of one record batch; `row` is the number of its first row."""
    arrays = [_storage(batch.column(k)) for k in range(batch.num_columns)]
    for array in arrays:
        if array.null_count:
            raise InputError(f"{what} must have a value in every row, got none in row {row + _first_null(array)}")
    if len(arrays) == 1 and _is_list(arrays[0].type):
        lists = arrays[0]
        numbers = lists.flatten()
        if not hasattr(lists.type, "list_size"):
            lengths = np.asarray(lists.value_lengths())
            if len(other := np.flatnonzero(lengths != width)):
                at = int(other[0])
                raise InputError(f"{what} must have {width} numbers in every row, got {lengths[at]} in row {row + at}")
        if numbers.null_count:
            raise InputError(
                f"{what} must be numbers, got an empty entry in row {row + _first_null(numbers) // max(1, width)}"
            )
        return _floats(numbers.to_numpy(zero_copy_only=False)).reshape(len(lists), width)
    return _floats(np.column_stack([array.to_numpy(zero_copy_only=False) for array in arrays]))


def _storage(array: Any) -> Any:
    return getattr(array, "storage", array)


def _first_null(array: Any) -> int:
    return int(np.flatnonzero(np.asarray(array.is_null()))[0])


def _floats(array: np.ndarray) -> np.ndarray:
    """Numbers as floats that hold them, writable and row-major."""
    if array.dtype.kind != "f":
        array = array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)
    return np.require(array, requirements=["C", "W"])


def from_arrow(value: Any) -> Tensor | np.ndarray:
    """Rows of a pyarrow Table or RecordBatch (its column of lists, or all its numbers), Array or ChunkedArray."""
    import pyarrow as pa

    if isinstance(value, (pa.Array, pa.ChunkedArray)):
        value = pa.table({"rows": value})
    if isinstance(value, pa.RecordBatch):
        value = pa.Table.from_batches([value])
    names = _columns(value.schema, None, "embedding")
    if len(names) < len(value.schema.names) and not _is_list(value.schema.field(names[0]).type):
        others = [name for name in value.schema.names if name not in names]
        raise InputError(f"embedding must be columns of numbers, got others too: {', '.join(others)}; leave them out")
    table = value.select(names)
    first = next((b for b in table.to_batches(max_chunksize=1) if len(b)), None)
    width = _width(first, table.schema, names)
    batch = max(1, _BATCH_BYTES // max(1, 8 * width))
    return _collect(table.to_batches(max_chunksize=batch), len(table), width, "embedding")


def from_pandas(frame: Any) -> np.ndarray:
    """Rows of a DataFrame whose columns are numbers, or that has one column of lists."""
    others = [str(name) for name, kind in frame.dtypes.items() if getattr(kind, "kind", "O") not in "fiub"]
    if len(others) == 1 and frame.shape[1] == 1:
        return from_series(frame.iloc[:, 0])
    if others:
        raise InputError(f"embedding must be columns of numbers, got others too: {', '.join(others)}; leave them out")
    missing = frame.isna().to_numpy()
    if missing.any():
        row, column = (int(k[0]) for k in np.nonzero(missing))
        raise InputError(
            f"embedding must have a value everywhere, got none in row {row}, column {frame.columns[column]}"
        )
    kinds = {np.dtype(getattr(kind, "numpy_dtype", kind)) for kind in frame.dtypes}
    return np.asarray(frame.to_numpy(dtype=np.result_type(*kinds) if kinds else np.float64))


def from_series(series: Any) -> np.ndarray:
    """Rows of a Series of lists, arrays or numbers."""
    if getattr(series.dtype, "kind", "O") in "fiub":
        return np.asarray(series.to_numpy()).reshape(-1, 1)
    try:
        rows = [np.asarray(row, dtype=None) for row in series]
        return np.stack(rows) if rows else np.empty((0, 1))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"embedding must be equally long rows of numbers, got a Series of other things: {error}"
        ) from None
