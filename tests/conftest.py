"""Fixtures that every stage's tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import dq_fast

TEST_DATA = os.environ.get("DQ_FAST_TEST_DATA")
if TEST_DATA:
    TEST_DATA = os.path.abspath(TEST_DATA)  # now, from where pytest was started: the tests run in a folder of their own


@pytest.fixture(scope="session", autouse=True)
def _away_from_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Python processes that tests start import the package under test, not the sources in the folder they start in."""
    here = os.getcwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(dq_fast.__file__).parents[1]))
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        yield
    os.chdir(here)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images and weights that do not ship with the project: DQ_FAST_TEST_DATA, or a visible skip."""
    if not TEST_DATA:
        pytest.skip("set DQ_FAST_TEST_DATA to the folder with the real data sets to run this test")
    path = Path(TEST_DATA)
    if not path.is_dir():
        pytest.fail(f"DQ_FAST_TEST_DATA must be a folder, got {TEST_DATA!r}")
    return path


def pictures(n: int, seed: int, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, side, side, 3] with a bright square in one of three corners, and which corner."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.integers(0, 90, (n, side, side, 3))
    half = side // 2
    for i, label in enumerate(y):
        top, left = ((0, 0), (0, half), (half, 0))[label]
        x[i, top : top + half, left : left + half] += rng.integers(80, 160, (1, 1, 3))
    return x.astype(np.uint8), y


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An npz with 90 training and 30 test images."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.npz"
    (x, y), (x_test, y_test) = pictures(90, 0), pictures(30, 1)
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return path


@pytest.fixture(scope="session")
def tiny_store(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A store of `tiny` and its run folder: one epoch, three bins, half of the images. To be read; copy to change."""
    out = tmp_path_factory.mktemp("tiny_store") / "store"
    dq_fast.compress(tiny, out, train_epochs=1, model="resnet20_cifar", n_bins=3, keep=0.5)
    before = _files(out.parent)
    yield out, out.with_name("store.work")
    changed = {path.as_posix() for path, _, _ in before ^ _files(out.parent)}
    assert not changed, f"tests that share this store changed it, so others hang on their order: {sorted(changed)}"


def _files(folder: Path) -> set[tuple[Path, int, int]]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {(path, path.stat().st_size, path.stat().st_mtime_ns) for path in found}
