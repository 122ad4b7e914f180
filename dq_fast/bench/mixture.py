"""Rows like those of real images, as many as wanted: a mixture fitted to features, saved as a small specification.

A class is a mean, a few directions in which its rows vary, and noise of one size in all others. Its mean is drawn from
what is fitted to the means of a thousand ImageNet classes, its directions are those that clothing photos vary in (both
by EfficientNet-Lite0, 1,280 features), turned a little for every class. Narrower rows are random projections, which
keep angles. `source="cifar10"` takes the ten classes of CIFAR-10 (ResNet-20, 64 features) as they were fitted.
The narrow factor of a gradient embedding, softmax - onehot of `classes` logits, has logits normal around what the class
makes of them and what the row adds; how much of each is fitted too.

    rows(Mixture.load(), offsets, 768, seed=0)                     float32 [n, 768]
    python -m dq_fast.bench.mixture fit FILE.npz CIFAR_EMBEDDING CLOTHING_EMBEDDING IMAGENET_EMBEDDING

fits the specification again, from three folders that `dq-fast embed` or `Embedding.save` wrote.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SPECIFICATION = Path(__file__).with_name("mixture.npz")
BETWEEN, WITHIN, TURN = 48, 24, 0.3  # directions of means, of rows; how far a class turns the latter
CHUNK = 1 << 14  # rows made, and written, at a time


@dataclass(frozen=True)
class Mixture:
    """What was fitted, float32.

    Attributes:
        centre [D], between [48, D], apart: classes' means are centre + normal [48] @ between + apart * normal [D].
        within [24, D], noise: rows are their class's mean + normal [24] @ within + noise * normal [D].
        affinity, surprise: standard deviations of other classes' logits, by class and by row.
        means [10, 64], directions [10, 24, 64], noises [10]: the same of CIFAR-10's classes.
    """

    centre: Floats
    between: Floats
    apart: Floats
    within: Floats
    noise: Floats
    affinity: Floats
    surprise: Floats
    means: Floats
    directions: Floats
    noises: Floats

    @classmethod
    def load(cls, path: str | os.PathLike[str] = SPECIFICATION) -> Mixture:
        """Read a specification."""
        with np.load(path, allow_pickle=False) as file:
            return cls(**{field.name: file[field.name].astype(np.float32) for field in fields(cls)})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it, as float16."""
        np.savez_compressed(path, **{f.name: getattr(self, f.name).astype(np.float16) for f in fields(self)})


def rows(
    mixture: Mixture,
    offsets: Sequence[int],
    d: int,
    *,
    seed: int = 0,
    source: str = "photos",
    out: Floats | None = None,
) -> Floats:
    """Rows [n, d], group after group, of class 0, 1, ...; into `out` (perhaps mapped) where it is given."""
    out = np.empty((offsets[-1], d), np.float32) if out is None else out
    for begin, part in chunks(mixture, offsets, d, seed=seed, source=source):
        out[begin : begin + len(part)] = part
    return out


def features(mixture: Mixture, offsets: Sequence[int], d: int, *, seed: int = 0, out: Floats | None = None) -> Floats:
    """The wide factor of gradient embeddings [n, d]: rows of d - 1 features, and a one for the bias."""
    out = np.empty((offsets[-1], d), np.float32) if out is None else out
    out[:, -1] = 1
    rows(mixture, offsets, d - 1, seed=seed, out=out[:, :-1])
    return out


def chunks(
    mixture: Mixture, offsets: Sequence[int], d: int, *, seed: int = 0, source: str = "photos"
) -> Iterator[tuple[int, Floats]]:
    """The same in parts: the first row's number, and rows. A group's rows depend on its number and the seed alone."""
    whole = mixture.centre.shape[0] if source == "photos" else mixture.means.shape[1]
    project = _projection(whole, d, seed)
    for g, (begin, end) in enumerate(itertools.pairwise(offsets)):
        rng = np.random.default_rng([seed, g])
        mean, load, noise = _class(mixture, g, rng, source)
        mean, load = mean @ project, load @ project
        for i in range(begin, end, CHUNK):
            count = min(CHUNK, end - i)
            part = _normal(rng, count, d)
            part *= float(noise)
            part += _normal(rng, count, len(load)) @ load
            part += mean
            yield i, part


def gradients(
    mixture: Mixture, offsets: Sequence[int], classes: int, *, seed: int = 0, out: Floats | None = None
) -> Floats:
    """Softmax - onehot [n, classes] but for its length, which does not matter to cosines; group g has label g."""
    out = np.empty((offsets[-1], classes), np.float32) if out is None else out
    for g, (begin, end) in enumerate(itertools.pairwise(offsets)):
        rng = np.random.default_rng([seed, g, 1])
        expected = float(mixture.affinity) * _normal(rng, 1, classes)[0]
        for i in range(begin, end, CHUNK):
            part = _normal(rng, min(CHUNK, end - i), classes)
            part *= float(mixture.surprise)
            part += expected
            part -= part.max(1, keepdims=True)
            np.exp(part, out=part)
            part[:, g % classes] = 0
            part /= part.sum(1, keepdims=True)
            part[:, g % classes] = -1
            out[i : i + len(part)] = part
    return out


def write(path: Path, n: int, d: int, make: Any) -> NDArray[np.float32]:
    """Let `make(out=...)` fill a new npy file of [n, d]; returns it mapped, to be read."""
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, d))
    make(out=out)
    out.flush()
    del out
    found: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return found


