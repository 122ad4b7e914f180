from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of small stores are written here; the power does not go out in a test."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
