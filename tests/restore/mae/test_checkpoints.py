"""Published layouts: every name and shape, and values through a float64 forward pass written independently."""

from __future__ import annotations

import argparse
import json
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dq_fast.errors import InputError
from dq_fast.restore.mae import MAE, MAEConfig, load_mae, save_mae
from dq_fast.restore.mae.checkpoints import read_notes
from dq_fast.restore.mae.keymaps import from_hugging_face, is_hugging_face, read_config
from dq_fast.restore.mae.patchify import to_patches

from . import reference

pytest.importorskip("timm")
SMALL = {"dim": 24, "depth": 2, "patch": 3, "grid": (4, 4), "decoder_dim": 16, "decoder_depth": 2}
HEADS = {"heads": 3, "decoder_heads": 2}


def small_state(seed: int = 0, **changed: object) -> dict[str, np.ndarray]:
    """Random weights in Meta's layout, large enough that every part of the pass matters; positions as published."""
    rng = np.random.default_rng(seed)
    spec = {**SMALL, **changed}
    state = {name: rng.normal(0, 0.3, shape) for name, shape in reference.shapes(**spec)[0].items()}  # type: ignore[arg-type]
    for name, dim in (("pos_embed", spec["dim"]), ("decoder_pos_embed", spec["decoder_dim"])):
        state[name] = reference.positions(*spec["grid"], dim)[None]  # type: ignore[misc, arg-type]
    return {name: value.astype(np.float32) for name, value in state.items()}


def tensors(state: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()}


def with_positions(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """A state dict of these shapes that takes no memory, but for the positions."""
    found = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if "pos" in name:
            side = round((shape[1] - 1) ** 0.5)
            found[name] = torch.from_numpy(reference.positions(side, side, shape[2])[None]).float()
    return found


@pytest.mark.parametrize(
    ("size", "heads", "parameters"), [("base", 12, 111_655_680), ("large", 16, 329_239_296), ("huge", 16, 656_613_964)]
)
def test_published_names_and_shapes(size, heads, parameters):
    """Of ViT-B/16, L/16 and H/14: what a model of the configuration that is read off them has, all of it."""
    meta, face = reference.published_shapes(size)
    state = with_positions(face)
    assert is_hugging_face(state)
    assert not is_hugging_face(with_positions(meta))
    joined = from_hugging_face(state)
    assert {name: tuple(value.shape) for name, value in joined.items()} == meta
    config, own = read_config(with_positions(meta), {})
    assert read_config(joined, {})[0] == config
    assert (config.heads, config.decoder_heads, config.decoder_depth) == (heads, 16, 8)
    with torch.device("meta"):
        model = MAE(config)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == {
        name: shape for name, shape in meta.items() if not name.endswith("pos_embed")
    }
    assert own.keys() == model.state_dict().keys()
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(("layout", "eps"), [("meta", 1e-6), ("hugging face", 1e-12)])
def test_values_through_a_float64_forward_pass(layout, eps, tmp_path):
    state = small_state()
    if layout == "meta":
        options = argparse.Namespace(norm_pix_loss=False, lr=1e-3, output_dir="somewhere")
        path = tmp_path / "mae_visualize_vit_small.pth"
        torch.save({"model": tensors(state), "args": options, "epoch": 3}, path)
    else:
        path = tmp_path / "model.safetensors"
        save_file(tensors(reference.as_hugging_face(state)), path)
    model = load_mae(path, **HEADS)
    assert model.config.eps == eps
    assert not model.training
    model.double()
    rng = np.random.default_rng(1)
    for rows, cols, k in ((4, 4, 11), (4, 4, 1), (3, 5, 8), (2, 6, 12)):  # other grids than it was trained on too
        image = rng.normal(size=(2, rows * 3, cols * 3, 3))
        kept = np.stack([np.sort(rng.permutation(rows * cols)[:k]) for _ in range(2)])
        patches = to_patches(torch.from_numpy(image), 3)
        visible = torch.stack([patches[i, kept[i]] for i in range(2)])
        found = model(visible, torch.from_numpy(kept), (rows, cols)).detach().numpy()
        for i in range(2):
            expected = reference.forward(state, image[i], kept[i].tolist(), **HEADS, eps=eps)
            dropped = [place for place in range(rows * cols) if place not in kept[i]]
            assert found[i].shape == (len(dropped), 27)
            np.testing.assert_allclose(found[i], expected[dropped], rtol=1e-9, atol=1e-9)


def test_float32_is_close_to_float64(tmp_path):
    torch.save({"model": tensors(small_state())}, tmp_path / "m.pth")
    model = load_mae(tmp_path / "m.pth", **HEADS)
    image = np.random.default_rng(2).normal(size=(12, 12, 3))
    kept = [0, 3, 4, 9, 15]
    patches = to_patches(torch.from_numpy(image)[None].float(), 3)
    found = model(patches[:, kept], torch.tensor([kept]), (4, 4)).detach().numpy()[0]
    expected = reference.forward(small_state(), image, kept, **HEADS, eps=1e-6)
    np.testing.assert_allclose(found, expected[[i for i in range(16) if i not in kept]], rtol=1e-3, atol=1e-4)


def test_config_json_beside_the_weights_is_read(tmp_path):
    save_file(tensors(reference.as_hugging_face(small_state())), tmp_path / "model.safetensors")
    told = {
        "model_type": "vit_mae",
        "num_attention_heads": 3,
        "decoder_num_attention_heads": 2,
        "layer_norm_eps": 1e-5,
        "norm_pix_loss": True,
        "hidden_act": "gelu",
    }
    (tmp_path / "config.json").write_text(json.dumps(told))
    config = load_mae(tmp_path).config
    assert (config.heads, config.decoder_heads, config.eps, config.norm_pix) == (3, 2, 1e-5, True)
    assert not load_mae(tmp_path, norm_pix=False).config.norm_pix  # who asks knows better
    (tmp_path / "config.json").write_text(json.dumps({**told, "hidden_act": "relu"}))
    with pytest.raises(InputError, match="gelu"):
        load_mae(tmp_path)


def test_options_of_a_training_script_tell_norm_pix(tmp_path):
    content = {"model": tensors(small_state()), "args": argparse.Namespace(norm_pix_loss=True)}
    torch.save(content, tmp_path / "m.pth")
    assert load_mae(tmp_path / "m.pth", **HEADS).config.norm_pix


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("made-by-unpickling",)


def test_nothing_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": tensors(small_state()), "args": Harmful()}, "m.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Harmful()))
    for name in ("m.pth", "plain.pth"):
        with pytest.raises(InputError):
            load_mae(name, **HEADS)
    assert not (tmp_path / "made-by-unpickling").exists()


