"""Random access to a binary column of parquet files, in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dq_fast.errors import InputError

CACHE_BYTES = 512 << 20  # of decoded blocks: several row groups of published data sets (about 100 MB each)
GROUP_BYTES = 128 << 20  # a larger row group is streamed in blocks, not decoded whole
BLOCK_BYTES = 32 << 20  # of a streamed block
_BUFFER_BYTES = 1 << 20  # of one read from the file
_MIN_BLOCKS = 2  # kept whatever their size: threads straddle a boundary


@dataclass(frozen=True)
class _Block:
    """Some rows' bytes, one behind the other; arrow's own arrays keep up to twice their contents allocated."""

    data: bytes
    starts: np.ndarray  # int64 [rows]
    lengths: np.ndarray  # int64 [rows], -1 for null

    @property
    def nbytes(self) -> int:
        return len(self.data) + self.starts.nbytes + self.lengths.nbytes

    def __getitem__(self, row: int) -> bytes | None:
        start, length = int(self.starts[row]), int(self.lengths[row])
        return None if length < 0 else self.data[start : start + length]

    @classmethod
    def of(cls, arrays: list[Any]) -> _Block:
        """From arrow arrays of binary or large_binary."""
        pieces, starts, lengths, base = [], [], [], 0
        for array in arrays:
            if not len(array):
                continue
            _, offset_buffer, data_buffer = array.buffers()
            offsets = np.frombuffer(offset_buffer, np.int64 if str(array.type) == "large_binary" else np.int32)
            offsets = offsets[array.offset : array.offset + len(array) + 1].astype(np.int64)
            piece = b"" if data_buffer is None else bytes(memoryview(data_buffer)[offsets[0] : offsets[-1]])
            starts.append(offsets[:-1] - offsets[0] + base)
            lengths.append(np.where(array.is_null().to_numpy(zero_copy_only=False), -1, np.diff(offsets)))
            pieces.append(piece)
            base += len(piece)
        return cls(pieces[0] if len(pieces) == 1 else b"".join(pieces), np.concatenate(starts), np.concatenate(lengths))


class RowBlocks:
    """The encoded images of a parquet column, by row number over all files.

    A row group is decoded whole, or, when large, in blocks by a stream that runs forwards (going back restarts it).
    Blocks stay until `CACHE_BYTES` are exceeded: memory is that, plus what pyarrow needs for one row group, or for a
    block and the dictionary page of a large one (0.9 GB in all for a file with one row group of 1.2 GB, measured).
    Safe from several threads.

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
                blocks = 1 if size <= GROUP_BYTES else min(rows, -(-size // BLOCK_BYTES))
                per_block = -(-rows // blocks)
                group = _Group(file, number, column, rows, per_block)
                for block in range(-(-rows // per_block)):
                    starts.append(self.rows + block * per_block)
                    self._block_of_group.append((len(self._groups), block))
                self._groups.append(group)
                self.rows += rows
        self._starts = np.array(starts, np.int64)
        self._sizes: list[np.ndarray | None] = [None] * len(starts)
        self._cache: OrderedDict[int, _Block] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, i: int) -> bytes | None:
        """Bytes of row i; None for null. OSError where the file cannot be decoded."""
        block, row = self._locate(i)
        return self._load(block)[row]

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

    def _load(self, block: int) -> _Block:
        """The block, from the cache or the file."""
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
            content = group.read(within)
            with self._lock:
                if self._sizes[block] is None:
                    self._sizes[block] = np.maximum(content.lengths, 0)
                self._cache[block] = content
                while len(self._cache) > _MIN_BLOCKS and sum(b.nbytes for b in self._cache.values()) > CACHE_BYTES:
                    self._cache.popitem(last=False)
        return content


class _Group:
    """One row group of one file."""

    def __init__(self, file: Path, number: int, column: str, rows: int, per_block: int) -> None:
        self.file, self.number, self.column, self.rows, self.per_block = file, number, column, rows, per_block
        self.lock = threading.Lock()
        self._stream: Iterator[_Block] | None = None
        self._next = 0

    def read(self, block: int) -> _Block:
        """Decode one block; the caller holds the lock."""
        import pyarrow as pa

        try:
            if self.per_block >= self.rows:
                return next(self._open(self.rows))
            if self._stream is None or block < self._next:
                self._stream, self._next = self._open(self.per_block), 0
            while True:
                content = next(self._stream)
                self._next += 1
                if self._next > block:
                    if self._next * self.per_block >= self.rows:
                        self._stream = None  # the end: let the file go
                    return content
        except (pa.ArrowException, OSError, StopIteration) as error:
            self._stream = None
            raise OSError(f"{self.file.name}: {error}") from None

    def _open(self, size: int) -> Iterator[_Block]:
        """Stream the group's bytes, `size` rows at a time (the last block may be shorter)."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        # Buffered, not mapped: a map of the whole file would count as this process's memory.
        with pq.ParquetFile(self.file, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
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
                if count >= size:  # batches may be shorter than asked for; blocks are not
                    over = count - size
                    last = waiting.pop()
                    block = _Block.of([*waiting, last.slice(0, len(last) - over)])
                    waiting, count = [last.slice(len(last) - over)] if over else [], over
                    del batch, array, last  # the arrow memory goes before the consumer takes its time
                    yield block
            if count:
                yield _Block.of(waiting)


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
