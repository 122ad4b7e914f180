"""Rows of a product embedding against the embedding written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dq_fast.select.methods.products import Rows

from .inputs import rows
from .oracles import unit, written_out


@pytest.mark.parametrize("max_memory", [1 << 30, 0])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("index", [np.arange(3, 19), np.array([0, 4, 5, 9, 24]), np.arange(0)])
@pytest.mark.parametrize("widths", [(1,), (5,), (3, 4), (6, 2), (2, 2, 3), (1, 4)])
def test_rows(widths: tuple[int, ...], index: np.ndarray, normalised: bool, max_memory: int) -> None:
    factors = [rows(25, d, seed=d) for d in widths]
    factors[0][4] = 0
    phi = written_out(
        [unit(f.double().numpy()) if normalised else f for f in sorted(factors, key=lambda f: f.shape[1])]
    )
    phi = phi[index]
    r = Rows(factors, index, normalised=normalised, max_memory=max_memory)
    n = len(index)
    assert len(r) == n
    assert r.shape[0] * r.shape[1] == phi.shape[1]

    def same(found: torch.Tensor, expected: np.ndarray) -> None:
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found.numpy().reshape(expected.shape), expected, rtol=1e-12, atol=1e-12)

    same(r.squared_norms(), (phi**2).sum(1))
    if len(widths) < 3:  # with three the product's columns are in another order
        same(r.total(), phi.sum(0))
        w = np.arange(float(phi.shape[1]))
        same(r.dot(torch.from_numpy(w.reshape(r.shape))), phi @ w)
    same(r.dot(r.total()), phi @ phi.sum(0))
    if not n:
        return
    weights = np.linspace(1, 2, n)
    same(r.dot(r.total(torch.from_numpy(weights))), phi @ (weights @ phi))
    some = np.array([n - 1, 0, n // 2])
    which = torch.from_numpy(some)
    same(
        r.dot(r.total(torch.tensor([1.0, 2, 3], dtype=torch.float64), which)), phi @ (np.array([1.0, 2, 3]) @ phi[some])
    )
    distance = ((phi[some][:, None] - phi[None]) ** 2).sum(2)
    for formed in (False, True):
        if formed:
            r.expect(n)
        same(r.products(which), phi[some] @ phi.T)
        same(r.products_of(n - 1), phi @ phi[-1])
        same(r.squared_distances(which, r.squared_norms()), distance)
        same(r.squared_distances_of(n - 1, r.squared_norms()), distance[0])
        same(r.products(which), phi[some] @ phi.T)  # what was formed has not been written to


def test_centred() -> None:
    x = 1000 + rows(20, 3)
    r = Rows([x], np.arange(20), centred=True)
    y = x.double().numpy()
    y = y - y.mean(0)
    np.testing.assert_allclose(r.squared_norms().numpy(), (y**2).sum(1), rtol=1e-9)


def test_equal_rows_are_no_distance_apart() -> None:
    x = rows(9, 13).repeat(2, 1)
    r = Rows([x, x + 1], np.arange(18))
    apart = r.squared_distances(torch.arange(18), r.squared_norms())
    assert (apart == 0).sum() == 36


def test_near_rows_are_apart() -> None:
    x = rows(9, 13, dtype=torch.float64).repeat(2, 1)
    x[9:] *= 1 + 1e-6
    r = Rows([x], np.arange(18))
    apart = r.squared_distances(torch.arange(9), r.squared_norms()).sqrt().numpy()
    np.testing.assert_allclose(apart[np.arange(9), np.arange(9) + 9], 1e-6 * x[:9].norm(dim=1).numpy(), rtol=1e-2)
