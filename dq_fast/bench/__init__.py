"""Benchmarks of the kernels: cases x providers, results checked before they are timed. `dq-fast bench` runs them.

from dq_fast.bench import CASES, Setting, run

found = run([CASES["cosine_row_sums/200000x512-float32"]], Setting())
"""

from dq_fast.bench.case import Case, CheckError, Problem, Setting
from dq_fast.bench.cases import CASES, select
from dq_fast.bench.providers import PROVIDERS, Provider
from dq_fast.bench.results import COLUMNS, Row, read_csv, write_csv
from dq_fast.bench.runner import Run, run
from dq_fast.bench.targets import TARGETS, judge

__all__ = [
    "CASES",
    "COLUMNS",
    "PROVIDERS",
    "TARGETS",
    "Case",
    "CheckError",
    "Problem",
    "Provider",
    "Row",
    "Run",
    "Setting",
    "judge",
    "read_csv",
    "run",
    "select",
    "write_csv",
]
