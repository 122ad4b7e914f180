"""The classes of rows that come and go, where rows are chosen within other groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.ops import checks
from dq_fast.select.groups import Groups, label_array

Ints = NDArray[np.int64]


def changed_classes(
    labels: Ints, classes: NDArray[Any] | None, origin: Ints, new: Any
) -> tuple[Ints, NDArray[Any] | None]:
    """Labels and class names after a change, as a fit with all rows' labels would have them.

    Args:
        labels: int64 [n], of the rows before: places in `classes`.
        classes: their names, sorted; None where the labels are numbers of something kept elsewhere: they stay as they
            are.
        origin: int64 [m], the row that every row was before, -1 for an added one.
        new: one label for every added row.

    Raises:
        InputError: labels are missing, or of another kind than those before.
    """
    stayed, count = origin >= 0, int((origin < 0).sum())
    if count and new is None:
        raise checks.bad("labels", "given, for the rows so far have classes", "None")
    given = Groups.of(label_array([] if new is None else new, count), count)
    assert given.names is not None
    before = np.unique(labels[origin[stayed]]) if classes is None else classes[np.unique(labels[origin[stayed]])]
    text = [names.dtype.kind in "US" for names in (before, given.names)]
    if count and len(before) and (text[0] != text[1] or (classes is None and given.names.dtype.kind not in "iu")):
        raise checks.bad("labels", f"of one kind with those before, {before.dtype}", str(given.names.dtype))
    after = np.empty(len(origin), np.int64)
    if classes is None:
        after[stayed] = labels[origin[stayed]]
        after[~stayed] = given.names[given.of_row] if count else 0
        return after, None
    names = np.unique(np.concatenate([before, given.names])) if count else before
    after[stayed] = np.searchsorted(names, classes[labels[origin[stayed]]])
    after[~stayed] = np.searchsorted(names, given.names)[given.of_row] if count else 0
    return after, names
