"""Parts of a data set (train, val, test) as people name them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from dq_fast.errors import InputError

_ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SPLITS = ("train", "val", "test")


def canonical(name: str) -> str | None:
    """Name a split "train", "val" or "test" by any of its usual names; None for every other word."""
    return _ALIASES.get(name.lower())


def split_in_name(name: str) -> tuple[str, str] | None:
    """The split that a file's name tells, and the rest of the name as a template: numbers become "#".

    Only the first and the last word count: "train-00000-of-00002.parquet", "clothing_test.parquet"; "my_test_photos"
    is no test split.
    """
    words = re.split(r"([-_.]+)", name)
    template = [re.sub(r"\d+", "#", word) for word in words]
    numbered = [i for i in range(0, len(words), 2) if words[i] and template[i] not in ("#", "of")]
    for i in numbered[:1] + numbered[-1:]:
        if (split := canonical(words[i])) is not None:
            template[i] = "<split>"
            return split, "".join(template)
    return None


def choose(splits: Iterable[str], split: str | None, spec: str) -> str | None:
    """Which of a source's `splits` to open; None is all there is.

    A source without splits is its own "train".

    Raises:
        InputError: it has no such split; says which it has.
    """
    have = tuple(splits)
    if split is None:
        return None
    wanted = canonical(split)
    if wanted is None:
        raise InputError(f"split must be one of {', '.join(SPLITS)}, or None for everything, got {split!r}")
    if not have and wanted == "train":
        return None
    if wanted not in have:
        found = f"only {', '.join(have)}" if have else "no splits: all of it counts as train"
        raise InputError(f"{spec} has no split {split!r}, {found}")
    return wanted


def shard_splits(path: Path, suffix: str) -> dict[str, list[Path]]:
    """Files of a data set stored in shards, by split; the key "" holds those of a data set without splits.

    A folder: its own files, and those in `data/` and in folders named like splits. A file that is named after a split
    and has siblings named the same way after others: it and they.

    Raises:
        InputError: some files are named after splits and others are not.
    """
    if path.is_file():
        return _family(path, suffix)
    groups: dict[str, list[Path]] = {}
    for folder, split in _folders(path):
        for file in _files(folder, suffix):
            told = split_in_name(_stem(file, suffix))
            groups.setdefault(split or (told[0] if told else ""), []).append(file)
    if "" in groups and len(groups) > 1:
        odd = groups[""][0].relative_to(path).as_posix()
        named = ", ".join(sorted(set(groups) - {""}))
        raise InputError(
            f"{path} has {suffix} files named after splits ({named}) and others such as "
            f"{odd}: move those elsewhere, or give one file"
        )
    return {split: groups[split] for split in ("", *SPLITS) if split in groups}


def offered_splits(path: Path, groups: dict[str, list[Path]]) -> tuple[str, ...]:
    """Splits that `path` may be asked for, given the files by split.

    Who names photos_test.parquet as a data set means that file: it is never taken for its sibling photos_train.parquet.
    """
    splits = tuple(split for split in groups if split)
    if path.is_file() and splits and path not in groups.get("train", []):
        return tuple(split for split in splits if split != "train")
    return splits


def _folders(path: Path) -> list[tuple[Path, str | None]]:
    """The folders that may hold shards, each with the split its name tells."""
    found: list[tuple[Path, str | None]] = [(path, None)]
    for base in (path, path / "data"):
        if base != path and base.is_dir():
            found.append((base, None))
        if base.is_dir():
            named = [(p, canonical(p.name)) for p in sorted(base.iterdir()) if canonical(p.name) is not None]
            found += [(p, split) for p, split in named if p.is_dir()]
    return found


def _files(folder: Path, suffix: str) -> list[Path]:
    return sorted(
        p for p in folder.iterdir() if p.name.lower().endswith(suffix) and not p.name.startswith(".") and p.is_file()
    )


def _stem(file: Path, suffix: str) -> str:
    return file.name[: -len(suffix)] if file.name.lower().endswith(suffix) else file.name


def _family(path: Path, suffix: str) -> dict[str, list[Path]]:
    told = split_in_name(_stem(path, suffix))
    if told is None:
        return {"": [path]}
    split, template = told
    groups = {split: [path]}
    for file in _files(path.parent, suffix):
        other = split_in_name(_stem(file, suffix))
        if other is not None and other[0] != split and other[1] == template:
            groups.setdefault(other[0], []).append(file)
    if len(groups) == 1:
        return {"": [path]}
    return {split: groups[split] for split in SPLITS if split in groups}
