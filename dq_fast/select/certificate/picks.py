"""What a certificate says: picks looked at again, and what is wrong with any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

_ROUNDING = 0.5  # of the tolerance: what the gains of either side may be off by
GAIN_LIMIT = 1e-9  # a reported gain may differ by this much of its scale
_SHOWN = 10  # wrong picks that people are shown


@dataclass(frozen=True)
class Pick:
    """One pick of a ranking, looked at again.

    Attributes:
        row: row that was picked. group, bin: where. place: its place in the group's ranking, from 0.
        gain: its gain as reported (NaN where none was). picked: its gain as computed here.
        best, best_row: the largest gain of all rows that could have been picked, and the row that has it.
        lowest: the row that should have been picked: the lowest of those that tie with the best.
        mean: mean gain of the rows that could have been picked.
        tolerance: 1e-12 * n * (lam + 2) * largest |s|, n the group's rows: gains nearer than that are equal.
        scale: (lam * rows remaining at the start of the bin + 2 * rows already in the bin) * largest |s|: the largest
            that the two sums of the gain can be together. What "relative" means here.
    """

    row: int
    group: int
    bin: int
    place: int
    gain: float
    picked: float
    best: float
    best_row: int
    lowest: int
    mean: float
    tolerance: float
    scale: float

    @property
    def shortfall(self) -> float:
        """What the pick gained less than the best, >= 0."""
        return max(0.0, self.best - self.picked)

    @property
    def relative_shortfall(self) -> float:
        """Shortfall as a part of `scale`."""
        return self.shortfall / self.scale if self.scale > 0 else self.shortfall

    @property
    def error(self) -> float:
        """What the reported gain is off by; 0 where none was reported."""
        return 0.0 if np.isnan(self.gain) else abs(self.gain - self.picked)

    @property
    def relative_error(self) -> float:
        """Error as a part of `scale`."""
        return self.error / self.scale if self.scale > 0 else self.error

    @property
    def fault(self) -> str:
        """What is wrong: "" (nothing), "shortfall", "tie" (it is not the lowest row) or "gain" (misreported)."""
        if not self.shortfall <= (1 + _ROUNDING) * self.tolerance:
            return "shortfall"
        if self.lowest < self.row:
            return "tie"
        return "gain" if self.relative_error > GAIN_LIMIT else ""

    def __str__(self) -> str:
        where = f"pick {self.place} of group {self.group} (bin {self.bin}, row {self.row})"
        if self.fault == "shortfall":
            return (
                f"{where}: row {self.lowest} gains {self.shortfall:.6g} more ({self.best:.12g} against "
                f"{self.picked:.12g}; relative {self.relative_shortfall:.2g})"
            )
        if self.fault == "tie":
            return f"{where}: row {self.lowest} ties with it, and is lower"
        if self.fault == "gain":
            return f"{where}: gain {self.gain:.12g} reported, {self.picked:.12g} found"
        return f"{where}: exact"


@dataclass(frozen=True)
class Certificate:
    """What was found about the picks of a ranking.

    Attributes:
        picks: those looked at, group after group in pick order.
        of: how many picks the ranking has.
        passes: how often each row of the groups that the picks are in was read. bytes_read: in all.
        seconds: time it took.
    """

    picks: tuple[Pick, ...]
    of: int
    passes: int = 0
    bytes_read: int = 0
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong with any of the picks."""
        return not self.faults

    @property
    def faults(self) -> tuple[Pick, ...]:
        """The picks that something is wrong with."""
        return tuple(p for p in self.picks if p.fault)

    @property
    def shortfall(self) -> float:
        """Largest shortfall."""
        return max((p.shortfall for p in self.picks), default=0.0)

    @property
    def relative_shortfall(self) -> float:
        """Largest shortfall relative to its pick's scale."""
        return max((p.relative_shortfall for p in self.picks), default=0.0)

    @property
    def error(self) -> float:
        """Largest error of a reported gain."""
        return max((p.error for p in self.picks), default=0.0)

    @property
    def relative_error(self) -> float:
        """Largest error of a reported gain relative to its pick's scale."""
        return max((p.relative_error for p in self.picks), default=0.0)

    @property
    def loss(self) -> float:
        """All shortfalls over what random picks would have fallen short by: 0 is greedy, 1 no better than random."""
        random = sum(p.best - p.mean for p in self.picks)
        tolerance = sum(p.tolerance for p in self.picks)
        return sum(p.shortfall for p in self.picks) / random if random > tolerance else 0.0

    def __str__(self) -> str:
        if not self.picks:
            return "certificate: no picks looked at"
        exact = len(self.picks) - len(self.faults)
        lines = [
            f"certificate: {exact} of {len(self.picks)} picks exact (of {self.of}; {self.passes} reads, "
            f"{self.bytes_read / 2**20:.0f} MiB, {self.seconds:.1f} s)",
            f"  largest shortfall {self.shortfall:.2g}, relative {self.relative_shortfall:.2g}",
        ]
        if not all(np.isnan(p.gain) for p in self.picks):
            lines.append(f"  largest error of a gain {self.error:.2g}, relative {self.relative_error:.2g}")
        lines += [f"  {p}" for p in self.faults[:_SHOWN]]
        if len(self.faults) > _SHOWN:
            lines.append(f"  and {len(self.faults) - _SHOWN} more")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the numbers of the text, and the picks that something is wrong with."""
        names = ("row", "group", "bin", "place", "picked", "best", "best_row", "lowest", "relative_shortfall")
        faults = [{"fault": p.fault, **{name: getattr(p, name) for name in names}} for p in self.faults]
        keys = ["holds", "of", "shortfall", "relative_shortfall", "error", "relative_error", "loss"]
        keys += ["passes", "bytes_read", "seconds"]
        return {"picks": len(self.picks), **{key: getattr(self, key) for key in keys}, "faults": faults}
