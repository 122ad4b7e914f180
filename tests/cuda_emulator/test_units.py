"""The emulator's own tests, units/*.cpp: one for each intrinsic and each rule, in three thread orders."""

from __future__ import annotations

import re
import subprocess

import pytest

from . import build
from .conftest import ORDERS

SOURCES = sorted((build.HERE / "units").glob("*.cpp"))
UNITS = [name for source in SOURCES for name in re.findall(r"^UNIT\((\w+)\)", source.read_text(), re.MULTILINE)]


@pytest.fixture(scope="session")
def program():
    try:
        return build.units()
    except build.CannotBuild as why:
        pytest.skip(str(why))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("unit", UNITS)
def test_unit(program, unit, order):
    done = subprocess.run([program, order, unit], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 units, 0 failures" in done.stdout
