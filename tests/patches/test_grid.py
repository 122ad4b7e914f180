from __future__ import annotations

import pytest
import torch

from dq_fast import InputError
from dq_fast.patches import default_patch, keep_top, kept_count, patch_grid


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((224, 224, 16), (14, 14)),
        ((32, 32, 4), (8, 8)),
        ((33, 31, 4), (9, 8)),
        ((1, 1, 16), (1, 1)),
        ((16, 17, 16), (1, 2)),
    ],
)
def test_patch_grid_covers_the_image(size, grid):
    assert patch_grid(*size) == grid


def test_default_patch():
    assert [default_patch(*s) for s in ((32, 32), (64, 28), (64, 65), (65, 1), (224, 224))] == [4, 4, 16, 16, 16]


@pytest.mark.parametrize(
    ("patches", "drop", "kept"),
    [
        (196, 0.2, 156),
        (196, 0, 196),
        (10, 0.3, 7),
        (10, 0.9, 1),
        (10, 0.99, 1),
        (1, 0.5, 1),
        (64, 0.2, 51),
        (5, 0.2, 4),
    ],
)
def test_kept_count(patches, drop, kept):
    assert kept_count(patches, drop) == kept


@pytest.mark.parametrize("drop", [-0.1, 1, 1.5, float("nan")])
def test_drop_must_leave_patches(drop):
    with pytest.raises(InputError, match="drop must be at least 0 and less than 1"):
        kept_count(10, drop)


def test_sizes_must_be_positive():
    with pytest.raises(InputError, match="width must be at least 1"):
        patch_grid(3, 0, 4)
    with pytest.raises(InputError, match="patches must be at least 1"):
        kept_count(0, 0.2)


def test_keep_top_prefers_the_lowest_position_among_equals():
    scores = torch.tensor([[0.0, 2, 2, 1, 2, 0], [0, 0, 0, 0, 0, 0], [5, 4, 3, 2, 1, 0]])
    assert keep_top(scores, 2).tolist() == [[1, 2], [0, 1], [0, 1]]
    assert keep_top(scores, 4).tolist() == [[1, 2, 3, 4], [0, 1, 2, 3], [0, 1, 2, 3]]
    many = torch.zeros(3, 5000)
    assert torch.equal(keep_top(many, 4000), torch.arange(4000).expand(3, -1))
