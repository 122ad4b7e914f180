"""In which precision a device forms similarities of pairs; decisions and gains are float64 whatever it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from dq_fast.ops import checks

VARIABLE = "DQ_FAST_SIMILARITY_PRECISION"
DTYPES = {"float64": torch.float64, "float32": torch.float32}

_asked: ContextVar[str | None] = ContextVar("similarity_precision", default=None)


@contextmanager
def similarity_precision(precision: str) -> Iterator[None]:
    """Within it, graph cut on CUDA forms the similarity matrices of the gram path in this precision.

    "float64", the default, keeps ranking, ties and gains those of every other backend. "float32" multiplies the
    normalised rows in float32, as `torch.set_float32_matmul_precision` has it ("highest" unless somebody changed it;
    "high" is TF32): half the memory, twice as many groups at a time, and no float64 products, which GPUs for desktops
    and workstations form at 1/64 of the rate. A similarity is then off by up to about 1e-7 (TF32: 1e-3). Rows nearer
    to each other than that may change places, equal ones too; a gain is off by at most that for each pick of its bin.
    `SampleQuantizer(certify=...)` and `dq-fast bins --certify` say what it came to. Sums of similarities, gains and
    decisions stay float64, and so do: a bin's choice without a matrix ("lazy", "naive"), centred products of two
    factors, whose differences float32 would not bear, and the CPU, where float32 only sorts out what float64 decides.

    The setting belongs to the thread (and asyncio task) that makes it; DQ_FAST_SIMILARITY_PRECISION=float32 in the
    environment is the default of a process.

    Args:
        precision: "float64" or "float32".

    Raises:
        InputError: another precision.
    """
    before = _asked.set(checks.one_of("precision", precision, DTYPES))
    try:
        yield
    finally:
        _asked.reset(before)


def similarity_dtype() -> torch.dtype:
    """What has been asked for; InputError where the environment asks for something else than there is."""
    asked = _asked.get() or os.environ.get(VARIABLE) or "float64"
    return DTYPES[checks.one_of(VARIABLE, asked, DTYPES)]
