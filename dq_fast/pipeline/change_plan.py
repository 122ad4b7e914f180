"""What changes in a run when its source has, or images shall go: planned from ids and marks, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dq_fast.data import Source
from dq_fast.embed import Embedding
from dq_fast.errors import InputError
from dq_fast.pipeline.columns import read_column
from dq_fast.pipeline.members import Difference, Marks, mark_images
from dq_fast.pipeline.options import SourceOptions
from dq_fast.pipeline.run import RunFolder
from dq_fast.pipeline.stages import load_embedding, open_part
from dq_fast.select.partition import Change

MISSING = "missing"
"""In place of a file of ids to remove: all images that the source does not have any more."""


@dataclass
class RunChange:
    """What `change_run` did, or would do.

    Attributes:
        images: in the run now.
        added: images that the run did not have; changed: that were embedded again, being others by now.
        removed: images taken out; held_out: of these, those that the hold-out draw takes now.
        unreadable: in the source now. left_out: in the source, but removed from the run, now or earlier.
        embedded: images that went through the model; taken_over: that an interrupted run of the same command had put
            through it.
        exact: whether the bins are what ranking all images from scratch gives.
        steps: what was done to the bins, one by one.
        kept: images drawn; kept_before: of these, drawn before; None where nothing was drawn.
        stale: stores packed from the run before, with their options, that are of another sample now.
        written: whether the folder was changed.
        seconds: time it took.
    """

    images: int
    added: int = 0
    changed: int = 0
    removed: int = 0
    held_out: int = 0
    unreadable: int = 0
    left_out: int = 0
    embedded: int = 0
    taken_over: int = 0
    exact: bool = True
    steps: list[Change] = field(default_factory=list)
    kept: int | None = None
    kept_before: int | None = None
    stale: list[dict[str, Any]] = field(default_factory=list)
    written: bool = False
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {name: value for name, value in vars(self).items() if name not in ("steps", "stale")}
        if self.steps:
            last = self.steps[-1]
            found |= {name: getattr(last, name) for name in ("imbalance", "since", "mean_shift")}
            found |= {name: sum(getattr(s, name) for s in self.steps) for name in ("ranked", "groups_ranked")}
        return {**found, "stale": [packed["out"] for packed in self.stale]}


@dataclass(frozen=True)
class Planned:
    """What will be done: the source as it is now, which embedded rows go, and which images come (ids)."""

    source: Source
    marks: Marks
    spec: str
    embedding: Embedding
    gone: list[str]
    coming: list[str]
    left_out: list[str]
    bad: list[dict[str, str]]
    now: RunChange


def plan_change(run: RunFolder, given: str | None, remove: str | None, only: str | None) -> Planned:
    """What taking over a source and taking images out comes to; see `change_run` for the arguments and errors."""
    record = run.require("source", "")
    options = {name: value for name, value in record["parameters"].items() if name != "spec"}
    spec = str(given if given is not None else record["parameters"]["spec"])
    source = open_part(spec, SourceOptions(**options))
    if source.class_names != record["results"]["class_names"]:
        raise InputError(_other_classes(run, source.class_names, record["results"]["class_names"], spec))
    embedding = load_embedding(run)
    marks = mark_images(source)
    found = Difference.of(run, embedding, source.ids, marks)
    held = _held_out(found.missing, spec, options)
    wanted = _ids_to_remove(remove, run, found)
    gone = set(wanted) | held
    lost = [id for id in found.missing if id not in gone]
    if lost:
        raise InputError(_lost(lost, len(embedding), run, spec, given is not None))
    changed = [id for id in found.changed if id not in gone]
    if given is None and (found.new or changed):
        raise InputError(
            f"{spec} must be as {run.path} knows it to take images out alone, but {len(found.new)} images are new and "
            f"{len(changed)} changed, the first {(found.new or changed)[0]!r}; take them over, too: dq-fast bins "
            f"{spec} --add {run.path}{'' if remove is None else f' --remove {remove}'}"
        )
    new, out = list(found.new), set(found.removed) | set(wanted)
    if only is not None:
        new = _ids_to_add(only, found, spec)
        out |= set(found.new)
    coming = set(new) | set(changed)
    now = RunChange(
        images=len(embedding) - len(gone) + len(new),
        added=len(new),
        changed=len(changed),
        removed=len(gone),
        held_out=len(held - set(wanted)),
        unreadable=len(found.bad),
        left_out=len((out - coming).intersection(source.ids)),
        embedded=len(coming),
    )
    return Planned(
        source=source,
        marks=marks,
        spec=spec,
        embedding=embedding,
        gone=[id for id in embedding.ids if id in gone or id in coming],
        coming=[id for id in source.ids if id in coming],
        left_out=[id for id in source.ids if id in out and id not in coming],
        bad=[b for b in embedding.bad if b["id"] in set(found.bad)],
        now=now,
    )


def _other_classes(run: RunFolder, now: Sequence[str], before: Sequence[str], spec: str) -> str:
    more, fewer = [n for n in now if n not in before], [n for n in before if n not in now]
    parts = [f"{', '.join(map(repr, more[:5]))} came" if more else "", f"{', '.join(map(repr, fewer[:5]))} went"]
    what = " and ".join(part for part in (parts if fewer else parts[:1]) if part) or "another order"
    return (
        f"{spec} must have the classes that the model of {run.path} tells apart, got others ({what}): start over with "
        f"dq-fast embed {spec} into another folder"
    )


def _held_out(missing: list[str], spec: str, options: dict[str, Any]) -> set[str]:
    """Of images that are missing, those that the draw of the held-out part takes now."""
    if not missing or not options["holdout"]:
        return set()
    return set(missing).intersection(open_part(spec, SourceOptions(**options), held_out=True).ids)


def _lost(lost: list[str], of: int, run: RunFolder, spec: str, adding: bool) -> str:
    text = f"{spec} must hold the images of {run.path}, but {len(lost)} of its {of} are missing, the first {lost[0]!r}"
    if adding and 2 * len(lost) > of:
        return f"{text}; SOURCE is the whole of the images, old and new: put the new ones beside the old"
    return f"{text}; to take them out give --remove {MISSING}, or --remove FILE with their ids"


def _texts(spec: str, what: str) -> list[str]:
    ids = [str(id) for id in read_column(spec, what).tolist()]
    twice = next((id for id in ids if ids.count(id) > 1), None) if len(set(ids)) < len(ids) else None
    if twice is not None:
        raise InputError(f"{what} must be ids, different for every image, got {twice!r} twice in {spec}")
    return ids


def _ids_to_remove(remove: str | None, run: RunFolder, found: Difference) -> list[str]:
    if remove is None:
        return []
    if remove == MISSING and not Path(MISSING).exists():
        return found.missing
    ids, there = _texts(remove, "remove"), set(load_embedding(run).ids)
    unknown = next((id for id in ids if id not in there), None)
    if unknown is not None:
        earlier = " (it was removed earlier)" if unknown in found.removed else ""
        raise InputError(f"ids must be ids of {run.path}, got {unknown!r}, which it does not have{earlier}")
    return ids


def _ids_to_add(only: str, found: Difference, spec: str) -> list[str]:
    ids, there = _texts(only, "ids"), set(found.new) | set(found.removed)
    unknown = next((id for id in ids if id not in there), None)
    if unknown is not None:
        raise InputError(f"ids must be ids of {spec} that the run does not have, got {unknown!r}")
    return ids
