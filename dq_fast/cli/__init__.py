"""The command line: `dq-fast VERB …`."""

from dq_fast.cli.main import main

__all__ = ["main"]
