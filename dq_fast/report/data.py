"""What a report shows: plain facts, whatever they were gathered from. Texts are untrusted; the page escapes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Picture:
    """An image in the page.

    Attributes:
        content: an image file.
        kind: its media type, "image/png" or "image/jpeg".
        alt: what it shows, in words.
        width, height: px at which it is shown.
        dark: the same for dark pages, where it differs.
        pixelated: whether its pixels are to stay square when it is scaled.
    """

    content: bytes
    kind: str
    alt: str
    width: int
    height: int
    dark: bytes | None = None
    pixelated: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of its files."""
        return len(self.content) + len(self.dark or b"")


@dataclass(frozen=True)
class Bar:
    """A line of a table with a bar: name, value as text, how long the bar is (0 to 1), and of it the dark part."""

    name: str
    value: str
    length: float
    part: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Sheet:
    """One image of the contact sheet: its pictures by column, id, class, and a remark."""

    id: str
    class_name: str
    remark: str
    pictures: dict[str, Picture]


@dataclass(frozen=True)
class Map:
    """A picture of points in the plane, with words and a legend: names, CSS colours on light and dark pages."""

    title: str
    text: str
    picture: Picture
    legend: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass
class Report:
    """The content of a report; an empty list or None is a section that is left out.

    Attributes:
        title: what the report is about.
        summary: names and values.
        left_out: what is not in the report, and why, one sentence each.
        sheets: contact sheet.
        fills: how the columns of the contact sheet that show restored images were restored, in words.
        mosaic: part of a shard's mosaic.
        maps: bins in the plane.
        classes, bins, bytes, seconds: tables with bars.
        parameters: of each stage, names and values.
        versions: package names and versions.
    """

    title: str
    summary: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    fills: dict[str, str] = field(default_factory=dict)
    mosaic: Picture | None = None
    maps: list[Map] = field(default_factory=list)
    classes: list[Bar] = field(default_factory=list)
    bins: list[Bar] = field(default_factory=list)
    bytes: list[Bar] = field(default_factory=list)
    seconds: list[Bar] = field(default_factory=list)
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def sections(self) -> list[str]:
        """Names of the sections that are there."""
        names = ("summary", "sheets", "mosaic", "maps", "classes", "bins", "bytes", "seconds", "parameters", "versions")
        return [name for name in names if getattr(self, name)]
