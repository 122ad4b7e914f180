"""What a user of torch would write: short, float32, no kernels of ours."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_row_sums(x: Tensor) -> Tensor:
    """Row sums of 1/2 + 1/2 cos over all rows of x [n, d]; half precision is widened first."""
    rows = F.normalize(x if x.dtype in (torch.float32, torch.float64) else x.float(), dim=1)
    return 0.5 * len(rows) + 0.5 * (rows @ rows.sum(0))


def linear_factor_sums(b: Tensor, h: Tensor, bounds: list[int]) -> Tensor:
    """The same of two factors, group by group: <b_i, M h_i> with M the sum of b (x) h."""
    b, h = F.normalize(b, dim=1), F.normalize(h, dim=1)
    parts = []
    for i, j in pairwise(bounds):
        parts.append(0.5 * (j - i) + 0.5 * ((b[i:j] @ (b[i:j].T @ h[i:j])) * h[i:j]).sum(1))
    return torch.cat(parts)


def similarity_into(rows: list[Tensor], out: Tensor, spare: Tensor) -> Tensor:
    """1/2 + 1/2 prod_k cos of normalised rows, one product a factor, into memory that is already there."""
    torch.mm(rows[0], rows[0].T, out=out)
    for x in rows[1:]:
        torch.mm(x, x.T, out=spare)
        out.mul_(spare)
    return out.mul_(0.5).add_(0.5)


def picked_rows(gain: Tensor, size: int, similarities: Callable[[Tensor], Tensor]) -> Tensor:
    """Rows of the largest gain, one after the other: int64 [size]; `gain` is used up.

    Each pick's similarities, from a row number int64 [1] to [n], are taken off the gains twice. Row numbers stay on the
    device, so that a GPU is never waited for.
    """
    picked = torch.empty(size, dtype=torch.int64, device=gain.device)
    for k in range(size):
        row = picked[k : k + 1]
        torch.argmax(gain, 0, keepdim=True, out=row)
        gain.sub_(similarities(row), alpha=2)
        gain.index_fill_(0, row, -torch.inf)
    return picked


def matrix_bins(s: Tensor, sizes: list[int]) -> list[int]:
    """Bins from a similarity matrix: float64 gains, the matrix' rows as they are."""
    sums = s.sum(0, dtype=torch.float64)
    left = torch.ones(len(s), dtype=torch.bool, device=s.device)
    ranking: list[int] = []
    for size in sizes:
        gain = torch.where(left, sums, -torch.inf)
        if s.is_cuda:
            rows = picked_rows(gain, size, lambda row: s.index_select(0, row)[0])
            picked = rows.tolist()
        else:
            picked = []
            for _ in range(size):
                row = int(gain.argmax())
                picked.append(row)
                gain.sub_(s[row], alpha=2)
                gain[row] = -torch.inf
            rows = torch.tensor(picked, dtype=torch.int64, device=s.device)
        left[rows] = False
        sums = sums - s[rows].sum(0, dtype=torch.float64)
        ranking += picked
    return ranking


def gram_bins(factors: list[Tensor], bounds: list[int], sizes: list[list[int]]) -> Tensor:
    """Bins of every group from its similarity matrix."""
    rows = [F.normalize(x, dim=1) for x in factors]
    ranking: list[int] = []
    for i, j, size in zip(bounds, bounds[1:], sizes):  # noqa: B905
        s = rows[0][i:j] @ rows[0][i:j].T
        for x in rows[1:]:
            s.mul_(x[i:j] @ x[i:j].T)
        ranking += [i + row for row in matrix_bins(s.mul_(0.5).add_(0.5), size)]
    return torch.tensor(ranking)


