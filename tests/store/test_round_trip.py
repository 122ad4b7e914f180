from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dq_fast.patches import patch_grid
from dq_fast.store import CODECS, PackedStore, StoreWriter
from dq_fast.store.layout import grid_of

from .cases import Sample, close, cut, mini_reader, sample, samples, texture, tree, write

LOSSLESS = ("png", "webp-lossless")


def check_exact(store: PackedStore, items: list[Sample], patch: int) -> None:
    assert len(store) == len(items)
    assert list(store.ids) == [item.id for item in items]
    assert store.labels.tolist() == [item.label for item in items]
    for i, item in enumerate(items):
        patches, positions = store.patches(i)
        assert positions.tolist() == item.kept.tolist()
        assert (patches == cut(item, patch)).all()
        assert tuple(store.sizes[i]) == item.image.shape[:2]


@pytest.mark.parametrize("codec", LOSSLESS)
@pytest.mark.parametrize(
    ("sizes", "patch"),
    [
        ([(32, 32)], 4),
        ([(28, 28)], 4),
        ([(30, 21)], 8),
        ([(1, 1)], 4),
        ([(1, 37), (37, 1), (5, 5), (64, 48)], 16),
        ([(9, 11)], 1),
        ([(7, 7)], 3),
    ],
)
def test_every_kept_patch_comes_back_bit_for_bit(tmp_path, codec, sizes, patch):
    items = samples(11, sizes, patch)
    store = PackedStore(write(tmp_path / "s", items, patch, codec=codec, patches_per_mosaic=100))
    check_exact(store, items, patch)
    assert store.verify() == []


def test_one_image_is_a_store(tmp_path):
    items = samples(1, [(17, 9)], 4)
    check_exact(PackedStore(write(tmp_path / "s", items, 4)), items, 4)


def test_no_image_is_a_store_too(tmp_path):
    store = PackedStore(write(tmp_path / "s", [], 4))
    assert len(store) == 0
    assert store.verify() == []
    with pytest.raises(IndexError):
        store.patches(0)


@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_one_patch_and_all_patches(tmp_path, keep):
    items = samples(5, [(20, 12)], 4, keep=keep)
    assert len(items[0].kept) == (1 if keep == 0 else 15)
    check_exact(PackedStore(write(tmp_path / "s", items, 4)), items, 4)


def test_an_image_of_more_patches_than_a_mosaic_is_a_shard_alone(tmp_path):
    items = samples(7, [(8, 8), (64, 64), (4, 4)], 4, keep=1.0)
    store = PackedStore(write(tmp_path / "s", items, 4, patches_per_mosaic=9))
    check_exact(store, items, 4)
    assert [len(store.images_of(s)) for s in range(store.n_shards)] == [1, 1, 2, 1, 2]


