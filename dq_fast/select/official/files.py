"""The official files: bins `select_indices_{DATASET}_exp{k}.npy`, draws `select_indices_{DATASET}_{fraction}.npy`.

int64 row numbers in the data set's own order (torchvision's for CIFAR, ImageFolder's for ImageNet), so they mean
nothing beside another listing of the same images: the official training applied CIFAR's to a folder listed by name, and
trained on other images. Bins are numbered from 0. The official sampler takes every file in its input folder for a bin:
give draws a folder of their own where it shall read the bins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.files import atomic_write

Ints = NDArray[np.int64]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class OfficialFiles:
    """What a folder holds for one data set.

    Attributes:
        bins: int64 row numbers of each bin, as in the files, by bin number; empty where there are no bins.
        samples: int64 row numbers of each draw, as in the files, by fraction.
        first: number of the first bin, 0 unless someone else numbered them from 1.
    """

    bins: list[Ints]
    samples: dict[float, Ints]
    first: int = 0


def bin_file(dataset: str, k: int) -> str:
    """The name of bin `k`'s file, k from 0."""
    return f"select_indices_{_dataset(dataset)}_exp{k}.npy"


def sample_file(dataset: str, fraction: float) -> str:
    """The name of a draw's file; the fraction as Python writes a float (0.125, 1.0, 1e-05)."""
    return f"select_indices_{_dataset(dataset)}_{float(fraction)}.npy"


def write_official(
    folder: str | Path,
    dataset: str,
    bins: Sequence[Any] = (),
    *,
    samples: Mapping[float, Any] | None = None,
) -> list[Path]:
    """Write bins and draws under their official names, each file whole or not at all.

    Args:
        folder: made where it is not there.
        dataset: as the official code names it ("CIFAR10", "ImageNet"); letters, digits, dots, dashes, underscores.
        bins: row numbers of each bin (`official_bins`).
        samples: row numbers of draws (`official_sample`) by fraction.

    Returns:
        The files' paths, bins first.

    Raises:
        InputError: rows that are not distinct whole numbers >= 0 or in two bins, a data set's name that cannot be a
            file's, or other bins of the data set in the folder that would stay beside these.
    """
    folder = Path(folder)
    files = {bin_file(dataset, k): _rows(f"bin {k}", rows) for k, rows in enumerate(bins)}
    _check_disjoint(list(files.values()))
    for fraction, rows in (samples or {}).items():
        files[sample_file(dataset, fraction)] = _rows(f"the draw of {fraction}", rows)
    others = [k for k in _bin_numbers_in(folder, dataset) if bins and bin_file(dataset, k) not in files]
    if others:
        raise InputError(f"folder must hold no other bins of {dataset}, got {bin_file(dataset, others[0])} in {folder}")
    for name, rows in files.items():
        with atomic_write(folder / name) as file:
            np.save(file, rows, allow_pickle=False)
    return [folder / name for name in files]


def read_official(folder: str | Path, dataset: str, *, n: int | None = None) -> OfficialFiles:
    """Read all bins and draws of a data set.

    Args:
        folder: where they are.
        dataset: as in their names.
        n: size of the data set; None: the bins' rows count as all of it.

    Returns:
        Bins and draws. Bins are checked to be numbered without a gap (from 0, or from 1) and to hold each of the n rows
        once; draws to be distinct rows below n.

    Raises:
        InputError: there are no such files, they are broken, or do not pass those checks.
    """
    folder = Path(folder)
    numbers = _bin_numbers_in(folder, dataset)
    if numbers and (numbers[0] > 1 or numbers[-1] - numbers[0] + 1 != len(numbers)):
        raise InputError(f"bins of {dataset} in {folder} must be numbered from 0 without a gap, got {numbers}")
    bins = [_load(folder / bin_file(dataset, k)) for k in numbers]
    _check_disjoint(bins)
    if bins:
        n = _check_complete(bins, n, folder)
    samples = {fraction: _load(folder / name) for fraction, name in _samples_in(folder, dataset).items()}
    for fraction, rows in samples.items():
        if n is not None and rows.size and rows.max() >= n:
            raise InputError(f"the draw of {fraction} in {folder} must hold rows below {n}, got {rows.max()}")
    if not bins and not samples:
        raise InputError(
            f"folder must hold {bin_file(dataset, 0)} and so on, or draws of {dataset}, got none in {folder}"
        )
    return OfficialFiles(bins, samples, numbers[0] if numbers else 0)


def _dataset(name: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"dataset must be a name of letters, digits, dots, dashes and underscores, got {name!r}")
    return name


def _bin_numbers_in(folder: Path, dataset: str) -> list[int]:
    pattern = re.compile(rf"select_indices_{re.escape(_dataset(dataset))}_exp(0|[1-9][0-9]*)\.npy")
    found = (pattern.fullmatch(path.name) for path in folder.glob("select_indices_*.npy"))
    return sorted(int(match[1]) for match in found if match)


def _samples_in(folder: Path, dataset: str) -> dict[float, str]:
    pattern = re.compile(rf"select_indices_{re.escape(_dataset(dataset))}_([0-9][0-9.e+-]*)\.npy")
    found = {}
    for path in sorted(folder.glob("select_indices_*.npy")):
        match = pattern.fullmatch(path.name)
        if not match:
            continue
        try:
            fraction = float(match[1])
        except ValueError:
            continue  # another data set whose name goes on with digits
        if sample_file(dataset, fraction) == path.name:
            found[fraction] = path.name
    return dict(sorted(found.items()))


def _rows(what: str, rows: Any) -> Ints:
    given = np.asarray(rows)
    if given.ndim != 1 or (given.dtype.kind not in "iu" and given.size):
        raise InputError(
            f"{what} must be row numbers, a flat list of whole ones, got {given.dtype} of shape {given.shape}"
        )
    given = given.astype(np.int64)
    if given.size and (given.min() < 0 or len(np.unique(given)) != len(given)):
        raise InputError(f"{what} must hold distinct row numbers >= 0, got a negative or repeated one")
    return given


def _load(path: Path) -> Ints:
    try:
        with path.open("rb") as file:
            rows = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} must be an npy file of row numbers, but is broken: {error}") from None
    return _rows(str(path), rows)


def _check_disjoint(bins: list[Ints]) -> None:
    every = np.concatenate([np.empty(0, np.int64), *bins])
    rows, times = np.unique(every, return_counts=True)
    if (times > 1).any():
        raise InputError(f"bins must not share rows, got row {rows[times > 1][0]} in {times.max()} bins")


def _check_complete(bins: list[Ints], n: int | None, folder: Path) -> int:
    """The size of the data set; every row of it is in a bin."""
    every = np.sort(np.concatenate(bins))
    n = len(every) if n is None else n
    if not np.array_equal(every, np.arange(n)):
        missing = np.setdiff1d(np.arange(n), every)
        got = f"row {missing[0]} in none" if missing.size else f"row {every[-1]}"
        raise InputError(f"bins in {folder} must hold each of the {n} rows once, got {got}")
    return n
