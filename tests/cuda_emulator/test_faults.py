"""A test of the tests: every planted fault of faults.py is noticed in the columns that the table names."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from . import build, sanitized
from .fault import Fault
from .faults import FAULTS, SHIPPED, UNITS

COLUMNS = tuple(build.SANITIZERS)
PROMISES = [(fault, column) for column in COLUMNS for fault in FAULTS if column in fault.columns]
IDS = [f"{column}-{fault.name}" for fault, column in PROMISES]
CONTROLS = sorted({(column, fault.case) for fault in SHIPPED for column in fault.columns})
pytestmark = pytest.mark.timeout(900)  # the first test of a column builds all its faults


def faulty(fault: Fault) -> Path:
    """A copy of the fault's folder with the fault in it, where a second session finds it again."""
    source = build.HERE if fault.in_units else build.CSRC / "cuda"
    text = fault.planted((source / fault.file).read_text())
    folder = "units" if fault.in_units else "cuda"
    from_folder = source / folder if fault.in_units else source
    digest = hashlib.sha256(text.encode())
    for path in sorted(from_folder.iterdir()):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    home = build.folder() / f"fault-{fault.name}-{digest.hexdigest()[:16]}"
    (home / folder).mkdir(parents=True, exist_ok=True)
    for path in from_folder.iterdir():
        if path.is_file() and not (home / folder / path.name).exists():
            shutil.copy(path, home / folder / path.name)
    if not fault.in_units:
        for path in build.CSRC.glob("*.h"):
            shutil.copy(path, home / path.name)
    (home / (fault.file if fault.in_units else f"cuda/{fault.file}")).write_text(text)
    return home


def built(fault: Fault, column: str) -> Path:
    """The program or library with the fault."""
    make = build.units if fault.in_units else build.shared_library
    return make(column, faulty=faulty(fault) / fault.compiled)


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory):
    """For a column: what was said of each fault whose test was chosen, everything built and run once."""
    chosen = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    done: dict[str, dict[str, tuple[int, str]]] = {}

    def of(column: str) -> dict[str, tuple[int, str]]:
        if column not in done:
            try:
                sanitized.available(column)
                mine = [params for params in chosen if params.get("column") == column]
                faults = [params["fault"] for params in mine if "fault" in params]
                cases = [params["case"] for params in mine if "case" in params]
                done[column] = _run(column, faults, cases, tmp_path_factory.mktemp(column))
            except build.CannotBuild as why:
                pytest.skip(str(why))
        return done[column]

    return of


def _run(column: str, wanted: list[Fault], cases: list[str], work: Path) -> dict[str, tuple[int, str]]:
    if any(not fault.in_units for fault in wanted) or cases:
        build.shared_library(column)  # what all of them share, once
    with ThreadPoolExecutor(build.jobs()) as pool:
        places = list(pool.map(lambda fault: built(fault, column), wanted))
    results = {}
    jobs = []
    for fault, place in zip(wanted, places, strict=True):
        if fault.in_units:
            command = [str(place), fault.order, fault.case]
            results[fault.name] = sanitized.run(column, command, work / fault.name, timeout=120)
        else:
            jobs.append({"name": fault.name, "library": str(place), "case": fault.case, "order": fault.order})
    for case in cases:  # without a fault nothing must be noticed
        library = str(build.shared_library(column))
        jobs.append({"name": f"without_fault_{case}", "library": library, "case": case, "order": "reverse"})
    if jobs:
        (work / "jobs.json").write_text(json.dumps(jobs))
        runner = [sys.executable, "-m", f"{__package__}.fault_runner", str(work / "jobs.json"), str(work / "said.json")]
        settings = {"PYTHONPATH": f"{build.HERE.parents[1]}"}
        status, text = sanitized.run(column, runner, work / "reports", timeout=600, settings=settings)
        assert status == 0, text
        for name, (status, said, process) in json.loads((work / "said.json").read_text()).items():
            reports = [path.read_text(errors="replace") for path in (work / "reports").glob(f"*.{process}")]
            signal = f"\nsignal {-status}" if status < 0 else ""
            results[name] = (status, "\n".join([said, *reports]) + signal)
    return results


@pytest.mark.parametrize(("fault", "column"), PROMISES, ids=IDS)
def test_a_planted_fault_is_noticed(outcomes, fault, column):
    status, text = outcomes(column)[fault.name]
    assert status != 0, f"nobody noticed:\n{text}"
    assert re.search(fault.columns[column], text), text


@pytest.mark.parametrize(("column", "case"), CONTROLS)
def test_without_a_fault_nothing_is_noticed(outcomes, case, column):
    status, text = outcomes(column)[f"without_fault_{case}"]
    assert status == 0, text


def test_every_sanitizer_notices_something_that_nothing_else_promises():
    only_thread = [fault for fault in FAULTS if set(fault.columns) == {"thread"}]
    only_address = [fault for fault in FAULTS if set(fault.columns) == {"address"}]
    assert only_thread
    assert only_address


def test_a_fault_whose_place_is_gone_is_an_error():
    with pytest.raises(LookupError, match=r"change faults\.py"):
        UNITS[0].planted("nothing of the kind")
