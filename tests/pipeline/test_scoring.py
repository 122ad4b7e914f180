"""In which precision a run scores patches: chosen once, recorded, and kept; embeddings are float32 unless asked."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import dq_fast as dq
from dq_fast.cli import main
from dq_fast.data import Subset
from dq_fast.embed import embed
from dq_fast.errors import InputError
from dq_fast.files import read_json
from dq_fast.patches import patch_grid
from dq_fast.pipeline import Options, RunFolder, embed_stage, load_embedding, load_model, load_sample
from tests.cli.test_cli import result
from tests.conftest import pictures
from tests.pipeline.test_compress import QUICK, tree


@pytest.fixture
def processor(monkeypatch):
    """Sets what the processor can do."""

    def can(bfloat16: bool) -> None:
        monkeypatch.setattr("dq_fast.embed.precision.native_bfloat16", lambda device: bfloat16)

    return can


@pytest.fixture
def work(tiny_store, tmp_path) -> Path:
    """A copy of a run folder that nothing was packed from yet."""
    shutil.copytree(tiny_store[1], tmp_path / "work")
    (tmp_path / "work" / "scoring.json").unlink()
    return tmp_path / "work"


def pack(work: Path, name: str, *options: str) -> dq.Store:
    out = work.parent / name
    assert main(["pack", str(work), str(out), "-q", *options]) == 0
    return dq.open(out)


def kept(store) -> list[tuple[int, ...]]:
    return [tuple(store.patches(i)[1].tolist()) for i in range(len(store))]


def test_a_run_keeps_what_was_chosen_first(tiny, work, tmp_path, processor):
    processor(True)
    shutil.copytree(work, tmp_path / "other" / "work")
    first = pack(work, "first")
    chosen = {
        "precision": "bfloat16",
        "memory_format": "channels_last",
        "why": "the processor multiplies bfloat16",
    }
    assert first.manifest["parameters"]["precision"] == "auto"
    assert first.manifest["parameters"]["scoring"] == chosen
    # what is kept is what scores in that precision say
    run = RunFolder(work, create=False)
    classifier, embedding, rows = load_model(run), load_embedding(run), load_sample(run)
    source = dq.open_source(tiny)
    x = torch.stack([classifier.preprocess(source.read(int(embedding.index[row]))) for row in rows])
    x = x.contiguous(memory_format=torch.channels_last)
    grids = [patch_grid(16, 16, 4)] * len(rows)
    labels = torch.from_numpy(embedding.labels[rows])
    expected = dq.PixelQuantizer(classifier.module, precision="bfloat16").keep(x, labels, grids)
    assert kept(first) == [tuple(places.tolist()) for places in expected]

    processor(False)  # the run goes on elsewhere
    assert tree(pack(work, "again").path) == tree(first.path)
    assert pack(work, "smaller", "--drop", "0.5").manifest["parameters"]["scoring"] == chosen
    assert dq.compress(tiny, first.path, **QUICK, work=work, resume=True).manifest == first.manifest
    exact = pack(work, "exact", "--precision", "float32")
    assert exact.manifest["parameters"]["scoring"]["precision"] == "float32"
    shares = [len(set(a) - set(b)) for a, b in zip(kept(exact), kept(first), strict=True)]
    assert sum(shares) <= 0.03 * exact.manifest["counts"]["patches"]
    assert pack(work, "chance", "--score", "random").manifest["parameters"].get("scoring") is None
    with pytest.raises(InputError, match="is not what these parameters give"):
        dq.compress(tiny, first.path, **QUICK, work=work, resume=True, precision="float32")

    started_elsewhere = pack(tmp_path / "other" / "work", "first")
    assert started_elsewhere.manifest["parameters"]["scoring"] == {
        "precision": "float32",
        "memory_format": "channels_last",
        "why": "the processor does not multiply bfloat16",
    }
    assert kept(started_elsewhere) == kept(exact)


def test_fastest_is_measured_once_a_run(work, monkeypatch, capsys):
    way = ("bfloat16", "contiguous")
    calls = []

    def measured(module, images, ways, **_):
        calls.append((tuple(images.shape), list(ways)))
        return {name: 1.0 if name == way else 2.0 for name in ways}

    monkeypatch.setattr("dq_fast.embed.precision.measure", measured)
    told = result(capsys, "pack", work, work.parent / "a", "--precision", "fastest")
    assert told["parameters"]["scoring"] == {
        "precision": "bfloat16",
        "memory_format": "contiguous",
        "why": "measured",
    }
    ways = [(p, m) for p in ("float32", "bfloat16") for m in ("channels_last", "contiguous")]
    assert calls == [((128, 3, 16, 16), ways)]
    noted = read_json(work / "scoring.json")["fastest"]
    assert noted["seconds"] == {" ".join(name): 1.0 if name == way else 2.0 for name in ways}
    assert tree(pack(work, "b", "--precision", "fastest").path) == tree(work.parent / "a")
    assert len(calls) == 1


def test_embeddings_are_float32_unless_asked_and_stay_what_they_are(tiny, work, tmp_path, processor):
    processor(True)
    run = RunFolder(work, create=False)
    source, before = dq.open_source(tiny), load_embedding(run)
    exact = embed(source, load_model(run))
    assert np.array_equal(exact.features, before.features)
    with pytest.raises(InputError, match="precision must be one of 'float32', 'bfloat16', 'float16', got 'auto'"):
        embed(source, load_model(run), precision="auto")
    with pytest.raises(InputError, match='embed_precision must be "float32" or "bfloat16" on cpu'):
        dq.compress(tiny, tmp_path / "out", embed_precision="float16", device="cpu")
    assert not (tmp_path / "out.work").exists()
    assert "embed_precision" not in RunFolder(work).require("model", "")["parameters"]

    rough = embed_stage(run, source, load_model(run), precision="bfloat16")
    error = np.abs(rough.features - exact.features).max() / np.abs(exact.features).max()
    assert 1e-5 < error < 0.05
    assert run.require("embed", "")["parameters"] == {"max_bad": 0.01, "precision": "bfloat16"}
    # images that come later are embedded as those before
    for command in (["bins", str(work), "--bins", "3"], ["sample", str(work), "--keep", "0.5"]):
        assert main([*command, "-q"]) == 0
    with np.load(tiny) as found:
        x, y = found["x_train"], found["y_train"]
    np.savez(
        tmp_path / "more.npz", x_train=np.concatenate([x, pictures(30, 5)[0]]), y_train=np.concatenate([y, y[:30]])
    )
    assert main(["bins", str(tmp_path / "more.npz"), "--add", str(work), "-q"]) == 0
    after = load_embedding(RunFolder(work))
    new = Subset(dq.open_source(tmp_path / "more.npz"), np.arange(90, 120))
    assert np.array_equal(after.features[90:], embed(new, load_model(RunFolder(work)), precision="bfloat16").features)
    assert pack(work, "out").manifest["parameters"]["embed_precision"] == "bfloat16"


def test_options_refuse_precisions_that_there_are_not():
    for values in ({"precision": "half"}, {"embed_precision": "fastest"}):
        with pytest.raises(InputError, match="precision must be one of"):
            Options.of(**values)
