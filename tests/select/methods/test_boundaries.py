"""Nearest neighbours, CAL and DeepFool against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast.embed.head import fit_head
from dq_fast.errors import InputError
from dq_fast.select.methods import neighbours, select
from dq_fast.select.methods.deepfool import boundary_distance
from dq_fast.select.methods.neighbours import nearest

from . import score_oracles as oracles
from .score_inputs import evidence, scored


@pytest.mark.parametrize(("n", "width", "k"), [(1, 2, 3), (2, 1, 1), (70, 3, 10), (130, 17, 1), (300, 5, 25)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_neighbours(n: int, width: int, k: int, dtype: torch.dtype) -> None:
    x = scored(n, width, dtype=dtype)[0]
    assert nearest(x, k).tolist() == oracles.nearest(x.double().numpy(), k)
    other = scored(n + 13, width, seed=1, dtype=dtype)[0]
    assert nearest(x, k, other).tolist() == oracles.nearest(x.double().numpy(), k, other.double().numpy())


def test_neighbours_nearer_than_float32_can_tell() -> None:
    # All at 1e6 and 1e-9 apart: after centring a tight cluster, and one far row that sets the scale.
    g = torch.Generator().manual_seed(0)
    x = 1e3 + 1e-7 * torch.randn(200, 3, generator=g, dtype=torch.float64)
    x[0] = 0
    assert nearest(x, 4).tolist() == oracles.nearest(x.numpy(), 4)


def test_repeated_rows_are_neighbours_in_row_order() -> None:
    x = torch.zeros(150, 4)
    x[100:] = 1
    found = nearest(x, 12)
    assert found[0].tolist() == list(range(1, 13))
    assert found[5].tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]
    assert found[149].tolist() == list(range(100, 112))


@pytest.mark.parametrize("numbers", [1, 128 * 7])
def test_neighbours_in_several_blocks(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = scored(100, 3)[0]
    x[60] = x[7]
    monkeypatch.setattr(neighbours, "_BLOCK_NUMBERS", numbers)
    assert nearest(x, 5).tolist() == oracles.nearest(x.numpy(), 5)
    assert nearest(x[:33], 5, x).tolist() == oracles.nearest(x[:33].numpy(), 5, x.numpy())


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 3), st.integers(1, 90), st.integers(0, 12), st.integers(0, 10**6), st.booleans())
def test_neighbours_of_lattices(width: int, n: int, k: int, seed: int, itself: bool) -> None:
    rng = np.random.default_rng(seed)
    x, other = rng.integers(-2, 3, (n, width)), rng.integers(-2, 3, (7, width))
    found = nearest(torch.tensor(x, dtype=torch.float32), k, None if itself else torch.tensor(other).float())
    assert found.tolist() == oracles.nearest(x.astype(float), k, None if itself else other.astype(float))


@pytest.mark.parametrize(("n", "width", "classes", "k"), [(2, 1, 1, 4), (31, 4, 3, 5), (50, 2, 6, 10)])
def test_cal(n: int, width: int, classes: int, k: int) -> None:
    x, z, _ = scored(n, width, classes)
    expected = oracles.cal(x.numpy(), z.numpy(), k)
    chosen = select("cal", evidence(x, z, None, n), k=k)
    np.testing.assert_allclose(chosen.scores, expected[chosen.ranking], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(chosen.scores, -np.sort(-expected), rtol=1e-9, atol=1e-12)


def test_cal_picks_the_sample_among_neighbours_predicted_otherwise() -> None:
    x = torch.tensor([[0.0], [0.1], [0.2], [0.3], [9.0], [9.1], [9.2]])
    z = torch.tensor([[5.0, 0], [5, 0], [0, 5], [5, 0], [0, 5], [0, 5], [0, 5]])
    assert select("cal", evidence(x, z, None, 1), k=2).ranking.tolist() == [2]


def test_cal_with_a_labelled_set_and_groups() -> None:
    x, z, y = scored(30)
    others = scored(12, seed=7)[:2]
    expected = oracles.cal(x.numpy(), z.numpy(), 4, (others[0].numpy(), others[1].numpy()))
    chosen = select("cal", evidence(x, z, None, 30), k=4, labelled=others)
    np.testing.assert_allclose(chosen.scores, expected[chosen.ranking], rtol=1e-9)
    # Neighbours are sought across groups: groups only decide among whom is picked.
    alone = oracles.cal(x.numpy(), z.numpy(), 4)
    grouped = select("cal", evidence(x, z, None, [2, 2, 2], y), k=4)
    for g in range(3):
        members = np.flatnonzero(y == g)
        best = members[np.argsort(-alone[members], kind="stable")[:2]]
        assert grouped.ranking[2 * g : 2 * g + 2].tolist() == best.tolist()


@pytest.mark.parametrize(
    "labelled", [1, (torch.zeros(3, 4), torch.zeros(2, 3)), (torch.zeros(0, 4), torch.zeros(0, 3))]
)
def test_cal_labelled_sets_that_do_not_fit(labelled: object) -> None:
    x, z, _ = scored(9)
    with pytest.raises(InputError, match="labelled must be"):
        select("cal", evidence(x, z, None, 3), labelled=labelled)


@pytest.mark.parametrize(("n", "width", "classes"), [(1, 1, 2), (20, 3, 2), (33, 5, 6)])
def test_deepfool_distance(n: int, width: int, classes: int) -> None:
    x, _, _ = scored(n, width, classes)
    g = torch.Generator().manual_seed(n)
    weight = torch.randn(classes, width, generator=g, dtype=torch.float64)
    bias = torch.randn(classes, generator=g, dtype=torch.float64)
    expected = oracles.deepfool(x.numpy(), weight.numpy(), bias.numpy())
    chosen = select("deepfool", evidence(x, None, None, n), head=(weight, bias))
    np.testing.assert_allclose(chosen.scores, np.sort(expected), rtol=1e-9)
    assert chosen.ranking.tolist() == np.argsort(expected, kind="stable").tolist()
    farthest = select("deepfool", evidence(x, None, None, 1), head=(weight, bias), direction="highest")
    assert farthest.ranking[0] == np.argmax(expected)


def test_deepfool_distance_is_where_the_prediction_changes() -> None:
    x, _, _ = scored(25, 3, 4)
    linear = torch.nn.Linear(3, 4, dtype=torch.float64)
    r = boundary_distance(x, linear.weight.detach(), linear.bias.detach())
    g = torch.Generator().manual_seed(1)
    around = torch.randn(2000, 3, generator=g, dtype=torch.float64)
    around /= around.norm(dim=1, keepdim=True)
    for h, distance in zip(x, r, strict=True):
        own = linear(h).argmax()
        assert (linear(h + 0.999 * distance * around).argmax(1) == own).all()
        assert (linear(h + 1.1 * distance * around).argmax(1) != own).any()


def test_deepfool_without_a_boundary() -> None:
    x = torch.tensor([[1.0], [2.0]])
    one = boundary_distance(x, torch.ones(1, 1), torch.zeros(1))
    parallel = boundary_distance(x, torch.ones(2, 1), torch.tensor([0.0, 1.0]))
    same = boundary_distance(x, torch.ones(2, 1), torch.zeros(2))
    assert one.tolist() == parallel.tolist() == [float("inf")] * 2
    assert same.tolist() == [0.0, 0.0]
    assert select("deepfool", evidence(x, None, None, 2), head=(torch.ones(1, 1), torch.zeros(1))).ranking.tolist() == [
        0,
        1,
    ]


def test_deepfool_fits_a_head() -> None:
    x, _, y = scored(60)
    head = fit_head(x, torch.from_numpy(y), 3)
    expected = oracles.deepfool(x.numpy(), head.weight.detach().double().numpy(), head.bias.detach().double().numpy())
    chosen = select("deepfool", evidence(x, None, y, 60))
    np.testing.assert_allclose(chosen.scores, np.sort(expected), rtol=1e-6, atol=1e-9)
    given_head = select("deepfool", evidence(x, None, None, 60), head=head)
    assert given_head.ranking.tolist() == chosen.ranking.tolist()
    with pytest.raises(InputError, match=r"labels must be given for method 'deepfool' .* or give head="):
        select("deepfool", evidence(x, None, None, 5))


@pytest.mark.parametrize("head", ["x", (torch.zeros(3, 9), torch.zeros(3)), (torch.zeros(3, 4), torch.zeros(2))])
def test_deepfool_heads_that_do_not_fit(head: object) -> None:
    with pytest.raises(InputError, match="head must be"):
        select("deepfool", evidence(scored(9)[0], None, None, 3), head=head)
