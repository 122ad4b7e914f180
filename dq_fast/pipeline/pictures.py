"""Pictures of a store to look at: a contact sheet, a mosaic, single restored images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dq_fast.errors import InputError
from dq_fast.files import atomic_write
from dq_fast.pipeline.options import SourceOptions
from dq_fast.pipeline.stages import open_part
from dq_fast.progress import Progress, silent
from dq_fast.restore import Fill, Store
from dq_fast.restore import open as open_store
from dq_fast.restore.export import safe_names
from dq_fast.restore.sheet import save_mosaic_crop, save_sheet
from dq_fast.store import Keys

_MOSAIC_SIDE = 512  # px of the mosaic that are shown


def write_pictures(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    ids: Sequence[str] | None = None,
    count: int = 6,
    seed: int = 0,
    keys: str | os.PathLike[str] | Keys | None = None,
    fill: str | Fill = "mean",
    progress: Progress = silent,
) -> list[str]:
    """Write pictures of a store.

    Args:
        path: the store.
        folder: where to; must not exist yet.
        ids: these images, restored, each as a PNG. None: a contact sheet of `count` images drawn by `seed`, with the
            originals where the store's source is still there, and part of a mosaic.
        count: images on the contact sheet.
        seed: which images those are.
        keys: folder of the position keys, if they are not in the store.
        fill: what dropped patches become.
        progress: called as ``progress("restore", images done, images to do)``.

    Returns:
        The files written.

    Raises:
        InputError: no such store or id, no keys, or `folder` exists.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"DIR must not exist yet, but {folder} does: choose another or delete it")
    store = open_store(path, keys=keys, fill=fill)
    place = {id: i for i, id in enumerate(store.ids)}
    if ids is not None:
        unknown = [id for id in ids if id not in place]
        if unknown:
            raise InputError(
                f"id must be one of the store's {len(store)}, got {unknown[0]!r}; the first is {store.ids[0]!r}"
            )
        written = []
        restored = store.restore(place[id] for id in ids)  # in batches, for fills that are faster so
        for done, ((image, _), name) in enumerate(zip(restored, safe_names(ids), strict=True)):
            file = folder / f"{name}.png"
            with atomic_write(file) as opened:
                Image.fromarray(image).save(opened, "PNG")
            written.append(str(file))
            progress("restore", done + 1, len(ids))
        return written
    chosen = np.sort(np.random.default_rng(seed).permutation(len(store))[:count]).tolist()
    folder.mkdir(parents=True)
    sheet = save_sheet(folder / "sheet.png", store, chosen, originals=_originals(store))
    mosaic = save_mosaic_crop(folder / "mosaic.png", store, 0, side=_MOSAIC_SIDE)
    return [str(sheet), str(mosaic)]


def _originals(store: Store) -> Callable[[int], NDArray[np.uint8]] | None:
    """A reader of the images as they were, if the source of the store is still where it was and the same."""
    origin = store.manifest["source"]
    try:
        source = open_part(origin["spec"], SourceOptions(**origin["options"]))
        if source.fingerprint() != origin["fingerprint"]:
            return None
    except (InputError, KeyError, TypeError):
        return None
    place = {id: i for i, id in enumerate(source.ids)}
    return lambda i: source.read(place[store.ids[i]])
