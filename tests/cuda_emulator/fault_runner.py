"""Runs cases on faulty builds, each in a forked child: python -m tests.cuda_emulator.fault_runner JOBS RESULTS.

JOBS is a JSON file: a list of {name, library, case, order}. RESULTS gets {name: [status, what the child said, its
process id]}. A child ends with 0 where it noticed nothing, 1 where values are wrong or the op raised, else as the
sanitizer or a signal has it.
Forked, because importing torch takes seconds under a sanitizer.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from . import build, fault_cases
from .conftest import in_place

LIVE_BLOCKS = 2 if os.environ.get(build.SANITIZE) == "thread" else 0
"""At a time, 0 as usual. What a thread's turn costs under the race detector grows with them, and the faults' cases have
few blocks."""


def run(library: str, case: str, order: str) -> int:
    """The child's work: an op on a faulty build against the same op on the CPU."""
    make, expected = fault_cases.CASES[case], fault_cases.expected(case)
    modules = build.load(Path(library))
    patch = pytest.MonkeyPatch()
    try:
        with in_place(*modules, order, patch) as emulated:
            emulated.emulator.configure(order, live_blocks=LIVE_BLOCKS)
            got = make()
            if not emulated.launches():
                sys.stdout.write("no kernel was launched\n")
                return 2
    except (Exception, AssertionError) as error:  # noqa: BLE001  whatever it is, it was noticed
        sys.stdout.write(f"error: {type(error).__name__}: {error}\n")
        return 1
    for k, (a, b) in enumerate(zip(got, expected, strict=True)):
        if not fault_cases.same(a, b):
            sys.stdout.write(f"wrong values in output {k}\n")
            return 1
    sys.stdout.write("nothing noticed\n")
    return 0


def main(jobs: str, results: str) -> None:
    said = {}
    for job in json.loads(Path(jobs).read_text()):
        fault_cases.expected(job["case"])  # in the parent, once
        output = Path(results).with_suffix(f".{job['name']}.txt")
        child = os.fork()
        if child == 0:
            to = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(to, 1)
            os.dup2(to, 2)
            status = run(job["library"], job["case"], job["order"])
            sys.stdout.flush()
            os._exit(status)
        _, wait = os.waitpid(child, 0)
        said[job["name"]] = [os.waitstatus_to_exitcode(wait), output.read_text(errors="replace"), child]
        Path(results).write_text(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
