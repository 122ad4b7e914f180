"""A run folder: what each finished stage left, and whether it can be used again.

Every stage owns one sub-folder. It writes its files there and, last, ``record.json``: the stage's parameters, a digest
of the record it was built on, and the SHA-256 of its files. A stage is current when its record says the same
parameters, the same predecessor, and its files are whole; a killed stage has no record and is done again.

Several stages at once are replaced through a draft, a run folder inside this one: it is renamed to ``next`` when it is
whole, and from then on its stages are those of the run, whoever opens it next.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dq_fast.errors import InputError
from dq_fast.files import read_json, sha256_file, write_json
from dq_fast.pipeline.times import timed

STAGES = ("source", "model", "embed", "bins", "sample")
_MARK = "run.json"
_DRAFT, _NEXT = "update", "next"
_FORMAT = {"format": "dq_fast-run", "version": 1}


class RunFolder:
    """The folder that holds the stages of one run.

    Args:
        path: the folder; made when it is not there.
        create: False refuses a folder that no run was started in.

    Raises:
        InputError: the folder holds something else, or there is none and `create` is False.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True) -> None:
        self.path = Path(path)
        self.written: set[str] = set()  # stages done by this process, not taken over from an earlier one
        mark = self.path / _MARK
        if mark.is_file():
            found = read_json(mark)
            if not isinstance(found, dict) or {key: found.get(key) for key in _FORMAT} != _FORMAT:
                raise InputError(f"{mark} must be a dq_fast run of version {_FORMAT['version']}, got {found}")
            self._take_next()
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise InputError(f"{self.path} must be a run folder or not exist yet, but it holds other files")
        elif not create:
            raise InputError(f"{self.path} must be a run folder; start one with: dq-fast embed SOURCE {self.path}")
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(mark, _FORMAT)

    def remove(self) -> None:
        """Delete the folder with all that is in it."""
        shutil.rmtree(self.path)

    @property
    def workshop(self) -> Path:
        """Where changes of several stages are prepared; of no meaning to anyone else, and free to be deleted."""
        return self.path / _DRAFT

    def draft(self) -> RunFolder:
        """An empty run folder for stages that shall replace the ones here, see `replace`."""
        path = self.workshop / _NEXT
        if path.exists():
            shutil.rmtree(path)
        return RunFolder(path)

    def replace(self, draft: RunFolder) -> None:
        """Take the stages of a draft; from the rename on they are the run's, also where the rest is interrupted."""
        os.rename(draft.path, self.path / _NEXT)
        self._take_next()

    def _take_next(self) -> None:
        """Move stages that were decided on to their places, where an interrupted process left some to be moved."""
        following = self.path / _NEXT
        if not following.is_dir():
            return
        for stage in STAGES:
            made = following / stage
            if made.is_dir():
                if self.folder(stage).exists():
                    shutil.rmtree(self.folder(stage))
                os.rename(made, self.folder(stage))
        if self.workshop.exists():
            shutil.rmtree(self.workshop)
        shutil.rmtree(following)

    def folder(self, stage: str) -> Path:
        """The sub-folder of a stage."""
        return self.path / stage

    def record(self, stage: str) -> dict[str, Any] | None:
        """The record of a finished stage, or None."""
        file = self.folder(stage) / "record.json"
        return read_json(file) if file.is_file() else None

    def require(self, stage: str, command: str) -> dict[str, Any]:
        """The record of a stage that must have been finished, or an error that names the command to run first."""
        record = self.record(stage)
        if record is None:
            raise InputError(f"{self.path} has no finished stage {stage!r} yet; run first: {command}")
        return record

    def digest(self, stage: str) -> str:
        """What a following stage is bound to: changes with the stage's parameters, results and predecessors."""
        record = self.record(stage)
        if record is None:
            raise InputError(f"{self.path} has no finished stage {stage!r}")
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    def is_current(self, stage: str, parameters: dict[str, Any]) -> bool:
        """Whether the stage was finished with these parameters, on the predecessor as it is now, and is whole."""
        record = self.record(stage)
        if record is None or record["parameters"] != _plain(parameters) or record["after"] != self._after(stage):
            return False
        folder = self.folder(stage)
        return all(
            (folder / name).is_file() and sha256_file(folder / name) == digest
            for name, digest in record["files"].items()
        )

    def is_whole(self, stage: str) -> bool:
        """Whether the stage was finished on the predecessor as it is now, and its files are as they were written."""
        record = self.record(stage)
        return record is not None and self.is_current(stage, record["parameters"])

    def _after(self, stage: str) -> str | None:
        place = STAGES.index(stage)
        return self.digest(STAGES[place - 1]) if place else None

    @contextlib.contextmanager
    def writing(self, stage: str, parameters: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Redo a stage: gives its emptied folder and a dict for results; both are recorded when the block ends well.

        The stages that follow are emptied too, since what they were built on is gone.
        """
        for later in STAGES[STAGES.index(stage) :]:
            folder = self.folder(later)
            with contextlib.suppress(FileNotFoundError):
                (folder / "record.json").unlink()  # first, so that a kill in between leaves no record of half a stage
            if folder.exists():
                shutil.rmtree(folder)
        folder = self.folder(stage)
        folder.mkdir(parents=True)
        self.written.add(stage)
        results: dict[str, Any] = {}
        with timed(self.path, stage):
            yield folder, results
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        write_json(
            folder / "record.json",
            {
                "stage": stage,
                "parameters": _plain(parameters),
                "after": self._after(stage),
                "results": _plain(results),
                "files": {p.relative_to(folder).as_posix(): sha256_file(p) for p in files},
            },
        )


def _plain(value: Any) -> Any:
    """The value as JSON gives it back (tuples become lists), so that comparing with a read record is fair."""
    return json.loads(json.dumps(value))
