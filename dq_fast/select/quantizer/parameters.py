"""What the parameters of a `SampleQuantizer` may be, and which go together."""

from __future__ import annotations

from collections.abc import Mapping
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


# The value that a parameter must have where it has no say.
_OFF = {
    "lam": 1.0, "shifted": True, "center": False, "similarity": "cosine", "certify": 0, "compat": None,
    "incremental": False,
}  # fmt: skip
_OF_GRAPH_CUTS = ("lam", "shifted", "center")


def check_parameters(**params: Any) -> None:
    """Refuse parameters of a `SampleQuantizer`, by name and all of them, before any work.

    Raises:
        InputError: one is out of range or does not go with another: its name, what was expected, and what came.
    """
    method = params["method"]
    for name, least in (("n_bins", 1), ("certify", 0), ("seed", 0)):
        value = params[name]
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
    checks.real("lam", params["lam"], 0.0)
    checks.one_of("method", method, method_names())
    checks.one_of("similarity", params["similarity"], SIMILARITIES)
    checks.one_of("sampler", params["sampler"], SAMPLERS)
    if params["compat"] not in COMPAT:
        raise InputError(f"compat must be None or 'official', got {params['compat']!r}")
    max_keep = params["max_keep"]
    if isinstance(max_keep, bool) or not isinstance(max_keep, (int, float, np.number)) or not 0 < max_keep <= 1:
        raise InputError(f"max_keep must be a fraction in (0, 1], got {max_keep!r}")
    if method in ALGORITHMS:
        _check_bins(float(max_keep), params["options"])
    else:
        others = tuple(name for name in _OFF if name not in _OF_GRAPH_CUTS)
        _check_off(params, others, f"for method {method!r}", "it is of graph-cut bins")
        if method != GRAPH_CUT:
            takes = ", ".join(METHODS[method].options) or "nothing"
            why = f"it is of graph cuts; what the method takes ({takes}) goes into options"
            _check_off(params, _OF_GRAPH_CUTS, f"for method {method!r}", why)
    if params["compat"] == "official":
        _check_off(params, tuple(name for name in _OFF if name != "compat"), "with compat 'official'")


def _check_bins(max_keep: float, options: Any) -> None:
    if max_keep != 1:
        raise InputError(
            f"max_keep must be 1 for bins, which hold every row, got {max_keep!r}; method 'graph-cut' picks a part only"
        )
    if options:
        raise InputError(f"options must be None for this paper's bins, got {options!r}")


def _check_off(params: Mapping[str, Any], names: tuple[str, ...], where: str, why: str = "") -> None:
    """Raise for the first of these parameters that is not what it must be where it has no say."""
    for name in names:
        if params[name] != _OFF[name]:
            end = f": {why}" if why else ""
            raise InputError(f"{name} must be {_OFF[name]!r} {where}, got {params[name]!r}{end}")


def method_options(
    method: str, options: dict[str, Any] | None, *, lam: Any, shifted: Any, center: Any, max_memory: Any
) -> dict[str, Any]:
    """The options of another method: those given, and the quantizer's own parameters where they mean the same."""
    same = {"lam": lam, "shifted": shifted, "center": center} if method == GRAPH_CUT else {}
    if max_memory is not None:
        same["max_memory"] = max_memory
    return {**{k: v for k, v in same.items() if k in METHODS[method].options}, **(options or {})}
