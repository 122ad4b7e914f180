"""A folder of class folders: class/any/depth/image.jpg, or train/class/…, val/class/…, test/class/…."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dq_fast.data.decode import EXTENSIONS, decode_image
from dq_fast.data.source import Source
from dq_fast.data.splits import SPLITS, canonical
from dq_fast.errors import BadImageError, InputError

_log = logging.getLogger(__name__)


class ImageFolder(Source):
    """Images under a folder a class; ids are posix paths relative to the folder that holds the class folders."""

    kind = "imagefolder"

    def __init__(self, spec: str, roots: dict[str, Path], class_names: list[str]) -> None:
        """Args: roots: prefix of the ids ("" or "train/", …) to the folder that holds the class folders."""
        self.spec = spec
        self.class_names = class_names
        place = {name: k for k, name in enumerate(class_names)}
        self.ids: list[str] = []
        self._paths: list[str] = []
        labels: list[int] = []
        for prefix, root in roots.items():
            base = str(root)
            found = sorted((f"{name}/{rest}" for name in class_names for rest in _images(root / name)), key=os.fsencode)
            for relative in found:
                try:
                    relative.encode()
                except UnicodeEncodeError:
                    raise InputError(f"{base}: file names must be UTF-8, got {os.fsencode(relative)!r}") from None
                self.ids.append(prefix + relative)
                self._paths.append(os.path.join(base, relative))
                labels.append(place[relative.split("/", 1)[0]])
        self.labels = np.array(labels, np.int64)
        self._sizes: np.ndarray | None = None

    def read(self, i: int) -> np.ndarray:
        """See `Source.read`."""
        try:
            with open(self._paths[i], "rb") as file:
                data = file.read()
        except OSError as error:
            raise BadImageError(self.ids[i], error.strerror or type(error).__name__) from None
        return decode_image(data, self.ids[i])

    def size_of(self, i: int) -> int:
        """See `Source.size_of`; a file that has gone has size 0."""
        if self._sizes is None:
            self._sizes = np.array([_size(path) for path in self._paths], np.int64)
        return int(self._sizes[i])


def find_splits(path: Path) -> tuple[str, ...]:
    """Splits of an ImageFolder: all its folders with images are named train, val, test, and hold class folders."""
    return tuple(_split_folders(path))


def open_imagefolder(path: Path, spec: str, split: str | None) -> ImageFolder:
    """Read the folder tree's names (not the images).

    Raises:
        InputError: there are no class folders, or no images in them.
    """
    if not path.is_dir():
        raise InputError(f"{spec} must be a folder of class folders, got a file")
    folders = _split_folders(path)
    roots = {"": path} if not folders else {"": folders[split]} if split else {f"{s}/": folders[s] for s in folders}
    every = list(folders.values()) or [path]
    names: set[str] = set()
    for root in every:
        for folder in _subfolders(root):
            if _has_images(folder):
                names.add(folder.name)
            else:
                _log.warning("%s holds no images and is no class", folder)
    if not names:
        raise InputError(_nothing(path, spec, every[0]))
    source = ImageFolder(spec, roots, sorted(names, key=os.fsencode))
    if not len(source):
        raise InputError(f"{spec} has no images in its split {split!r}")
    return source


def _nothing(path: Path, spec: str, root: Path) -> str:
    """Why a folder is no ImageFolder."""
    layout = "expected class/image.jpg, with one folder a class"
    if any(_is_image(entry.name) for entry in root.iterdir() if entry.is_file()):
        return f"{spec} has images at its top level but no class folders with images: {layout}"
    if not any(not entry.name.startswith(".") for entry in path.iterdir()):
        return f"{spec} is an empty folder: {layout}"
    return f"{spec} has no images ({', '.join(sorted(EXTENSIONS)[:6])}, …) in any folder: {layout}"


def _split_folders(path: Path) -> dict[str, Path]:
    folders = _subfolders(path)
    named = [(canonical(folder.name), folder) for folder in folders if canonical(folder.name)]
    if not named or any(_has_images(folder) for folder in folders if not canonical(folder.name)):
        return {}
    found: dict[str, Path] = {}
    for split, folder in named:
        if not any(_has_images(sub) for sub in _subfolders(folder)):
            continue  # images without class folders, as ImageNet's unlabelled test images
        if split in found:
            raise InputError(f"{path} must have one folder a split, got {found[split].name} and {folder.name}")
        assert split is not None
        found[split] = folder
    return {split: found[split] for split in SPLITS if split in found}


def _subfolders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    return [path / name for name in sorted(names, key=os.fsencode)]


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS


def _has_images(folder: Path) -> bool:
    return next(_images(folder), None) is not None


def _images(folder: Path, prefix: str = "", above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """Relative posix paths of the images under a folder, links followed, but never in a circle. Missing: none."""
    try:
        stat = os.stat(folder)
        with os.scandir(folder) as scan:
            entries = list(scan)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"folder {folder} cannot be read: {error.strerror}") from None
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _images(folder / entry.name, f"{prefix}{entry.name}/", above | {here})
        elif _is_image(entry.name):
            yield prefix + entry.name


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
