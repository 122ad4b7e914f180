"""The tests of the emulated ops and of the emulator, once more under gcc's sanitizers: any report is a failure."""

from __future__ import annotations

import sys

import pytest

from . import build, sanitized

KINDS = [kind for kind in build.SANITIZERS if kind != "plain"]
NOT_AGAIN = {"test_units.py", "test_sanitizers.py", "test_faults.py", "test_precision.py"}  # its kernel has been there
FILES = sorted(path.name for path in build.HERE.glob("test_*.py") if path.name not in NOT_AGAIN)


@pytest.fixture(params=KINDS)
def kind(request):
    try:
        sanitized.available(request.param)
    except build.CannotBuild as why:
        pytest.skip(str(why))
    return request.param


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
def test_the_emulator(kind, order, tmp_path):
    status, text = sanitized.run(kind, [str(build.units(kind)), order], tmp_path / "reports", timeout=120)
    assert status == 0, text


@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", FILES)
def test_the_ops(kind, file, tmp_path):
    build.shared_library(kind)  # here, where a failure is shown
    # --capture=sys: what a sanitizer writes before it ends the process stays visible
    options = ["-q", "-x", "--capture=sys", "-p", "no:cacheprovider", "-k", "not plain_only"]
    command = [sys.executable, "-m", "pytest", *options, str(build.HERE / file)]
    status, text = sanitized.run(kind, command, tmp_path / "reports", timeout=580)
    assert status == 0, text
    assert "skipped" not in text, text
