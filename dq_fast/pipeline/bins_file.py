"""A bins file: what a fit on bare embeddings found out, in one npz that numpy reads without this package.

Arrays (n rows): ``ids`` (text or int64), ``groups`` and ``group_names``, ``labels`` and ``class_names`` (where classes
were given), ``ranking``, ``bin_of`` (-1: not ranked), ``gains``, ``weights`` (where the method has some); ``changed``
and ``sums_*`` where rows can be added. ``about`` is JSON: parameters, what the rows were, how it went.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.files import atomic_write, remove_leftovers
from dq_fast.pipeline.columns import split_spec
from dq_fast.select import SampleQuantizer
from dq_fast.select.partition import Partition, Settings
from dq_fast.select.partition.sums import Sums

FORMAT = "dq_fast bins 1"
_NEEDED = ("ids", "groups", "ranking", "bin_of", "gains")
_BLOCKS, _BLOCK = 256, 1 << 16  # a fingerprint reads so many blocks of so many bytes, spread over the file


@dataclass(frozen=True)
class BinsFile:
    """A fitted quantizer with what its rows were.

    Attributes:
        quantizer: fitted.
        about: what is saved with it: "data" (specs and fingerprints of the files), "report", "plan".
    """

    quantizer: SampleQuantizer
    about: dict[str, Any]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all."""
        q = self.quantizer
        arrays: dict[str, NDArray[Any]] = {
            "ids": savable(q.ids_, "ids"),
            "groups": q.groups_,
            "ranking": q.ranking_,
            "bin_of": q.bin_of_,
            "gains": q.gains_,
        }
        optional = {
            "group_names": q.group_names_,
            "labels": q.labels_,
            "class_names": q.classes_,
            "weights": q.weights_,
        }
        arrays |= {name: savable(value, name) for name, value in optional.items() if value is not None}
        about = {"format": FORMAT, "parameters": q.get_params(), **self.about}
        kept = q.partition_
        if kept is not None:
            about["next_id"] = kept.next_id
            arrays["changed"] = kept.changed
            if kept.sums is not None:
                arrays |= {f"sums_{f.name}": getattr(kept.sums, f.name) for f in dataclasses.fields(kept.sums)}
        remove_leftovers(path)
        with atomic_write(path) as file:
            np.savez(file, about=np.array(json.dumps(about, ensure_ascii=False)), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BinsFile:
        """Read what `save` wrote.

        Raises:
            InputError: there is no such file, it is something else, or it is damaged.
        """
        try:
            with np.load(Path(path), allow_pickle=False) as found:
                about = json.loads(str(found["about"]))
                if about["format"] != FORMAT:
                    raise InputError(f"{path} must be of the format {FORMAT!r}, got {about['format']!r}")
                arrays = {name: found[name] for name in found.files if name != "about"}
            missing = [name for name in _NEEDED if name not in arrays]
            if missing:
                raise KeyError(missing[0])
            quantizer = SampleQuantizer().set_params(**about.pop("parameters"))
        except FileNotFoundError:
            raise InputError(f"there is no file {path}") from None
        except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} must be a bins file of dq-fast, but is not readable as one: {error}") from None
        quantizer.restore(
            arrays["ranking"],
            arrays["bin_of"],
            arrays["gains"],
            arrays["groups"],
            weights=arrays.get("weights"),
            group_names=arrays.get("group_names"),
            labels=arrays.get("labels"),
            ids=arrays["ids"],
            report=about.get("report"),
        )
        quantizer.classes_ = arrays.get("class_names")
        if "changed" in arrays:
            quantizer.partition_ = _partition(quantizer, arrays, int(about.pop("next_id")))
        del about["format"]
        return cls(quantizer, about)


def is_bins_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file looks like a bins file, by the names of its arrays."""
    if not str(path).endswith(".npz") or not Path(path).is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{name}.npy" for name in ("about", *_NEEDED)} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _partition(q: SampleQuantizer, arrays: dict[str, NDArray[Any]], next_id: int) -> Partition:
    sums = {name[5:]: value for name, value in arrays.items() if name.startswith("sums_")}
    made = Partition(
        Settings(int(q.n_bins), float(q.lam), bool(q.shifted), bool(q.center), q.similarity),
        q.ids_,
        q.groups_,
        q.group_names_,
        q.ranking_,
        q.bin_of_,
        q.gains_,
        arrays["changed"],
        next_id,
        Sums(**sums) if sums else None,
    )
    made.check()
    return made


def savable(values: NDArray[Any], what: str) -> NDArray[Any]:
    """An array that npz holds without pickle: objects become text if they are."""
    if values.dtype != object:
        return values
    if all(isinstance(value, str) for value in values.tolist()):
        return values.astype(str)
    raise InputError(f"{what} must be numbers or text to be saved, got {type(values.tolist()[0]).__name__}")


def fingerprint(spec: str | os.PathLike[str]) -> str:
    """What a file (or a folder's files) holds, as hex: sizes, and blocks spread over each; cheap for huge files."""
    path, name = split_spec(os.fspath(spec))
    digest = hashlib.sha256((name or "").encode())
    files: Sequence[Path] = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path)} {size}\n".encode())
        with open(file, "rb") as stream:
            for start in _starts(size):
                stream.seek(start)
                digest.update(stream.read(_BLOCK))
    return digest.hexdigest()


def _starts(size: int) -> list[int]:
    if size <= _BLOCKS * _BLOCK:
        return list(range(0, size, _BLOCK))
    return [int(k) for k in np.linspace(0, size - _BLOCK, _BLOCKS)]
