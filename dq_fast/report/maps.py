"""Scatter plots by matplotlib, each for light and for dark pages. No text of the data set goes into them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import missing_extra
from dq_fast.report.data import Picture

_DPI = 110
_WIDTH = 8.6  # inches, of every figure
_COLUMNS = 4  # panels a row
_THEMES = {False: ("#1b1b1b", "#c9c9c9"), True: ("#e8e8e8", "#505050")}  # dark page: (text, points behind)
BACKGROUNDS = {False: "#ffffff", True: "#161616"}  # of the page, as page.html.j2 has them
CONTRAST = 3.0  # of what tells something, WCAG 2.2, 1.4.11
ACCENT = "#e6550d"  # seen on white and on black
_SCALE = "plasma"
_SCALE_PARTS = {False: (0.0, 0.68), True: (0.36, 1.0)}  # dark page: the part of the scale that is seen on it
_EDGE = 0.002  # of a figure's sides, for the frame

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def require_matplotlib() -> None:
    """Say how to install matplotlib where it is missing."""
    try:
        import matplotlib
    except ImportError:
        raise missing_extra("matplotlib", "report", "a report") from None
    del matplotlib


def distinct(count: int) -> list[tuple[str, str]]:
    """`count` CSS colours that tell apart as well as so many can, each for light and for dark pages."""
    import matplotlib

    scale = matplotlib.colormaps["tab10" if count <= 10 else "tab20" if count <= 20 else "hsv"]
    colours = [scale(k if count <= 20 else k / count) for k in range(count)]
    return [(_seen(colour, dark=False), _seen(colour, dark=True)) for colour in colours]


def graded(count: int) -> list[tuple[str, str]]:
    """`count` CSS colours from first to last, each for light and for dark pages."""
    import matplotlib

    scale = matplotlib.colormaps[_SCALE]
    steps = np.arange(count) / max(1, count - 1)
    first, second = (
        [_seen(scale(low + (high - low) * step), dark=dark) for step in steps]
        for dark, (low, high) in _SCALE_PARTS.items()
    )
    return list(zip(first, second, strict=True))


def contrast(first: str, second: str) -> float:
    """Contrast of two CSS colours, 1 to 21, by WCAG 2.2."""
    low, high = sorted(_luminance(colour) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


def _luminance(css: str) -> float:
    parts = np.array([int(css[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _seen(colour: Sequence[float], *, dark: bool) -> str:
    """The colour, brought nearer to black or (on dark pages) white until it stands out from the page."""
    given, goal = np.array(colour[:3]), np.full(3, float(dark))
    for share in np.linspace(0, 1, 41):
        css = _css((1 - share) * given + share * goal)
        if contrast(css, BACKGROUNDS[dark]) >= CONTRAST:
            return css
    raise AssertionError("black or white stands out from every page")


def _css(colour: Sequence[float] | Floats) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour[:3])


def coloured(points: Floats, numbers: NDArray[np.int64], colours: Sequence[tuple[str, str]], alt: str) -> Picture:
    """All points, each in the colour of its number on light and dark pages; -1 is grey."""

    def draw(figure: Any, dark: bool) -> None:
        axes = figure.add_axes((_EDGE, _EDGE, 1 - 2 * _EDGE, 1 - 2 * _EDGE))
        table = np.array([*(pair[dark] for pair in colours), _THEMES[dark][1]])
        # drawn in an order that does not put one number on top of the others
        order = np.random.default_rng(0).permutation(len(points))
        axes.scatter(*points[order].T, s=9, c=table[numbers[order]], linewidths=0)
        _bare(axes, points)

    return _render(draw, (_WIDTH, 0.62 * _WIDTH), alt)


def panels(points: Floats, members: Sequence[tuple[str, Flags]], alt: str) -> Picture:
    """A panel each: all points in grey, the members in colour. Titles are our own words."""
    rows = -(-len(members) // _COLUMNS)
    side = _WIDTH / _COLUMNS

    def draw(figure: Any, dark: bool) -> None:
        text, behind = _THEMES[dark]
        grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
        figure.subplots_adjust(left=0.004, right=0.996, bottom=0.004, top=1 - 0.24 / (rows * (side + 0.1)), hspace=0.16,
                               wspace=0.04)  # fmt: skip
        for axes, (title, flags) in zip(grid, members, strict=False):
            axes.scatter(*points[~flags].T, s=3, c=behind, linewidths=0)
            axes.scatter(*points[flags].T, s=6, c=ACCENT, linewidths=0)
            axes.set_title(title, fontsize=9, color=text, pad=3)
            _bare(axes, points)
        for axes in grid[len(members) :]:
            axes.set_visible(False)

    return _render(draw, (_WIDTH, rows * (side + 0.1) + 0.1), alt)


def _bare(axes: Any, points: Floats) -> None:
    low, high = points.min(axis=0), points.max(axis=0)
    room = 0.03 * np.maximum(high - low, 1e-9)
    axes.set_xlim(low[0] - room[0], high[0] + room[0])
    axes.set_ylim(low[1] - room[1], high[1] + room[1])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.patch.set_alpha(0)
    for spine in axes.spines.values():
        spine.set_color("#8888884c")


def _render(draw: Any, size: tuple[float, float], alt: str) -> Picture:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    files = []
    with matplotlib.rc_context(matplotlib.rcParamsDefault):  # not the user's own settings
        for dark in (False, True):
            figure = Figure(figsize=size, dpi=_DPI)
            figure.patch.set_alpha(0)
            FigureCanvasAgg(figure)
            draw(figure, dark)
            file = io.BytesIO()
            figure.savefig(file, format="png", transparent=True, metadata={"Software": None})
            files.append(_fewer_colours(file.getvalue()))
    width, height = (round(_DPI * side) for side in size)
    return Picture(files[0], "image/png", alt, width, height, dark=files[1])


def _fewer_colours(png: bytes) -> bytes:
    """The picture with a palette of 256 colours: a third of the bytes, and nobody sees it."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGBA")
    file = io.BytesIO()
    image.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()
