"""Pictures of images: as they were, what the classifier looked at, what was kept, where it lies, what comes back."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dq_fast.report.data import Picture, Sheet
from dq_fast.restore import Store
from dq_fast.restore.fill import Fill
from dq_fast.restore.sheet import GREY, mosaic_cells
from dq_fast.store.layout import Pixels, grid_of, mosaic_grid

SHOWN = 168  # px, longer side of a picture on the page
_PHOTO_SIDE = 64  # px: larger images are photos, whose JPEG nobody tells from PNG at this size
_DIM = 0.22  # brightness of the patches of other images in a mosaic
_MARK = np.array([255, 120, 0], np.uint8)  # where cells are too small to be seen on their own
_SEEN = 4  # px of a cell on the page below which it is marked

COLUMNS = ("original", "attention", "kept", "mosaic", "restored", "MAE")

Scores = NDArray[np.float32]


def sheet(
    store: Store,
    i: int,
    *,
    original: Callable[[int], Pixels] | None,
    scores: Callable[[Pixels, int, tuple[int, int]], Scores] | None,
    mae: Fill | None = None,
) -> Sheet:
    """The pictures of image i of a store; those of which nothing is known are left out.

    Args:
        store: whose image; its own fill makes "restored".
        i: which.
        original: gives an image as it was, if the source is there.
        scores: gives the scores of an image's patches, by its label and grid.
        mae: restores it a second time, beside the store's own fill.
    """
    kept, dropped = store.kept(i)
    name = f"{store.class_names[store.labels[i]]}, {store.ids[i]}"
    pictures: dict[str, Picture] = {}
    before = None if original is None else original(i)
    if before is not None:
        pictures["original"] = picture(before, f"original image of {name}")
        if scores is not None:
            grid = grid_of(before.shape[0], before.shape[1], store.patch)
            seen = attention(before, scores(before, int(store.labels[i]), grid), store.patch)
            pictures["attention"] = picture(seen, f"patches of {name}, bright where the classifier looks at them")
    share = f"{100 * (1 - dropped.mean()):.0f} %"
    shown = np.where(dropped[..., None], np.uint8(GREY), kept)
    pictures["kept"] = picture(shown, f"the {share} of {name} that were kept; grey elsewhere")
    pictures["mosaic"] = in_mosaic(store, i, f"shard {store.shard_of(i)} with the patches of {name} lit up")
    restored = {"restored": store.read(i)}
    pictures["restored"] = picture(restored["restored"], f"{name}, restored from the kept patches")
    if mae is not None:
        restored["MAE"] = mae(kept, dropped) if dropped.any() else kept
        pictures["MAE"] = picture(restored["MAE"], f"{name}, dropped patches predicted by the masked autoencoder")
    height, width = store.sizes[i].tolist()
    remark = f"{width} × {height} px, {share} kept"
    if mae is not None and before is not None and dropped.any():
        found = [f"{psnr(image[dropped], before[dropped]):.1f} dB {what}" for what, image in restored.items()]
        remark += "; PSNR of the dropped pixels: " + ", ".join(found)
    return Sheet(
        store.ids[i], store.class_names[store.labels[i]], remark, {c: pictures[c] for c in COLUMNS if c in pictures}
    )


def attention(image: Pixels, scores: Scores, patch: int) -> Pixels:
    """The image in grey under a heat map of its patches' scores; ranks, so that few large ones do not hide the rest."""
    import matplotlib

    rows, columns = grid_of(image.shape[0], image.shape[1], patch)
    ranks = np.argsort(np.argsort(scores.ravel(), kind="stable"), kind="stable")
    heat = matplotlib.colormaps["inferno"](ranks.reshape(rows, columns) / max(1, ranks.size - 1))[..., :3] * 255
    heat = heat.repeat(patch, axis=0).repeat(patch, axis=1)[: image.shape[0], : image.shape[1]]
    grey = image @ np.array([0.299, 0.587, 0.114])
    blended: Pixels = np.rint(0.62 * heat + 0.38 * grey[..., None]).clip(0, 255).astype(np.uint8)
    return blended


def psnr(image: NDArray[np.uint8], original: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB, peak 255; infinite where they are equal."""
    error = float(np.square(image.astype(np.float64) - original).mean())
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def in_mosaic(store: Store, i: int, alt: str) -> Picture:
    """The mosaic of image i's shard, everything dim but the patches of i."""
    shard = store.shard_of(i)
    mosaic = store.mosaic(shard)
    _, columns = mosaic_grid(store.manifest["shards"][shard]["patches"])
    cells, patch = mosaic_cells(store, i), store.patch
    flags = np.zeros((mosaic.shape[0] // patch, columns), bool)
    flags[cells // columns, cells % columns] = True
    lit = flags.repeat(patch, axis=0).repeat(patch, axis=1)[..., None]
    small = patch * SHOWN < _SEEN * max(mosaic.shape[:2])
    shown = np.where(lit, _MARK if small else mosaic, (mosaic * _DIM).astype(np.uint8))
    if small:  # a cell may be less than a pixel of the page: grow it to one
        reach = -(-max(mosaic.shape[:2]) // SHOWN) // 2
        wide = lit[..., 0].copy()
        for axis in (0, 1):
            grown = wide.copy()
            for step in range(1, reach + 1):
                grown |= np.roll(wide, step, axis) | np.roll(wide, -step, axis)
            wide = grown
        shown = np.where(wide[..., None], _MARK, shown)
    return picture(shown, alt, photo=True)


def picture(image: Pixels, alt: str, *, side: int = SHOWN, photo: bool | None = None) -> Picture:
    """An image for the page: small ones pixel by pixel as PNG, others scaled to `side` as JPEG."""
    whole = Image.fromarray(image)
    factor = side / max(whole.size)
    shown = max(1, round(whole.width * factor)), max(1, round(whole.height * factor))
    file = io.BytesIO()
    is_photo = max(whole.size) > _PHOTO_SIDE if photo is None else photo
    options: dict[str, Any] = {"quality": 88, "optimize": True} if is_photo else {"optimize": True}
    scaled = whole.resize((2 * shown[0], 2 * shown[1]), Image.Resampling.BOX) if factor < 0.5 else whole
    scaled.save(file, "JPEG" if is_photo else "PNG", **options)
    return Picture(file.getvalue(), f"image/{'jpeg' if is_photo else 'png'}", alt, *shown, pixelated=not is_photo)
