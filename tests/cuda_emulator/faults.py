"""The table of planted faults, which test_faults.py runs.

Each is an exact replacement in a shipped file (csrc/cuda), or in one of the emulator's own tests (units) for what no
shipped kernel does. A text that is gone is an error, so the table cannot rot. Columns: "plain" (values, and errors of
the emulator), "address" (address and undefined-behaviour sanitizers), "thread" (race detector); a column's text is a
regular expression that the report must match, an absent column promises nothing. `ptx`: whether the interpreter of the
PTX (tests/ptx) must notice it too.
"""

from __future__ import annotations

from .fault import Fault
from .faults_shipped import SHIPPED
from .faults_units import UNITS

FAULTS: tuple[Fault, ...] = UNITS + SHIPPED
