"""A store as a folder of image files that any trainer reads."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dq_fast.errors import InputError
from dq_fast.files import write_json
from dq_fast.progress import Progress, silent
from dq_fast.restore.fill import Fill

if TYPE_CHECKING:
    from dq_fast.restore.images import Store

IDS_FILE = "ids.json"
_MAX_NAME = 200  # bytes; file systems take 255, and an extension and a mark against collisions come behind
_SAVE: dict[str, dict[str, Any]] = {
    "png": {"compress_level": 6},
    "jpg": {"quality": 95, "subsampling": 0},  # a second loss that cannot be seen
}
_IN_FLIGHT = 64  # images waiting to be encoded: enough to keep the threads busy


def safe_names(texts: Iterable[str]) -> list[str]:
    """A file name for each text, all different, also where upper and lower case are not told apart.

    What is not a letter, digit, ``_ . - ~`` of ASCII is percent-encoded as in URLs (so is a leading dot), so that
    ``urllib.parse.unquote`` gives the text back. A name that is too long, empty or taken is cut and gets ``+`` and a
    hash.
    """
    names: list[str] = []
    taken: set[str] = set()
    for text in texts:
        name = quote(text, safe="")
        if name.startswith("."):
            name = "%2E" + name[1:]
        if not name or len(name) > _MAX_NAME or name.lower() in taken:
            # "+" is percent-encoded in texts, so no plain name looks like this
            name = f"{name[: _MAX_NAME - 33]}+{hashlib.sha256(text.encode()).hexdigest()[:32]}"
            if name.lower() in taken:  # the same text again: class names need not differ
                name = next(n for k in range(2, 1 << 31) if (n := f"{name}+{k}").lower() not in taken)
        taken.add(name.lower())
        names.append(name)
    return names


def export(
    store: Store,
    folder: str | os.PathLike[str],
    *,
    fill: str | Fill | None = None,
    format: str | None = None,
    progress: Progress = silent,
) -> Path:
    """Write restored images to ``<folder>/<class name>/<id>.<format>``, and ``ids.json``, which maps files to ids.

    The folder appears when all is written. ids.json: ``{"classes": [{"label", "name", "folder"}], "images": [{"file",
    "id", "label"}]}``, in the store's order. Classes without images get no folder: readers that number folders by name
    would trip over an empty one.

    Args:
        store: what to export.
        folder: must be empty or not exist yet.
        fill: another fill than the store's.
        format: "png" or "jpg"; None is png for lossless stores and jpg for the others.
        progress: called as ``progress("export", done, total)``.

    Raises:
        InputError: the folder is in use, or the format unknown.
    """
    folder = Path(folder).absolute()
    extension = ("png" if store.codec.lossless else "jpg") if format is None else format
    if extension not in _SAVE:
        raise InputError(f"format must be png or jpg, got {format!r}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"folder must be empty or not exist yet, got {folder}")
    folders = safe_names(store.class_names)
    files = safe_names(store.ids)
    names = [f"{folders[label]}/{file}.{extension}" for label, file in zip(store.labels, files, strict=True)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had this number
    temporary.mkdir()
    try:
        for label in np.unique(store.labels):
            (temporary / folders[label]).mkdir()
        _write_images(store.restore(fill=fill), [temporary / name for name in names], extension, progress)
        content = {
            "classes": [
                {"label": label, "name": name, "folder": at}
                for label, (name, at) in enumerate(zip(store.class_names, folders, strict=True))
            ],
            "images": [
                {"file": name, "id": id, "label": int(label)}
                for name, id, label in zip(names, store.ids, store.labels, strict=True)
            ],
        }
        write_json(temporary / IDS_FILE, content)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def _write_images(
    images: Iterator[tuple[NDArray[np.uint8], int]], paths: list[Path], extension: str, progress: Progress
) -> None:
    """Encode in threads (Pillow lets others run meanwhile), a bounded number of images at a time."""
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done, ((image, _), path) in enumerate(zip(images, paths, strict=True)):
            waiting.append(pool.submit(_save, image, path, extension))
            if len(waiting) > _IN_FLIGHT:
                waiting.popleft().result()
                progress("export", done + 1 - len(waiting), len(paths))
        while waiting:
            waiting.popleft().result()
        progress("export", len(paths), len(paths))


def _save(image: NDArray[np.uint8], path: Path, extension: str) -> None:
    Image.fromarray(image).save(path, **_SAVE[extension])
