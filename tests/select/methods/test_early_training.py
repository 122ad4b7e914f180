"""Heads on frozen features, and the scores taken while they train, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.select.methods import select
from dq_fast.select.methods.early_training import Forgetting, el2n, grand
from dq_fast.select.methods.heads import Heads, train_heads

from . import score_oracles as oracles
from .score_inputs import evidence, scored


def one_head(x: Tensor, y: Tensor, classes: int, head: int, epochs: int, batch: int, rate: float, seed: int) -> Tensor:
    """One head by autograd and torch's SGD, in the same random order, and its logits on all samples."""
    g = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed).spawn(head + 1)[head]))
    deviation = x.std(0, correction=0)
    x = torch.where(deviation > 0, (x - x.mean(0)) / deviation, 0.0) / x.shape[1] ** 0.5
    weight = torch.tensor(g.uniform(-1, 1, (x.shape[1], classes)), requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    sgd = torch.optim.SGD([weight, bias], lr=rate, momentum=0.9)
    for _ in range(epochs):
        order = torch.from_numpy(g.permutation(len(x)))
        for rows in order.split(batch):
            sgd.zero_grad()
            F.cross_entropy(x[rows] @ weight + bias, y[rows]).backward()
            sgd.step()
    return (x @ weight + bias).detach()


@pytest.mark.parametrize(
    ("n", "width", "classes", "batch"), [(1, 1, 1, 4), (13, 3, 2, 5), (40, 6, 4, 16), (9, 2, 3, 9)]
)
def test_heads_are_those_of_torch_sgd(n: int, width: int, classes: int, batch: int) -> None:
    x, _, y = scored(n, width, classes, seed=n)
    labels = torch.from_numpy(y)
    heads = train_heads(x, labels, classes, heads=3, epochs=4, batch_size=batch, learning_rate=0.7, seed=5)
    for k in range(3):
        expected = one_head(x, labels, classes, k, 4, batch, 0.7, 5)
        np.testing.assert_allclose(heads.logits(x)[k].numpy(), expected.numpy(), rtol=1e-8, atol=1e-9)


def test_heads_learn_whatever_the_features_scale() -> None:
    x, _, y = scored(300, 8, 3)
    labels = torch.from_numpy(y)
    far = torch.cat([1e3 + 1e-2 * x, torch.full((300, 1), 7.0, dtype=torch.float64)], 1)  # and a constant feature
    accuracy = [(train_heads(f, labels, 3, heads=2).logits(f).argmax(2) == labels).double().mean() for f in (x, far)]
    assert accuracy[0] > 0.9
    assert accuracy[0] == pytest.approx(float(accuracy[1]), abs=0.01)


def test_head_of_a_seed_does_not_depend_on_the_others() -> None:
    x, _, y = scored(50)
    labels = torch.from_numpy(y)
    many, few, other = (train_heads(x, labels, 3, heads=h, epochs=2, seed=s) for h, s in ((4, 1), (2, 1), (2, 2)))
    np.testing.assert_allclose(many.weight[:2], few.weight, rtol=1e-10)
    assert not np.allclose(other.weight, few.weight)
    assert not np.allclose(many.weight[0], many.weight[1])


@pytest.mark.parametrize("argument", ["heads", "epochs", "batch_size", "learning_rate", "momentum"])
def test_head_arguments(argument: str) -> None:
    x, _, y = scored(5)
    with pytest.raises(InputError, match=argument):
        train_heads(x, torch.from_numpy(y), 3, **{argument: -1})


def test_features_that_are_not_finite_are_named() -> None:
    x, _, y = scored(50)
    x[17, 1] = float("nan")
    with pytest.raises(InputError, match="features must be finite, got NaN or infinity in row 17"):
        select("el2n", evidence(x, None, y, 3))


@pytest.mark.parametrize(("n", "width", "classes"), [(1, 1, 1), (11, 1, 2), (30, 5, 4)])
def test_norms_by_definition(n: int, width: int, classes: int) -> None:
    x, _, y = scored(n, width, classes)
    labels = torch.from_numpy(y)
    g = torch.Generator().manual_seed(3)
    heads = Heads(
        torch.randn(3, classes, width, generator=g, dtype=torch.float64),
        torch.randn(3, classes, generator=g, dtype=torch.float64),
    )
    parts = [(w.numpy(), b.numpy()) for w, b in zip(heads.weight, heads.bias, strict=True)]
    errors = np.mean([oracles.error_norm(x.numpy(), y, w, b) for w, b in parts], 0)
    gradients = np.mean([oracles.gradient_norm(x.numpy(), y, w, b) for w, b in parts], 0)
    np.testing.assert_allclose(el2n(x, labels, heads), errors, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(grand(x, labels, heads), gradients, rtol=1e-9, atol=1e-12)


def test_grand_is_the_gradient_that_autograd_sees() -> None:
    x, _, y = scored(6, 3, 4)
    linear = torch.nn.Linear(3, 4, dtype=torch.float64)
    expected = []
    for h, label in zip(x, torch.from_numpy(y), strict=True):
        linear.zero_grad()
        F.cross_entropy(linear(h)[None], label[None]).backward()
        parts = [p.grad.square().sum() for p in linear.parameters() if p.grad is not None]
        expected.append(float(torch.stack(parts).sum().sqrt()))
    heads = Heads(linear.weight.detach()[None], linear.bias.detach()[None])
    np.testing.assert_allclose(grand(x, torch.from_numpy(y), heads), expected, rtol=1e-9)


def test_sure_predictions_have_errors() -> None:
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    heads = Heads(torch.tensor([[[60.0], [0.0]]], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64))
    errors = el2n(x, torch.tensor([0, 0]), heads)
    np.testing.assert_allclose(errors, np.exp([-60, -120]) * 2**0.5, rtol=1e-9)


@pytest.mark.parametrize(("name", "score"), [("grand", grand), ("el2n", el2n)])
def test_methods_rank_by_the_mean_over_trained_heads(name: str, score: object) -> None:
    x, _, y = scored(40)
    labels = torch.from_numpy(y)
    heads = train_heads(x, labels, 3, heads=4, epochs=3, batch_size=8, seed=9)
    expected = score(x, labels, heads).numpy()  # type: ignore[operator]
    options = {"heads": 4, "epochs": 3, "batch_size": 8}
    chosen = select(name, evidence(x, None, y, 12, seed=9), **options)
    assert chosen.ranking.tolist() == np.argsort(-expected, kind="stable")[:12].tolist()
    np.testing.assert_allclose(chosen.scores, -np.sort(-expected)[:12], rtol=1e-9)
    last = select(name, evidence(x, None, y, 12, seed=9), direction="lowest", **options)
    assert last.ranking.tolist() == np.argsort(expected, kind="stable")[:12].tolist()
    assert not np.array_equal(chosen.scores, select(name, evidence(x, None, y, 12, seed=8), **options).scores)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 6), st.integers(1, 3), st.data())
