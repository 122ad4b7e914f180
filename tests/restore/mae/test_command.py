"""The command line: train one on a source, restore a store with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dq_fast.cli import main
from dq_fast.restore.mae import load_mae
from dq_fast.restore.mae.checkpoints import read_notes

pytest.importorskip("timm")


def test_train_then_restore_and_export(tiny: Path, make_store, tmp_path, capsys):
    out = tmp_path / "out"
    shape = ["--dim", "16", "--depth", "1", "--heads", "2", "--decoder-dim", "16", "--decoder-depth", "1"]
    how = ["--steps", "4", "--batch-size", "16", "--drops", "30%,0.5", "--train-epochs", "1", "--decoder-heads", "2"]
    command = ["mae-train", str(tiny), str(out), *shape, *how, "--seed", "3", "--half", "--json", "-q"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["step"] == 4
    assert told["bytes"] == (out / "mae.safetensors").stat().st_size
    assert sorted(path.name for path in out.iterdir()) == ["log.csv", "mae.safetensors"]
    config = load_mae(out).config
    assert (config.patch, config.grid, config.dim, config.base) == (4, (4, 4), 16, "smooth")
    notes = read_notes(out)
    assert notes["recipe"]["drops"] == [0.3, 0.5]
    assert notes["recipe"]["seed"] == 3
    assert notes["classifier"]["name"] == "resnet20_cifar"
    assert notes["source"]["name"] == "tiny.npz"
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err

    store, images, masks = make_store(6, sizes=((16, 16), (20, 9)))
    assert main(["export", str(store.path), str(tmp_path / "all"), "--mae", str(out), "-q"]) == 0
    files = json.loads((tmp_path / "all" / "ids.json").read_text())["images"]
    for entry, image, mask in zip(files, images, masks, strict=True):
        restored = np.asarray(Image.open(tmp_path / "all" / entry["file"]))
        assert (restored[~mask] == image[~mask]).all()
    look = ["restore", str(store.path), str(tmp_path / "look"), "--mae", str(out), "-q"]
    assert main([*look, "--id", store.ids[1], "--id", store.ids[0]]) == 0
    pictures = sorted((tmp_path / "look").iterdir())
    assert len(pictures) == 2
    first = np.asarray(Image.open(pictures[0]))  # "0/000.png" sorts first, and was asked for last
    assert (first[~masks[0]] == images[0][~masks[0]]).all()
    assert main(["export", str(store.path), str(tmp_path / "x"), "--mae", str(tmp_path / "nothing")]) == 2


def test_without_a_classifier_patterns_are_random(tiny: Path, tmp_path):
    shape = ["--dim", "16", "--depth", "1", "--decoder-dim", "16", "--decoder-depth", "0", "--grid", "2x3"]
    how = ["--steps", "2", "--batch-size", "8", "--real-share", "0", "--base", "none", "--drops", "0.4"]
    assert main(["mae-train", str(tiny), str(tmp_path / "o"), *shape, *how, "-q"]) == 0
    notes = read_notes(tmp_path / "o")
    assert notes["classifier"] is None
    assert (notes["config"]["grid"], notes["config"]["base"]) == ([2, 3], "none")
    assert main(["mae-train", str(tiny), str(tmp_path / "p"), *how, "--dim", "18"]) == 2
