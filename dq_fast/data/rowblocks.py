"""Random access to a binary column of parquet files, in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dq_fast.errors import InputError

CACHE_BYTES = 512 << 20  # of decoded blocks: several row groups of published data sets (about 100 MB each)
BLOCK_BYTES = 128 << 20  # a larger row group is streamed in blocks of about this size
_MIN_BLOCKS = 2  # kept whatever their size: threads straddle a boundary


class RowBlocks:
    """The encoded images of a parquet column, by row number over all files.

    A row group is decoded whole, or, when large, in blocks by a stream that runs forwards (going back restarts it).
    Blocks stay until `CACHE_BYTES` are exceeded. Safe from several threads.

    Attributes:
        rows: images in all.
        group_sizes: (rows, uncompressed bytes of the image column) of each row group.
    """

    def __init__(self, files: list[Path], column: str) -> None:
        self._column = column
        self.group_sizes: list[tuple[int, int]] = []
        self._groups: list[_Group] = []
        starts: list[int] = []
        self._block_of_group: list[tuple[int, int]] = []  # (group, block in it) of each block
        self.rows = 0
        for file in files:
            for number, (rows, size) in enumerate(_row_groups(file, column)):
                if rows == 0:
                    continue
                self.group_sizes.append((rows, size))
                blocks = max(1, min(rows, round(size / BLOCK_BYTES)))
                per_block = -(-rows // blocks)
                group = _Group(file, number, column, rows, per_block)
                for block in range(-(-rows // per_block)):
                    starts.append(self.rows + block * per_block)
                    self._block_of_group.append((len(self._groups), block))
                self._groups.append(group)
                self.rows += rows
        self._starts = np.array(starts, np.int64)
        self._sizes: list[np.ndarray | None] = [None] * len(starts)
        self._cache: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, i: int) -> bytes | None:
        """Bytes of row i; None for null. OSError where the file cannot be decoded."""
        block, row = self._locate(i)
        value: bytes | None = self._load(block)[row].as_py()
        return value

    def size_of(self, i: int) -> int:
        """Bytes of row i, 0 for null; remembered once its block was read."""
        block, row = self._locate(i)
        sizes = self._sizes[block]
        if sizes is None:
            self._load(block)
            sizes = self._sizes[block]
        assert sizes is not None
        return int(sizes[row])

    def _locate(self, i: int) -> tuple[int, int]:
        if not 0 <= i < self.rows:
            raise IndexError(f"row {i} of {self.rows}")
        block = int(np.searchsorted(self._starts, i, side="right")) - 1
        return block, i - int(self._starts[block])

    def _load(self, block: int) -> Any:
        """The block's column (pyarrow), from the cache or the file."""
        with self._lock:
            if block in self._cache:
                self._cache.move_to_end(block)
                return self._cache[block]
        number, within = self._block_of_group[block]
        group = self._groups[number]
        with group.lock:  # one thread decodes a group, others of the same group wait, others go on
            with self._lock:
                if block in self._cache:
                    return self._cache[block]
            column = group.read(within)
            with self._lock:
                if self._sizes[block] is None:
                    self._sizes[block] = _lengths(column)
                self._cache[block] = column
                while len(self._cache) > _MIN_BLOCKS and sum(c.nbytes for c in self._cache.values()) > CACHE_BYTES:
                    self._cache.popitem(last=False)
        return column


class _Group:
    """One row group of one file."""

    def __init__(self, file: Path, number: int, column: str, rows: int, per_block: int) -> None:
        self.file, self.number, self.column, self.rows, self.per_block = file, number, column, rows, per_block
        self.lock = threading.Lock()
        self._stream: Iterator[Any] | None = None
        self._next = 0

    def read(self, block: int) -> Any:
        """A pyarrow chunked array of the block's bytes; the caller holds the lock."""
        import pyarrow as pa

        try:
            if self.per_block >= self.rows:
                return next(self._open(self.rows))
            if self._stream is None or block < self._next:
                self._stream, self._next = self._open(self.per_block), 0
            while True:
                column = next(self._stream)
                self._next += 1
                if self._next > block:
                    if self._next * self.per_block >= self.rows:
                        self._stream = None  # the end: let the file go
                    return column
        except (pa.ArrowException, OSError, StopIteration) as error:
            self._stream = None
            raise OSError(f"{self.file.name}: {error}") from None

    def _open(self, size: int) -> Iterator[Any]:
        """Stream the group's bytes, `size` rows at a time (the last block may be shorter)."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.file, memory_map=True) as file:
            is_struct = pa.types.is_struct(file.schema_arrow.field(self.column).type)
            name = f"{self.column}.bytes" if is_struct else self.column
            waiting: list[Any] = []
            count = 0
            batches = file.iter_batches(batch_size=size, row_groups=[self.number], columns=[name], use_threads=False)
            for batch in batches:
                array = batch.column(0)
                if is_struct:
                    array = pc.struct_field(array, "bytes")  # null where the whole struct is null
                waiting.append(array)
                count += len(array)
                if count >= size:
                    whole = pa.chunked_array(waiting)
                    yield whole.slice(0, size)
                    waiting, count = [whole.slice(size).combine_chunks()] if count > size else [], count - size
            if count:
                yield pa.chunked_array(waiting)


def _lengths(column: Any) -> np.ndarray:
    import pyarrow.compute as pc

    lengths: np.ndarray = pc.fill_null(pc.binary_length(column), 0).to_numpy()
    return lengths.astype(np.int64)


def _row_groups(file: Path, column: str) -> list[tuple[int, int]]:
    """(rows, uncompressed bytes of the column) of each row group, from the footer."""
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} must be a parquet file, but is broken: {' '.join(str(error).split())}") from None
    found = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        size = 0
        for k in range(group.num_columns):
            chunk = group.column(k)
            if chunk.path_in_schema == column or chunk.path_in_schema == f"{column}.bytes":
                size += chunk.total_uncompressed_size
        found.append((group.num_rows, size))
    return found
