"""One pass over a source, and the files it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dq_fast.embed import Classifier, Embedding, embed, gradient_embedding, load_classifier
from dq_fast.errors import InputError


@pytest.fixture
def classifier() -> Classifier:
    return load_classifier("tiny_nets:tiny_net", num_classes=4, input_size=8)


@pytest.mark.parametrize("n", [1, 2, 37])
@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_rows_are_what_the_network_says(blobs: Any, classifier: Classifier, n: int, batch_size: int) -> None:
    source = blobs(n, size=(10, 9))
    classifier.module.train()  # embed has to leave training mode: there is dropout and batch norm
    got = embed(source, classifier, batch_size=batch_size)
    assert not classifier.module.training
    x = torch.stack([classifier.preprocess(image) for image in source.images])
    with torch.no_grad():
        features, logits = classifier.features_and_logits(x)
    np.testing.assert_allclose(got.features, features.numpy(), atol=1e-5)
    np.testing.assert_allclose(got.logits, logits.numpy(), atol=1e-5)
    assert got.ids == source.ids
    assert got.labels.tolist() == source.labels.tolist()
    assert got.index.tolist() == list(range(n))
    b, h = got.factors("double_softmax")
    want = gradient_embedding(logits, features, torch.from_numpy(source.labels), loss="double_softmax")
    assert torch.allclose(b, want[0], atol=1e-4)
    assert torch.allclose(h, want[1], atol=1e-5)


def test_each_image_is_read_once_and_progress_is_told(blobs: Any, classifier: Classifier) -> None:
    source, calls = blobs(20), []
    embed(source, classifier, batch_size=6, progress=lambda *a: calls.append(a))
    assert source.reads == 20
    assert [c[1] for c in calls] == [0, 6, 12, 18, 20]
    assert {c[0::2] for c in calls} == {("embed", 20)}


def test_bad_images_are_left_out_and_listed(blobs: Any, classifier: Classifier) -> None:
    source = blobs(40, bad=(0, 7, 39))
    got = embed(source, classifier, batch_size=8, max_bad=0.1)
    good = [i for i in range(40) if i not in (0, 7, 39)]
    assert got.index.tolist() == good
    assert got.ids == [source.ids[i] for i in good]
    assert got.features.shape == (37, 32)
    assert got.bad == [{"id": source.ids[i], "reason": "torn"} for i in (0, 7, 39)]
    whole = embed(blobs(40), classifier)
    np.testing.assert_allclose(got.logits, whole.logits[good], atol=1e-5)
    with pytest.raises(InputError, match="3 of 40"):
        embed(source, classifier, max_bad=0.05)


def test_empty_source(blobs: Any, classifier: Classifier, tmp_path: Path) -> None:
    got = embed(blobs(0), classifier)
    assert (len(got), got.features.shape, got.logits.shape) == (0, (0, 32), (0, 4))
    got.save(tmp_path)
    assert Embedding.load(tmp_path).features.shape == (0, 32)


def test_save_and_load(blobs: Any, classifier: Classifier, tmp_path: Path) -> None:
    source = blobs(30, bad=(3,))
    source.ids[5] = "Jacken & Mäntel/ß 5.png"
    got = embed(source, classifier, max_bad=0.1)
    folder = tmp_path / "e"
    got.save(folder)
    again = Embedding.load(folder)
    assert (again.ids, again.bad) == (got.ids, got.bad)
    for name in ("index", "labels", "features", "logits"):
        assert np.array_equal(getattr(again, name), getattr(got, name))
        assert getattr(again, name).dtype == getattr(got, name).dtype
    assert isinstance(again.features, np.memmap)
    assert all(torch.equal(x, y) for x, y in zip(again.factors(), got.factors(), strict=True))
    bytes_before = {p.name: p.read_bytes() for p in folder.iterdir()}
    again.features[0] = 0  # a change stays in memory
    got.save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == bytes_before


def test_half_written_folders_are_refused(blobs: Any, classifier: Classifier, tmp_path: Path) -> None:
    got = embed(blobs(5), classifier)
    with pytest.raises(InputError, match="no file"):
        Embedding.load(tmp_path)
    got.save(tmp_path)
    np.save(tmp_path / "logits.npy", got.logits[:3])
    with pytest.raises(InputError, match=r"logits.npy must have shape \[5, 4\], got \[3, 4\]"):
        Embedding.load(tmp_path)
    (tmp_path / "logits.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=r"logits.npy must be a whole npy file"):
        Embedding.load(tmp_path)
    np.save(tmp_path / "logits.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"logits.npy"):
        Embedding.load(tmp_path)
    (tmp_path / "logits.npy").unlink()
    with pytest.raises(InputError, match=r"no file .*logits.npy"):
        Embedding.load(tmp_path)


def test_killed_while_saving_leaves_nothing_to_load(
    blobs: Any, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = embed(blobs(5), classifier)
    got.save(tmp_path)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dq_fast.embed.extract.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        got.save(tmp_path)
    with pytest.raises(InputError, match="no file"):
        Embedding.load(tmp_path)


def test_new_head_without_a_second_pass(blobs: Any, classifier: Classifier) -> None:
    source = blobs(60)
    got = embed(source, classifier)
    head = classifier.fit_head(torch.from_numpy(got.features), torch.from_numpy(got.labels))
    again = embed(source, classifier)
    np.testing.assert_allclose(got.with_head(head).logits, again.logits, atol=1e-4)
    assert (again.logits.argmax(1) == source.labels).mean() > 0.9
