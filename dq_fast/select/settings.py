"""What bins depend on beside the rows and their groups."""

from __future__ import annotations

from dataclasses import dataclass

from dq_fast.ops import checks

SIMILARITIES = ("cosine", "dot")


@dataclass(frozen=True)
class Settings:
    """The parameters of `SampleQuantizer` that its bins depend on.

    Attributes:
        n_bins: bins in each group, at least 1.
        lam: weight of representation against repetition, >= 0.
        shifted: similarity 1/2 + 1/2 cos rather than the cosine, as in `dq_fast.ops.cosine_row_sums`.
        center: compare what tells a row from its group, as there.
        similarity: "cosine", or "dot": s(i, j) = <x_i, x_j> as it is (`shifted` does not matter; with `center`, the
            group's mean is taken out of the rows).
    """

    n_bins: int
    lam: float = 1.0
    shifted: bool = True
    center: bool = False
    similarity: str = "cosine"

    def check(self) -> None:
        """Raise for values out of range.

        Raises:
            InputError: naming the parameter, what was expected, and what came.
        """
        checks.integer("n_bins", self.n_bins, 1)
        checks.real("lam", self.lam, 0.0)
        checks.one_of("similarity", self.similarity, SIMILARITIES)
