"""What a plan says: by which algorithm rows will be ranked, in how many reads, what memory, what time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from dq_fast.select.plan.memory import readable


@dataclass(frozen=True)
class Plan:
    """What ranking will do; made by `plan_bins`, printed for people by str(), for programs by `as_dict`.

    Attributes:
        algorithm: expected to serve most groups, by the costs of the native code that will choose: "naive", "gram" or
            "lazy"; for dot products "given" (all similarities formed) or "streamed" (products on the way). Bounds are
            given up during the work where another way is better for the rows left: the report then counts the group
            as "switched", by the way that finished it.
        method: what the op is called with: "auto" unless a method was asked for, or memory allows only some.
        groups_at_once: groups in a batch, at most.
        batches: number of batches; each reads its rows in ascending order.
        passes: expected reads of all rows.
        bytes_read: expected bytes of those reads.
        memory: bytes beyond the input, at most.
        max_memory: the limit that was given or assumed.
        seconds: expected, None where it was not estimated (little to do).
        source: "in place", "gathered in memory" or "gathered in a file".
        reasons: why, for people.
        bounds: group numbers at which batches begin, and their end.
    """

    algorithm: str
    method: str
    groups_at_once: int
    batches: int
    passes: float
    bytes_read: int
    memory: int
    max_memory: int
    seconds: float | None
    source: str
    reasons: tuple[str, ...]
    similarity: str = "cosine"
    bounds: tuple[int, ...] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the boundaries of the batches, ready for JSON."""
        found = dataclasses.asdict(self)
        del found["bounds"]
        found["reasons"] = list(self.reasons)
        return found

    def __str__(self) -> str:
        times = "little to do" if self.seconds is None else f"about {duration(self.seconds)}"
        lines = [
            f"{self.algorithm} ({self.similarity}), {self.groups_at_once} groups at a time in {self.batches} batches, "
            f"rows {self.source}",
            f"reads: {self.passes:.3g} passes over the data, {readable(self.bytes_read)}",
            f"memory: up to {readable(self.memory)} beyond the input, of {readable(self.max_memory)}",
            f"time: {times}",
        ]
        return "\n".join([*lines, *(f"- {reason}" for reason in self.reasons)])


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
