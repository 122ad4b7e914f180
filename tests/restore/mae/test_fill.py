"""Patches, windows, smooth fills, and restoring with an MAE."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from dq_fast.errors import InputError
from dq_fast.restore import make_fill
from dq_fast.restore import open as open_store
from dq_fast.restore.mae import MAE, MAEConfig, MAEFill, save_mae
from dq_fast.restore.mae.fill import window_starts
from dq_fast.restore.mae.model import unnormalize_patches
from dq_fast.restore.mae.patchify import smooth_fill, to_images, to_patches

pytest.importorskip("timm")


def tiny_model(patch: int = 4, grid: tuple[int, int] = (3, 4), **changed: object) -> MAE:
    """Random weights everywhere, so that predictions depend on everything."""
    options = {"dim": 16, "depth": 1, "heads": 2, "decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2, **changed}
    model = MAE(MAEConfig(patch=patch, grid=grid, **options))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def case(height: int, width: int, patch: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image, and a mask [h, w] of dropped patches of a store."""
    rng = np.random.default_rng(seed)
    rows, cols = -(-height // patch), -(-width // patch)
    dropped = rng.random((rows, cols)) < share
    dropped.flat[rng.integers(rows * cols)] = False
    mask = dropped.repeat(patch, 0).repeat(patch, 1)[:height, :width]
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8), mask


def test_patches_are_pixels_row_by_row_channels_last():
    images = torch.arange(2 * 6 * 9 * 3).view(2, 6, 9, 3)
    patches = to_patches(images, 3)
    for b in range(2):
        for place in range(6):
            row, col = divmod(place, 3)
            block = images[b, row * 3 : row * 3 + 3, col * 3 : col * 3 + 3]
            assert torch.equal(patches[b, place], block.reshape(-1))
    assert torch.equal(to_images(patches, (2, 3), 3), images)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (8, 8), (13, 10)])
def test_smooth_fill_keeps_lies_within_and_is_linear(shape):
    rng = np.random.default_rng(0)
    kept = rng.random((3, *shape)) < 0.4
    kept[:, rng.integers(shape[0]), rng.integers(shape[1])] = True
    images, mask = torch.from_numpy(rng.normal(size=(3, *shape, 2))), torch.from_numpy(kept)
    filled = smooth_fill(images, mask)
    assert torch.equal(filled[mask], images[mask])
    hidden = torch.where(mask[..., None], images, torch.full_like(images, 1e3))
    assert torch.allclose(smooth_fill(hidden, mask), filled)
    assert torch.allclose(smooth_fill(3 * images + 1, mask), 3 * filled + 1)
    for b in range(3):
        inside = images[b][mask[b]]
        assert (filled[b] <= inside.amax(0) + 1e-9).all()
        assert (filled[b] >= inside.amin(0) - 1e-9).all()


def test_smooth_fill_comes_near_the_solution_of_laplaces_equation():
    """The exact one, solved as a linear system: each hole the mean of its four neighbours, borders repeated."""
    rng = np.random.default_rng(1)
    side = 16
    kept = (rng.random((4, 4)) < 0.6).repeat(4, 0).repeat(4, 1)
    image = np.add.outer(np.sin(np.arange(side) / 4), np.cos(np.arange(side) / 5)) * 100
    system, right = np.eye(side * side), np.where(kept, image, 0).reshape(-1)
    for y, x in zip(*np.nonzero(~kept), strict=True):
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            ny, nx = min(max(y + dy, 0), side - 1), min(max(x + dx, 0), side - 1)
            system[y * side + x, ny * side + nx] -= 0.25
    exact = np.linalg.solve(system, right).reshape(side, side)
    found = smooth_fill(torch.from_numpy(image)[None, ..., None], torch.from_numpy(kept)[None])[0, ..., 0].numpy()
    assert np.abs(found - exact)[~kept].mean() < 0.1 * np.abs(exact - image[kept].mean())[~kept].mean()


