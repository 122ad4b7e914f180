from __future__ import annotations

import json
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import dq_fast.restore.export
from dq_fast.errors import InputError
from dq_fast.restore.export import safe_names
from dq_fast.restore.sheet import contact_sheet, save_mosaic_crop, save_sheet

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(st.lists(TEXTS, max_size=20))
def test_names_are_safe_and_unique(texts):
    names = safe_names(texts)
    assert len({name.lower() for name in names}) == len(texts)
    for text, name in zip(texts, names, strict=True):
        assert 0 < len(name) <= 240
        assert name.isascii()
        assert not set(name) & set('/\\:*?"<>|\0 \n')
        assert not name.startswith(".")
        if "+" not in name:
            assert unquote(name) == text


def test_names_of_hard_texts():
    texts = ["", ".", "..", "a/b", "a%2Fb", "A/b", "../../etc/passwd", "x" * 300, "x" * 301, "CON", "a", "a", "A"]
    names = safe_names(texts)
    assert names[:6] == [names[0], "%2E", "%2E.", "a%2Fb", "a%252Fb", names[5]]
    assert names[6] == "%2E.%2F..%2Fetc%2Fpasswd"
    assert len({name.lower() for name in names}) == len(texts)


def test_an_image_folder_with_a_map_back(make_store, tmp_path):
    ids = ["a/b.jpg", "../c", "A/b.jpg", "猫", "x" * 500, "plain", ""]
    store, images, _ = make_store(7, ids=ids, keep=1.0, class_names=["cat/dog", "..", "cat/dog"])
    steps: list[tuple[str, int, int | None]] = []
    folder = store.export(tmp_path / "deep" / "out", progress=lambda *step: steps.append(step))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    record = json.loads((folder / "ids.json").read_text())
    assert [entry["id"] for entry in record["images"]] == ids
    assert [entry["name"] for entry in record["classes"]] == ["cat/dog", "..", "cat/dog"]
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
    assert files == {entry["file"] for entry in record["images"]}
    for i, entry in enumerate(record["images"]):
        assert entry["file"].split("/")[0] == record["classes"][i % 3]["folder"]
        assert entry["label"] == i % 3
        assert (np.asarray(Image.open(folder / entry["file"])) == images[i]).all()
    assert steps[-1] == ("export", 7, 7)
    assert not (tmp_path / "c.png").exists()


def test_more_images_than_fly_at_a_time(make_store, tmp_path):
    store, images, _ = make_store(150, sizes=((8, 8),), keep=1.0)
    folder = store.export(tmp_path / "out")
    for i in (0, 77, 149):
        assert (
            np.asarray(Image.open(folder / f"{'cat' if i % 2 == 0 else 'dog'}/{i % 2}%2F{i:03d}.png.png")) == images[i]
        ).all()


def test_torchvision_reads_it(make_store, tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    store, _, _ = make_store()
    found = datasets.ImageFolder(store.export(tmp_path / "out"))
    assert found.classes == ["cat", "dog"]
    assert [label for _, label in found.samples] == sorted(store.labels.tolist())


def test_classes_without_images_get_no_folder(make_store, tmp_path):
    store, _, _ = make_store(2, class_names=["a", "b", "c"])
    folder = store.export(tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b", "ids.json"]


def test_lossy_stores_become_jpegs(make_store, tmp_path):
    store, _, _ = make_store(3, codec="jpeg", patch=8)
    folder = store.export(tmp_path / "out")
    assert len(list(folder.rglob("*.jpg"))) == 3
    assert len(list(store.export(tmp_path / "png", format="png").rglob("*.png"))) == 3
    with pytest.raises(InputError, match="format must be png or jpg"):
        store.export(tmp_path / "gif", format="gif")


def test_nothing_is_overwritten(make_store, tmp_path):
    store, _, _ = make_store(2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(InputError, match="must be empty"):
        store.export(tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "precious"


def test_a_failed_export_leaves_nothing(make_store, tmp_path, monkeypatch):
    store, _, _ = make_store()
    before = sorted(tmp_path.iterdir())

    def broken(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dq_fast.restore.export, "_save", broken)
    with pytest.raises(OSError, match="No space"):
        store.export(tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_contact_sheet_shows_what_it_says(make_store, tmp_path):
    store, images, masks = make_store(9, sizes=((16, 16),))
    sheet = np.asarray(contact_sheet(store, [3, 4], originals=lambda i: images[i], cell=64))
    for row in range(2):
        i, top = 3 + row, 6 + 16 + row * (64 + 16 + 6)
        original, kept, restored = (sheet[top : top + 64 : 4, 6 + c * 70 : 6 + c * 70 + 64 : 4] for c in range(3))
        assert (original == images[i]).all()
        assert (kept[masks[i]] == 128).all()
        assert (kept[~masks[i]] == images[i][~masks[i]]).all()
        assert (restored == store[i][0]).all()
    path = save_sheet(tmp_path / "sheet.png", store, fill="nearest")
    assert Image.open(path).size[0] == 6 + 2 * 134


def test_contact_sheet_of_odd_things(make_store):
    store, _, _ = make_store(2, sizes=((1, 300),), ids=["猫\n", ""], class_names=["日本"])
    assert contact_sheet(store).size[0] > 0
    empty, _, _ = make_store(0, name="empty")
    with pytest.raises(InputError, match="none"):
        contact_sheet(empty)


def test_mosaic_crop_needs_no_keys(make_store, tmp_path):
    store, _, _ = make_store()
    for key in (store.path / "keys").iterdir():
        key.unlink()
    crop = np.asarray(Image.open(save_mosaic_crop(tmp_path / "crop.png", store, side=12, scale=3)))
    assert (crop[::3, ::3] == store.mosaic(0)[:12, :12]).all()
