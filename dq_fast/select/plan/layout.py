"""How much memory ranking takes: bytes of each method, from the sources of the code that serves it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dq_fast.select.rows.factors import merged_widths

RESULT_BYTES = 24  # a row: its place in the ranking, its bin, its gain
OUTPUT_BYTES = 64  # a row of a batch: what the op returns, and what it becomes on the way into the results
FIXED_BYTES = 16 << 20  # whatever the number of rows: blocks being gathered, thread stacks, the allocator's slack

_PAD = 8  # float32 rows are padded to as many numbers where they are copied
_POOL_BYTES = 3 << 20
_GRAM_BYTES = 512 << 20  # csrc/cpu/costs.h: kGramNumbers
_GRAM64_BYTES = 256 << 20  # csrc/cpu/costs.cpp: kNumbers64; of the matrix, and of the copy of the rows
_PARTS_BYTES = 64 << 20  # csrc/cpu/rows.cpp: kPartNumbers
_CHUNKS, _CHUNK_ROWS = 64, 256  # csrc/cpu/rows.cpp
_TORCH_GRAM = 1 << 27  # dq_fast/ops/graph_cut_torch.py: GRAM_NUMBERS
_TORCH_BYTES = 8 << 20  # similarities of a block of candidates, and copies of them
_LAZY_ROW = 240  # bounds, gains and places: the 160 that the op names, and room for more; an allowance, not measured
_LAZY_MATRICES = 46  # of [d1, d2]: sums, directions, moments of renewal; counted in the sources, not measured


@dataclass(frozen=True)
class Layout:
    """What the memory of a method depends on besides the rows of a group.

    Attributes:
        widths: numbers a row in each factor; dtypes: of the rows as the op gets them.
        center: whether rows are centred.
        native: whether the native code serves; three and more factors go to the definition in torch whatever this says.
    """

    widths: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]
    center: bool
    native: bool = True

    @property
    def numbers(self) -> int:
        """Numbers of the product embedding."""
        numbers = 1
        for width in self.widths:
            numbers *= width
        return numbers

    @property
    def in_torch(self) -> bool:
        """Whether the definition in torch serves."""
        return not self.native or len(self.widths) > 2

    @property
    def batch_row_bytes(self) -> int:
        """Bytes for each row of all groups that are ranked together: torch normalises and merges them all first."""
        if not self.in_torch:
            return 0
        narrow, wide = merged_widths(self.widths)
        return 8 * (2 * sum(self.widths) + 2 * (narrow + wide))

    def workspace(self, method: str, rows: int) -> int:
        """Bytes that ranking one group takes besides, at most; see `dq_fast.ops.graph_cut_greedy`."""
        if self.in_torch:
            narrow, wide = merged_widths(self.widths)
            state = rows * (100 + 16 * (narrow + wide)) + 8 * 8 * narrow * wide + _TORCH_BYTES
            whole = method == "gram" or (method == "auto" and rows * rows <= _TORCH_GRAM)
            return state + (24 * rows * rows if whole else 0)
        wide, narrow = max(self.widths), min(self.widths) if len(self.widths) == 2 else 1
        centred = 24 * rows if self.center else 0
        if method == "naive":
            return 60 * rows + centred + self._matrices(rows, 4)
        lazy = _LAZY_ROW * rows + centred + _POOL_BYTES + self._matrices(rows, _LAZY_MATRICES)
        of_wide = self.dtypes[self.widths.index(wide)]
        if of_wide is not torch.float32 or wide < _PAD:
            lazy += 4 * rows * _padded(wide)
        if narrow > 1:
            lazy += 4 * rows * _padded(narrow)
        if method == "lazy":
            return lazy
        matrix = 4 * rows * rows
        gram = lazy + (matrix if matrix <= _GRAM_BYTES else 8 * rows)
        copy = 8 * rows * (wide + narrow + _PAD)
        if 8 * rows * rows <= _GRAM64_BYTES and copy <= _GRAM64_BYTES:
            gram = max(gram, 8 * rows * rows + copy + centred + self._matrices(rows, 4))
        return gram

    def _matrices(self, rows: int, count: int) -> int:
        parts = max(1, min(_CHUNKS, _PARTS_BYTES // (8 * self.numbers)))
        chunks = -(-rows // max(_CHUNK_ROWS, -(-rows // parts)))
        return 8 * self.numbers * (chunks + count)


def _padded(width: int) -> int:
    return -(-width // _PAD) * _PAD