def batched_bins(factors: list[Tensor], group_rows: int, sizes: list[int], batch: int = 250) -> Tensor:
    """Bins of many groups of equal length, `batch` of them at a time: every step picks a row of each."""
    rows = [F.normalize(x, dim=1).unflatten(0, (-1, group_rows)) for x in factors]
    found = []
    for begin in range(0, len(rows[0]), batch):
        mine = [x[begin : begin + batch] for x in rows]
        s = torch.bmm(mine[0], mine[0].mT)
        for x in mine[1:]:
            s.mul_(torch.bmm(x, x.mT))
        s.mul_(0.5).add_(0.5)
        each = torch.arange(len(s), device=s.device)
        sums, left = s.sum(1, dtype=torch.float64), torch.ones(s.shape[:2], dtype=torch.bool, device=s.device)
        for size in sizes:
            gain, lost = torch.where(left, sums, -torch.inf), torch.zeros_like(sums)
            for _ in range(size):
                row = gain.argmax(1)
                picks = s[each, row]
                gain.sub_(picks, alpha=2)
                gain.scatter_(1, row[:, None], -torch.inf)
                lost += picks
                left.scatter_(1, row[:, None], False)
                found.append(row + (begin + each) * group_rows)
            sums = sums - lost
        found[-group_rows:] = [torch.stack(found[-group_rows:], 1).flatten()]
    return torch.cat(found)


def incremental_bins(factors: list[Tensor], bounds: list[int], sizes: list[list[int]]) -> Tensor:
    """Bins of every group without a matrix: gains in float64, one matrix-vector product a factor and pick."""
    rows = [F.normalize(x, dim=1) for x in factors]
    ranking: list[int] = []
    for i, j, bins in zip(bounds, bounds[1:], sizes):  # noqa: B905
        mine = [x[i:j] for x in rows]
        left = torch.ones(j - i, dtype=torch.bool, device=rows[0].device)
        sums = 0.5 * (j - i) + 0.5 * _sums(mine)
        for size in bins:
            gain = torch.where(left, sums, -torch.inf)
            lost = torch.zeros_like(sums)

            def similarities(row: Tensor | int, mine: list[Tensor] = mine, lost: Tensor = lost) -> Tensor:
                s = mine[0] @ _row(mine[0], row)
                for x in mine[1:]:
                    s = s * (x @ _row(x, row))
                s = 0.5 + 0.5 * s
                lost += s
                return s

            if gain.is_cuda:
                chosen = picked_rows(gain, size, similarities)
                picked = chosen.tolist()
            else:
                picked = []
                for _ in range(size):
                    row = int(gain.argmax())
                    picked.append(row)
                    gain.sub_(similarities(row), alpha=2)
                    gain[row] = -torch.inf
                chosen = torch.tensor(picked, dtype=torch.int64, device=gain.device)
            left[chosen] = False
            sums = sums - lost
            ranking += [i + row for row in picked]
    return torch.tensor(ranking)


def _row(x: Tensor, row: Tensor | int) -> Tensor:
    """Row of x [n, d] by its number, or by an int64 tensor [1] without a look at it."""
    return x[row] if isinstance(row, int) else x.index_select(0, row)[0]


def _sums(rows: list[Tensor]) -> Tensor:
    """Row sums of the cosines, float64."""
    if len(rows) == 1:
        return (rows[0] @ rows[0].sum(0, dtype=torch.float64).float()).double()
    b, h = rows
    return ((b @ (b.T @ h)) * h).sum(1, dtype=torch.float64)


def scores_of_maps(maps: Tensor, grid: tuple[int, int], cell: int = 16) -> Tensor:
    """Patch scores of maps [b, h, w]: upsample to pixels, average over patches."""
    rows, cols = grid
    pixels = F.interpolate(maps[:, None], size=(rows * cell, cols * cell), mode="bilinear", align_corners=False)
    return F.avg_pool2d(pixels, cell)[:, 0]


def upsampled_scores(a: Tensor, g: Tensor, grid: tuple[int, int], variant: str) -> Tensor:
    """GradCAM++ patch scores of activations and gradients [b, c, h, w] (gradients perhaps [b, c]), as published."""
    total = a.sum((2, 3), keepdim=True)
    positions = 1 if g.dim() == 4 else a.shape[2] * a.shape[3]
    g = g if g.dim() == 4 else g[:, :, None, None]
    positive = g.relu()
    if variant == "torchcam":
        terms = positive**3
    else:
        epsilon = 1e-6 if variant == "grad-cam" else 0.0
        terms = g**2 / (2 * g**2 + total * g**3 + epsilon) * positive
        terms = torch.where(g > 0, terms, 0.0)
    weight = terms.sum((2, 3)) * positions
    maps = torch.einsum("bk,bkhw->bhw", weight, a).relu()
    return scores_of_maps(maps, grid)
