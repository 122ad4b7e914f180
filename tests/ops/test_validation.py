"""Bad input is named: argument, expected, got."""

from __future__ import annotations

import pytest
import torch

from dq_fast import ops
from dq_fast.errors import InputError

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
S = X @ X.T


def with_bad(row, value):
    x = X.clone()
    x[row, 1] = value
    return x


ROW_SUMS = [
    ((X[0],), {}, r"embedding must be 2-D \[n, d\], got shape \(3,\)"),
    ((X.long(),), {}, "embedding must be float32, float64, float16 or bfloat16, got torch.int64"),
    (([1, 2],), {}, r"embedding\[0\] must be a tensor \[n, d\], got int"),
    (((),), {}, r"embedding must be a tensor \[n, d\] or a tuple of them, got tuple"),
    (((X, X[:4]),), {}, r"embedding\[1\] must be 6 rows like embedding\[0\], got shape \(4, 3\)"),
    ((X[:, :0],), {}, r"embedding must be at least one number wide, got shape \(6, 0\)"),
    ((X,), {"offsets": [0, 4]}, "offsets must be from 0 to the number of rows, 6, got 0 to 4"),
    ((X,), {"offsets": [0, 4, 2, 6]}, "offsets must be in ascending order, got 4 before 2 at position 2"),
    ((X,), {"offsets": torch.tensor([0.0, 6.0])}, "offsets must be int64, got torch.float32"),
    ((X,), {"offsets": torch.zeros(2, 2, dtype=torch.int64)}, r"offsets must be 1-D \[groups \+ 1\], got shape"),
    ((with_bad(4, float("nan")),), {}, "embedding must be finite, got NaN or infinity in row 4"),
    ((with_bad(2, float("inf")),), {"center": True}, "embedding must be finite, got NaN or infinity in row 2"),
    (((X, with_bad(5, float("-inf"))),), {}, r"embedding\[1\] must be finite, got NaN or infinity in row 5"),
]


@pytest.mark.parametrize(("arguments", "keywords", "message"), ROW_SUMS)
def test_row_sums(backend, arguments, keywords, message):
    with pytest.raises(InputError, match=message):
        ops.cosine_row_sums(*arguments, **keywords)


@pytest.mark.parametrize(("arguments", "keywords", "message"), [c for c in ROW_SUMS if len(c[0]) == 1])
def test_bins_check_their_embedding_too(backend, arguments, keywords, message):
    with pytest.raises(InputError, match=message):
        ops.graph_cut_bins(*arguments, 2, **keywords)


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((X, 0), {}, "n_bins must be an integer >= 1, got 0"),
        ((X, 2.5), {}, "n_bins must be an integer >= 1, got 2.5"),
        ((X, True), {}, "n_bins must be an integer >= 1, got True"),
        ((X, 2), {"lam": -1.0}, "lam must be a finite number >= 0.0, got -1.0"),
        ((X, 2), {"lam": float("nan")}, "lam must be a finite number >= 0.0, got nan"),
        ((X, 2), {"lam": "1"}, "lam must be a finite number >= 0.0, got '1'"),
        ((X, 2), {"method": "fast"}, "method must be one of 'auto', 'naive', 'gram', 'lazy', got 'fast'"),
        ((X, 2), {"similarity": S}, "embedding must be None where similarity is given, got both"),
        ((None, 2), {}, r"embedding must be a tensor \[n, d\] or a tuple of them, got NoneType"),
        ((None, 2), {"similarity": X}, r"similarity must be square \[n, n\], got shape \(6, 3\)"),
        ((None, 2), {"similarity": S, "offsets": [0, 3, 6]}, "offsets must be None with similarity"),
        ((None, 2), {"similarity": S, "center": True}, "center must be False where similarity is given"),
        ((None, 2), {"similarity": S * float("nan")}, "similarity must be finite, got NaN or infinity in row 0"),
        ((None, 2), {"similarity": S / (torch.arange(6.0) != 3)[:, None]}, "similarity must be finite.* in row 3"),
    ],
)
def test_bins(backend, arguments, keywords, message):
    with pytest.raises(InputError, match=message):
        ops.graph_cut_bins(*arguments, **keywords)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (-1, "budget must be an integer >= 0, got -1"),
        (1.5, "budget must be an integer >= 0, got 1.5"),
        (5, "budget must be at most 4, the rows of group 0, got 5"),
        ([1, 3], "budget must be at most 2, the rows of group 1, got 3"),
        ([1, 1, 1], "budget must be one integer, or one for each of the 2 groups, got 3"),
    ],
)
def test_greedy(backend, budget, message):
    with pytest.raises(InputError, match=message):
        ops.graph_cut_greedy(X, budget, offsets=[0, 4, 6])
