"""Carrying out a change: appending to groups, ranking them again, keeping the sums true."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.ops import checks
from dq_fast.progress import Progress, silent
from dq_fast.select.partition.append import place
from dq_fast.select.partition.change import Change
from dq_fast.select.partition.draft import Draft, Rank
from dq_fast.select.partition.partition import Partition
from dq_fast.select.partition.sums import Rows
from dq_fast.select.rows import as_factors

Ints = NDArray[np.int64]


def removed_factors(partition: Partition, gone: Ints, embedding: Any, old: Any) -> tuple[Tensor, ...]:
    """The factors of removed rows: given, or from those of all rows before.

    Raises:
        InputError: neither is given, or another number of rows.
    """
    if embedding is None and old is None:
        raise InputError(
            "embedding must be that of the removed rows, by which the partition's sums are corrected, got None; give "
            "embedding= or old="
        )
    if embedding is None:
        return _whole(old, len(partition), take=gone)
    factors = as_factors(embedding).tensors
    if len(factors[0]) != len(gone):
        raise checks.bad("embedding", f"that of the {len(gone)} removed rows", f"{len(factors[0])} rows")
    return factors


def _whole(old: Any, n: int, take: Ints | None = None) -> tuple[Tensor, ...]:
    if old is None:
        raise InputError("old must be the embedding of the partition's rows to rank groups again, got None")
    factors = as_factors(old).tensors
    if len(factors[0]) != n:
        raise checks.bad("old", f"the embedding of the partition's {n} rows", f"{len(factors[0])} rows")
    return factors if take is None else tuple(f[torch.from_numpy(take)] for f in factors)


class Work:
    """Carries out a change that a draft describes."""

    def __init__(
        self, draft: Draft, new: tuple[Tensor, ...] | None, old: Any, rank: Rank, progress: Progress | None
    ) -> None:
        self.begin = time.monotonic()
        self.draft, self.new, self.old, self.rank = draft, new, old, rank
        self.stage, self.report = "remove" if new is None else "add", progress or silent
        self.similarity = draft.before.settings.similarity

    def forget(self, gone: Ints, factors: tuple[Tensor, ...]) -> None:
        """Take removed rows out of the sums of their bins."""
        draft, bin_of = self.draft, self.draft.before.bin_of[gone]
        group_of = draft.group_now[draft.before.of_row[gone]]
        for g in np.unique(group_of[group_of >= 0]).tolist():
            mine = np.flatnonzero(group_of == g)
            draft.count(g, Rows(factors, self.similarity).take(mine), bin_of[mine], -1)

    def run(self, again: bool) -> Change:
        """Append or rank, and put the result together. `again`: rank every group that is not as it was ranked."""
        draft = self.draft
        fresh = np.flatnonzero(draft.group_before < 0)
        ranked = np.flatnonzero(draft.changed.sum(1) > 0) if again else fresh
        appended = np.setdiff1d(np.unique(draft.of_row[draft.added]), ranked)
        to_do = int(np.isin(draft.of_row, ranked).sum() + np.isin(draft.of_row[draft.added], appended).sum())
        done = 0
        for g in appended.tolist():
            done += self._append(g)
            self.report(self.stage, done, to_do)
        self._rank(ranked)
        self.report(self.stage, to_do, to_do)
        return self._change(ranked, int(np.isin(fresh, draft.of_row).sum()))

    def _append(self, g: int) -> int:
        draft, s = self.draft, self.draft.before.settings
        if draft.sums is None or self.new is None:
            raise InputError("partition must hold sums to append with, got none; use mode='refit' and give old=")
        mine = draft.added[draft.of_row[draft.added] == g]
        rows = Rows(self.new, self.similarity).take(mine - draft.stayed)
        dot = s.similarity == "dot"
        group = draft.sums.centred(g, rows, dot)
        if dot:
            draft.sums.largest[g] = max(draft.sums.largest[g], draft.sums.largest_own(g, rows))
        order, bins, gains = place(
            group, draft.counts(g), torch.from_numpy(draft.sums.of_bin[g]), lam=s.lam,
            shifted=s.shifted and not dot, largest=float(draft.sums.largest[g]),
        )  # fmt: skip
        draft.put(mine[order], bins, gains)
        draft.count(g, rows, draft.bin_of[mine], 1)
        return len(mine)

    def _rank(self, groups: Ints) -> None:
        """Rank groups from all their rows, and measure their sums again."""
        draft = self.draft
        rows = np.flatnonzero(np.isin(draft.of_row, groups))
        if not len(rows):
            return
        factors = self._gather(rows)
        parts = draft.groups_of(rows)
        ranking, bin_of, gains = self.rank(factors, parts)
        draft.put(rows[ranking], bin_of[ranking], gains[ranking])
        for i, g in enumerate(groups.tolist()):
            draft.changed[g] = 0
            if draft.sums is not None:
                draft.sums.measure(g, Rows(factors, self.similarity), parts.rows(i), bin_of)

    def _gather(self, rows: Ints) -> tuple[Tensor, ...]:
        """The embedding of some of the rows after the change."""
        draft = self.draft
        stayed, added = rows[rows < draft.stayed], rows[rows >= draft.stayed] - draft.stayed
        parts: list[tuple[Tensor, ...]] = []
        if len(stayed):
            parts.append(_whole(self.old, len(draft.before), take=draft.origin[stayed]))
        if len(added) and self.new is not None:
            parts.append(tuple(f[torch.from_numpy(added)] for f in self.new))
        widths = [tuple(f.shape[1] for f in part) for part in parts]
        if widths[0] != widths[-1]:
            raise checks.bad("embedding", f"as wide as the rows before, {widths[0]}", f"{widths[-1]}")
        return tuple(torch.cat(factor) for factor in zip(*parts, strict=True))

    def _change(self, ranked: Ints, fresh: int) -> Change:
        draft = self.draft
        made = draft.finish()
        sizes = made.groups.sizes
        return Change(
            partition=made,
            origin=draft.origin,
            removed=len(draft.before) - draft.stayed,
            touched=draft.touched,
            new_groups=fresh,
            ranked=int(sizes[ranked].sum()),
            groups_ranked=len(ranked),
            imbalance=made.imbalance,
            since=float(made.changed.sum()) / max(1, len(made)),
            mean_shift=0.0 if made.sums is None else made.sums.mean_shift(sizes),
            seconds=time.monotonic() - self.begin,
        )
