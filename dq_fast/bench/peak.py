"""Peak memory of one provider on one case, measured in a process of its own.

The process makes the inputs, prepares the call and warms up on the small inputs of --quick (libraries allocate and
compile at first use). Then it hands freed memory back to the system, resets the kernel's high-water mark of resident
memory (Linux: /proc/self/clear_refs), calls once, and reads how far the mark rose above what was resident before. What
the caller holds, inputs and prepared copies of them, is thereby not counted; outputs and workspace are. Where the mark
cannot be reset, getrusage's maximum is compared instead, which is too low when making the inputs took more.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from dq_fast.bench.case import Case, Setting
from dq_fast.errors import InputError

TIMEOUT = 900.0  # s
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(case: str, provider: str, setting: Setting, threads: int) -> int:
    """Bytes on top of what the caller holds; raises InputError where the process failed."""
    job = {
        "case": case,
        "provider": provider,
        "quick": setting.quick,
        "data": [str(folder) for folder in setting.data],
        "cache": str(setting.cache),
        "threads": threads,
    }
    # blocks of 64 KB and more come straight from the system and go back to it when they are freed
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    package = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    program = "import sys; from dq_fast.bench import peak; peak.main(sys.argv[1])"
    command = [sys.executable, "-c", program, json.dumps(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(f"peak memory of {provider} on {case}: no answer within {TIMEOUT:.0f} s") from None
    try:
        return int(json.loads(done.stdout.splitlines()[-1])["peak_bytes"])
    except (IndexError, KeyError, ValueError):
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise InputError(f"peak memory of {provider} on {case}: {last[0]}") from None


def peak_of(case: Case, provider: str, setting: Setting) -> int:
    """The measurement itself, in this process."""
    way = case.ways[provider]
    way(case.make(replace(setting, quick=True, data=())).inputs)()
    call = way(case.make(setting).inputs)
    gc.collect()
    _trim()
    _reset()
    before = _resident()
    result = call()
    peak = _high_water()
    del result
    return max(0, peak - before)


def _trim() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return  # not glibc: freed memory may be used again unseen


def _reset() -> None:
    try:
        _RESET.write_text("5")
    except OSError:
        return  # not Linux, or not allowed: the mark stays where it is


def _status(key: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return None


def _resident() -> int:
    found = _status("VmRSS")
    return _max_rss() if found is None else found


def _high_water() -> int:
    found = _status("VmHWM")
    return _max_rss() if found is None else found


def _max_rss() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main(text: str) -> None:
    """Run a job given as JSON; the answer is one line of JSON."""
    import torch

    from dq_fast.bench.cases import CASES

    job = json.loads(text)
    torch.set_num_threads(job["threads"])
    setting = Setting(job["quick"], tuple(Path(folder) for folder in job["data"]), Path(job["cache"]))
    peak = peak_of(CASES[job["case"]], job["provider"], setting)
    sys.stdout.write(json.dumps({"peak_bytes": peak}) + "\n")