def test_shards_fill_up_and_hold_consecutive_images(tmp_path):
    items = samples(10, [(8, 8)], 4, keep=1.0)  # 4 patches each
    store = PackedStore(write(tmp_path / "s", items, 4, patches_per_mosaic=12))
    assert [list(store.images_of(s)) for s in range(store.n_shards)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert [store.shard_of(i) for i in range(10)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("codec", LOSSLESS)
def test_grey_images_take_one_channel_and_a_third_or_less(tmp_path, codec):
    grey, colour = (samples(30, [(32, 32)], 4, grey=grey) for grey in (True, False))
    store = PackedStore(write(tmp_path / "grey", grey, 4, codec=codec))
    check_exact(store, grey, 4)
    assert store.manifest["shards"][0]["channels"] == 1
    other = PackedStore(write(tmp_path / "colour", colour, 4, codec=codec))
    assert store.manifest["bytes"]["mosaics"] < 0.5 * other.manifest["bytes"]["mosaics"]


def test_colour_in_a_dropped_patch_does_not_make_a_shard_colour(tmp_path):
    item = samples(1, [(8, 8)], 4, grey=True, keep=1.0)[0]
    item.image[0, 0] = (255, 0, 0)
    item.kept = np.array([1, 3])
    store = PackedStore(write(tmp_path / "s", [item], 4))
    assert store.manifest["shards"][0]["channels"] == 1


def test_odd_ids_come_back(tmp_path):
    ids = ["", "a/b", "../x", "ünïcode/猫.png", "x" * 4096, "a\nb\0c", " "]
    items = [Sample(id, 0, np.full((4, 4, 3), n, np.uint8), np.array([0])) for n, id in enumerate(ids)]
    assert list(PackedStore(write(tmp_path / "s", items, 4)).ids) == ids


@pytest.mark.parametrize(
    ("codec", "patch", "least"),
    [("jpeg", 8, 32), ("jpeg", 16, 32), ("jpeg", 24, 32), ("webp", 16, 24), ("avif", 16, 32)],
)
@pytest.mark.parametrize("grey", [False, True])
def test_lossy_codecs_stay_close(tmp_path, codec, patch, least, grey):
    items = samples(20, [(64, 48), (40, 40)], patch, grey=grey)
    store = PackedStore(write(tmp_path / "s", items, patch, codec=codec, quality=90))
    error = np.concatenate([(store.patches(i)[0].astype(float) - cut(x, patch)).ravel() for i, x in enumerate(items)])
    assert 10 * np.log10(255**2 / np.mean(error**2)) > least
    assert store.verify() == []


@pytest.mark.parametrize("patch", [8, 16, 24, 32])
def test_jpeg_neighbours_do_not_bleed(tmp_path, patch):
    """A patch decodes to the same bits whatever lies around it."""
    rng = np.random.default_rng(3)
    watched = texture(rng, patch, patch)
    decoded = []
    for name, colour in {"black": (0, 0, 0), "white": (255, 255, 255), "red": (255, 0, 0), "blue": (0, 0, 255)}.items():
        items = [Sample(f"n{i}", 0, np.full((patch, patch, 3), colour, np.uint8), np.array([0])) for i in range(8)]
        items.insert(4, Sample("watched", 0, watched, np.array([0])))
        store = PackedStore(write(tmp_path / name, items, patch, codec="jpeg", quality=90))
        decoded.append(store.patches(4)[0][0])
    assert all((other == decoded[0]).all() for other in decoded[1:])
    assert np.abs(decoded[0].astype(int) - watched).mean() < 6


def test_avif_neighbours_hardly_bleed(tmp_path):
    """Without AV1's filters what lies around a patch changes how it is coded, and no more of what it shows."""
    watched = texture(np.random.default_rng(3), 16, 16)
    errors = []
    for name, colour in {"black": (0, 0, 0), "white": (255, 255, 255), "red": (255, 0, 0)}.items():
        items = [Sample(f"n{i}", 0, np.full((16, 16, 3), colour, np.uint8), np.array([0])) for i in range(8)]
        items.insert(4, Sample("watched", 0, watched, np.array([0])))
        store = PackedStore(write(tmp_path / name, items, 16, codec="avif"))
        errors.append(np.mean((store.patches(4)[0][0].astype(float) - watched) ** 2))
    assert max(errors) < 1.6 * min(errors)
    assert 10 * np.log10(255**2 / max(errors)) > 35


def test_webp_neighbours_bleed_little_inside_a_patch(tmp_path):
    """WebP's filter and colour sampling cross edges: documented, and bounded away from them."""
    patch, inner = 16, slice(4, 12)
    watched = texture(np.random.default_rng(3), patch, patch)
    decoded = []
    for name, colour in {"black": 0, "white": 255}.items():
        items = [Sample(f"n{i}", 0, np.full((patch, patch, 3), colour, np.uint8), np.array([0])) for i in range(8)]
        items.insert(4, Sample("watched", 0, watched, np.array([0])))
        decoded.append(PackedStore(write(tmp_path / name, items, patch, codec="webp")).patches(4)[0][0][inner, inner])
    assert np.abs(decoded[0].astype(int) - decoded[1]).mean() < 6


@pytest.mark.parametrize(
    ("codec", "patch"), [("png", 4), ("webp-lossless", 5), ("jpeg", 8), ("jpeg", 16), ("webp", 16), ("avif", 8)]
)
@pytest.mark.parametrize("grey", [False, True])
def test_an_independent_reader_sees_the_same(tmp_path, codec, patch, grey):
    items = samples(7, [(33, 20), (16, 40)], patch, grey=grey)
    store = PackedStore(write(tmp_path / "s", items, patch, codec=codec, patches_per_mosaic=10))
    assert store.n_shards > 1
    found = mini_reader(tmp_path / "s")
    assert [(id, label) for id, label, _, _ in found] == [(item.id, item.label) for item in items]
    for i, (_, _, image, known) in enumerate(found):
        patches, positions = store.patches(i)
        width = store.sizes[i, 1]
        columns = -(-width // patch)
        mask = np.zeros_like(known)
        for patch_pixels, position in zip(patches, positions, strict=True):
            y, x = position // columns * patch, position % columns * patch
            part = image[y : y + patch, x : x + patch].astype(int)
            assert np.abs(part - patch_pixels[: part.shape[0], : part.shape[1]]).max() <= (
                0 if codec in LOSSLESS else 1
            )
            mask[y : y + patch, x : x + patch] = True
        assert (mask == known).all()


def test_equal_input_gives_equal_bytes_and_seeds_differ(tmp_path):
    items = samples(20, [(16, 20)], 4)
    first = tree(write(tmp_path / "a", items, 4, seed=1, patches_per_mosaic=60))
    assert first == tree(write(tmp_path / "b", items, 4, seed=1, patches_per_mosaic=60, background=False))
    other = tree(write(tmp_path / "c", items, 4, seed=2, patches_per_mosaic=60))
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name != "index.npz")
    check_exact(PackedStore(tmp_path / "c"), items, 4)


def test_patches_are_permuted_across_images(tmp_path):
    """Constant images: their patches must not lie side by side."""
    items = [Sample(f"{i}", 0, np.full((16, 16, 3), i, np.uint8), np.arange(16)) for i in range(64)]
    store = PackedStore(write(tmp_path / "s", items, 4))
    cells = store.mosaic(0)[::4, ::4, 0].astype(int)
    same = (cells[:, 1:] == cells[:, :-1]).mean()
    assert same < 0.05  # 1/64 by chance; 15/16 in reading order


def test_secret_stores_differ_and_do_not_tell_their_seed(tmp_path):
    items = samples(5, [(16, 20)], 4)
    a, b = (write(tmp_path / name, items, 4, secret=True) for name in "ab")
    assert (a / "shards/00000.webp").read_bytes() != (b / "shards/00000.webp").read_bytes()
    store = PackedStore(a)
    check_exact(store, items, 4)
    assert store.manifest["shuffle"]["seed"] is None
    seed = np.load(a / "keys/00000.npy")[:32].tobytes()
    assert not any(seed in data or seed.hex().encode() in data for name, data in tree(a).items() if "keys" not in name)


def test_manifest_counts_and_bytes(tmp_path):
    items = samples(9, [(16, 20), (5, 5)], 4)
    store = PackedStore(write(tmp_path / "s", items, 4, patches_per_mosaic=40))
    sizes = {name: len(data) for name, data in tree(tmp_path / "s").items()}
    assert store.manifest["bytes"]["after"] == sum(sizes.values())
    assert store.manifest["bytes"]["keys"] == sum(size for name, size in sizes.items() if name.startswith("keys/"))
    assert store.manifest["counts"]["patches"] == sum(len(item.kept) for item in items)
    assert store.manifest["counts"]["grid_patches"] == 5 * 20 + 4 * 4
    assert store.hflip is False
    assert store.manifest["parameters"] == {"drop": 0.3}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    patch=st.integers(1, 9),
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=5),
    limit=st.integers(1, 60),
)
def test_any_shape(tmp_path_factory, seed, patch, sizes, limit):
    rng = np.random.default_rng(seed)
    items = [sample(rng, i, size, patch, keep=rng.random()) for i, size in enumerate(sizes)]
    folder = write(tmp_path_factory.mktemp("any") / "s", items, patch, codec="png", patches_per_mosaic=limit)
    check_exact(PackedStore(folder), items, patch)


