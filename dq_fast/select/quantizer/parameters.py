"""What the parameters of a `SampleQuantizer` may be, and which go together."""

from __future__ import annotations

from typing import Any

import numpy as np

from dq_fast.errors import InputError
from dq_fast.ops import checks
from dq_fast.select.methods import METHODS
from dq_fast.select.samplers import SAMPLERS
from dq_fast.select.settings import SIMILARITIES

# This paper's method by the algorithm that computes it; all give the same bins.
ALGORITHMS = {"auto": "auto", "dq": "auto", "naive": "naive", "gram": "gram", "lazy": "lazy"}
COMPAT = (None, "official")
GRAPH_CUT = "graph-cut"  # the other method that this paper's lam, shifted and center are of, too


def method_names() -> tuple[str, ...]:
    """Everything that `method` may be."""
    return (*ALGORITHMS, *METHODS)


def check_parameters(
    *,
    n_bins: Any,
    method: Any,
    similarity: Any,
    certify: Any,
    compat: Any,
    sampler: Any,
    max_keep: Any,
    seed: Any,
    options: Any,
    incremental: Any,
    lam: Any,
    shifted: Any,
    center: Any,
    **_: Any,
) -> None:
    """Refuse parameters that are out of range or do not go together, before any work.

    Raises:
        InputError: naming the parameter, what was expected, and what came.
    """
    for name, value, least in (("n_bins", n_bins, 1), ("certify", certify, 0), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
    checks.real("lam", lam, 0.0)
    if method not in method_names():
        raise InputError(f"method must be one of {', '.join(method_names())}, got {method!r}")
    checks.one_of("similarity", similarity, SIMILARITIES)
    if compat not in COMPAT:
        raise InputError(f"compat must be None or 'official', got {compat!r}")
    if sampler not in SAMPLERS:
        raise InputError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}")
    if isinstance(max_keep, bool) or not isinstance(max_keep, (int, float, np.number)) or not 0 < max_keep <= 1:
        raise InputError(f"max_keep must be a fraction in (0, 1], got {max_keep!r}")
    if method in ALGORITHMS:
        _check_bins(float(max_keep), options)
    else:
        _check_other(method, certify, compat, incremental, similarity)
        if method != GRAPH_CUT:
            _check_plain(method, lam, shifted, center)
    if compat == "official":
        _check_official(lam, shifted, center, similarity, certify, incremental)


def _check_bins(max_keep: float, options: Any) -> None:
    if max_keep != 1:
        raise InputError(
            f"max_keep must be 1 for bins, which hold every row, got {max_keep!r}; method 'graph-cut' picks a part only"
        )
    if options:
        raise InputError(f"options must be None for this paper's bins, got {options!r}")


def _check_other(method: str, certify: int, compat: Any, incremental: Any, similarity: str) -> None:
    for name, value, off in (
        ("certify", certify, 0),
        ("compat", compat, None),
        ("incremental", incremental, False),
        ("similarity", similarity, "cosine"),
    ):
        if value != off:
            raise InputError(f"{name} must be {off!r} for method {method!r}, got {value!r}: it is of graph-cut bins")


def _check_plain(method: str, lam: float, shifted: bool, center: bool) -> None:
    for name, value, off in (("lam", lam, 1.0), ("shifted", shifted, True), ("center", center, False)):
        if value != off:
            raise InputError(
                f"{name} must be {off!r} for method {method!r}, got {value!r}: it is of graph cuts; what the method "
                f"takes ({', '.join(METHODS[method].options) or 'nothing'}) goes into options"
            )


def method_options(
    method: str, options: dict[str, Any] | None, *, lam: Any, shifted: Any, center: Any, max_memory: Any
) -> dict[str, Any]:
    """The options of another method: those given, and the quantizer's own parameters where they mean the same."""
    same = {"lam": lam, "shifted": shifted, "center": center} if method == GRAPH_CUT else {}
    if max_memory is not None:
        same["max_memory"] = max_memory
    return {**{k: v for k, v in same.items() if k in METHODS[method].options}, **(options or {})}


def _check_official(lam: float, shifted: bool, center: bool, similarity: str, certify: int, incremental: bool) -> None:
    for name, value, official in (
        ("lam", lam, 1.0),
        ("shifted", shifted, True),
        ("center", center, False),
        ("similarity", similarity, "cosine"),
        ("certify", certify, 0),
        ("incremental", incremental, False),
    ):
        if value != official:
            raise InputError(f"{name} must be {official!r} with compat 'official', got {value!r}")
