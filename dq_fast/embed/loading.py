"""Batches of training images: small ones from memory, large ones read and cropped by threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dq_fast.data import SMALL_SIDE, BadImages, Source, read_batches
from dq_fast.embed.classifier import INTERPOLATIONS, Classifier
from dq_fast.progress import Progress, silent

# Memory for images kept as uint8: all of CIFAR is 0.15 GB, ImageNet at 64 pixels 15.7 GB.
CACHE_BYTES = 2 << 30
# Random crops of large images: least share of the area (mild, because trainings here are short), and the largest
# logarithm of the aspect ratio, as is usual.
MIN_AREA, MAX_LOG_RATIO = 0.35, math.log(4 / 3)

Batch = tuple[Tensor, Tensor]  # uint8 [b, h, w, 3], int64 [b]


class TrainingImages:
    """The images of a source as a network trains or is tested on them.

    Args:
        source: where the images are.
        classifier: gives input size and interpolation.
        labels: int64 [n], in the classifier's numbering; None takes the source's.
        max_bad: share of unreadable images that stops the run.
        workers: reading threads.
        augmented: whether `batches` will be asked for augmented images.
        cache_bytes: larger sets are read again in every epoch.
        progress: called with ("read", images, images in all) while the cache is filled.

    Attributes:
        index: int64, positions in the source of the images that take part.
        bad: unreadable images found so far, {"id", "reason"} each.
    """

    def __init__(
        self,
        source: Source,
        classifier: Classifier,
        *,
        labels: np.ndarray | None = None,
        max_bad: float = 0.01,
        workers: int | None = None,
        augmented: bool = True,
        cache_bytes: int = CACHE_BYTES,
        progress: Progress = silent,
    ) -> None:
        self.source, self.classifier = source, classifier
        self.labels = np.asarray(source.labels if labels is None else labels, dtype=np.int64)
        self.max_bad, self.workers = max_bad, workers
        self.index = np.arange(len(source), dtype=np.int64)
        self.bad: list[dict[str, str]] = []
        height, width = classifier.input_size
        self.small = max(height, width) <= SMALL_SIDE
        self.cache: np.ndarray | None = None
        if (self.small or not augmented) and len(source) * height * width * 3 <= cache_bytes:
            self._fill_cache(progress)

    def __len__(self) -> int:
        return len(self.index)

    def _fill_cache(self, progress: Progress) -> None:
        n = len(self.index)
        cache = np.empty((n, *self.classifier.input_size, 3), dtype=np.uint8)
        read, done = [], 0
        for positions, images in self._read(self.source, self.index, 256, self.classifier.resize):
            for image in images:
                cache[done] = image
                done += 1
            read.append(positions)
            progress("read", done + len(self.bad), n)
        self.index = np.concatenate(read) if read else np.zeros(0, dtype=np.int64)
        self.cache = cache[:done]

    def _read(
        self, source: Source, index: np.ndarray, size: int, transform: Callable[[np.ndarray], np.ndarray]
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        bad = BadImages(len(self.source), self.max_bad)
        try:
            yield from read_batches(
                source, index, batch_size=size, transform=transform, workers=self.workers, on_bad=bad
            )
        finally:
            self.bad = bad.records()

    def batches(self, size: int) -> Iterator[Batch]:
        """All images in source order, not augmented."""
        if self.cache is not None:
            for start in range(0, len(self.index), size):
                rows = slice(start, start + size)
                yield torch.from_numpy(self.cache[rows]), torch.from_numpy(self.labels[self.index[rows]])
            return
        for positions, images in self._read(self.source, self.index, size, self.classifier.resize):
            if len(positions):
                yield torch.from_numpy(np.stack(images)), torch.from_numpy(self.labels[positions])

    def shuffled(self, steps: int, *, pad: int, seed: Sequence[int]) -> Iterator[Batch]:
        """One epoch: all images once, in random order, augmented, in `steps` batches that differ by at most one image.

        Small images are shifted by up to `pad` pixels (zeros come in, as in the usual CIFAR recipe), large ones
        randomly cropped; both mirrored at random where the source allows it. `pad` < 0: no augmentation. `seed`
        decides everything, whatever the number of threads.
        """
        rng = np.random.default_rng(list(seed))
        order = rng.permutation(len(self.index))
        if len(order) == 1:
            order = np.repeat(order, 2)  # batch norm needs two values a channel
        parts = np.array_split(order, steps)
        if self.cache is not None:
            for rows in parts:
                chosen = self.cache[rows]
                if pad >= 0:
                    chosen = shift_and_flip(chosen, rng, pad, self.source.hflip)
                yield torch.from_numpy(chosen), torch.from_numpy(self.labels[self.index[rows]])
            return
        source: Source = self.source
        if pad >= 0:
            source = _Augmented(self.source, self.classifier, pad if self.small else None, seed)
        sizes = [len(rows) for rows in parts]
        # Batches of equal size are read; those of the epoch differ by one image, so images are regrouped here.
        pending: list[np.ndarray] = []
        targets: list[int] = []
        for positions, images in self._read(source, self.index[order], max(sizes), self.classifier.resize):
            pending.extend(images)
            targets.extend(self.labels[positions].tolist())
            while sizes and len(pending) >= sizes[0]:
                size = sizes.pop(0)
                yield torch.from_numpy(np.stack(pending[:size])), torch.tensor(targets[:size])
                del pending[:size], targets[:size]
        if len(pending) > 1 or (pending and not sizes):  # fewer than planned: some images were bad
            yield torch.from_numpy(np.stack(pending)), torch.tensor(targets)


def shift_and_flip(images: np.ndarray, rng: np.random.Generator, pad: int, flip: bool) -> np.ndarray:
    """Shift every image by up to `pad` pixels each way, zeros coming in, and mirror each with chance ½ if `flip`.

    uint8 [b, h, w, 3] to the same shape. A memcpy an image: 2 µs at 32 pixels, nothing beside the network.
    """
    b, h, w, _ = images.shape
    padded = np.zeros((b, h + 2 * pad, w + 2 * pad, 3), dtype=np.uint8)
    padded[:, pad : pad + h, pad : pad + w] = images
    offsets = rng.integers(0, 2 * pad + 1, size=(b, 2))
    mirrored = np.logical_and(rng.random(b) < 0.5, flip)
    out = np.empty_like(images)
    for i, ((y, x), mirror) in enumerate(zip(offsets.tolist(), mirrored.tolist(), strict=True)):
        window = padded[i, y : y + h, x : x + w]
        out[i] = window[:, ::-1] if mirror else window
    return out


def random_crop(
    image: np.ndarray, size: tuple[int, int], resample: Image.Resampling, rng: np.random.Generator
) -> np.ndarray:
    """Cut a random part of 35 to 100 % of the area and aspect ratio 3:4 to 4:3 (of its own), resampled to `size`."""
    height, width = image.shape[:2]
    for _ in range(10):
        share = math.sqrt(rng.uniform(MIN_AREA, 1))
        stretch = math.exp(rng.uniform(-MAX_LOG_RATIO, MAX_LOG_RATIO) / 2)
        h, w = height * share * stretch, width * share / stretch
        if h <= height and w <= width:
            break
    else:
        h, w = float(height), float(width)
    top, left = rng.uniform(0, height - h), rng.uniform(0, width - w)
    part = Image.fromarray(image).resize((size[1], size[0]), resample, box=(left, top, left + w, top + h))
    return np.asarray(part)


class _Augmented(Source):
    """A source whose images come augmented, each by its own generator: the same in whatever thread it is read."""

    def __init__(self, source: Source, classifier: Classifier, pad: int | None, seed: Sequence[int]) -> None:
        self.source, self.classifier, self.pad, self.seed = source, classifier, pad, list(seed)
        self.hflip = source.hflip
        self.ids, self.labels, self.class_names = source.ids, source.labels, source.class_names

    def read(self, i: int) -> np.ndarray:
        """Image i, resized and augmented."""
        image = self.source.read(i)
        rng = np.random.default_rng([*self.seed, i])
        if self.pad is not None:
            return shift_and_flip(self.classifier.resize(image)[None], rng, self.pad, self.hflip)[0]
        resample = INTERPOLATIONS[self.classifier.interpolation]
        image = random_crop(image, self.classifier.input_size, resample, rng)
        return np.ascontiguousarray(image[:, ::-1]) if self.hflip and rng.random() < 0.5 else image

    def size_of(self, i: int) -> int:
        """Bytes of the original."""
        return self.source.size_of(i)
