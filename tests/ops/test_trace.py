"""What the graph-cut ops report about how they went."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import dq_fast as dq
from dq_fast.ops import registry

NATIVE = registry.backends()["graph_cut_bins"]["cpu"].serves == "native"


@pytest.mark.parametrize("method", ["auto", "naive", "gram", "lazy"])
@pytest.mark.parametrize("center", [False, True])
def test_groups_are_counted(method: str, center: bool) -> None:
    x = torch.randn(1100, 24, generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([0, 300, 300, 1100])
    report: dict[str, Any] = {}
    told = dq.ops.graph_cut_bins(x, 3, offsets=offsets, method=method, center=center, report=report)
    plain = dq.ops.graph_cut_bins(x, 3, offsets=offsets, method=method, center=center)
    assert all(torch.equal(a, b) for a, b in zip(told, plain))  # noqa: B905
    assert sum(report["groups"].values()) in (2, 3)  # of three groups one is empty: nothing is ranked there
    assert report["groups"][report["algorithm"]] == max(report["groups"].values())
    assert 0 <= report["switched"] <= 2
    if method == "naive":
        assert report["groups"]["naive"] >= 2


@pytest.mark.skipif(not NATIVE, reason="the definition in torch does not count what it reads")
def test_reads_are_counted() -> None:
    x, y = torch.rand(400, 30), torch.rand(400, 20, dtype=torch.float64)
    report: dict[str, Any] = {}
    dq.ops.graph_cut_greedy((x, y), 50, method="naive", report=report)
    # At least: norms and sums, products with the sum, and all rows for each pick but the last.
    assert 2 * 400 + 49 * 400 <= report["rows_read"] <= 2 * 400 + 51 * 401 + 400
    assert report["passes"] == report["rows_read"] / 400
    assert report["bytes_read"] == report["rows_read"] * (30 * 4 + 20 * 8)
    assert report["float64_decisions"] == 0
    report.clear()
    near = 1 + 1e-9 * torch.rand(900, 7, dtype=torch.float64)  # the same to float32
    dq.ops.graph_cut_greedy(near, 5, method="lazy", report=report)
    assert report["float64_decisions"] >= 5


@pytest.mark.parametrize("n", [0, 1, 60])
def test_a_given_matrix_is_counted(n: int) -> None:
    report: dict[str, Any] = {}
    dq.ops.graph_cut_greedy(None, n // 2, similarity=torch.rand(n, n), report=report)
    assert report["algorithm"] == "gram" or n == 0
    if NATIVE:
        assert report["bytes_read"] == report["rows_read"] * n * 4
        assert report["rows_read"] == (n + 2 * (n // 2) if n else 0)
