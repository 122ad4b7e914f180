"""Fixtures that every stage's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images and weights that do not ship with the project: DQ_FAST_TEST_DATA, or a visible skip."""
    folder = os.environ.get("DQ_FAST_TEST_DATA")
    if not folder:
        pytest.skip("set DQ_FAST_TEST_DATA to the folder with the real data sets to run this test")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"DQ_FAST_TEST_DATA must be a folder, got {folder!r}")
    return path
