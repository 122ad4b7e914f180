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
_THEMES = {False: ("#1b1b1b", "#c9c9c9"), True: ("#e8e8e8", "#4c4c4c")}  # dark page: (text, points behind)
ACCENT = "#e6550d"  # seen on white and on black
_SCALE = "viridis"

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def require_matplotlib() -> None:
    """Say how to install matplotlib where it is missing."""
    try:
        import matplotlib
    except ImportError:
        raise missing_extra("matplotlib", "report", "a report") from None
    del matplotlib


def distinct(count: int) -> list[str]:
    """`count` CSS colours that tell apart as well as so many can."""
    import matplotlib

    if count > 20:
        return [_css(matplotlib.colormaps["hsv"](k / count)) for k in range(count)]
    scale = matplotlib.colormaps["tab10" if count <= 10 else "tab20"]
    return [_css(scale(k)) for k in range(count)]


def graded(count: int) -> list[str]:
    """`count` CSS colours from first to last."""
    import matplotlib

    scale = matplotlib.colormaps[_SCALE]
    return [_css(scale(k / max(1, count - 1))) for k in range(count)]


def _css(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour[:3])


def coloured(points: Floats, numbers: NDArray[np.int64], colours: Sequence[str], alt: str) -> Picture:
    """All points, each in the colour of its number; -1 is grey."""

    def draw(figure: Any, text: str, behind: str) -> None:
        axes = figure.add_axes((0, 0, 1, 1))
        table = np.array([*colours, behind])
        # drawn in an order that does not put one number on top of the others
        order = np.random.default_rng(0).permutation(len(points))
        axes.scatter(*points[order].T, s=9, c=table[numbers[order]], linewidths=0)
        _bare(axes, points)

    return _render(draw, (_WIDTH, 0.62 * _WIDTH), alt)


def panels(points: Floats, members: Sequence[tuple[str, Flags]], alt: str) -> Picture:
    """A panel each: all points in grey, the members in colour. Titles are our own words."""
    rows = -(-len(members) // _COLUMNS)
    side = _WIDTH / _COLUMNS

    def draw(figure: Any, text: str, behind: str) -> None:
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
            draw(figure, *_THEMES[dark])
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
