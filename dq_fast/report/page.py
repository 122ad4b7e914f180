"""A report as one HTML file: styles and images inside, no scripts, nothing loaded, every text escaped."""

from __future__ import annotations

import base64
import os
from importlib.resources import files
from pathlib import Path

from dq_fast.errors import InputError, missing_extra
from dq_fast.files import atomic_write
from dq_fast.report.data import Report
from dq_fast.report.images import COLUMNS

_MARK = b'<meta name="generator" content="dq_fast report">'
_MARK_WITHIN = 4096  # bytes from the start
_TITLES = {
    "summary": "Summary",
    "sheets": "Images",
    "mosaic": "Mosaic",
    "maps": "Bins in the plane",
    "classes": "Classes",
    "bins": "Bins",
    "bytes": "Bytes",
    "seconds": "Times",
    "parameters": "Parameters",
    "versions": "Versions",
}
_WORDS = {
    "original": "the image as it was",
    "attention": "its patches, the brighter the higher GradCAM++ scores them",
    "kept": "what the store keeps",
    "mosaic": "where those patches lie among the patches of other images in their shard",
    "restored": "what comes back for training",
    "MAE": "the same with the dropped patches predicted by a masked autoencoder",
}


def render(report: Report) -> str:
    """The page. Equal reports give equal pages: there is no time of writing in it."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise missing_extra("jinja2", "report", "a report") from None
    columns = [name for name in COLUMNS if any(name in sheet.pictures for sheet in report.sheets)]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(files("dq_fast.report").joinpath("page.html.j2").read_text("utf-8"))
    return template.render(
        r=report,
        sections=report.sections(),
        titles=_TITLES,
        columns=columns,
        sheet_text="From left to right: " + "; ".join(_column(report, name) for name in columns) + ".",
        uri=_uri,
        percent=lambda share: f"{100 * min(1.0, max(0.0, share)):.2f}%",
    )


def _column(report: Report, name: str) -> str:
    """What a column of the contact sheet shows, in words."""
    return f"{_WORDS[name]} ({report.fills[name]})" if name in report.fills else _WORDS[name]


def write_page(report: Report, path: str | os.PathLike[str]) -> int:
    """Write the page, whole or not at all; returns its bytes.

    Raises:
        InputError: see `check_path`.
    """
    check_path(path)
    # surrogates of undecodable file names are no UTF-8
    content = render(report).encode("utf-8", "replace")
    with atomic_write(path) as file:
        file.write(content)
    return len(content)


def check_path(path: str | os.PathLike[str]) -> None:
    """Refuse to write over anything but an earlier report.

    Raises:
        InputError: there is something else.
    """
    path = Path(path)
    if not path.exists():
        return
    if path.is_file():
        with open(path, "rb") as file:
            if _MARK in file.read(_MARK_WITHIN):
                return
    raise InputError(f"{path} exists and is no dq_fast report: choose another file, or delete it")


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
