"""Every op test runs twice: on the native kernels and on the definitions in torch."""

from __future__ import annotations

import pytest
import torch

from dq_fast.ops import registry


@pytest.fixture(params=["native", "torch"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which code serves the ops in this test; "native" skips, visibly, where the module was not built."""
    if request.param == "torch":
        for name in list(registry._overloads):
            monkeypatch.setitem(registry._overloads, name, registry.reference(name))
            monkeypatch.delitem(registry._native, (name, "cpu"), raising=False)
            monkeypatch.delitem(registry._on_cpu, name, raising=False)
    elif registry.backends()["graph_cut_bins"]["cpu"].serves != "native":
        pytest.skip(registry.backends()["graph_cut_bins"]["cpu"].detail)
    return str(request.param)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest):
    """Number of threads that torch, and so the native kernels, may use."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
