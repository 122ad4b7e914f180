"""The gradient embedding against exact definitions evaluated with 60 to 6,000 digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from torch.nn import functional as F

from dq_fast.embed import gradient_embedding
from dq_fast.errors import InputError

HARD_ROWS = [
    # logits, label
    ([0.0, 0.0, 0.0], 1),
    ([1.0, 2.0, 3.0], 0),
    ([1e4, -1e4, 0.0], 0),  # sure and right
    ([1e4, -1e4, 0.0], 1),  # sure and wrong
    ([0.0, 0.0, -1000.0], 2),  # two tied winners, the label far below
    ([5.0, 5.0, -1e4], 0),
    ([0.0, -900.0, -900.0, -950.0], 0),
    ([0.0, -900.0, -901.0, -950.0], 3),
    ([0.0, 1e-7, -2000.0], 2),
    ([0.0, -1e-9, -3e-9, -2000.0], 3),  # nearly tied winners, and nothing else to see
    ([0.0, 1e-7, -2000.0, -2000.5, 1e-7], 3),
    ([-3000.0, 0.0, -3000.0, -1.0], 0),
    ([88.0, 0.0], 0),
    ([-800.0, 0.0], 0),
    ([40.0, 30.0, 20.0, 10.0, 0.0], 2),
    ([3.0] * 7, 6),
]


def exact(z: list[float], y: int, loss: str) -> list[float]:
    """Direction of the loss gradient, divided by its largest entry."""
    mp.dps = 60 + int(2 * (max(z) - min(z)))  # so that 1 − p keeps its digits
    e = [mp.exp(mpf(v)) for v in z]
    p = [v / sum(e) for v in e]
    if loss == "ce":
        b = [v - (k == y) for k, v in enumerate(p)]
    else:
        w = [mp.exp(v) for v in p]
        g = [v / sum(w) - (k == y) for k, v in enumerate(w)]
        mean = sum(pk * gk for pk, gk in zip(p, g, strict=True))
        b = [pk * (gk - mean) for pk, gk in zip(p, g, strict=True)]
    top = max(abs(v) for v in b)
    return [float(v / top) for v in b]


@pytest.mark.parametrize("loss", ["ce", "double_softmax"])
@pytest.mark.parametrize(("z", "y"), HARD_ROWS)
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-9), (torch.float32, 3e-7)])
def test_direction_is_the_exact_gradient(z: list[float], y: int, loss: str, dtype: torch.dtype, tol: float) -> None:
    logits = torch.tensor([z], dtype=dtype)
    b, _ = gradient_embedding(logits, torch.ones(1, 2), torch.tensor([y]), loss=loss)
    assert b.dtype == dtype
    b = b[0].double()
    want = np.array(exact(logits[0].double().tolist(), y, loss))
    np.testing.assert_allclose((b / b.abs().max()).numpy(), want, rtol=0, atol=tol)


@pytest.mark.parametrize("loss", ["ce", "double_softmax"])
def test_random_rows_against_autograd(loss: str) -> None:
    rng = torch.Generator().manual_seed(0)
    z = (torch.randn(200, 7, generator=rng, dtype=torch.float64) * 4).requires_grad_()
    y = torch.randint(0, 7, (200,), generator=rng)
    F.cross_entropy(z if loss == "ce" else z.softmax(1), y, reduction="sum").backward()
    b, _ = gradient_embedding(z.detach(), torch.ones(200, 1), y, loss=loss)
    assert torch.allclose(F.normalize(b), F.normalize(z.grad), atol=1e-9)


@pytest.mark.parametrize("loss", ["ce", "double_softmax"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1.0, 1e2, 1e4, 6e4])
def test_never_zero_never_infinite(loss: str, dtype: torch.dtype, size: float) -> None:
    rng = torch.Generator().manual_seed(1)
    z = ((torch.rand(300, 12, generator=rng, dtype=torch.float64) * 2 - 1) * size).to(dtype)
    y = torch.cat((z[:150].argmax(1), torch.randint(0, 12, (150,), generator=rng)))
    b, h = gradient_embedding(z, torch.zeros(300, 3, dtype=dtype), y, loss=loss)
    assert torch.isfinite(b).all()
    largest = b.abs().amax(1)
    assert largest.min() >= 1 / 12
    assert largest.max() <= 2.5
    assert torch.equal(h[:, 0], torch.ones(300, dtype=h.dtype))


def test_outer_product_factorises() -> None:
    rng = torch.Generator().manual_seed(2)
    z, f = torch.randn(20, 5, generator=rng).double(), torch.randn(20, 4, generator=rng).double()
    y = torch.randint(0, 5, (20,), generator=rng)
    gradient = z.softmax(1) - F.one_hot(y, 5)
    full = F.normalize(torch.cat((gradient, (gradient[:, :, None] * f[:, None]).flatten(1)), 1))
    b, h = gradient_embedding(z, f, y)
    factored = (F.normalize(b) @ F.normalize(b).T) * (F.normalize(h) @ F.normalize(h).T)
    assert torch.allclose(full @ full.T, factored, atol=1e-12)


@pytest.mark.parametrize("loss", ["ce", "double_softmax"])
def test_odd_shapes(loss: str) -> None:
    b, h = gradient_embedding(torch.zeros(0, 3), torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), loss=loss)
    assert b.shape == (0, 3)
    assert h.shape == (0, 3)
    b, _ = gradient_embedding(torch.zeros(4, 1), torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), loss=loss)
    assert torch.equal(b, torch.full((4, 1), -1.0))
    z = torch.randn(6, 10)[:, ::2]  # not contiguous
    b, _ = gradient_embedding(z, torch.ones(6, 1), torch.arange(6) % 5, loss=loss)
    again, _ = gradient_embedding(z.contiguous(), torch.ones(6, 1), torch.arange(6) % 5, loss=loss)
    assert torch.equal(b, again)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    z, f, y = torch.randn(23, 5), torch.randn(23, 3), torch.arange(23) % 5
    whole = gradient_embedding(z, f, y, loss="double_softmax")[0]
    monkeypatch.setattr("dq_fast.embed.gradient._CHUNK_NUMBERS", 11)
    assert torch.equal(gradient_embedding(z, f, y, loss="double_softmax")[0], whole)


@pytest.mark.parametrize(
    ("logits", "features", "labels", "loss", "word"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 1), torch.tensor([0, 3]), "ce", "got 3 in row 1"),
        (torch.zeros(2, 3), torch.zeros(2, 1), torch.tensor([0, -1]), "ce", "got -1 in row 1"),
        (torch.zeros(2, 3), torch.zeros(3, 1), torch.tensor([0, 1]), "ce", "same n"),
        (torch.zeros(2), torch.zeros(2, 1), torch.tensor([0, 1]), "ce", "2-D"),
        (torch.zeros(2, 0), torch.zeros(2, 1), torch.tensor([0, 1]), "ce", "one class"),
        (torch.zeros(2, 3), torch.zeros(2, 1), torch.tensor([0.0, 1.0]), "ce", "integers"),
        (torch.zeros(2, 3), torch.zeros(2, 1), torch.tensor([0, 1]), "mse", "loss must be one of"),
        (torch.tensor([[0.0, 1.0], [torch.nan, 0.0]]), torch.zeros(2, 1), torch.tensor([0, 1]), "ce", r"first \[1\]"),
        (torch.zeros(2, 3), torch.tensor([[torch.inf], [0.0]]), torch.tensor([0, 1]), "ce", r"first \[0\]"),
    ],
)
def test_wrong_input(logits: torch.Tensor, features: torch.Tensor, labels: torch.Tensor, loss: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        gradient_embedding(logits, features, labels, loss=loss)
