"""The sample-level quantizer: splits a data set into bins of diverse samples, and draws from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.progress import Progress
from dq_fast.select.certificate import Certificate, certify
from dq_fast.select.partition import Partition
from dq_fast.select.plan import Plan, plan_bins
from dq_fast.select.plan.memory import parse_bytes
from dq_fast.select.presets import preset as preset_named
from dq_fast.select.quantizer.changing import Changing
from dq_fast.select.quantizer.drawing import Drawing
from dq_fast.select.quantizer.estimator import Estimator
from dq_fast.select.quantizer.fits import Fit, MethodPlan, fit_bins, fit_method, fit_official, plan_method, split_bins
from dq_fast.select.quantizer.given import Beside, Given
from dq_fast.select.quantizer.parameters import ALGORITHMS, check_parameters, method_options
from dq_fast.select.settings import Settings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class SampleQuantizer(Drawing, Changing, Estimator):
    """Dataset Quantization's sample level (section 3.2 of the paper), exact; a scikit-learn style estimator.

    Within each class (or over the whole set when no labels are given) the samples are split into `n_bins` bins. Bin
    after bin is picked greedily: the next sample is the one with the largest graph-cut gain
    ``lam * sum over R of s(x, j) - 2 * sum over B of s(x, b)``, R the samples that no earlier bin took, B those already
    in this bin. The last bin is picked greedily too. Ties go to the lowest row.

    Args:
        n_bins: number of bins N, at least 1. The paper finds 10 best; 1 is plain graph cut.
        lam: λ, weight of the first sum. 1 is the official code's. (Also for method "graph-cut", as the next two.)
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
        incremental: keep what `add` needs to place new rows without the old ones (sums of rows, one more read).

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
        partition_: with `incremental`: what `add` and `remove` work on; else None.
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
        incremental: bool = False,
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
        self.incremental = incremental

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
        plan: Plan | MethodPlan | None = None,
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
            plan: from `plan` with the same arguments; None: made here.
            progress: called as ``progress("bins", rows ranked, n)``.

        Raises:
            InputError: shapes or lengths do not fit, values are not finite, or a parameter is out of range.
        """
        check_parameters(**self.get_params())
        given = self._given(embedding, labels, Beside(features, logits, groups, ids))
        fitted = self._fitted(given, plan, progress)
        certificate = (
            self._certified(given, fitted, int(self.certify), int(self.seed), progress) if self.certify else None
        )
        self.ids_ = given.ids
        kept = self._partition(given.factors.tensors, given.groups, fitted) if self.incremental else None
        self._take(fitted, given.groups.of_row, given.groups.names)
        self.partition_: Partition | None = kept
        self.classes_ = given.classes.names
        self.labels_: Ints | None = None if labels is None else given.classes.of_row
        self.certificate_: Certificate | None = certificate
        self.n_features_in_ = sum(given.factors.widths)
        vars(self).pop("feature_names_in_", None)
        if given.columns is not None:
            self.feature_names_in_ = given.columns
        return self

    def plan(self, embedding: Any, labels: Any = None, *, groups: Any = None, probe: bool = True) -> Plan | MethodPlan:
        """What `fit` will do with these arguments: algorithm, passes over the data, bytes, memory, time; print it.

        `probe`: look at some rows, and time some work, where there is enough to do for that not to matter.

        Raises:
            InputError: as `fit`, as far as it can be told without the work; what does not fit `max_memory`.
        """
        check_parameters(**self.get_params())
        return self._plan(self._given(embedding, labels, Beside(groups=groups)), probe)

    def _settings(self) -> Settings:
        return Settings(int(self.n_bins), float(self.lam), bool(self.shifted), bool(self.center), self.similarity)

    def _given(self, embedding: Any, labels: Any, beside: Beside) -> Given:
        return Given.of(embedding, labels, beside, seed=int(self.seed))

    def _plan(self, given: Given, probe: bool = True) -> Plan | MethodPlan:
        if self.method not in ALGORITHMS:
            return plan_method(given, self.method, float(self.max_keep))
        return plan_bins(
            given.factors,
            given.groups,
            self._settings(),
            algorithm=ALGORITHMS[self.method],
            max_memory=self.max_memory,
            probe=probe,
        )

    def _fitted(self, given: Given, plan: Plan | MethodPlan | None, progress: Progress | None) -> Fit:
        """The fit itself, by whichever way the parameters ask for."""
        if self.method not in ALGORITHMS:
            return fit_method(
                given,
                method=self.method,
                max_keep=float(self.max_keep),
                seed=int(self.seed),
                options=method_options(
                    self.method,
                    self.options,
                    lam=self.lam,
                    shifted=self.shifted,
                    center=self.center,
                    max_memory=parse_bytes(self.max_memory),
                ),
                progress=progress,
            )
        if self.compat == "official":
            return fit_official(given, n_bins=int(self.n_bins), algorithm=ALGORITHMS[self.method], progress=progress)
        how = plan if isinstance(plan, Plan) else self._plan(given)
        assert isinstance(how, Plan)
        return fit_bins(given, self._settings(), how, progress)

    def certificate(
        self, embedding: Any, k: int = 100, *, seed: int = 0, progress: Progress | None = None
    ) -> Certificate:
        """Look at `k` random picks of a fit again, exhaustively in float64; see `dq_fast.select.certificate.certify`.

        Args:
            embedding: the rows that were fitted.
            k: how many picks.
            seed: which.
            progress: called as ``progress("certify", rows read, rows to read)``.

        Raises:
            InputError: not fitted yet, another number of rows, or results that are not graph-cut bins in pick order.
        """
        if not hasattr(self, "bin_of_"):
            raise InputError("SampleQuantizer must be fitted before certificate(): call fit(embedding, labels) first")
        check_parameters(**{**self.get_params(), "certify": k})
        given = Given.of(embedding, beside=Beside(groups=self.groups_))
        return self._certified(given, Fit(self.ranking_, self.bin_of_, self.gains_), k, seed, progress)

    def _certified(self, given: Given, fitted: Fit, k: int, seed: int, progress: Progress | None) -> Certificate:
        return certify(
            tuple(f.cpu() for f in given.factors.tensors),
            given.groups,
            fitted.ranking,
            fitted.bin_of,
            fitted.gains,
            self._settings(),
            k,
            seed=seed,
            progress=progress,
        )

    def _take(self, fitted: Fit, groups: Ints, names: NDArray[Any] | None) -> None:
        """Learned attributes from a fit."""
        self.ranking_, self.bin_of_, self.gains_ = fitted.ranking, fitted.bin_of, fitted.gains
        self.weights_ = fitted.weights
        self.groups_, self.group_names_ = groups, names
        self.report_ = fitted.report
        self.bins_: list[Ints] = split_bins(fitted, self._bin_count(), official=self.compat == "official")

    def _bin_count(self) -> int:
        return int(self.n_bins) if self.method in ALGORITHMS else 1

    def restore(
        self,
        ranking: Ints,
        bin_of: Ints,
        gains: Floats,
        groups: Ints,
        *,
        weights: Floats | None = None,
        group_names: NDArray[Any] | None = None,
        labels: Ints | None = None,
        ids: NDArray[Any] | None = None,
        report: dict[str, Any] | None = None,
    ) -> SampleQuantizer:
        """Take over the results of an earlier `fit` (its `ranking_`, `bin_of_`, `gains_`, `groups_`, …), as saved.

        Raises:
            InputError: the arrays are not the results of one fit with these parameters.
        """
        n = len(bin_of)
        count = self._bin_count()
        whole = all(a.shape == (n,) for a in (bin_of, gains, groups)) and ranking.ndim == 1
        if whole and len(ranking):
            whole = 0 <= ranking.min() <= ranking.max() < n and np.bincount(ranking, minlength=n).max() == 1
            whole = whole and 0 <= bin_of[ranking].min() <= bin_of[ranking].max() < count
        if not whole or int((bin_of >= 0).sum()) != len(ranking):
            raise InputError(f"ranking, bin_of, gains and groups must be one fit's results with {count} bins")
        self._take(Fit(ranking, bin_of, gains, weights, report or {}), groups, group_names)
        self.classes_, self.labels_, self.partition_ = None, labels, None
        self.ids_ = np.arange(n) if ids is None else ids
        self.certificate_ = None
        return self
