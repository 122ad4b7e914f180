"""A fitted partition as something to keep: ids, groups, bins, and the sums that new rows are placed by.

The state of a partition is arrays only, and is saved as a plain npz (no pickle). With sums it holds one float64 matrix
[d1, d2] for each bin of each group (d1 = 1 for a single factor): all that appending needs to know of the old rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.files import atomic_write
from dq_fast.ops import checks
from dq_fast.select.certificate import Certificate, certify
from dq_fast.select.groups import Groups
from dq_fast.select.partition.ids import id_array, same_kind
from dq_fast.select.partition.sums import Rows, Sums, sums_shape
from dq_fast.select.settings import Settings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FORMAT = "dq_fast partition 1"
MAX_SUMS_BYTES = 4 << 30
"""Sums larger than this are only kept when asked for by raising the limit: the rows themselves are smaller then."""


@dataclass(frozen=True)
class Partition:
    """Bins of n rows, by stable ids.

    Attributes:
        settings: what they were made with.
        ids: [n] text or int64, different for every row; never a position.
        of_row: int64 [n], group of each row. names: the groups' sorted distinct labels, or None for one group.
        ranking: int64 [n], row numbers group after group, within a group bin after bin in order.
        bin_of: int64 [n]. gains: float64 [n], what each row gained when it was picked.
        changed: int64 [groups, 2], rows appended and rows removed since the group was last ranked.
        next_id: the next number where rows are numbered, see `of`.
        sums: what appending needs; None: then only refitting is possible.
    """

    settings: Settings
    ids: NDArray[Any]
    of_row: Ints
    names: NDArray[Any] | None
    ranking: Ints
    bin_of: Ints
    gains: Floats
    changed: Ints
    next_id: int
    sums: Sums | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        factors: Sequence[Tensor],
        groups: Groups,
        ranking: Ints,
        bin_of: Ints,
        gains: Floats,
        settings: Settings,
        *,
        ids: Any = None,
        sums: bool = True,
        max_sums_bytes: int = MAX_SUMS_BYTES,
    ) -> Partition:
        """The partition that a fit has found.

        Args:
            factors: tensors [n, d_k], as fitted.
            groups: as fitted.
            ranking: int64 [n], as fitted.
            bin_of: int64 [n], as fitted.
            gains: float64 [n], as fitted.
            settings: as fitted.
            ids: [n] text or whole numbers; None numbers the rows, and rows added later go on from there (a number is
                never given again).
            sums: keep what appending needs: one more read of the rows (two if centred).
            max_sums_bytes: refuse sums larger than that.

        Raises:
            InputError: lengths that do not fit, ids that are not unique, or sums that are too large.
        """
        settings.check()
        n = len(groups.of_row)
        found = np.arange(n) if ids is None else id_array(ids, n)
        next_id = int(found.max(initial=-1)) + 1 if found.dtype.kind == "i" else 0
        changed = np.zeros((len(groups), 2), np.int64)
        made = cls(settings, found, groups.of_row, groups.names, ranking, bin_of, gains, changed, next_id)
        made.check()
        tensors = checks.factors(tuple(getattr(factors, "tensors", factors)))
        if len(tensors[0]) != n:
            raise checks.bad("factors", f"of the {n} rows of the groups", checks.shape_of(tensors[0]))
        if not sums:
            return made
        shape = (len(groups), settings.n_bins, *sums_shape(tensors))
        if 8 * int(np.prod(shape)) > max_sums_bytes:
            raise InputError(
                f"sums must fit into {max_sums_bytes / 2**30:.1f} GiB, got {shape[0]} groups of {shape[1]} bins of "
                f"{shape[2]} x {shape[3]} float64, {8 * int(np.prod(shape)) / 2**30:.1f} GiB; keep the partition "
                "without sums (sums=False) and the embedding, and add with mode='refit'"
            )
        rows = Rows(tensors, settings.similarity)
        kept = Sums.empty(shape, settings.center)
        for g in range(len(groups)):
            kept.measure(g, rows, groups.rows(g), bin_of)
        return dataclasses.replace(made, sums=kept)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def groups(self) -> Groups:
        """The rows in order of their groups."""
        count = 1 if self.names is None else len(self.names)
        sizes = np.bincount(self.of_row, minlength=count)
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return Groups(np.argsort(self.of_row, kind="stable").astype(np.int64), offsets, self.names, self.of_row)

    @property
    def counts(self) -> Ints:
        """Rows in every bin of every group, int64 [groups, n_bins]."""
        count, bins = 1 if self.names is None else len(self.names), self.settings.n_bins
        return np.bincount(self.of_row * bins + self.bin_of, minlength=count * bins).reshape(count, bins)

    @property
    def imbalance(self) -> int:
        """The largest difference of two bins' sizes in one group: 0 or 1 after a fit."""
        counts = self.counts
        return int((counts.max(1) - counts.min(1)).max(initial=0))

    def rows_of(self, ids: Any) -> Ints:
        """Row numbers of some ids.

        Raises:
            InputError: an id that is not there (it is named), or one given twice.
        """
        wanted = id_array(ids, None)
        same_kind(wanted, self.ids)
        order = np.argsort(self.ids, kind="stable")
        at = np.searchsorted(self.ids, wanted, sorter=order)
        rows = order[np.minimum(at, len(order) - 1)] if len(order) else np.zeros(len(wanted), np.int64)
        missing = np.flatnonzero(self.ids[rows] != wanted) if len(order) else np.arange(len(wanted))
        if len(missing):
            raise checks.bad("ids", "ids of the partition", f"{wanted[missing[0]].item()!r}, which it does not have")
        return rows.astype(np.int64)

    def certify(self, factors: Sequence[Tensor], k: int = 100, *, seed: int = 0, progress: Any = None) -> Certificate:
        """How far the partition is from one that is fitted afresh: its picks against the best there were.

        Bins that were appended to are not greedy any more: `Certificate.loss` says how much was lost of what greedy
        picks gain more than random ones (0: nothing), `relative_shortfall` is that of the worst pick. Gains are not
        compared: those of old rows are what they were when picked. With center, the mean is that of the rows there are
        now.

        Args:
            factors: of all rows, in the partition's order.
            k: picks to look at.
            seed: which.
            progress: as in `certify`.
        """
        return certify(
            factors, self.groups, self.ranking, self.bin_of, None, self.settings, k, seed=seed, progress=progress
        )

    def check(self) -> None:
        """Raise where the arrays are not those of one partition.

        Raises:
            InputError: naming the array, what was expected, and what came.
        """
        self.settings.check()
        n, bins = len(self.ids), self.settings.n_bins
        for name, kind in (("of_row", "i"), ("ranking", "i"), ("bin_of", "i"), ("gains", "f")):
            x = getattr(self, name)
            if x.shape != (n,) or x.dtype.kind != kind:
                raise checks.bad(name, f"{'int64' if kind == 'i' else 'float64'} [{n}]", f"{x.dtype} {x.shape}")
        id_array(self.ids, n)
        count = 1 if self.names is None else len(self.names)
        if self.names is not None and (
            self.names.dtype == object or not np.array_equal(np.unique(self.names), self.names)
        ):
            raise checks.bad("names", "the sorted distinct labels, text or numbers", f"{self.names.dtype} {self.names}")
        for name, x, end in (("of_row", self.of_row, count), ("bin_of", self.bin_of, bins)):
            if n and not 0 <= x.min() <= x.max() < end:
                raise checks.bad(name, f"from 0 to {end - 1}", f"{x.min()} to {x.max()}")
        if not np.array_equal(np.sort(self.ranking), np.arange(n)):
            raise checks.bad("ranking", "every row once", "another list of rows")
        cell = (self.of_row * bins + self.bin_of)[self.ranking]
        if np.any(np.diff(cell) < 0):
            raise checks.bad(
                "ranking",
                "group after group and bin after bin",
                f"another order at place {np.argmax(np.diff(cell) < 0) + 1}",
            )
        if self.changed.shape != (count, 2) or np.any(self.changed < 0):
            raise checks.bad("changed", f"counts [{count}, 2]", f"shape {self.changed.shape}")
        if self.sums is not None:
            self.sums.check(count, bins, self.settings.center)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything into one npz file, whole or not at all."""
        arrays = self._arrays()
        about = {"format": FORMAT, "settings": dataclasses.asdict(self.settings), "next_id": self.next_id}
        about["sha256"] = _digest(arrays)
        with atomic_write(path) as file:
            np.savez(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Partition:
        """Read what `save` wrote.

        Raises:
            InputError: there is no such file, or it is not one of a partition, or damaged.
        """
        try:
            with np.load(Path(path), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(str(arrays.pop("about")))
            if about["format"] != FORMAT:
                raise checks.bad(str(path), f"of the format {FORMAT!r}", repr(about["format"]))
            if about["sha256"] != _digest(arrays):
                raise InputError(f"{path} must be as it was saved, got arrays with another checksum; it is damaged")
            sums = {name[5:]: arrays.pop(name) for name in list(arrays) if name.startswith("sums_")}
            arrays.setdefault("names", None)
            kept = Sums(**sums) if sums else None
            made = cls(Settings(**about["settings"]), next_id=int(about["next_id"]), sums=kept, **arrays)  # type: ignore[arg-type]
        except FileNotFoundError:
            raise InputError(f"there is no file {path}") from None
        except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} must be a saved partition (npz), but is not readable as one: {error}") from None
        made.check()
        return made

    def _arrays(self) -> dict[str, NDArray[Any]]:
        names = ("ids", "of_row", "ranking", "bin_of", "gains", "changed")
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in names}
        if self.names is not None:
            arrays["names"] = self.names
        if self.sums is not None:
            arrays |= {f"sums_{f.name}": getattr(self.sums, f.name) for f in dataclasses.fields(self.sums)}
        return arrays


def _digest(arrays: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        x = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {x.dtype.str} {x.shape}\n".encode())
        digest.update(x.data if x.size else b"")
    return digest.hexdigest()
