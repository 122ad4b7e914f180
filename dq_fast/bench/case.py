"""What a benchmark is made of: a case is a question with its check, a way is how one provider answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dq_fast.progress import Progress, silent

Call = Callable[[], Any]
Way = Callable[[Any], Call]
"""From a problem's inputs to the call that is timed; what a user has at hand before the call is prepared outside it."""


class CheckError(Exception):
    """A result is not merely inexact but of the wrong shape, or picks a row twice; the text says what is wrong."""


@dataclass(frozen=True)
class Setting:
    """What inputs are made from.

    Attributes:
        quick: small inputs and few runs, to see that everything works; not figures to report.
        data: folders that are searched for CIFAR-10 batches and ResNet-20 weights; none: synthetic inputs.
        cache: where embeddings of real images are kept between runs.
        progress: hears of slow preparations.
        device: where the providers run: "cpu", "cuda" or "cuda:1". Inputs are made on the CPU.
    """

    quick: bool = False
    data: tuple[Path, ...] = ()
    cache: Path = Path.home() / ".cache" / "dq_fast" / "bench"
    progress: Progress = silent
    device: str = "cpu"


@dataclass
class Problem:
    """The inputs of a case and everything that is known about them.

    Attributes:
        inputs: what the ways are prepared from.
        judge: from a provider's result to its deviation from an independent float64 definition (0 is exact); raises
            CheckError where the result makes no sense.
        n, d, groups, dtype: rows, width ("10x513" for factors), groups and element type, for the table.
        source: where the inputs come from, in words.
        input_bytes: what the caller already holds.
        bytes_floor: bytes that any exact method moves; None where that says nothing.
        flops_floor: multiplications and additions that any exact method known here makes.
        exact_tolerance: largest deviation of providers that compute in float64 or promise as much.
        single_tolerance: largest deviation of providers that compute in float32.
    """

    inputs: Any
    judge: Callable[[Any], float]
    n: int
    d: str
    groups: int
    dtype: str
    source: str
    input_bytes: int
    bytes_floor: int | None = None
    flops_floor: int = 0
    exact_tolerance: float = 1e-9
    single_tolerance: float = 1e-5


@dataclass(frozen=True)
class Case:
    """A question that providers answer.

    Attributes:
        name: "op/what", unique.
        about: one line.
        make: the problem, for a setting; the same setting gives the same problem.
        ways: provider name -> way, in the order of the table.
        cold: whether caches are emptied before each run, as they are when the inputs come from elsewhere.
        only: device that it is too large to be run without, "" for none.
    """

    name: str
    about: str
    make: Callable[[Setting], Problem]
    ways: Mapping[str, Way]
    cold: bool = True
    only: str = ""
