"""How much memory there is, and sizes as people write them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from dq_fast.errors import InputError

_UNITS = {"": 1, "b": 1} | {
    unit: base**power
    for power, letter in enumerate("kmgt", start=1)
    for unit, base in ((letter, 1024), (letter + "b", 1000), (letter + "ib", 1024))
}


def parse_bytes(value: Any, name: str = "max_memory") -> int | None:
    """A number of bytes from a number or from a text like "2GiB", "512 MB", "1.5g" (1024s); None stays None.

    Raises:
        InputError: not a positive size.
    """
    if value is None:
        return None
    expected = f"{name} must be a positive number of bytes or a text like '2GiB' or '512MB'"
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zA-Z]*)\s*", value)
        if match is None or match[2].lower() not in _UNITS:
            raise InputError(f"{expected}, got {value!r}")
        size = float(match[1]) * _UNITS[match[2].lower()]
    elif isinstance(value, bool) or not hasattr(value, "__float__"):
        raise InputError(f"{expected}, got {value!r}")
    else:
        size = float(value)
    if not 1 <= size < 2**63:
        raise InputError(f"{expected}, got {value!r}")
    return int(size)


def readable(size: float) -> str:
    """Bytes for people: "1.50 GiB"."""
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def available() -> int:
    """Bytes that this process may still take without swapping: the system's estimate, within a container's limit."""
    found = [_meminfo("MemAvailable")]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        top, now = _number(limit), _number(used)
        if top is not None and now is not None:
            found.append(max(0, top - now))
    known = [size for size in found if size is not None]
    return min(known) if known else 4 << 30  # where nothing tells: as small machines have


def anonymous() -> int | None:
    """Bytes of memory of this process that no file backs (RssAnon); None where the system does not tell."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _meminfo(key: str) -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # "max": no limit
        return None
