"""Runs dq-fast commands in copies of a folder, killed at random, and then once more.

    python killing.py [[FOLDER, OUT, SEED, KILLS, HOW, [COMMAND, ...]], ...]

FOLDER is copied for every trial, and the command runs in the copy. OUT/whole: after an undisturbed run; OUT/K/killed:
as SIGKILL left it, for HOW "changes" at the K-th change of the file system, for "moments" after K thousandths of the
time that the undisturbed run took; OUT/K/again: after the command was run once more (with --resume, for compress).
Prints exit statuses as JSON. Processes are forked from this one, which has no threads, so that importing is paid for
once.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.rmtree"}


def run_killing(*jobs: list[Any]) -> list[dict[str, Any]]:
    """What this file prints when it is run: for every job the whole run's status, changes, and statuses by trial."""
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(jobs, default=str)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fork(work: Path, command: list[str], kill_at: int | None = None, after: float | None = None) -> tuple[int, int]:
    """Run a command in a folder; its exit status (negative: the signal), and the changes that it made.

    It is killed before change number `kill_at`, or `after` seconds.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        if after is not None:
            time.sleep(after)
            os.kill(pid, signal.SIGKILL)  # not waited for yet: at worst it is done
        with os.fdopen(reading) as pipe:
            changes = pipe.read()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), len(changes)
    os.chdir(work)
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in CHANGES or writes) and os.path.exists(os.path.join(work, str(arguments[0])).rpartition("/")[0]):
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
            os.write(writing, b".")

    from dq_fast.cli import main

    os.fsync = lambda _descriptor: None  # slow, and a kill is no power cut
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    sys.addaudithook(hook)
    status = main(command)
    sys.stderr.flush()
    os._exit(status)


def trials(folder: Path, out: Path, seed: int, kills: int, how: str, command: list[str]) -> dict[str, Any]:
    """All trials of one command."""
    once_more = [*command, "--resume"] if command[0] == "compress" else command
    shutil.copytree(folder, out / "whole")
    begun = time.perf_counter()
    status, changes = fork(out / "whole", command)
    seconds = time.perf_counter() - begun
    statuses = {}
    places = range(50, 1000) if how == "moments" else range(changes)
    for k in sorted(random.Random(seed).sample(places, min(kills, len(places)))):
        place = out / str(k)
        shutil.copytree(folder, place / "killed")
        at: dict[str, Any] = {"after": seconds * k / 1000} if how == "moments" else {"kill_at": k}
        killed, _ = fork(place / "killed", command, **at)
        shutil.copytree(place / "killed", place / "again")
        again, _ = fork(place / "again", once_more)
        statuses[str(k)] = [killed, again]
    return {"whole": status, "changes": changes, "trials": statuses}


if __name__ == "__main__":
    import dq_fast.cli.main
    import dq_fast.pipeline  # noqa: F401 - before the forks, once

    given = json.loads(sys.argv[1])
    if any(command[0] == "compress" for *_, command in given):
        importlib.import_module("torch._dynamo")  # optimisers import it when they are first used: seconds
    json.dump([trials(Path(folder), Path(out), *rest) for folder, out, *rest in given], sys.stdout)
