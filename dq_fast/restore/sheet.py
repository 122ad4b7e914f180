"""Pictures to look at: contact sheets and mosaics."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dq_fast.errors import InputError
from dq_fast.files import atomic_write
from dq_fast.restore.fill import Fill, Pixels, make_fill
from dq_fast.restore.images import Store
from dq_fast.store import PackedStore
from dq_fast.store.shuffle import permutation

GREY = 128  # where patches were dropped
_MARGIN = 6  # px
_CAPTION = 16  # px, one line of Pillow's own font
_ROWS = 6  # images a sheet shows unless told which


def contact_sheet(
    store: Store,
    indices: Sequence[int] | None = None,
    *,
    originals: Callable[[int], Pixels] | None = None,
    fill: str | Fill | None = None,
    cell: int = 128,
) -> Image.Image:
    """One image a row: the original (if given), its kept patches on grey, and the restored image; id and class below.

    Args:
        store: whose images.
        indices: which; None is six spread over the store.
        originals: gives the original of image i, uint8 [h, w, 3].
        fill: another fill than the store's.
        cell: longer side of a picture on the sheet, px; images are scaled to it, pixels of small ones stay square.
    """
    if not len(store):
        raise InputError(f"store must have an image to show, got none in {store.path}")
    if indices is None:
        indices = np.unique(np.linspace(0, len(store) - 1, min(_ROWS, len(store))).astype(int)).tolist()
    chosen = store.fill if fill is None else make_fill(fill)
    titles = (["original"] if originals else []) + ["kept", "restored"]
    height = cell + _CAPTION + _MARGIN
    size = _MARGIN + len(titles) * (cell + _MARGIN), _MARGIN + _CAPTION + len(indices) * height
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((_MARGIN + column * (cell + _MARGIN), _MARGIN), title, fill="black")
    for row, i in enumerate(indices):
        image, dropped = store.kept(i)
        restored = chosen(image, dropped)
        grey = np.where(dropped[..., None], np.uint8(GREY), image)
        top = _MARGIN + _CAPTION + row * height
        for column, picture in enumerate(([originals(i)] if originals else []) + [grey, restored]):
            sheet.paste(_scaled(picture, cell), (_MARGIN + column * (cell + _MARGIN), top))
        share = 100 * (1 - dropped.mean())
        caption = f"{store.class_names[store.labels[i]]}  {store.ids[i]}  {share:.0f} % kept"
        draw.text((_MARGIN, top + cell + 1), caption.encode("ascii", "replace").decode(), fill="black")
    return sheet


def save_sheet(
    path: str | os.PathLike[str], store: Store, indices: Sequence[int] | None = None, **options: object
) -> Path:
    """Write `contact_sheet` as a PNG."""
    return _save(contact_sheet(store, indices, **options), path)  # type: ignore[arg-type]


def save_mosaic_crop(
    path: str | os.PathLike[str], store: Store, shard: int = 0, *, side: int = 256, scale: int = 2
) -> Path:
    """Write the upper left `side` x `side` px of a shard's mosaic, `scale` times as large, as a PNG; needs no keys."""
    crop = Image.fromarray(store.mosaic(shard)[:side, :side])
    return _save(crop.resize((crop.width * scale, crop.height * scale), Image.Resampling.NEAREST), path)


def mosaic_cells(store: PackedStore, i: int) -> NDArray[np.int64]:
    """The cells of its shard's mosaic, row-major, that hold the patches of image i, in the order of `patches(i)`."""
    shard = store.shard_of(i)
    seed, starts, _ = store._read_key(shard, store._checked.shards[shard])
    patch_of_cell = permutation(seed, shard, int(starts[-1]))
    local = i - store.images_of(shard).start
    cells: NDArray[np.int64] = np.argsort(patch_of_cell)[starts[local] : starts[local + 1]]
    return cells


def _scaled(image: Pixels, cell: int) -> Image.Image:
    picture = Image.fromarray(image)
    factor = cell / max(picture.size)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX)


def _save(image: Image.Image, path: str | os.PathLike[str]) -> Path:
    content = BytesIO()
    image.save(content, "PNG")
    with atomic_write(path) as file:
        file.write(content.getvalue())
    return Path(path)
