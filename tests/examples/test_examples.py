"""The training loops in examples/, run on a small store: what they reach is far above chance."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from dq_fast.patches import patch_grid
from dq_fast.store import StoreWriter

EXAMPLES = Path(__file__).parents[2] / "examples"
CHANCE = 1 / 3


def run(name: str, *arguments: str) -> float:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before = torch.random.get_rng_state()
    try:
        return module.main(arguments)
    finally:
        torch.random.set_rng_state(before)


@pytest.fixture(scope="module")
def store(tiny, tmp_path_factory):
    """The 90 training images of `tiny`, a fifth of their patches dropped."""
    folder = tmp_path_factory.mktemp("examples") / "tiny.dq"
    rng = np.random.default_rng(0)
    with np.load(tiny) as arrays:
        images, labels = arrays["x_train"], arrays["y_train"]
    with StoreWriter(folder, patch=4, codec="png", class_names=["0", "1", "2"], patches_per_mosaic=200) as writer:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            grid = int(np.prod(patch_grid(16, 16, 4)))
            kept = np.sort(rng.choice(grid, 13, replace=False))
            writer.add(f"{i:02d}", int(label), image, kept)
        writer.close(source={"hflip": False})
    return str(folder)


def test_plain_torch(store, tiny, capsys):
    assert run("torch_loop", store, "--test", str(tiny), "--epochs", "6", "--workers", "1", "--batch-size", "15") > 0.9
    assert "of the test images right" in capsys.readouterr().out


def test_timm(store):
    pytest.importorskip("timm")
    options = ["--model", "resnet10t", "--size", "32", "--epochs", "6", "--workers", "0", "--no-aug"]
    assert run("timm_loop", store, *options, "--batch-size", "15") > 0.9


@pytest.mark.filterwarnings("ignore")
def test_lightning(store):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install lightning")
    assert run("lightning_loop", store, "--epochs", "6", "--workers", "0", "--batch-size", "15") > 2 * CHANCE
