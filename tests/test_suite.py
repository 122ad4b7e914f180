"""The suite itself: which folders a plain `pytest` runs."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ON_DEMAND = {"cuda_emulator", "ptx"}  # the CUDA kernels on the CPU: a quarter of an hour


def test_every_folder_is_run_or_named_as_run_on_demand():
    settings = (TESTS.parent / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"testpaths = \[(.*?)\]", settings, re.DOTALL)
    assert listed is not None
    named = set(re.findall(r'"tests/(\w+)"', listed[1]))
    folders = {path.parent.relative_to(TESTS).parts[0] for path in TESTS.glob("*/**/test_*.py")}
    assert named | ON_DEMAND == folders
    assert not named & ON_DEMAND
