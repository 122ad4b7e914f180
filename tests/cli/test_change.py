"""Runs that grow and shrink as users see them: `dq-fast bins SOURCE --add RUN`, `RUN --remove FILE`, `--refit`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dq_fast as dq
from dq_fast import SampleQuantizer
from dq_fast.cli import main
from dq_fast.embed import Embedding, embed
from dq_fast.pipeline import RunFolder, load_model
from dq_fast.pipeline.run import STAGES
from tests.cli.test_cli import mistake, result
from tests.conftest import pictures
from tests.pipeline.test_compress import tree

QUICK = ("--model", "resnet20_cifar", "--train-epochs", "0", "-q")


@pytest.fixture(scope="module")
def more(tiny, tmp_path_factory) -> Path:
    """The images of `tiny` and 30 others."""
    path = tmp_path_factory.mktemp("more") / "more.npz"
    with np.load(tiny) as found:
        x, y = found["x_train"], found["y_train"]
    x_new, y_new = pictures(30, 5)
    np.savez(path, x_train=np.concatenate([x, x_new]), y_train=np.concatenate([y, y_new[::-1]]))
    return path


@pytest.fixture
def run(tiny_store, tmp_path) -> Path:
    """A finished run of `tiny`, three bins, half of the images drawn."""
    shutil.copytree(tiny_store[1], tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> tuple[Path, Path]:
    """A folder of 60 photos in classes a, b, c; a run of it with bins but no sample."""
    folder = tmp_path_factory.mktemp("photos")
    for i, (picture, label) in enumerate(zip(*pictures(60, 2), strict=True)):
        save(folder / "photos", f"{'abc'[label]}/{i:02}.png", picture)
    assert main(["embed", str(folder / "photos"), str(folder / "run"), *QUICK]) == 0
    assert main(["bins", str(folder / "run"), "--bins", "3", "-q"]) == 0
    return folder / "photos", folder / "run"


@pytest.fixture
def folder(photos, tmp_path) -> Path:
    """Copies of both, the folder at its recorded place being somewhere else."""
    shutil.copytree(photos[0], tmp_path / "photos")
    shutil.copytree(photos[1], tmp_path / "run")
    return tmp_path


def save(root: Path, name: str, picture: np.ndarray) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(root / name)


def drawn(run: Path) -> list[str]:
    return json.loads((run / "sample" / "sample.json").read_text())["ids"]


def ranking(run: Path) -> list[int]:
    with np.load(run / "bins" / "bins.npz") as found:
        return found["ranking"].tolist()


def whole(run: Path) -> bool:
    return all(RunFolder(run).is_whole(s) for s in STAGES if (run / s).exists())


def test_a_run_takes_over_what_its_source_has_more(tiny_store, run, more, tmp_path, capsys):
    store, _ = tiny_store
    before = Embedding.load(run / "embed")
    same = tree(run)
    dry = result(capsys, "bins", more, "--add", run, "--dry-run")
    assert (dry["images"], dry["added"], dry["kept"], dry["written"]) == (120, 30, 60, False)
    assert tree(run) == same
    facts = result(capsys, "bins", more, "--add", run)
    assert {**facts, **{k: dry[k] for k in ("written", "seconds", "kept_before", "notes", "stale")}}.items() >= {
        **{k: v for k, v in dry.items() if v is not None}
    }.items()
    assert facts["stale"] == [str(store)]
    assert any("dq-fast pack" in note for note in facts["notes"])
    now = Embedding.load(run / "embed")
    assert now.ids == [f"{i:07d}" for i in range(120)]
    assert (now.features[:90] == before.features).all()
    fresh = embed(dq.open_source(more), load_model(RunFolder(run)))
    assert (now.labels == fresh.labels).all()
    torch.testing.assert_close(torch.from_numpy(now.logits[:]), torch.from_numpy(fresh.logits), rtol=1e-4, atol=1e-4)
    # bins and sample: as the quantizer does it
    sq = SampleQuantizer(n_bins=3, incremental=True).fit(before.factors(), before.labels, ids=before.ids)
    sq.add(tuple(f[90:] for f in now.factors()), now.labels[90:], now.ids[90:])
    assert ranking(run) == sq.ranking_.tolist()
    assert drawn(run) == [now.ids[i] for i in np.sort(sq.sample(0.5))]
    assert not facts["exact"]
    assert whole(run)
    # nothing more to do, and what follows works on it
    same = tree(run)
    assert not result(capsys, "bins", more, "--add", run)["written"]
    assert tree(run) == same
    assert "is not what these parameters give" in mistake(capsys, "pack", run, store)
    assert result(capsys, "pack", run, tmp_path / "new")["source_images"] == 120
    assert dq.open(tmp_path / "new").ids == drawn(run)
    # exactly: only changed classes are ranked again, and it is what ranking all gives
    facts = result(capsys, "bins", run, "--refit")
    assert facts["exact"]
    assert facts["stale"] == [str(store), str(tmp_path / "new")]
    scratch = tmp_path / "scratch"
    shutil.copytree(run, scratch)
    shutil.rmtree(scratch / "bins")
    result(capsys, "bins", scratch, "--bins", 3)
    assert (scratch / "bins" / "bins.npz").read_bytes() == (run / "bins" / "bins.npz").read_bytes()
    assert ranking(run) != sq.ranking_.tolist()


def test_adding_with_refit_at_once_ends_with_the_same(run, more, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "other")
    result(capsys, "bins", more, "--add", run)
    result(capsys, "bins", run, "--refit")
    result(capsys, "bins", more, "--add", tmp_path / "other", "--refit")
    assert ranking(tmp_path / "other") == ranking(run)
    assert drawn(tmp_path / "other") == drawn(run)


def test_removed_images_stay_out_until_they_are_asked_for(tiny, run, more, tmp_path, capsys):
    gone = drawn(run)[:4]
    (tmp_path / "gone.txt").write_text("\n".join(gone))
    facts = result(capsys, "bins", run, "--remove", tmp_path / "gone.txt")
    assert (facts["images"], facts["removed"], facts["left_out"], facts["kept"]) == (86, 4, 4, 43)
    assert not set(gone) & set(Embedding.load(run / "embed").ids)
    line = mistake(capsys, "bins", run, "--remove", tmp_path / "gone.txt")
    assert f"got {gone[0]!r}, which it does not have (it was removed earlier)" in line
    # neither a resumed run nor a grown source brings them back
    work = ("--work", run, "--resume", "--train-epochs", 1, "--bins", 3, "--keep", 0.5, "--model", "resnet20_cifar")
    facts = result(capsys, "compress", tiny, tmp_path / "out", *work)
    assert facts["reused"] == ["source", "model", "embed", "bins", "sample"]
    assert (facts["images"], facts["source_images"]) == (43, 86)
    assert not set(gone) & set(dq.open(tmp_path / "out").ids)
    assert result(capsys, "bins", more, "--add", run)["images"] == 116
    assert result(capsys, "bins", run, "--method", "random")["images"] == 116  # bins anew, of what is there
    (tmp_path / "back.txt").write_text("\n".join(gone[:2]))
    assert "refit must be given" in mistake(capsys, "bins", more, "--add", run, "--ids", tmp_path / "back.txt")
    facts = result(capsys, "bins", more, "--add", run, "--ids", tmp_path / "back.txt", "--refit")
    assert (facts["added"], facts["left_out"], facts["images"], facts["exact"]) == (2, 2, 118, True)
    assert set(gone) & set(Embedding.load(run / "embed").ids) == set(gone[:2])
    assert whole(run)


def test_a_folder_loses_changes_and_gets_images(folder, capsys):
    photos, run = folder / "photos", folder / "run"
    names = sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*.png"))
    for name in names[:3]:
        (photos / name).unlink()
    assert "3 of its 60 are missing" in mistake(capsys, "bins", photos, "--add", run)
    big = np.random.default_rng(0).integers(0, 255, (30, 30, 3)).astype(np.uint8)
    save(photos, names[10], big)
    for name in ("a/new.png", "c/00new.png"):
        save(photos, name, big)
    (photos / "b" / "broken.png").write_bytes(b"no picture")
    line = mistake(capsys, "bins", photos, "--add", run, "--remove", "missing")
    assert "1 of 60 images cannot be read" in line
    (photos / "b" / "broken.png").unlink()
    facts = result(capsys, "bins", photos, "--add", run, "--remove", "missing")
    assert [facts[k] for k in ("images", "added", "changed", "removed", "left_out")] == [59, 2, 1, 3, 0]
    assert facts["kept"] is None
    assert facts["embedded"] == 3
    now, source = Embedding.load(run / "embed"), dq.open_source(photos)
    assert [source.ids[i] for i in now.index] == now.ids
    assert now.ids[-3:] == sorted([names[10], "a/new.png", "c/00new.png"])
    assert (now.labels == source.labels[now.index]).all()
    fresh = embed(source, load_model(RunFolder(run)))
    torch.testing.assert_close(
        torch.from_numpy(now.features[:]), torch.from_numpy(fresh.features[now.index]), rtol=1e-4, atol=1e-4
    )
    assert whole(run)
    (photos / "a" / "new.png").unlink()
    facts = result(capsys, "bins", run, "--remove", "missing")
    assert (facts["removed"], facts["images"]) == (1, 58)


def test_images_that_the_hold_out_takes_leave_the_run(photos, tmp_path, capsys):
    shutil.copytree(photos[0], tmp_path / "photos")
    run = tmp_path / "run"
    result(capsys, "embed", tmp_path / "photos", run, *QUICK[:-1], "--holdout", "20%")
    result(capsys, "bins", run, "--bins", 2)
    for i, (picture, label) in enumerate(zip(*pictures(60, 9), strict=True)):
        save(tmp_path / "photos", f"{'abc'[label]}/n{i:02}.png", picture)
    facts = result(capsys, "bins", tmp_path / "photos", "--add", run)
    assert facts["held_out"] == facts["removed"] > 0
    assert facts["images"] == 96
    assert any("which the model was trained with" in note for note in facts["notes"])
    from dq_fast.pipeline import SourceOptions
    from dq_fast.pipeline.stages import open_part

    expected = open_part(str(tmp_path / "photos"), SourceOptions(holdout=0.2))
    assert set(Embedding.load(run / "embed").ids) == set(expected.ids)


def test_centred_bins_keep_their_means_over_several_changes(run, more, tmp_path, capsys):
    result(capsys, "bins", run, "--bins", 3, "--center", "--embedding", "features")
    before = Embedding.load(run / "embed")
    (tmp_path / "some.txt").write_text("".join(f"{i:07d}\n" for i in range(90, 105)))
    result(capsys, "bins", more, "--add", run, "--ids", tmp_path / "some.txt")
    (tmp_path / "gone.txt").write_text("0000004\n0000095\n")
    result(capsys, "bins", run, "--remove", tmp_path / "gone.txt")
    (tmp_path / "some.txt").write_text("".join(f"{i:07d}\n" for i in range(105, 120)))
    facts = result(capsys, "bins", more, "--add", run, "--ids", tmp_path / "some.txt")
    assert facts["mean_shift"] > 0
    now = Embedding.load(run / "embed")
    new = {id: now.features[i : i + 1] for i, id in enumerate(now.ids)}
    label = dict(zip(now.ids, now.labels.tolist(), strict=True))
    sq = SampleQuantizer(n_bins=3, center=True, incremental=True).fit(before.features, before.labels, ids=before.ids)
    whole_embedding = embed(dq.open_source(more), load_model(RunFolder(run)))
    for ids in ([f"{i:07d}" for i in range(90, 105)], [f"{i:07d}" for i in range(105, 120)]):
        rows = np.concatenate([new.get(id, whole_embedding.features[int(id)][None]) for id in ids])
        sq.add(rows, [label.get(id, int(whole_embedding.labels[int(id)])) for id in ids], ids)
        if ids[0] == "0000090":
            gone = np.concatenate([before.features[4:5], rows[5:6]])
            sq.remove(["0000004", "0000095"], embedding=gone)
    assert ranking(run) == sq.ranking_.tolist()


def test_mistakes_leave_the_run_as_it_was(run, more, tmp_path, capsys):
    same = tree(run)
    with np.load(more) as found:
        x, y = found["x_train"], found["y_train"]
    np.savez(tmp_path / "new_only.npz", x_train=x[:0:-1], y_train=y[:0:-1])
    np.savez(tmp_path / "classes.npz", x_train=x, y_train=np.where(np.arange(120) > 110, 7, y))
    np.savez(tmp_path / "fewer.npz", x_train=x[:80], y_train=y[:80])
    (tmp_path / "all.txt").write_text("".join(f"{i:07d}\n" for i in range(90)))
    (tmp_path / "twice.txt").write_text("0000001\n0000001\n")
    (tmp_path / "unknown.txt").write_text("0000001\nwhale\n")
    (tmp_path / "other").mkdir()
    for arguments, words in (
        ((tmp_path / "nowhere", "--add", run), "there is no file or folder"),
        ((tmp_path / "classes.npz", "--add", run), " came): start over"),
        ((tmp_path / "fewer.npz", "--add", run), "give --remove missing"),
        ((run, "--remove", tmp_path / "all.txt"), "remove must leave images"),
        ((run, "--remove", tmp_path / "twice.txt"), "got '0000001' twice"),
        ((run, "--remove", tmp_path / "unknown.txt"), "got 'whale', which it does not have"),
        ((run, "--remove", tmp_path / "no.txt"), "remove must be a file"),
        ((more, "--add", run, "--ids", tmp_path / "unknown.txt"), "got '0000001'"),
        ((more, "--add", run, "--labels", more), "--labels must be left out where a run changes"),
        ((more, "--add", run, "--group-by", more), "group_by must go with bins that were made with it"),
        ((more, "--add", tmp_path / "other"), "must be a run folder of dq-fast bins, or a bins file"),
        ((run, "--refit", "--ids", more), "--ids must go with --add"),
    ):
        assert words in mistake(capsys, "bins", *arguments), arguments
        assert tree(run) == same
    # parts that disagree are not made to look alike
    content = bytearray((run / "embed" / "labels.npy").read_bytes())
    content[-8] ^= 1
    (run / "embed" / "labels.npy").write_bytes(content)
    assert "its stage 'embed' is damaged" in mistake(capsys, "bins", more, "--add", run)
