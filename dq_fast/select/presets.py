"""Presets: parameters that belong together, by name. `paper` is the default of everything.

A preset may set any parameter of `dq_fast.SampleQuantizer`, and, for the command line and `dq.compress`, of
`dq_fast.pipeline.BinOptions` and `SampleOptions` (`embedding`, `loss`, `by_class`). What the user gives goes before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dq_fast.errors import InputError

# What none of them names keeps its default. The evidence behind each is in bench/accuracy.
PRESETS: dict[str, dict[str, Any]] = {
    # Dataset Quantization as published (ICCV 2023): ten bins of gradient embeddings within classes, uniform draws.
    "paper": {"n_bins": 10, "lam": 1.0, "shifted": True, "center": False, "method": "auto"},
}


def preset(name: str) -> Mapping[str, Any]:
    """The parameters of a preset.

    Raises:
        InputError: there is none of this name.
    """
    if name not in PRESETS:
        raise InputError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