def test_forgetting_of_histories(epochs: int, n: int, heads: int, data: st.DataObject) -> None:
    bits = data.draw(st.lists(st.booleans(), min_size=epochs * n * heads, max_size=epochs * n * heads))
    right = np.array(bits).reshape(heads, epochs, n)
    count = Forgetting(heads, n)
    rng = np.random.default_rng(0)
    for epoch in range(epochs):
        order = np.stack([rng.permutation(n) for _ in range(heads)])
        for rows in np.array_split(order, 2, axis=1):
            seen = np.take_along_axis(right[:, epoch], rows, 1)
            count(torch.from_numpy(rows), torch.from_numpy(seen))
    expected = [np.mean([oracles.forgetting(right[h, :, i]) for h in range(heads)]) for i in range(n)]
    np.testing.assert_allclose(count.scores(epochs), expected)


def test_forgetting_counts_what_the_heads_see() -> None:
    x, _, y = scored(60, seed=2)
    labels = torch.from_numpy(y)
    history = np.zeros((2, 9, 60), bool)
    seen = np.zeros((2, 60), int)

    def watch(rows: Tensor, right: Tensor) -> None:
        for h in range(2):
            for row, good in zip(rows[h].tolist(), right[h].tolist(), strict=True):
                history[h, seen[h, row], row] = good
                seen[h, row] += 1

    train_heads(x, labels, 3, heads=2, epochs=9, batch_size=7, seed=4, observe=watch)
    assert (seen == 9).all()
    expected = np.array([np.mean([oracles.forgetting(history[h, :, i]) for h in range(2)]) for i in range(60)])
    assert 0 < expected.max() < expected.sum()
    chosen = select("forgetting", evidence(x, None, y, 60, seed=4), heads=2, epochs=9, batch_size=7)
    assert chosen.ranking.tolist() == np.argsort(-expected, kind="stable").tolist()
    np.testing.assert_array_equal(chosen.scores, expected[chosen.ranking])


def test_correctness_is_that_before_the_step() -> None:
    # One sample, one step an epoch: from the first step on the head is right, and before it as its start was.
    x, y = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
    seen: list[bool] = []
    train_heads(x, y, 2, heads=1, epochs=3, batch_size=2, observe=lambda rows, right: seen.append(bool(right.all())))
    start = train_heads(x, y, 2, heads=1, epochs=0).logits(x)[0].argmax(1)
    assert seen == [bool((start == y).all()), True, True]
