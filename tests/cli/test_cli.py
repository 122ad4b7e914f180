"""The command line as its users see it: help, results, one line and status 2 for mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dq_fast.cli import main
from dq_fast.cli.console import human_bytes, human_seconds
from dq_fast.cli.main import parser

QUICK = ("--model", "resnet20_cifar", "--train-epochs", "0", "--bins", "3", "--keep", "0.5", "-q")
VERBS = sorted(parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def store(tiny_store) -> Path:
    return tiny_store[0]


def result(capsys, *arguments: str | Path) -> dict:
    assert main([*map(str, arguments), "--json", "-q"]) == 0
    return json.loads(capsys.readouterr().out)


def mistake(capsys, *arguments: str | Path) -> str:
    """Runs a command that must fail as a user's mistake; its one line."""
    try:
        status = main([*map(str, arguments), "-q"])
    except SystemExit as left:  # argparse's own way out
        status = left.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if "error:" in line]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as left:
        main([verb, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: dq-fast {verb}" in text
    assert "--json" in text
    assert len(text.splitlines()) > 8


def test_verbs_of_the_design_are_there():
    assert {
        *("compress", "embed", "bins", "sample", "pack", "restore", "export", "train", "info", "verify", "doctor")
    } <= set(VERBS)


def test_compress_reports_what_it_kept(tiny, tmp_path, capsys):
    facts = result(capsys, "compress", tiny, tmp_path / "out", *QUICK[:-1])
    assert facts["images"] == 45
    assert facts["source_images"] == 90
    assert facts["kept_samples"] == 0.5
    assert facts["kept_pixels"] == 12 / 16
    assert facts["store_bytes"] == sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert set(facts["seconds"]) == {"source", "model", "embed", "bins", "sample", "pack"}
    assert facts["bad"] == []


def test_tables_are_for_people(store, capsys):
    assert main(["info", str(store)]) == 0
    text = capsys.readouterr().out
    assert "kept samples" in text
    assert "50.0%" in text


def test_train_compares_store_random_and_full(store, capsys):
    common = ("--model", "resnet20_cifar", "--epochs", "1")
    on_store = result(capsys, "train", store, *common)
    assert on_store["images"] == 45
    assert on_store["test_images"] == 30
    assert 0 <= on_store["runs"][0]["last"] <= on_store["runs"][0]["best"] <= 1
    random = result(capsys, "train", store, "--baseline", "random", *common, "--seeds", "2")
    assert random["images"] == 45
    assert [row["seed"] for row in random["runs"]] == [0, 1]
    full = result(capsys, "train", store, "--baseline", "full", *common)
    assert full["images"] == 90


def test_compress_and_train_in_one_go(tiny, tmp_path, capsys):
    facts = result(capsys, "compress", tiny, tmp_path / "out", *QUICK[:-1], "--train", "--epochs", "1")
    assert [row["images"] for row in facts["training"]["rows"]] == [90, 45, 45]


def test_export_writes_an_image_folder(store, tmp_path, capsys):
    facts = result(capsys, "export", store, tmp_path / "folder")
    assert facts["images"] == 45
    files = sorted((tmp_path / "folder").rglob("*.png"))
    assert len(files) == 45
    assert sorted({f.parent.name for f in files}) == ["0", "1", "2"]
    assert "exist" in mistake(capsys, "export", store, tmp_path / "folder")
    # and it can be compressed again
    again = result(capsys, "compress", tmp_path / "folder", tmp_path / "again", *QUICK[:-1])
    assert again["source_images"] == 45


def test_restore_writes_pictures(store, tmp_path, capsys):
    written = result(capsys, "restore", store, tmp_path / "look", "--count", "2")["written"]
    assert [Path(w).name for w in written] == ["sheet.png", "mosaic.png"]
    for path in written:
        assert min(Image.open(path).size) > 30
    import dq_fast as dq

    opened = dq.open(store)
    one = result(capsys, "restore", store, tmp_path / "one", "--id", opened.ids[3])["written"]
    assert (np.asarray(Image.open(one[0])) == opened[3][0]).all()
    assert "got 'nobody'" in mistake(capsys, "restore", store, tmp_path / "none", "--id", "nobody")
    assert not (tmp_path / "none").exists()


def test_verify_finds_damage(store, tmp_path, capsys):
    assert result(capsys, "verify", store)["problems"] == []
    damaged = tmp_path / "damaged"
    shutil.copytree(store, damaged)
    shard = next((damaged / "shards").iterdir())
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert main(["verify", str(damaged), "--json"]) == 1
    assert shard.name in json.loads(capsys.readouterr().out)["problems"][0]


def test_keys_can_be_kept_elsewhere(store, tmp_path, capsys):
    moved = tmp_path / "store"
    shutil.copytree(store, moved)
    shutil.move(moved / "keys", tmp_path / "keys")
    assert "keys" in mistake(capsys, "export", moved, tmp_path / "no")
    assert not (tmp_path / "no").exists()
    assert result(capsys, "export", moved, tmp_path / "yes", "--keys", tmp_path / "keys")["images"] == 45
    assert result(capsys, "info", moved)["images"] == 45


def test_the_run_folder_remembers_where_keys_were_put(tiny_store, tmp_path, capsys):
    out, elsewhere = tmp_path / "store", tmp_path / "safe"
    shutil.copytree(tiny_store[1], out.with_name("store.work"))
    result(capsys, "pack", out.with_name("store.work"), out, "--score", "random", "--secret", "--keys", elsewhere)
    assert result(capsys, "verify", out)["problems"] == []
    assert len(result(capsys, "restore", out, tmp_path / "look")["written"]) >= 2
    left_out = result(capsys, "report", out, "--points", "0", "--images", "1")["left_out"]
    assert not [line for line in left_out if line.startswith("Images")]
    elsewhere.rename(tmp_path / "moved")  # what was remembered is then no help, and the message is the usual one
    assert "keys" in mistake(capsys, "export", out, tmp_path / "no")
    assert result(capsys, "verify", out, "--keys", tmp_path / "moved")["problems"] == []
    out.with_name("store.work").rename(tmp_path / "run")
    (tmp_path / "moved").rename(elsewhere)
    assert "keys" in mistake(capsys, "export", out, tmp_path / "no")
    left_out = result(capsys, "report", out, "--points", "0", "--images", "1", "--work", tmp_path / "run")["left_out"]
    assert not [line for line in left_out if line.startswith("Images")]


def test_doctor_names_every_op(capsys):
    facts = result(capsys, "doctor")
    served = {(row["op"], row["device"]) for row in facts["backends"]}
    ops = ("cosine_row_sums", "graph_cut_greedy", "graph_cut_bins", "patch_scores")
    assert {(op, device) for op in ops for device in ("cpu", "cuda")} <= served
    assert all(row["serves"] in ("native", "torch") and row["detail"] for row in facts["backends"])


def test_mistakes_are_one_line_and_status_2(tiny, store, tmp_path, capsys):
    out = tmp_path / "out"
    assert "nowhere" in mistake(capsys, "compress", tmp_path / "nowhere", out)
    assert "percentage" in mistake(capsys, "compress", tiny, out, "--keep", "1.5")
    assert "keep must be" in mistake(capsys, "compress", tiny, out, "--keep", "0")
    assert "at least 1" in mistake(capsys, "compress", tiny, out, "--bins", "0")
    assert "VERB" in mistake(capsys, "explode")
    assert "exists" in mistake(capsys, "compress", tiny, store)
    assert "manifest" in mistake(capsys, "info", tmp_path)
    assert "dq-fast embed" in mistake(capsys, "bins", tmp_path / "no-run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert "other files" in mistake(capsys, "embed", tiny, tmp_path / "run")
    assert not out.exists()


def test_no_test_images_is_said_before_the_work(tmp_path, capsys):
    path = tmp_path / "plain.npz"
    np.savez(path, x=np.zeros((10, 8, 8, 3), np.uint8), y=np.arange(10) % 2)
    line = mistake(capsys, "compress", path, tmp_path / "out", "--train")
    assert "--holdout" in line
    assert not (tmp_path / "out.work").exists()


def test_too_many_bad_images_stop_the_run_and_name_them(tmp_path, capsys):
    folder = tmp_path / "photos"
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            picture = np.random.default_rng(i).integers(0, 255, (12, 12, 3)).astype(np.uint8)
            Image.fromarray(picture).save(folder / name / f"{i}.png")
    (folder / "dogs" / "3.png").write_bytes(b"no picture")
    line = mistake(capsys, "compress", folder, tmp_path / "out", *QUICK[:-1])
    assert "dogs/3.png" in line
    assert "--max-bad" in line
    facts = result(capsys, "compress", folder, tmp_path / "out2", *QUICK[:-1], "--max-bad", "10%")
    assert [bad["id"] for bad in facts["bad"]] == ["dogs/3.png"]
    assert facts["images"] == round(0.5 * 19)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB"), (5 << 50, "5120.0 TiB")]
)
def test_human_bytes(count, text):
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.50 s"), (12.34, "12.3 s"), (93.4, "1 min 33 s"), (7260, "2 h 1 min")]
)
def test_human_seconds(seconds, text):
    assert human_seconds(seconds) == text
