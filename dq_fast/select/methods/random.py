"""Random choice: the baseline every selection method is compared with."""

from __future__ import annotations

import numpy as np

from dq_fast.select.methods.base import Chosen, Evidence, Method, highest


def choose(evidence: Evidence) -> Chosen:
    """Draw the budget of each group uniformly without replacement.

    Every row draws a uniform number from the seed's generator, in row order, and the highest are chosen: a larger
    budget keeps the rows of a smaller one. O(n log n) time, O(n) memory.

    Returns:
        Rows with the numbers they drew as scores, highest first.
    """
    return highest(evidence, np.random.Generator(np.random.PCG64(evidence.seed)).random(len(evidence)))


METHODS = (Method("random", frozenset(), True, "uniform draw without replacement in each group", choose),)
