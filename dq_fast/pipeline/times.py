"""How long the stages of a run took, beside the stages: records are compared, and times never are the same twice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from dq_fast.errors import InputError
from dq_fast.files import read_json, write_json

_FILE = "seconds.json"


@contextlib.contextmanager
def timed(run: Path, stage: str) -> Iterator[None]:
    """Note how long the block took, when it ends well."""
    begun = time.perf_counter()
    yield
    seconds = time.perf_counter() - begun
    write_json(run / _FILE, {**stage_seconds(run), stage: seconds})


def stage_seconds(run: Path) -> dict[str, float]:
    """Wall seconds of each stage when it was last done; of those only that were timed."""
    try:
        found = read_json(run / _FILE)
    except InputError:
        return {}
    return {str(stage): float(s) for stage, s in found.items()} if isinstance(found, dict) else {}
