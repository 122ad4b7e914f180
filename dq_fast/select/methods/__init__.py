"""Selection methods: other ways than bins to choose samples, each by its paper's definition.

All take the same evidence and return rows in the order they were picked. The paper's own method is
`dq_fast.SampleQuantizer`, which also takes these names as ``method=``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping

from dq_fast.ops import checks
from dq_fast.select.methods.base import Chosen, Evidence, Method

__all__ = ["METHODS", "Chosen", "Evidence", "Method", "select"]

# Where each method is: its module has METHODS, a tuple of Method. A module is imported when one of its methods is asked
# for.
_MODULES = {
    "random": "random",
    "graph-cut": "graph_cut",
    "facility-location": "facility_location",
    "k-center": "k_center",
    "herding": "herding",
    "craig": "craig",
    "grad-match": "grad_match",
    "least-confidence": "uncertainty",
    "entropy": "uncertainty",
    "margin": "uncertainty",
    "grand": "early_training",
    "el2n": "early_training",
    "forgetting": "early_training",
    "cal": "cal",
    "deepfool": "deepfool",
    "contextual-diversity": "contextual_diversity",
    "glister": "glister",
}


class _Methods(Mapping[str, Method]):
    """The methods by name, imported when asked for."""

    def __getitem__(self, name: str) -> Method:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
        found: Method = next(m for m in module.METHODS if m.name == name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)

    def __contains__(self, name: object) -> bool:
        return name in _MODULES


METHODS: Mapping[str, Method] = _Methods()


def select(name: str, evidence: Evidence, **options: object) -> Chosen:
    """Choose samples by the method of this name.

    Args:
        name: one of `METHODS`.
        evidence: embedding, groups, budgets, and what else the method needs (``METHODS[name].needs``).
        options: the method's own (``METHODS[name].options``).

    Raises:
        InputError: no such method or option, or evidence that is missing or does not fit.
    """
    return METHODS[checks.one_of("method", name, METHODS)](evidence, **options)
