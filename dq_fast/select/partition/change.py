"""What a change of a partition did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.select.partition.partition import Partition

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Change:
    """What an addition, a removal or a refit did.

    Attributes:
        partition: as it is now. Rows that stayed come first, in their order; added ones follow in theirs.
        origin: int64 [n], the row that every row was before, -1 for an added one.
        removed: how many rows were taken out.
        touched: groups that got or lost rows. new_groups: those of them that had no rows before.
        ranked: rows that were ranked again, or for the first time. groups_ranked: their groups.
        imbalance: the largest difference of two bins' sizes in one group.
        since: rows appended and removed since their groups were ranked, as a part of all rows.
        mean_shift: with center and sums: how far the mean of a group is by now from the one it was ranked with, at
            most, as a part of the root mean square distance of its rows from that; otherwise 0.
        seconds: time it took.
    """

    partition: Partition
    origin: Ints
    removed: int
    touched: int
    new_groups: int
    ranked: int
    groups_ranked: int
    imbalance: int
    since: float
    mean_shift: float
    seconds: float

    @property
    def rows(self) -> Ints:
        """Row numbers of the added rows, in the order they were given."""
        return np.flatnonzero(self.origin < 0)

    def __str__(self) -> str:
        lines = [
            f"{len(self.rows)} rows added, {self.removed} removed, in {self.touched} groups ({self.new_groups} new); "
            f"{self.ranked} rows ranked in {self.groups_ranked} groups; {self.seconds:.1f} s",
            f"  {len(self.partition)} rows, {100 * self.since:.1f} % changed since ranked; bins of a group differ by "
            f"{self.imbalance} at most",
        ]
        if self.mean_shift > 0:
            lines.append(f"  means have moved by up to {100 * self.mean_shift:.2g} % of the spread of their rows")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the numbers."""
        names = ("removed", "touched", "new_groups", "ranked", "groups_ranked", "imbalance", "since", "mean_shift")
        numbers = {name: getattr(self, name) for name in (*names, "seconds")}
        return {"n": len(self.partition), "added": len(self.rows), **numbers}
