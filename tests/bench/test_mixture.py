"""The mixture that synthetic rows are drawn from."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dq_fast.bench.mixture import CHUNK, Mixture, gradients, rows, write

MIXTURE = Mixture.load()


def test_moments_are_those_of_the_specification() -> None:
    load, noise = MIXTURE.directions[4].astype(float), float(MIXTURE.noises[4])
    x = rows(MIXTURE, [0, 0, 0, 0, 0, 40_000], 64, source="cifar10").astype(float)  # a rotation of the 64 features
    assert np.linalg.norm(x.mean(0)) == pytest.approx(np.linalg.norm(MIXTURE.means[4].astype(float)), rel=0.01)
    got = np.linalg.eigvalsh(np.cov(x.T))
    want = np.linalg.eigvalsh(load.T @ load + noise**2 * np.eye(64))
    np.testing.assert_allclose(got, want, rtol=0.06)


@pytest.mark.parametrize("d", [1, 33, 1500])
def test_a_group_does_not_depend_on_those_after_it(d: int) -> None:
    x = rows(MIXTURE, [0, 3, 3, 7], d, seed=5)
    assert x.dtype == np.float32
    assert x.shape == (7, d)
    np.testing.assert_array_equal(x[:3], rows(MIXTURE, [0, 3], d, seed=5))
    assert not np.array_equal(x[:3], rows(MIXTURE, [0, 3], d, seed=6))


def test_gradients_point_away_from_the_label() -> None:
    b = gradients(MIXTURE, [0, 50, 100], 30)
    assert (b[:50].argmin(1) == 0).all()
    assert (b[50:].argmin(1) == 1).all()
    np.testing.assert_allclose(b.sum(1), 0, atol=1e-5)


def test_files_hold_the_same_rows(tmp_path: Path) -> None:
    n = CHUNK + 3
    found = write(tmp_path / "x.npy", n, 4, partial(rows, MIXTURE, [0, n], 4))
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, rows(MIXTURE, [0, n], 4))


def test_a_specification_is_read_as_it_was_written(tmp_path: Path) -> None:
    MIXTURE.save(tmp_path / "m.npz")
    again = Mixture.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(rows(again, [0, 5], 9), rows(MIXTURE, [0, 5], 9))