@pytest.mark.parametrize(("length", "window"), [(4, 4), (5, 4), (8, 4), (9, 4), (3, 3), (11, 3), (1, 1)])
def test_windows_cover_everything(length, window):
    starts = window_starts(length, window)
    assert starts == sorted(set(starts))
    assert len(starts) == -(-length // window)
    assert set().union(*(range(s, s + window) for s in starts)) == set(range(length))


SIZES = [(12, 16), (8, 16), (5, 7), (30, 17), (3, 2), (1, 40)]  # the grid, smaller, odd, larger, less than a patch


@pytest.mark.parametrize("options", [{}, {"base": "smooth"}, {"norm_pix": True}])
@pytest.mark.parametrize("store_patch", [4, 3, 16])
def test_kept_pixels_stay_and_what_was_dropped_does_not_matter(options, store_patch):
    fill = MAEFill(tiny_model(**options))
    cases = [case(*size, store_patch, share, seed) for seed, size in enumerate(SIZES) for share in (0.0, 0.5, 0.9)]
    images, masks = [image for image, _ in cases], [mask for _, mask in cases]
    before = [image.copy() for image in images]
    filled = fill.batch(images, masks)
    hidden = [np.where(mask[..., None], np.uint8(77), image) for image, mask in cases]
    again = fill.batch(hidden, masks)
    for image, mask, old, new, other in zip(images, masks, before, filled, again, strict=True):
        assert (image == old).all()
        assert new.dtype == np.uint8
        assert new.shape == image.shape
        assert not np.shares_memory(new, image)
        assert (new[~mask] == image[~mask]).all()
        assert (new == other).all()


def test_a_batch_is_the_single_images_and_mixed_sizes_do_not_mix():
    fill = MAEFill(tiny_model(base="smooth"), batch_size=3)
    cases = [case(*size, 4, 0.5, seed) for seed, size in enumerate(SIZES * 2)]
    filled = fill.batch([image for image, _ in cases], [mask for _, mask in cases])
    for (image, mask), together in zip(cases, filled, strict=True):
        alone = fill(image, mask)
        assert np.abs(alone.astype(int) - together).max() <= 1  # sums in another order
        assert (alone != image)[mask].any() == mask.any()


def test_predictions_land_where_they_belong():
    """Against the model called by hand: one window, its dropped patches, pixel by pixel."""
    model = tiny_model(patch=4, grid=(3, 4))
    image, mask = case(12, 16, 4, 0.5, 3)
    filled = MAEFill(model)(image, mask)
    missing = mask[::4, ::4].reshape(-1)
    kept = np.flatnonzero(~missing)
    mean, std = (np.array(v) * 255 for v in (model.config.mean, model.config.std))
    blocks = [
        ((image[r : r + 4, c : c + 4] - mean) / std).reshape(-1) for r in range(0, 12, 4) for c in range(0, 16, 4)
    ]
    visible = torch.tensor(np.stack(blocks)[kept][None]).float()
    predicted = model(visible, torch.from_numpy(kept)[None], (3, 4)).detach().numpy()[0]
    for place, patch in zip(np.flatnonzero(missing), predicted, strict=True):
        r, c = divmod(int(place), 4)
        pixels = np.clip(patch.reshape(4, 4, 3) * std + mean, 0, 255)
        assert np.abs(filled[r * 4 : r * 4 + 4, c * 4 : c * 4 + 4] - pixels).max() <= 0.51


def test_windows_that_overlap_are_averaged():
    """Five columns of patches under a grid of four: two windows; the shared columns are the mean of both."""
    model = tiny_model(patch=4, grid=(1, 4))
    image, mask = case(4, 20, 4, 0.0)
    mask[:, 4:8] = True  # in both windows: place 1 of the first, place 0 of the second
    left, right = (MAEFill(model)(image[:, a:b], mask[:, a:b]).astype(float) for a, b in ((0, 16), (4, 20)))
    both = MAEFill(model)(image, mask)[:, 4:8]
    assert np.abs(both - (left[:, 4:8] + right[:, :4]) / 2).max() <= 1


def test_norm_pix_is_undone():
    patches = torch.randn(2, 5, 27, dtype=torch.float64) * 3 + 1
    model = tiny_model(patch=3, norm_pix=True).double()
    mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    normalised = (patches - mean) / (variance + 1e-6) ** 0.5
    assert float(model.loss(normalised, patches)) < 1e-20
    assert float(model.loss(patches, patches)) > 0.1
    assert torch.allclose(unnormalize_patches(normalised, mean, variance), patches)


def test_stores_are_restored_in_batches(make_store, tmp_path):
    store, images, masks = make_store(9, sizes=((12, 16), (7, 9), (20, 33)))
    model = tiny_model(base="smooth")
    save_mae(tmp_path / "mae.safetensors", model)
    opened = open_store(store.path, mae=tmp_path / "mae.safetensors")
    restored = [image for image, _ in opened.restore()]
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        assert (restored[i][~mask] == image[~mask]).all()
        assert np.abs(restored[i].astype(int) - opened[i][0]).max() <= 1
        assert (restored[i][mask] != store[i][0][mask]).any()  # not the mean
    assert isinstance(make_fill(f"mae:{tmp_path}"), MAEFill)
    copy = pickle.loads(pickle.dumps(opened))  # as DataLoader workers get it
    assert (copy[1][0] == opened[1][0]).all()
    with pytest.raises(InputError, match=r"existing file"):
        open_store(store.path, fill="mae:/nowhere")
    with pytest.raises(InputError, match=r"fill"):
        open_store(store.path, fill="nearest", mae=tmp_path)


def test_impossible_models_and_inputs_are_refused():
    for changed in ({"heads": 3}, {"dim": 18}, {"base": "rough"}, {"norm_pix": True, "base": "smooth"}, {"patch": 0}):
        with pytest.raises(InputError):
            tiny_model(**changed)  # type: ignore[arg-type]
    model = tiny_model()
    patches, kept = torch.zeros(2, 3, 48), torch.tensor([[0, 1, 2], [4, 5, 11]])
    model(patches, kept, (3, 4))
    for bad in (
        (patches[..., :47], kept, (3, 4)),
        (patches, kept[:, :2], (3, 4)),
        (patches, kept, (1, 2)),
        (patches, torch.tensor([[0, 1, 1], [4, 5, 11]]), (3, 4)),
        (patches, kept, (3, 4), torch.zeros(2, 9, 48)),
    ):
        with pytest.raises(InputError):
            model(*bad)
