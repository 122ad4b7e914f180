"""What a data set of images is to every later stage, and parts of one."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from dq_fast.errors import InputError

SMALL_SIDE = 64  # px, larger side: images up to this are small, as CIFAR and digits are, and treated so by every stage


class Source(ABC):
    """Labelled images, n of them, each with a stable id. Reading is safe from several threads at once.

    Attributes:
        kind: "imagefolder", "cifar", "parquet", "webdataset", "npz" or "mnist5k".
        spec: what the user wrote.
        ids: n unique names that do not depend on how the data set was read.
        labels: int64 [n], 0 ≤ label < len(class_names).
        class_names: one name a class.
        hflip: whether a mirrored image is still of its class (not so for digits).
    """

    kind: str
    spec: str
    ids: Sequence[str]
    labels: np.ndarray
    class_names: list[str]
    hflip: bool = True

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def read(self, i: int) -> np.ndarray:
        """Image i, uint8 [h, w, 3] RGB.

        Raises:
            BadImageError: it cannot be read or decoded.
        """

    @abstractmethod
    def size_of(self, i: int) -> int:
        """Bytes that image i takes in the source: as encoded, or its raw pixels in an array."""

    def fingerprint(self) -> str:
        """SHA-256, hex, of ids, labels, class names and the sizes of the contents; of whole contents for arrays.

        Cheap by design: an image replaced by one of the very same number of bytes goes unnoticed.
        """
        digest = self._names_digest()
        digest.update(np.fromiter((self.size_of(i) for i in range(len(self))), np.int64, len(self)).tobytes())
        return digest.hexdigest()

    def _names_digest(self) -> hashlib._Hash:
        """A digest that has taken in ids, labels and class names."""
        digest = hashlib.sha256()
        _update_texts(digest, self.class_names)
        _update_texts(digest, self.ids)
        digest.update(np.ascontiguousarray(self.labels, np.int64).tobytes())
        return digest


def _update_texts(digest: hashlib._Hash, texts: Iterable[str]) -> None:
    """Take in texts with their lengths, so that ("ab", "c") and ("a", "bc") differ."""
    count = 0
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
        count += 1
    digest.update(count.to_bytes(8, "little"))


class Subset(Source):
    """Some images of a source, in the order of `indices`; labels and class names stay those of the source."""

    def __init__(self, source: Source, indices: np.ndarray | Sequence[int]) -> None:
        """Args: source; indices int [m], positions in it, each at most once."""
        indices = np.asarray(indices)
        if indices.size == 0:
            indices = indices.astype(np.int64)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise InputError(f"indices must be 1-D integers, got {indices.dtype} {indices.shape}")
        indices = indices.astype(np.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= len(source)):
            raise InputError(f"indices must be in [0, {len(source)}), got {int(indices.min())} to {int(indices.max())}")
        if len(np.unique(indices)) != len(indices):
            raise InputError("indices must be distinct: ids have to stay unique")
        self.source = source
        self.indices = indices
        self.kind, self.spec, self.hflip = source.kind, source.spec, source.hflip
        self.ids = [source.ids[i] for i in indices]
        self.labels = np.asarray(source.labels, np.int64)[indices]
        self.class_names = list(source.class_names)

    def read(self, i: int) -> np.ndarray:
        """Image i of the subset; see `Source.read`."""
        return self.source.read(int(self.indices[i]))

    def size_of(self, i: int) -> int:
        """Bytes of image i of the subset; see `Source.size_of`."""
        return self.source.size_of(int(self.indices[i]))

    def fingerprint(self) -> str:
        """Changes with the source's contents, and with what was taken from it."""
        digest = self._names_digest()
        digest.update(self.source.fingerprint().encode())
        return digest.hexdigest()


def split_off(source: Source, fraction: float, seed: int) -> tuple[Source, Source]:
    """Set a part of every class aside.

    Which images go depends on their ids and the seed alone, not on the order the source lists them in.

    Args:
        source: the whole.
        fraction: share of every class to set aside, in (0, 1); rounded to the nearest image, but at least one image
            of a class of two or more goes, and at least one stays.
        seed: another seed, another draw.

    Returns:
        (rest, held out), both in the source's order.
    """
    if not 0.0 < fraction < 1.0:
        raise InputError(f"fraction must be above 0 and below 1, got {fraction}")
    out = held_out(source.ids, source.labels, fraction, seed)
    return Subset(source, np.flatnonzero(~out)), Subset(source, np.flatnonzero(out))


def held_out(ids: Sequence[str], labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The stratified draw behind `split_off`: bool [n], True for what is set aside."""
    keys = [hashlib.blake2b(f"{seed}\0{id}".encode(), digest_size=16).digest() for id in ids]
    out = np.zeros(len(keys), bool)
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label).tolist(), key=keys.__getitem__)
        count = min(max(int(fraction * len(members) + 0.5), 1), len(members) - 1)
        out[members[:count]] = True
    return out


def usable_as_id(name: str) -> bool:
    """Whether a name that a data set brings may be an id: later stages name files after ids, so it must stay inside.

    No absolute paths, no "..", no backslashes, no control characters, nothing that UTF-8 cannot write.
    """
    if any(part in ("", ".", "..") for part in name.split("/")):
        return False
    return not any(c == "\\" or c < " " or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" for c in name)
