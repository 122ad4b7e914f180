"""A fitted partition as something to keep, to add rows to and to take rows out of, without starting over.

What stays exact: docs/INCREMENTAL.md.
"""

from dq_fast.select.partition.change import Change
from dq_fast.select.partition.incremental import add, refit, remove
from dq_fast.select.partition.partition import Partition, Settings

__all__ = ["Change", "Partition", "Settings", "add", "refit", "remove"]