def _normal(rng: np.random.Generator, n: int, d: int) -> Floats:
    return rng.standard_normal((n, d), dtype=np.float32)


def _projection(whole: int, d: int, seed: int) -> Floats:
    """Orthonormal columns [whole, d], or rows where d is more."""
    normal = np.random.default_rng([seed, 2]).standard_normal((max(whole, d), min(whole, d)))
    q: Floats = np.linalg.qr(normal)[0].astype(np.float32)
    return q if whole >= d else np.ascontiguousarray(q.T)


def _class(m: Mixture, g: int, rng: np.random.Generator, source: str) -> tuple[Floats, Floats, Floats]:
    """Mean, loadings and noise of class g."""
    if source == "cifar10":
        k = g % len(m.means)
        return m.means[k], m.directions[k], m.noises[k]
    mean = m.centre + _normal(rng, 1, len(m.between))[0] @ m.between
    mean = mean + m.apart * _normal(rng, 1, len(m.centre))[0]
    turn = np.linalg.qr(np.eye(WITHIN) + TURN * rng.standard_normal((WITHIN, WITHIN)))[0].astype(np.float32)
    size = np.sqrt(np.square(m.within).sum(1))  # the strong directions turn among the classes, their sizes stay
    return mean, size[:, None] * (turn @ (m.within / size[:, None])), m.noise


def _low_rank(x: NDArray[Any], rank: int) -> tuple[Floats, Floats]:
    """Loadings [rank, D] and the standard deviation of what they leave, of rows with mean zero."""
    _, s, vt = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    s /= np.sqrt(max(1, len(x) - 1))
    rest = np.sqrt(np.square(s[rank:]).sum() / x.shape[1])
    return (s[:rank, None] * vt[:rank]).astype(np.float32), np.float32(rest)  # type: ignore[return-value]


def _logits(z: NDArray[Any], features: NDArray[Any], labels: NDArray[Any]) -> tuple[Floats, Floats]:
    """How far other classes' logits [n, C] go by class and by row; the head is fitted to features and logits."""
    one = np.c_[features, np.ones(len(features))].astype(np.float64)
    head = np.linalg.lstsq(one.T @ one + 1e-3 * np.eye(one.shape[1]), one.T @ z, rcond=None)[0][:-1].T  # [C, D]
    head /= np.linalg.norm(head, axis=1, keepdims=True)
    near = (head @ head.T)[labels]  # [n, C]: how alike a class is to the label
    others = np.arange(z.shape[1]) != labels[:, None]
    near, left = near[others].reshape(len(z), -1), z[others].reshape(len(z), -1)
    near, left = near - near.mean(1, keepdims=True), left - left.mean(1, keepdims=True)
    slope = (near * left).sum() / np.square(near).sum()
    by_class, by_row = float((slope * near).std()), float((left - slope * near).std())
    # Normal logits have thinner tails than real ones: both are stretched until softmax is as uneven as it was.
    wanted, normal = _evenness(left), np.random.default_rng(0).standard_normal(left.shape)
    low, high = 0.1, 10.0
    for _ in range(30):
        stretch = (low * high) ** 0.5
        even = _evenness(stretch * float(np.hypot(by_class, by_row)) * normal)
        low, high = (stretch, high) if even > wanted else (low, stretch)
    return np.float32(by_class * low), np.float32(by_row * low)  # type: ignore[return-value]


def _evenness(z: NDArray[Any]) -> float:
    """Mean of 1 / ||softmax(z) - onehot of another class||."""
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return float((1 / np.sqrt(1 + np.square(p).sum(1))).mean())


def fit(cifar: Path, clothing: Path, imagenet: Path) -> Mixture:
    """The specification, from three saved embeddings (see `dq_fast.embed.Embedding`)."""
    from dq_fast.embed import Embedding

    small, photos, means = (Embedding.load(path) for path in (cifar, clothing, imagenet))
    by_class = [small.features[small.labels == c] for c in range(small.logits.shape[1])]
    found = [_low_rank(x - x.mean(0), WITHIN) for x in by_class]
    each = [photos.features[photos.labels == c] for c in range(photos.logits.shape[1])]
    within, noise = _low_rank(np.concatenate([x - x.mean(0) for x in each]), WITHIN)
    centre = means.features.mean(0)
    between, apart = _low_rank(means.features - centre, BETWEEN)
    # One photo a class: what it adds to its class's mean is taken off, by what photos vary on average.
    ratio = np.sqrt(max(0.1, 1 - _variance(within, noise) / _variance(between, apart)))
    affinity, surprise = _logits(means.logits, means.features, means.labels)
    return Mixture(
        centre, between * ratio, apart * ratio, within, noise, affinity, surprise,
        np.stack([x.mean(0) for x in by_class]), np.stack([load for load, _ in found]), np.stack([e for _, e in found]),
    )  # fmt: skip


def _variance(load: Floats, noise: Floats) -> float:
    return float(np.square(load).sum() + load.shape[1] * np.square(noise))


if __name__ == "__main__":
    if len(sys.argv) != 6 or sys.argv[1] != "fit":
        sys.exit("usage: python -m dq_fast.bench.mixture fit FILE.npz CIFAR CLOTHING IMAGENET (folders of embeddings)")
    fit(*map(Path, sys.argv[3:])).save(sys.argv[2])
