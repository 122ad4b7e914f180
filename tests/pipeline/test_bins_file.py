"""Columns from files, bins files, and what tells whether rows changed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dq_fast import SampleQuantizer
from dq_fast.errors import InputError
from dq_fast.pipeline import BinsFile, Options, is_bins_file
from dq_fast.pipeline.bins_file import fingerprint
from dq_fast.pipeline.columns import read_column


def test_columns_of_every_kind_of_file(tmp_path):
    values = ["a", "b", "a"]
    (tmp_path / "c.txt").write_text("a\nb\na\n")
    (tmp_path / "c.csv").write_text("n,label\n1,a\n2,b\n3,a\n")
    (tmp_path / "c.json").write_text(json.dumps(values))
    np.save(tmp_path / "c.npy", np.array(values))
    np.savez(tmp_path / "c.npz", label=np.array(values), other=np.arange(3))
    for spec in ("c.txt", "c.csv:label", "c.json", "c.npy", "c.npz:label"):
        assert read_column(str(tmp_path / spec), "labels").tolist() == values, spec
    for spec, words in (
        ("no.npy", "labels must be a file"),
        ("c.csv", r"labels must name one of c\.csv's columns"),
        ("c.csv:colour", "got 'colour'; it has n, label"),
        ("c.npz", "it has label, other"),
    ):
        with pytest.raises(InputError, match=words):
            read_column(str(tmp_path / spec), "labels")


def test_columns_that_are_broken_are_named(tmp_path):
    (tmp_path / "c.csv").write_text("n,label\n1,a\n2\n")
    with pytest.raises(InputError, match=r"got \['2'\] in line 3"):
        read_column(f"{tmp_path / 'c.csv'}:label", "labels")
    (tmp_path / "c.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="one number or text a row"):
        read_column(str(tmp_path / "c.json"), "labels")
    np.save(tmp_path / "c.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="without Python objects"):
        read_column(str(tmp_path / "c.npy"), "labels")


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        ({"n_bins": 3}, {}),
        ({"n_bins": 3, "incremental": True, "center": True}, {"ids": [f"i{k}" for k in range(30)]}),
        ({"n_bins": 3}, {"groups": "all"}),
        ({"n_bins": 2, "compat": "official"}, {}),
        ({"method": "craig", "max_keep": 0.5, "options": {"gradients": "embedding"}}, {}),
    ],
)
def test_a_bins_file_holds_a_fit(tmp_path, parameters, arguments):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(30, 4)), np.array(["a", "b"])[np.arange(30) % 2]
    sq = SampleQuantizer(**parameters).fit(x, labels, **arguments)
    path = tmp_path / "b.npz"
    BinsFile(sq, {"note": "é"}).save(path)
    assert is_bins_file(path)
    again = BinsFile.load(path)
    assert again.about["note"] == "é"
    assert again.quantizer.get_params() == sq.get_params()
    keep = 0.5
    assert again.quantizer.sample(keep, seed=4, as_ids=True).tolist() == sq.sample(keep, seed=4, as_ids=True).tolist()
    assert again.quantizer.classes_.tolist() == ["a", "b"]
    if sq.weights_ is not None:
        assert again.quantizer.weights_.tolist() == sq.weights_.tolist()
    if sq.incremental:
        new = rng.normal(size=(4, 4))
        more = (new, ["a", "b", "c", "c"], ["n0", "n1", "n2", "n3"])
        again.quantizer.add(*more)
        sq.add(*more)
        assert again.quantizer.ranking_.tolist() == sq.ranking_.tolist()


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "b.npz"
    BinsFile(SampleQuantizer(n_bins=2).fit(np.random.default_rng(0).normal(size=(30, 3))), {}).save(path)
    content = bytearray(path.read_bytes())
    content[content.find(b"ranking.npy") + 200] ^= 255
    path.write_bytes(content)
    with pytest.raises(InputError, match="not readable"):
        BinsFile.load(path)
    np.savez(path, a=np.arange(3))
    assert not is_bins_file(path)
    with pytest.raises(InputError, match="must be a bins file"):
        BinsFile.load(path)


def test_fingerprints_follow_contents_not_names(tmp_path):
    a, b = tmp_path / "a.npy", tmp_path / "b.npy"
    np.save(a, np.zeros((9, 2)))
    b.write_bytes(a.read_bytes())
    assert fingerprint(a) == fingerprint(b)
    np.save(b, np.ones((9, 2)))
    assert fingerprint(a) != fingerprint(b)


def test_presets_and_algorithms_in_options():
    assert Options.of(preset="paper").bins == Options().bins
    assert Options.of(preset="paper", n_bins=3).bins.n_bins == 3
    assert Options.of(algorithm="lazy").bins.method == "lazy"
    with pytest.raises(InputError, match="algorithm must go with method 'dq'"):
        Options.of(method="herding", algorithm="lazy")
