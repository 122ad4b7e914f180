"""The sample-level quantizer: splits a data set into bins of diverse samples, and draws from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.progress import Progress
from dq_fast.select.certificate import Certificate, certify
from dq_fast.select.estimator import Estimator
from dq_fast.select.fits import ALGORITHMS, Fit, check_whole, fit_bins, fit_method, method_names
from dq_fast.select.given import Given
from dq_fast.select.groups import label_array
from dq_fast.select.methods import METHODS
from dq_fast.select.presets import preset as preset_named
from dq_fast.select.samplers import draw

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class SampleQuantizer(Estimator):
    """Dataset Quantization's sample level (section 3.2 of the paper), exact; a scikit-learn style estimator.

    Within each class (or over the whole set when no labels are given) the samples are split into `n_bins` bins. Bin
    after bin is picked greedily: the next sample is the one with the largest graph-cut gain
    ``lam * sum over R of s(x, j) - 2 * sum over B of s(x, b)``, R the samples that no earlier bin took, B those already
    in this bin. The last bin is picked greedily too. Ties go to the lowest row.

    Args:
        n_bins: number of bins N, at least 1. The paper finds 10 best; 1 is plain graph cut.
        lam: λ, weight of the first sum. 1 is the official code's.
        shifted: similarity ``1/2 + 1/2 * cos`` (as the official code) rather than the plain cosine.
        center: take the cosines between what tells a sample from the mean of its class.
        method: "auto" (or "dq"): this paper's bins, by the fastest algorithm; "naive", "gram" or "lazy": by that one
            (all give the same bins). Or another selection method, by a name of `dq_fast.select.METHODS` ("herding",
            "k-center", "el2n", …): all in one bin, in the order they were picked, drawn from the front.
        similarity: "cosine", or "dot" for raw dot products.
        certify: how many random picks to look at again exhaustively in float64, into `certificate_`.
        compat: None, or "official" for the published code's bins and draws, rounding and seeding included.
        max_memory: bytes that may be used beyond the input, a number or text like "2GiB"; None: what the machine has.
        sampler: how `sample` draws; see `dq_fast.select.draw`. Other methods than this paper's draw "first".
        max_keep: for other methods: rank each group down to this fraction of it only.
        seed: of methods that draw, of k-means groups and of the certificate; `sample` has its own.
        options: of other methods, by name (``METHODS[name].options``).

    Attributes:
        ranking_: int64 [n], row numbers class after class, within a class bin after bin in pick order. Fewer than n
            for another method with `max_keep` below 1.
        bin_of_: int64 [n], the bin of each row; -1 where it was not ranked.
        gains_: float64 [n], the gain (score, for another method) each row was picked with; NaN where it was not ranked.
        weights_: float64 [n], what each row stands for when training (0: not chosen), or None: all alike.
        bins_: list of int64 arrays of row numbers, class after class in pick order.
        groups_: int64 [n], the group (as a number from 0, in sorted order of the names) of each row.
        group_names_: what the groups are called, or None for one group of everything.
        classes_: the sorted distinct labels, or None where none were given.
        labels_: int64 [n], the place of each row's label in `classes_`, or None.
        ids_: [n], what the rows are called: the index of a DataFrame, or the row numbers.
        report_: dict, how it was done: method, seconds, passes over the data, ….
        certificate_: the certificate, or None.
        n_features_in_: numbers a row, of all factors together.
        feature_names_in_: names of the columns, only after a fit on a DataFrame whose columns are named by text.

    Example:
        >>> sq = SampleQuantizer(n_bins=10).fit(dq_fast.gradient_embedding(logits, features, labels), labels)
        >>> rows = sq.sample(0.6, seed=0)
    """

    def __init__(
        self,
        n_bins: int = 10,
        lam: float = 1.0,
        shifted: bool = True,
        center: bool = False,
        method: str = "auto",
        *,
        similarity: str = "cosine",
        certify: int = 0,
        compat: str | None = None,
        max_memory: int | str | None = None,
        sampler: str = "uniform",
        max_keep: float = 1.0,
        seed: int = 0,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.n_bins = n_bins
        self.lam = lam
        self.shifted = shifted
        self.center = center
        self.method = method
        self.similarity = similarity
        self.certify = certify
        self.compat = compat
        self.max_memory = max_memory
        self.sampler = sampler
        self.max_keep = max_keep
        self.seed = seed
        self.options = options

    @classmethod
    def preset(cls, name: str, **params: Any) -> SampleQuantizer:
        """A quantizer with the parameters of a preset (`dq_fast.select.PRESETS`); `params` go before them.

        Raises:
            InputError: there is no such preset or parameter.
        """
        names = cls._defaults()
        chosen = {key: value for key, value in preset_named(name).items() if key in names}
        return cls().set_params(**{**chosen, **params})

    def fit(
        self,
        embedding: Any,
        labels: Any = None,
        *,
        features: Any = None,
        logits: Any = None,
        groups: Any = None,
        ids: Any = None,
        progress: Progress | None = None,
    ) -> SampleQuantizer:
        """Split the rows of `embedding` into bins, or rank them by another method.

        Args:
            embedding: rows [n, d]: tensor, array, memory map, DataFrame, or a file ("x.npy", "x.npz:key",
                "x.safetensors:name", "x.parquet:column"); or a tuple of them (factors, as `dq_fast.gradient_embedding`
                returns).
            labels: class of each row, [n]; None takes the whole set as one group.
            features: [n, D], for methods that need them (``METHODS[name].needs``).
            logits: [n, C], likewise.
            groups: which rows are chosen among each other, where that is not the classes: any column [n], "all" (one
                group), or a number k: k-means clusters of the features (or of the embedding, where it is one factor).
            ids: what the rows are called, [n]; the index of a DataFrame by default.
            progress: called as ``progress("bins", rows ranked, n)``.

        Raises:
            InputError: shapes or lengths do not fit, values are not finite, or a parameter is out of range.
        """
        self._check()
        given = Given.of(
            embedding, labels, features=features, logits=logits, groups=groups, ids=ids, seed=int(self.seed)
        )
        if self.method in ALGORITHMS:
            fitted = fit_bins(
                given,
                n_bins=int(self.n_bins),
                algorithm=ALGORITHMS[self.method],
                lam=self.lam,
                shifted=self.shifted,
                center=self.center,
                progress=progress,
            )
        else:
            fitted = fit_method(
                given,
                method=self.method,
                max_keep=float(self.max_keep),
                seed=int(self.seed),
                options=self.options or {},
                progress=progress,
            )
        certificate = self._certified(given, fitted, progress)
        self._take(fitted, given.groups.of_row)
        self.group_names_ = given.groups.names
        self.classes_ = given.classes.names
        self.labels_: Ints | None = None if labels is None else given.classes.of_row
        self.ids_ = given.ids
        self.certificate_: Certificate | None = certificate
        self.n_features_in_ = sum(given.factors.widths)
        vars(self).pop("feature_names_in_", None)
        if given.columns is not None:
            self.feature_names_in_ = given.columns
        return self

    def _check(self) -> None:
        """Refuse parameters out of range before any work."""
        check_whole("n_bins", self.n_bins, 1)
        check_whole("certify", self.certify, 0)
        check_whole("seed", self.seed, 0)
        if self.method not in method_names():
            raise InputError(f"method must be one of {', '.join(method_names())}, got {self.method!r}")
        if isinstance(self.max_keep, bool) or not isinstance(self.max_keep, (int, float)) or not 0 < self.max_keep <= 1:
            raise InputError(f"max_keep must be a fraction in (0, 1], got {self.max_keep!r}")
        if self.method in ALGORITHMS:
            if self.max_keep != 1:
                raise InputError(
                    f"max_keep must be 1 for bins, which hold every row, got {self.max_keep!r}; method='graph-cut' "
                    "picks a part only"
                )
            if self.options:
                raise InputError(f"options must be None for this paper's bins, got {self.options!r}")

    def _certified(self, given: Given, fitted: Fit, progress: Progress | None) -> Certificate | None:
        if not self.certify:
            return None
        if self.method not in ALGORITHMS:
            raise InputError(f"certify must be 0 for method {self.method!r}: certificates are of graph-cut bins")
        return certify(
            tuple(f.cpu() for f in given.factors.tensors),
            given.groups,
            fitted.ranking,
            fitted.bin_of,
            fitted.gains,
            int(self.n_bins),
            int(self.certify),
            lam=self.lam,
            shifted=self.shifted,
            center=self.center,
            similarity=self.similarity,
            seed=int(self.seed),
            progress=progress,
        )

    def _take(self, fitted: Fit, groups: Ints) -> None:
        self.ranking_, self.bin_of_, self.gains_ = fitted.ranking, fitted.bin_of, fitted.gains
        self.weights_ = fitted.weights
        self.groups_ = groups
        self.report_ = fitted.report
        count = int(self.n_bins) if self.method in ALGORITHMS else 1
        ranked_bin = self.bin_of_[self.ranking_]
        self.bins_: list[Ints] = [self.ranking_[ranked_bin == k] for k in range(count)]

    def restore(
        self,
        ranking: Ints,
        bin_of: Ints,
        gains: Floats,
        groups: Ints,
        *,
        weights: Floats | None = None,
        labels: Ints | None = None,
        ids: NDArray[Any] | None = None,
        report: dict[str, Any] | None = None,
    ) -> SampleQuantizer:
        """Take over the results of an earlier `fit` (its `ranking_`, `bin_of_`, `gains_`, `groups_`, …), as saved.

        Raises:
            InputError: the arrays are not the results of one fit with these parameters.
        """
        n = len(bin_of)
        count = int(self.n_bins) if self.method in ALGORITHMS else 1
        whole = all(a.shape == (n,) for a in (bin_of, gains, groups)) and ranking.ndim == 1
        if whole and len(ranking):
            whole = 0 <= ranking.min() <= ranking.max() < n and np.bincount(ranking, minlength=n).max() == 1
            whole = whole and 0 <= bin_of[ranking].min() <= bin_of[ranking].max() < count
        if not whole or int((bin_of >= 0).sum()) != len(ranking):
            raise InputError(f"ranking, bin_of, gains and groups must be one fit's results with {count} bins")
        self._take(Fit(ranking, bin_of, gains, weights, report or {}), groups)
        self.classes_, self.group_names_, self.labels_ = None, None, labels
        self.ids_ = np.arange(n) if ids is None else ids
        self.certificate_ = None
        return self

    def sample(
        self,
        keep: float,
        *,
        seed: int = 0,
        labels: Any = None,
        sampler: str | None = None,
        nested: bool = False,
        as_ids: bool = False,
        **more: Any,
    ) -> NDArray[Any]:
        """Draw a fraction of the samples: uniformly from every bin, or as `sampler` says.

        Args:
            keep: fraction of the samples, in (0, 1].
            seed: the same seed gives the same samples.
            labels: [n], to balance the draw by; by default the classes that `fit` was given (for other methods than
                this paper's: the groups that they chose in).
            sampler: see `dq_fast.select.draw`; None: the quantizer's own.
            nested: a smaller keep's samples are a subset of a larger one's.
            as_ids: return the ids of the samples (`ids_`), not their row numbers.
            **more: further parameters of `dq_fast.select.draw`: bin_weights, class_weights, floor, ….

        Returns:
            Row numbers, ascending, exactly ``round(keep * n)``. Every bin gives its share, rounded down or up.

        Raises:
            InputError: `keep` out of range, `fit` not called yet, or labels of another length.
        """
        if not hasattr(self, "bin_of_"):
            raise InputError("SampleQuantizer must be fitted before sample(): call fit(embedding, labels) first")
        n, ours = len(self.bin_of_), self.method in ALGORITHMS
        if not ours:
            self._check_depth(keep)
        if labels is not None:
            strata = label_array(labels, n)
        else:
            strata = self.labels_ if ours and self.labels_ is not None else self.groups_
        how = sampler if sampler is not None else self.sampler if ours else "first"
        rows = draw(
            np.maximum(self.bin_of_, 0),
            strata,
            keep,
            n_bins=len(self.bins_),
            seed=seed,
            sampler=how,
            gains=self.gains_ if how == "gain" else None,
            ranking=self.ranking_ if how == "first" else None,
            nested=nested,
            **more,
        )
        return self.ids_[rows] if as_ids else rows

    def _check_depth(self, keep: Any) -> None:
        """Refuse draws that another method's ranking does not reach, or that would not be its choice."""
        if not isinstance(keep, (int, float)) or keep > self.max_keep + 1e-9:
            raise InputError(
                f"keep must be at most max_keep, {self.max_keep}, got {keep!r}; fit with a larger max_keep"
            )
        if not METHODS[self.method].nested and keep < self.max_keep - 1e-9:
            raise InputError(
                f"keep must be max_keep, {self.max_keep}, for method {self.method!r}, whose choice depends on how many "
                f"are chosen, got {keep!r}; fit with max_keep={keep!r}"
            )
