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
    # For heads on frozen features (linear probes, fine-tuning a last layer): what tells samples from the mean of their
    # class, and the first picks of the bins instead of uniform draws. Over random choice: +8 to +9 points at 2 % kept,
    # +3 to +4 at 10 %, +0.5 to +1.5 at 40 % on three sets of four; up to -0.4 where features were trained on the data.
    "probe": {"n_bins": 10, "lam": 1.0, "shifted": True, "center": True, "method": "auto", "sampler": "first"},
}


def preset(name: str) -> Mapping[str, Any]:
    """The parameters of a preset.

    Raises:
        InputError: there is none of this name.
    """
    if name not in PRESETS:
        raise InputError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
