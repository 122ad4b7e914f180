"""What the interpreter raises."""

from __future__ import annotations


class PtxError(RuntimeError):
    """A defect of the program that runs, or an instruction that the interpreter does not know."""
