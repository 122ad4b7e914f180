"""Rows on a device: what row sums and graph cut ask of them, in float64. No n x n matrix, no wide copy of all rows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from dq_fast.ops.cuda import launch
from dq_fast.ops.embedding import Centre, Group, merged

DTYPES = {torch.float32: 0, torch.bfloat16: 2, torch.float16: 3}
"""Types that the kernels take, as csrc/kernels.h numbers them (Dtype)."""

NOTE = "float64 rows and three or more factors go to torch"

_CHUNK_NUMBERS = 1 << 22  # float64 numbers of the temporaries of some rows: 32 MB, in the cache of a data-centre GPU


def served(factors: list[Tensor]) -> bool:
    """Whether the kernels take these factors."""
    return len(factors) <= 2 and all(x.dtype in DTYPES for x in factors)


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


class Factor:
    """The rows of one factor x [n, d] in their groups; with `center`, less their group's mean and normalised again.

    Reads the rows once when it is made, twice if centred. Nothing waits for the device but the copy of the groups'
    boundaries, where there are several.

    Attributes:
        total: sum of each group's rows, float64 [groups, d].
        inverse: 1 / ||x_i||, float64 [n]; 0 for a zero row, NaN for one that is not finite.
        mean: of each group's normalised rows, float64 [groups, d], scale: 1 / ||x_i - mean||, float64 [n]; None where
            rows are not centred.
    """

    def __init__(self, x: Tensor, offsets: Tensor | None = None, *, center: bool = False) -> None:
        """Rows x [n, d], n >= 1, of one of DTYPES; offsets int64 [groups + 1] on the CPU; None is one group."""
        kernels = launch.kernels()
        self.x = x.contiguous()
        n, d = x.shape
        self.n, self.d = n, d
        groups = 1 if offsets is None else offsets.shape[0] - 1
        sizes = (DTYPES[x.dtype], n, d)
        parts = kernels.row_sums_parts(*sizes, _address(offsets), groups)
        self._table = None
        if offsets is not None:
            table = torch.empty(4 * parts + groups + 1, dtype=torch.int64, device="cpu")
            kernels.row_sums_table(*sizes, offsets.data_ptr(), groups, parts, table.data_ptr())
            self._table = table.to(x.device)
        self._rows = (self.x.data_ptr(), *sizes, _address(self._table), parts, groups)
        self._workspace = kernels.row_sums_workspace(*sizes, parts)
        self.inverse = self.numbers(n)
        self.mean: Tensor | None = None
        self.scale: Tensor | None = None
        if center:
            mean = self._add(average=True)
            self.mean, self.scale = mean, self.numbers(n)
        self.total = self._add(average=False)

    def numbers(self, *shape: int) -> Tensor:
        """An uninitialised float64 tensor where the rows are."""
        return self.x.new_empty(shape, dtype=torch.float64)

    def _scales(self) -> tuple[int, int, int]:
        return _address(self.inverse), _address(self.mean), _address(self.scale)

    def _add(self, *, average: bool) -> Tensor:
        total, workspace = self.numbers(self._rows[-1], self.d), self.numbers(self._workspace)
        with launch.on(self.x.device) as stream:
            launch.kernels().add_group_rows(
                self._rows, self._scales(), average, workspace.data_ptr(), total.data_ptr(), stream
            )
        return total

    def dots(self, w: Tensor, *, shifted: bool = False, out: Tensor | None = None) -> Tensor:
        """Inner product of every row with its group's w, float64 [groups, d]: float64 [n], one read of the rows.

        `shifted`: half of it and half the number of rows in the group.
        """
        if out is None:
            out = self.numbers(self.n)
        with launch.on(self.x.device) as stream:
            launch.kernels().dot_group_rows(self._rows, self._scales(), w.data_ptr(), shifted, out.data_ptr(), stream)
        return out

    def gather(self, rows: Tensor) -> Tensor:
        """Some rows, int64 [k] on the device: float64 [k, d]."""
        rows = rows.contiguous()
        return self._copy(rows, 0, len(rows), self.mean, self.scale)

    def run(self, first: int, count: int, less: Tensor | None = None) -> Tensor:
        """Rows `first` to `first + count`, normalised, less a vector [d] if one is given: float64 [count, d]."""
        return self._copy(None, first, count, less, None)

    def _copy(self, rows: Tensor | None, first: int, count: int, less: Tensor | None, scale: Tensor | None) -> Tensor:
        out = self.numbers(count, self.d)
        scales = (_address(self.inverse), _address(less), _address(scale))
        with launch.on(self.x.device) as stream:
            launch.kernels().gather_group_rows(self._rows, scales, _address(rows), first, count, out.data_ptr(), stream)
        return out

    def pair_dots(
        self, first: int, y: Tensor, less: Tensor | None, v: Tensor | None, constant: Tensor | None,
        scale: Tensor | None, out: Tensor,
    ) -> None:  # fmt: skip
        """Write out [k] = <y_i, x_i> with y [k, d], rows from `first` on; csrc/cuda/rows.h says what the rest is."""
        scales = (_address(self.inverse), _address(less), _address(scale))
        with launch.on(self.x.device) as stream:
            launch.kernels().dot_row_pairs(
                self._rows, scales, first, len(y), y.data_ptr(), _address(v), _address(constant), out.data_ptr(), stream
            )

    def narrow_dots(
        self, b: Tensor, w: Tensor, less: Tensor | None, v: Tensor | None, constant: Tensor | None,
        scale: Tensor | None, out: Tensor,
    ) -> None:  # fmt: skip
        """Write out [n] = <b_i @ w, x_i>, b [n, d1] narrow, w [d1, d]; csrc/cuda/rows.h says what the rest is."""
        scales = (_address(self.inverse), _address(less), _address(scale))
        with launch.on(self.x.device) as stream:
            launch.kernels().dot_narrow_pairs(
                self._rows, scales, b.data_ptr(), b.shape[1], w.data_ptr(), _address(v), _address(constant),
                out.data_ptr(), stream,
            )  # fmt: skip

    def narrow_sum(self, b: Tensor, less: Tensor | None = None) -> Tensor:
        """Sum of b_i (x) (x_i - less), b [n, d1] narrow: float64 [d1, d]."""
        kernels, d1 = launch.kernels(), b.shape[1]
        total = self.numbers(d1, self.d)
        workspace = self.numbers(kernels.pair_sums_workspace(self.n, d1, self.d))
        scales = (_address(self.inverse), _address(less), 0)
        with launch.on(self.x.device) as stream:
            kernels.add_narrow_pairs(
                self._rows, scales, b.data_ptr(), d1, workspace.data_ptr(), total.data_ptr(), stream
            )
        return total

    def pair_scales(self, first: int, b: Tensor, mean: Tensor, scale: Tensor) -> None:
        """Write scale [n], from `first` on: 1 / ||b_i (x) x_i - mean|| with b [k, d1], mean [d1, d]."""
        scales = (_address(self.inverse), _address(mean), _address(scale))
        with launch.on(self.x.device) as stream:
            launch.kernels().centre_row_pairs(self._rows, scales, first, len(b), b.data_ptr(), b.shape[1], stream)


class _One:
    """One factor: its centred rows are rows like others."""

    def __init__(self, x: Tensor, center: bool) -> None:
        self.factor = Factor(x, center=center)

    def marks(self) -> Tensor:
        return self.factor.inverse

    def total(self) -> Tensor:
        return self.factor.total

    def dots(self, w: Tensor, out: Tensor | None) -> Tensor:
        return self.factor.dots(w, out=out)

    def gather(self, rows: Tensor) -> Group:
        h = self.factor.gather(rows)
        return Group(torch.ones_like(h[:, :1]), h)


class _Two:
    """Two factors; see Centre for what centred rows are made of.

    With a narrow factor of few columns, kernels form the products too; else torch does, over some rows at a time.
    """

    def __init__(self, factors: list[Tensor], center: bool) -> None:
        self.b, self.h = (Factor(x) for x in sorted(factors, key=lambda x: x.shape[1]))
        self.n = self.h.n
        few = self.b.d <= launch.kernels().narrow_factor
        self.f = self.b.run(0, self.n) if few else None  # narrow rows, less b0 where centred
        self.b0: Tensor | None = None
        self.h0: Tensor | None = None
        self.c: Tensor | None = None
        self.scale: Tensor | None = None
        self._total = self._sum()
        if center:
            self.b0, self.h0 = self.b.total[0] / self.n, self.h.total[0] / self.n
            mean, scale = self._total / self.n, self.h.numbers(self.n)
            for i, k in self._chunks():
                self.h.pair_scales(i, self.b.run(i, k), mean, scale)
            self.c, self.scale = mean - torch.outer(self.b0, self.h0), scale
            self.f = self.b.run(0, self.n, self.b0) if few else None
            self._total = self._centred_sum(self.b0, self.h0, self.c, scale)

    def _chunks(self) -> Iterator[tuple[int, int]]:
        step = max(1, _CHUNK_NUMBERS // (self.b.d + 2 * self.h.d))
        for i in range(0, self.n, step):
            yield i, min(step, self.n - i)

    def _sum(self) -> Tensor:
        if self.f is not None:
            return self.h.narrow_sum(self.f)
        total = self.h.numbers(self.b.d, self.h.d).zero_()
        for i, k in self._chunks():
            total.addmm_(self.b.run(i, k).T, self.h.run(i, k))
        return total

    def _centred_sum(self, b0: Tensor, h0: Tensor, c: Tensor, scale: Tensor) -> Tensor:
        if self.f is not None:
            s = scale[:, None]
            total, along = self.h.narrow_sum(self.f * s), self.h.narrow_sum(s, h0)[0]
            return total + torch.outer(b0, along) - scale.sum() * c
        total, along = torch.zeros_like(c), torch.zeros_like(h0)
        for i, k in self._chunks():
            s = scale[i : i + k]
            along += s @ self.h.run(i, k, h0)
            total.addmm_((self.b.run(i, k, b0) * s[:, None]).T, self.h.run(i, k))
        return total + torch.outer(b0, along) - scale.sum() * c

    def marks(self) -> Tensor:
        return self.b.inverse + self.h.inverse

    def total(self) -> Tensor:
        return self._total

    def dots(self, w: Tensor, out: Tensor | None) -> Tensor:
        if out is None:
            out = self.h.numbers(self.n)
        v = constant = None
        if self.b0 is not None and self.c is not None:
            v, constant = self.b0 @ w, (self.c * w).sum()
        if self.f is not None:
            self.h.narrow_dots(self.f, w, self.h0, v, constant, self.scale, out)
            return out
        for i, k in self._chunks():
            y = self.b.run(i, k, self.b0) @ w
            self.h.pair_dots(i, y, self.h0, v, constant, self.scale, out[i : i + k])
        return out

    def gather(self, rows: Tensor) -> Group:
        b, h = self.b.gather(rows), self.h.gather(rows)
        if self.b0 is None or self.h0 is None or self.c is None or self.scale is None:
            return Group(b, h)
        own = (h - self.h0) @ (self.b0 @ self.c) + (((b - self.b0) @ self.c) * h).sum(1)
        own -= 0.5 * self.c.square().sum()
        return Group(b, h, Centre(self.b0, self.h0, self.c, self.scale[rows], own))


class Rows:
    """Rows `begin` to `end` of an embedding: one group, as many factors as there are.

    Rows are normalised; with `center` they are phi_i - mean, normalised, phi the product embedding of the group's rows.
    Inner products live in [d1, d2], d1 the width of the narrow factor (1 for one factor), d2 that of the wide one.
    Nothing here waits for the device except `first_bad`. Without rows there is nothing to ask.

    Peak memory beyond the inputs, one or two factors: a few float64 a row, partial sums (at most about 1,024 float64
    rows), a float64 matrix [d1, d2] and for two factors 32 MB; else a float64 copy of the rows.
    """

    def __init__(self, factors: list[Tensor], begin: int, end: int, center: bool) -> None:
        self.factors = [x[begin:end] for x in factors]
        self.n = end - begin
        self.center = center

    @cached_property
    def _made(self) -> _One | _Two | None:
        """What the kernels have made of the rows; None where the definitions serve."""
        if self.n == 0 or not served(self.factors):
            return None
        return _One(self.factors[0], self.center) if len(self.factors) == 1 else _Two(self.factors, self.center)

    @cached_property
    def group(self) -> Group:
        """The rows as the definitions have them: float64 copies [n, d1] and [n, d2]."""
        b, h = merged(self.factors)
        if not self.center or self.n == 0:
            return Group(b, h)
        centre = Centre.of(b, h)
        if len(self.factors) > 1:
            return Group(b, h, centre)
        return Group(b, (h - centre.h0) * centre.scale[:, None])  # centred rows of one factor are rows like others

    def marks(self) -> Tensor:
        """A float64 for each row, NaN exactly for rows with a NaN or an infinity; does not wait."""
        if self._made is not None:
            return self._made.marks()
        return sum((x.double() * 0).sum(1) for x in self.factors)  # type: ignore[return-value]  # there is a factor

    def first_bad(self) -> int:
        """The first row of the group with a NaN or an infinity, -1 if there is none; waits for the device."""
        return first_nan(self.marks())

    def total(self) -> Tensor:
        """Sum of all rows, float64 [d1, d2]; not to be written to."""
        return self.group.total() if self._made is None else self._made.total()

    def dots(self, w: Tensor, out: Tensor | None = None) -> Tensor:
        """Inner product of every row with w [d1, d2], float64 [n]; into `out`, float64 and contiguous, if given."""
        if self._made is not None:
            return self._made.dots(w.to(torch.float64).contiguous(), out)
        found = self.group.dot(w)
        return found if out is None else out.copy_(found)

    def gather(self, rows: Tensor) -> Group:
        """Some rows, int64 [k] numbered within the group: float64 copies, with the mean of the whole group."""
        return self.group.take(rows) if self._made is None else self._made.gather(rows)


def first_nan(marks: Tensor) -> int:
    """The first NaN of a vector, -1 if there is none; waits for the device once where there is none."""
    nan = torch.isnan(marks)
    return int(nan.nonzero()[0, 0]) if bool(nan.any()) else -1
