"""What bins depend on beside the rows and their groups."""

from __future__ import annotations

from dataclasses import dataclass

from dq_fast.ops import checks

SIMILARITIES = ("cosine", "dot")


@dataclass(frozen=True)
class Settings:
    """The parameters of `SampleQuantizer` that its bins depend on."""

    n_bins: int
    lam: float = 1.0
    shifted: bool = True
    center: bool = False
    similarity: str = "cosine"

    def check(self) -> None:
        """Raise for values out of range."""
        checks.integer("n_bins", self.n_bins, 1)
        checks.real("lam", self.lam, 0.0)
        checks.one_of("similarity", self.similarity, SIMILARITIES)
