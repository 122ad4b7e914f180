"""The table's modules, which lie beside its command and not in the package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

KERNELS = Path(__file__).resolve().parents[2] / "bench" / "kernels"


@pytest.fixture(scope="session", autouse=True)
def _modules_of_the_table() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(KERNELS))
        yield
    for name in ("machine_code", "predict", "rows", "streaming", "table", "toolkit"):
        sys.modules.pop(name, None)
