"""Labels as sources write them (class numbers or names) to class numbers, and ids that must be unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from dq_fast.errors import InputError

# Above this a "class number" is an identifier: a head with a logit for every number up to it would be meaningless.
_MAX_CLASS = 100_000


def number_labels(
    values: Sequence[Any],
    where: Callable[[int], str],
    *,
    class_names: Sequence[str] | None = None,
    more: Iterable[Any] = (),
) -> tuple[np.ndarray, list[str]]:
    """Class numbers int64 [n] and class names of the labels a source holds.

    Args:
        values: n integers or n texts. Texts are numbered in sorted order.
        where: names the place of value i, for errors ("row 7 of a.parquet").
        class_names: names of the classes 0, 1, …, where the source tells them; texts must then be among them.
        more: labels of the data set's other splits: all splits number their classes alike.

    Raises:
        InputError: a label is missing, negative, neither integer nor text, or has no name; says where.
    """
    extra = list(more)
    every = [*values, *extra]
    texts = any(isinstance(value, str) for value in every)
    for i, value in enumerate(values):
        _check(value, texts, where, i)
    if texts:
        found = sorted({value for value in every if isinstance(value, str)})
        names = list(class_names) if class_names is not None else found
        place = {name: k for k, name in enumerate(names)}
        for i, value in enumerate(values):
            if value not in place:
                raise InputError(f"label of {where(i)} must be one of {_some(names)}, got {value!r}")
        return np.array([place[value] for value in values], np.int64), names
    labels = np.array([int(value) for value in values], np.int64)
    if class_names is not None:
        beyond = np.flatnonzero(labels >= len(class_names))
        if len(beyond):
            i = int(beyond[0])
            raise InputError(f"label of {where(i)} must be below {len(class_names)} (the class names), got {labels[i]}")
        return labels, list(class_names)
    others = [int(value) for value in extra if isinstance(value, (int, np.integer)) and value >= 0]
    count = max(int(labels.max(initial=-1)), max(others, default=-1)) + 1
    if count > _MAX_CLASS:
        i = int(labels.argmax())
        raise InputError(
            f"labels must be class numbers 0, 1, 2, …, got {count - 1} (first seen near {where(i)}); "
            "write such identifiers as texts, which are numbered by themselves"
        )
    return labels, [str(k) for k in range(count)]


def _check(value: Any, texts: bool, where: Callable[[int], str], i: int) -> None:
    if value is None or (isinstance(value, str) and not value):
        raise InputError(f"label of {where(i)} is missing: every image needs a label")
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (str, int, np.integer)):
        raise InputError(f"label of {where(i)} must be an integer or a text, got {value!r} ({type(value).__name__})")
    if texts != isinstance(value, str):
        raise InputError(f"labels must be all integers or all texts, but {where(i)} has {value!r}")
    if not isinstance(value, str) and value < 0:
        raise InputError(f"label of {where(i)} must be 0 or more, got {value} (unlabelled?): every image needs a label")


def check_unique(ids: Sequence[str], spec: str, what: str = "ids") -> None:
    """Ids must be unique; the error names the first few that are not."""
    if len(set(ids)) == len(ids):
        return
    twice = [id for id, count in Counter(ids).items() if count > 1]
    raise InputError(f"{spec}: {what} must be unique, got {_some(twice)} more than once ({len(twice)} such)")


def _some(names: Sequence[str], count: int = 5) -> str:
    text = ", ".join(repr(name) for name in names[:count])
    return text + (", …" if len(names) > count else "")
