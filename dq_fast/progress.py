"""How long work tells how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, "int | None"], None]
"""Called as ``progress(stage, done, total)``, in the stage's own unit; ``total`` is None where it is not known."""


def silent(stage: str, done: int, total: int | None) -> None:
    """The progress nobody listens to."""