def test_the_grid_is_that_of_the_pixel_quantizer():
    for height, width, patch in [(1, 1, 4), (32, 32, 4), (30, 21, 8), (129, 255, 16)]:
        assert grid_of(height, width, patch) == patch_grid(height, width, patch)


def test_every_codec_is_tested():
    assert set(CODECS) == {"png", "webp-lossless", "jpeg", "webp", "avif"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": 3}, "label of 'x' must be from 0 to 2"),
        ({"label": -1}, "label of 'x' must be from 0 to 2"),
        ({"image": np.zeros((4, 4), np.uint8)}, "must be uint8"),
        ({"image": np.zeros((4, 4, 3))}, "must be uint8"),
        ({"image": np.zeros((0, 4, 3), np.uint8)}, "from 1 to"),
        ({"kept": np.zeros(0, np.int64)}, "k >= 1"),
        ({"kept": np.array([0.0])}, "k >= 1"),
        ({"kept": np.array([1, 0])}, "ascend"),
        ({"kept": np.array([0, 0])}, "ascend"),
        ({"kept": np.array([4])}, "ascend within 0 to 3"),
        ({"kept": np.array([-1, 0])}, "ascend"),
        ({"id": "\ud800"}, "UTF-8"),
        ({"id": "x" * 4097}, "at most 4096 bytes"),
        ({"id": "taken"}, "unique"),
        ({"id": 7}, "string"),
    ],
)
def test_bad_images_are_refused(tmp_path, changes, message):
    writer = StoreWriter(tmp_path / "s", patch=4, codec="png", class_names=["a", "b", "c"])
    good = {"id": "x", "label": 0, "image": np.zeros((8, 8, 3), np.uint8), "kept": np.arange(4)}
    writer.add(**{**good, "id": "taken"})
    with pytest.raises(ValueError, match=message):
        writer.add(**{**good, **changes})
    writer.add(**good)
    close(writer)
    assert len(PackedStore(tmp_path / "s")) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codec": "gif"}, "codec must be one of"),
        ({"codec": "jpeg"}, "multiple of 8"),
        ({"quality": 90}, "lossless"),
        ({"codec": "webp", "quality": 0}, "1 to 100"),
        ({"patch": 0}, "patch must be"),
        ({"patch": 8193}, "patch must be"),
        ({"patches_per_mosaic": 0}, "patches_per_mosaic"),
        ({"patches_per_mosaic": 2048**2 + 1}, "patches_per_mosaic"),
        ({"seed": -1}, "seed must be"),
        ({"class_names": ["a", 1]}, "class_names"),
        ({"class_names": ["\ud800"]}, "class_names"),
    ],
)
def test_bad_parameters_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        StoreWriter(tmp_path / "s", **{"patch": 4, "codec": "png", "class_names": ["a"], **changes})
    assert not (tmp_path / "s").exists()
