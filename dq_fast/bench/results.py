"""One long table of results: a row a (case, provider), written as CSV."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dq_fast.errors import InputError
from dq_fast.files import atomic_write

CHECKED = ("yes", "no", "skipped")


@dataclass
class Row:
    """One provider's answer to one case. Numbers that were not measured are None, an empty field in the CSV.

    Attributes:
        case, provider: names.
        n, d, groups, dtype: the problem's.
        threads, device: it ran on.
        inputs: where they come from.
        caches: "cold" if emptied before each run, else "warm".
        checked: "yes" the result was right, "no" it was wrong or there was none, "skipped" the provider isn't here.
        deviation, tolerance: from the float64 definition, and how much was allowed.
        median_s, q10_s, q90_s: seconds a call.
        runs, calls_a_run: how often it was timed.
        ratio_to_native: how many times longer than native of the same case took.
        bytes_floor, flops_floor, floor_s: what any exact method has to move and compute, and how long that takes here.
        fraction_of_floor: floor_s / median_s; 1 cannot be beaten, but from the caches.
        input_bytes, peak_bytes: held by the caller; most memory in use during a call, on top of that.
        quick: "yes" for small inputs and few runs.
        note: why it was skipped or wrong.
        provider_version: of what does the work.
        copy_bytes_s, read_bytes_s, float32_flops_s, float64_flops_s: the machine's ceilings in this run.
    """

    case: str
    provider: str
    n: int | None = None
    d: str = ""
    groups: int | None = None
    dtype: str = ""
    threads: int | None = None
    device: str = "cpu"
    inputs: str = ""
    caches: str = ""
    checked: str = ""
    deviation: float | None = None
    tolerance: float | None = None
    median_s: float | None = None
    q10_s: float | None = None
    q90_s: float | None = None
    runs: int | None = None
    calls_a_run: int | None = None
    ratio_to_native: float | None = None
    bytes_floor: int | None = None
    flops_floor: int | None = None
    floor_s: float | None = None
    fraction_of_floor: float | None = None
    input_bytes: int | None = None
    peak_bytes: int | None = None
    quick: str = ""
    note: str = ""
    provider_version: str = ""
    machine: str = ""
    cpu: str = ""
    python: str = ""
    torch: str = ""
    numpy: str = ""
    dq_fast: str = ""
    commit: str = ""
    date: str = ""
    copy_bytes_s: float | None = None
    read_bytes_s: float | None = None
    float32_flops_s: float | None = None
    float64_flops_s: float | None = None


COLUMNS = tuple(field.name for field in fields(Row))


def add_ratios(rows: Iterable[Row]) -> None:
    """Set `ratio_to_native` of the rows of each case whose native row was timed."""
    found = list(rows)
    native = {row.case: row.median_s for row in found if row.provider == "native"}
    for row in found:
        base = native.get(row.case)
        row.ratio_to_native = row.median_s / base if row.median_s is not None and base else None


def write_csv(path: str | os.PathLike[str], rows: Iterable[Row]) -> None:
    """Write the rows under one header line; floats with six digits, which is more than times repeat to."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _text(value) for name, value in asdict(row).items()})
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def read_csv(path: str | os.PathLike[str]) -> list[Row]:
    """Read what `write_csv` wrote."""
    try:
        with open(Path(path), newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(f"{path} must have the columns {', '.join(COLUMNS)}; measure again with this version")
            return [_row(line) for line in reader]
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None


def _row(line: Mapping[str, str]) -> Row:
    values: dict[str, Any] = {}
    for field in fields(Row):
        text = line[field.name]
        kind = str(field.type)
        if kind.startswith("str"):
            values[field.name] = text
        elif text == "":
            values[field.name] = None
        else:
            values[field.name] = int(text) if kind.startswith("int") else float(text)
    return Row(**values)