def damaged(name: str) -> dict[str, np.ndarray]:
    state = small_state()
    if name == "no decoder":
        return {key: value for key, value in state.items() if "decoder" not in key and key != "mask_token"}
    if name == "learned positions":
        state["pos_embed"] = state["pos_embed"] + 0.1
    elif name == "rows before columns":
        state["pos_embed"] = np.roll(state["pos_embed"], 12, axis=2)
    elif name == "missing":
        del state["blocks.1.mlp.fc1.bias"]
    elif name == "unknown":
        state["blocks.1.gamma"] = state["norm.bias"]
    elif name == "shape":
        state["norm.bias"] = state["norm.bias"][:5]
    elif name == "nan":
        state["norm.bias"][3] = np.nan
    return state


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no decoder", "encoder alone"),
        ("learned positions", "sine-cosine"),
        ("rows before columns", "sine-cosine"),
        ("missing", r"missing: blocks.1.mlp.fc1.bias"),
        ("unknown", r"unknown: blocks.1.gamma"),
        ("shape", r"norm.bias must have shape \(24,\), got \(5,\)"),
        ("nan", "norm.bias must be finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(name, text, tmp_path):
    torch.save(tensors(damaged(name)), tmp_path / "m.pth")
    with pytest.raises(InputError, match=text):
        load_mae(tmp_path / "m.pth", **HEADS)


def test_what_else_is_refused(tmp_path):
    torch.save(tensors(small_state()), tmp_path / "m.pth")
    with pytest.raises(InputError, match="heads must be given for weights 24 wide"):
        load_mae(tmp_path / "m.pth")
    oblong = small_state(grid=(3, 4))
    torch.save(tensors(oblong), tmp_path / "o.pth")
    with pytest.raises(InputError, match="grid must be given"):
        load_mae(tmp_path / "o.pth", **HEADS)
    assert load_mae(tmp_path / "o.pth", **HEADS, grid=(3, 4)).config.grid == (3, 4)
    face = reference.as_hugging_face(small_state())
    del face["vit.encoder.layer.1.attention.attention.key.bias"]
    save_file(tensors(face), tmp_path / "f.safetensors")
    with pytest.raises(InputError, match=r"only query, value"):
        load_mae(tmp_path / "f.safetensors", **HEADS)
    face["vit.pooler.dense.weight"] = face["vit.layernorm.bias"].copy()
    save_file(tensors(face), tmp_path / "f.safetensors")
    with pytest.raises(InputError, match=r"vit.pooler"):
        load_mae(tmp_path / "f.safetensors", **HEADS)
    (tmp_path / "b.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    for path in (tmp_path / "b.safetensors", tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError):
            load_mae(path)


@pytest.mark.parametrize("half", [False, True])
def test_own_files_come_back(half, tmp_path):
    config = MAEConfig(
        patch=4, grid=(2, 3), dim=16, depth=1, heads=2, decoder_dim=8, decoder_depth=1, decoder_heads=2, base="smooth"
    )
    model = MAE(config, seed=3)
    save_mae(tmp_path / "mae.safetensors", model, {"recipe": {"steps": 5}}, half=half)
    back = load_mae(tmp_path)  # by its folder
    assert back.config == config
    assert read_notes(tmp_path)["recipe"] == {"steps": 5}
    for name, value in model.state_dict().items():
        kept = back.state_dict()[name]
        assert kept.dtype == torch.float32
        assert torch.equal(kept, value.half().float() if half else value)
