"""The verb `bench`: exit status, files, JSON."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from dq_fast.bench import CASES, PROVIDERS, read_csv
from dq_fast.bench import device as device_module
from dq_fast.bench.case import Case
from dq_fast.bench.machine import Ceilings
from dq_fast.cli import bench as verb

CASE = "graph_cut_greedy/tiny"


def call(*arguments: str) -> int:
    top = argparse.ArgumentParser()
    verb.register(top.add_subparsers())
    parsed = top.parse_args(["bench", *arguments])
    return int(parsed.run(parsed) or 0)


@pytest.fixture(autouse=True)
def _same_ceilings(monkeypatch):
    monkeypatch.setattr(device_module, "measure_ceilings", lambda quick: Ceilings(1e9, 2e9, 1e10, 5e9))


def test_a_run_writes_what_it_is_asked_for(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    csv, targets, plots = tmp_path / "a" / "r.csv", tmp_path / "t.md", tmp_path / "plots"
    status = call(
        "--case", CASE, "cosine_row_sums/growth", "--quick", "--no-memory", "--csv", str(csv),
        "--targets", str(targets), "--plots", str(plots), "-q",
    )  # fmt: skip
    out = capsys.readouterr().out
    assert status == 0
    rows = read_csv(csv)
    assert {row.case for row in rows} == {CASE, "cosine_row_sums/growth-2000", "cosine_row_sums/growth-20000"}
    assert all(row.machine and row.cpu and row.torch and row.date and row.quick == "yes" for row in rows)
    assert "not measured" in targets.read_text()
    assert CASE in out
    drawn = sorted(path.name for path in plots.iterdir())
    assert "cosine_row_sums-growth.png" in drawn
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in plots.iterdir())


def test_a_wrong_result_makes_the_exit_status_one(monkeypatch, capsys):
    real = CASES[CASE]
    ways = {**real.ways, "torch": lambda p: lambda: np.array([0, 0])}
    monkeypatch.setitem(CASES, CASE, Case(real.name, real.about, real.make, ways, cold=False))
    assert call("--case", CASE, "--quick", "--no-memory", "--json", "-q") == 1
    result = json.loads(capsys.readouterr().out)
    assert result["failed"] == [[CASE, "torch"]]
    row = next(row for row in result["rows"] if row["provider"] == "torch")
    assert (row["checked"], row["median_s"]) == ("no", None)
    assert "twice" in row["note"]


def test_a_run_of_a_real_provider_in_json(capsys):
    assert call("--case", CASE, "--provider", "torch", "--quick", "--json", "-q", "--threads", "1") == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["provider"], row["checked"], row["threads"]) == ("torch", "yes", 1)
    assert row["q10_s"] <= row["median_s"] <= row["q90_s"]
    assert row["peak_bytes"] >= 0


def test_list_names_all_cases_and_providers(capsys):
    assert call("--list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert {case["case"] for case in listed["cases"]} == set(CASES)
    assert {p["provider"] for p in listed["providers"]} == set(PROVIDERS)
