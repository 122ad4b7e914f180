"""Runs dq-fast commands in copies of a folder, killed at random changes of the file system, and then once more.

    python killing.py [[FOLDER, OUT, SEED, KILLS, [COMMAND, ...]], ...]

FOLDER is copied for every trial, and the command runs in the copy. OUT/whole: after an undisturbed run; OUT/K/killed:
as SIGKILL left it at the K-th change; OUT/K/again: after the command was run once more. Prints exit statuses as JSON.
Processes are forked from this one, which has no threads, so that importing is paid for once.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.rmtree"}


def fork(work: Path, command: list[str], kill_at: int | None) -> tuple[int, int]:
    """Run a command in a folder; its exit status (negative: the signal), and the changes that it made."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
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

    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    sys.addaudithook(hook)
    status = main(command)
    sys.stderr.flush()
    os._exit(status)


def trial(folder: Path, work: Path, command: list[str], kill_at: int | None) -> tuple[int, int]:
    """A run in a fresh copy."""
    shutil.copytree(folder, work)
    return fork(work, command, kill_at)


def trials(folder: Path, out: Path, seed: int, kills: int, command: list[str]) -> dict[str, object]:
    """All trials of one command."""
    status, changes = trial(folder, out / "whole", command, None)
    statuses = {}
    for k in sorted(random.Random(seed).sample(range(changes), min(kills, changes))):
        killed, _ = trial(folder, out / str(k) / "killed", command, k)
        again, _ = trial(out / str(k) / "killed", out / str(k) / "again", command, None)
        statuses[str(k)] = [killed, again]
    return {"whole": status, "changes": changes, "trials": statuses}


if __name__ == "__main__":
    import dq_fast.cli.main
    import dq_fast.pipeline  # noqa: F401 - before the forks, once

    jobs = json.loads(sys.argv[1])
    json.dump([trials(Path(folder), Path(out), *rest) for folder, out, *rest in jobs], sys.stdout)
