"""Rates of bins and classes: what the samplers differ in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.select.samplers.cells import Cells, of_bins, of_classes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """What a sampler may need to know beside the cells; see `draw`."""

    keep: float
    early: float
    alpha: float
    importance: Any
    difficulty: Any
    strength: float


@dataclass(frozen=True)
class Sampler:
    """One way of drawing from the bins.

    Attributes:
        name: as given to `draw`.
        needs: which of "ranking", "gains", "importance", "difficulty" have to be given.
        within: how it takes the rows of a cell ("random", "first", "gain").
        nested: whether a smaller keep can be a subset of a larger one.
        source: whose definition it is.
        bin_rates: relative rates of the bins, [bins]; None: one rate for all.
        class_rates: relative rates of the classes, [strata]; None: one rate for all.
    """

    name: str
    needs: frozenset[str]
    within: str
    nested: bool
    source: str
    bin_rates: Callable[[Cells, Settings], Floats] | None = None
    class_rates: Callable[[Cells, Settings], Floats] | None = None


def early_weights(n_bins: int, keep: float, early: float = 1.0) -> Floats:
    """Weights of bins that favour the early ones at small keeps and are equal at keep = 1.

    w_b = exp(-early · (1 - keep) / keep · b / n_bins), b = 0 for the first bin: a small keep takes the first bin only,
    and then the next as each is used up; at 10 % of ten bins (early = 1) the rates fall by 2.5 from bin to bin, at
    30 % by 1.26, at 60 % by 1.07.

    Args:
        n_bins: number of bins.
        keep: fraction of samples to keep, in (0, 1].
        early: how strongly, >= 0; 0 is uniform at every keep.

    Returns:
        float64 [n_bins], 1 for the first bin, falling.

    Raises:
        InputError: `early` is not a finite number >= 0.
    """
    if not (np.isfinite(early) and early >= 0):
        raise InputError(f"early must be a finite number >= 0, got {early!r}")
    # The exponent is cut where the weight would underflow: a bin never has the weight 0, only next to nothing.
    return np.exp(-np.minimum(early * (1 - keep) / keep * np.arange(n_bins) / n_bins, 600.0))


def adq_rates(importance: Any, bin_sizes: Any, alpha: float = 0.5) -> Floats:
    """Rates of bins as Adaptive Dataset Quantization has them.

    r_n = alpha · I_n + (1 - alpha) · N_n / sum N, with the importance I = Rep + Div (each normalised, see
    `bin_importance`) and the bins' sizes N. Here the rates only say how bins share the total: q_n = r_n · N_n times one
    factor for all, so that the total is exact, where the paper takes floor(r_n · N_n).

    Args:
        importance: float [n_bins], >= 0.
        bin_sizes: samples in each bin, [n_bins].
        alpha: weight of importance against size, in [0, 1].

    Returns:
        float64 [n_bins].

    Raises:
        InputError: an argument that is not as above.

    Source:
        Li, Zhang, Dong, Xie and Qin, "Adaptive Dataset Quantization", arXiv 2412.16895 (AAAI 2025).
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha must be in [0, 1], got {alpha!r}")
    sizes = np.asarray(bin_sizes, np.float64)
    return alpha * of_bins("importance", importance, len(sizes)) + (1 - alpha) * sizes / max(1.0, sizes.sum())


def difficulty_rates(difficulty: Any, class_sizes: Any, strength: float = 1.0) -> Floats:
    """Rates of classes by how difficult they are: 1 - strength + strength · difficulty / mean difficulty.

    Args:
        difficulty: float [classes], >= 0 (`class_difficulty`, or a class's test error), in any unit.
        class_sizes: samples in each class, [classes]; the mean is over samples.
        strength: 0: one rate for all classes; 1: rates proportional to difficulty (a class of difficulty 0 gives none).

    Returns:
        float64 [classes], mean 1 over samples.

    Raises:
        InputError: `strength` is not in [0, 1].

    Source:
        The idea of Zhao, Shang, Wu and Yan, "Dataset Quantization with Active Learning based Adaptive Sampling" (DQAS),
        arXiv 2407.07268 (ECCV 2024): fewer samples of classes that are learned from few, more of those that need them.
        Theirs finds the numbers by training again and again; this takes one measurement of difficulty.
    """
    if not 0 <= strength <= 1:
        raise InputError(f"strength must be in [0, 1], got {strength!r}")
    sizes = np.asarray(class_sizes, np.float64)
    given = of_classes("difficulty", difficulty, np.arange(len(sizes)), 0.0)
    mean = float((given * sizes).sum() / max(1.0, sizes.sum()))
    return 1 - strength + strength * (given / mean if mean > 0 else np.ones(len(sizes)))


def class_difficulty(logits: Any, labels: Any) -> Floats:
    """Mean over each class of 1 - p(label), p the softmax of the logits: 0 for a class that is certain and right.

    Args:
        logits: float [n, C], tensor or array.
        labels: class of each row, 0 to C - 1, [n].

    Returns:
        float64, one a class that has rows, in the order of the classes (as `draw` wants it).

    Raises:
        InputError: shapes do not fit, values are not finite, or a label is none of the columns.
    """
    z, y = np.asarray(logits, np.float64), np.asarray(labels)
    if z.ndim != 2 or y.shape != z.shape[:1]:
        raise InputError(f"logits must be [n, C] with one label a row, got shapes {z.shape} and {y.shape}")
    if y.size and (y.dtype.kind not in "iu" or not 0 <= y.min() <= y.max() < z.shape[1]):
        raise InputError(f"labels must be whole numbers from 0 to {z.shape[1] - 1}, got {y.min()} to {y.max()}")
    if not np.isfinite(z).all():
        raise InputError(
            f"logits must be finite, got {z[~np.isfinite(z)][0]} in row {np.argwhere(~np.isfinite(z))[0][0]}"
        )
    top = np.exp(z - z.max(1, keepdims=True))
    own = np.take_along_axis(top, y[:, None].astype(np.int64), 1)[:, 0]
    miss = (top.sum(1) - own) / top.sum(1)  # 1 - p without cancellation
    names, number = np.unique(y, return_inverse=True)
    return np.bincount(number, miss, minlength=len(names)) / np.bincount(number, minlength=len(names))


def _early(cells: Cells, settings: Settings) -> Floats:
    return early_weights(cells.sizes.shape[0], settings.keep, settings.early)


def _adq(cells: Cells, settings: Settings) -> Floats:
    return adq_rates(settings.importance, cells.sizes.sum(1), settings.alpha)


def _difficulty(cells: Cells, settings: Settings) -> Floats:
    difficulty = of_classes("difficulty", settings.difficulty, cells.names, 0.0)
    return difficulty_rates(difficulty, cells.sizes.sum(0), settings.strength)


_DQ = "Zhou et al., Dataset Quantization (ICCV 2023), Eq. 3"

SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler("uniform", frozenset(), "random", True, f"{_DQ}, uniform in every bin"),
        Sampler(
            "first", frozenset({"ranking"}), "first", True, "the first picks of every class, as coreset methods do"
        ),
        Sampler("gain", frozenset({"gains"}), "gain", True, f"{_DQ}, by gain: Gumbel top-k"),
        Sampler("early", frozenset(), "random", False, "from the early bins to uniform, see early_weights", _early),
        Sampler("adq", frozenset({"importance"}), "random", True, "ADQ, arXiv 2412.16895, rates of bins", _adq),
        Sampler(
            "difficulty", frozenset({"difficulty"}), "random", True, "after DQAS, arXiv 2407.07268", None, _difficulty
        ),
    )
}
