"""The pack stage: patches of the drawn images are scored, cut, and written to a store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dq_fast.data import Source, read_batches
from dq_fast.embed import Classifier, Embedding
from dq_fast.embed.precision import Arithmetic
from dq_fast.errors import BadImageError, InputError
from dq_fast.files import read_json, write_json
from dq_fast.patches import PixelQuantizer, default_patch, patch_grid
from dq_fast.pipeline.choose import bins_changes
from dq_fast.pipeline.members import left_out
from dq_fast.pipeline.options import PackOptions, numbered
from dq_fast.pipeline.run import RunFolder
from dq_fast.pipeline.scoring import as_asked, scoring_of
from dq_fast.pipeline.stages import Ints
from dq_fast.pipeline.times import timed
from dq_fast.progress import Progress, silent
from dq_fast.store import Keys, PackedStore, StoreWriter
from dq_fast.store.codecs import default_codec
from dq_fast.store.keys import KEYS
from dq_fast.store.manifest import Manifest

_PACKED = "packed.json"


def pack_stage(
    run: RunFolder,
    source: Source,
    classifier: Classifier,
    embedding: Embedding,
    rows: Ints,
    out: str | os.PathLike[str],
    options: PackOptions,
    *,
    keys: str | os.PathLike[str] | Keys | None = None,
    device: str = "cpu",
    batch_size: int = 128,
    workers: int | None = None,
    progress: Progress = silent,
) -> None:
    """Write the store `out`, and its position keys to `keys` if they are to be kept elsewhere or encrypted.

    It is built in the run folder and moved to `out` when it is whole. An interrupted stage goes on at the last whole
    shard; batches are the same ones as in an uninterrupted run, and so are the bytes.

    Raises:
        InputError: `out` exists and is not this very store, or an image cannot be read any more.
    """
    out = Path(out)
    where = Keys.of(keys)
    if where.folder is not None or where.passphrase is not None:
        options = replace(options, secret=True)  # a seed in the manifest would undo what the keys protect
    typical = run.require("model", f"dq-fast embed SOURCE {run.path}")["parameters"]["typical_size"]
    patch = options.patch or default_patch(*typical)
    codec = options.codec or default_codec(*typical)[0]
    parameters = {**_chosen(run), **asdict(options), "patch": patch, "codec": codec}
    if out.exists():
        if _is_this(out, parameters, source, [embedding.ids[row] for row in rows]):
            return
        raise InputError(f"{out} exists and is not what these parameters give: choose another folder or delete it")
    classifier.module.to(device)
    scores = options.score != "random" and any(_ratios(options, source.class_names))
    scoring = scoring_of(run, classifier, options.precision, batch_size) if scores else None
    if scoring is not None:
        parameters["scoring"] = scoring.as_dict()
    key = {"after": run.digest("sample"), "parameters": parameters}
    run.written.add("pack")
    building = run.path / "pack"
    store = building / "store"
    if not (building / "key.json").is_file() or read_json(building / "key.json") != key:
        if building.exists():
            shutil.rmtree(building)
        building.mkdir(parents=True)
        write_json(building / "key.json", key)
    with (
        timed(run.path, "pack"),
        StoreWriter(
            store,
            patch=patch,
            codec=codec,
            quality=options.quality,
            class_names=list(source.class_names),
            seed=options.seed,
            secret=options.secret,
            keys=where,
            resume=True,
            hflip=source.hflip,
        ) as writer,
    ):
        _write(writer, source, classifier, embedding, rows, patch, options, scoring, batch_size, workers, progress)
        record = run.require("source", "")
        gone = left_out(run)
        kept_bytes = sum(source.size_of(int(embedding.index[row])) for row in rows)
        writer.close(
            source={
                "spec": record["parameters"]["spec"],
                "options": {name: value for name, value in record["parameters"].items() if name != "spec"},
                **{name: record["results"][name] for name in ("kind", "fingerprint", "images", "hflip")},
                **({"left_out": gone} if gone else {}),
            },
            parameters=parameters,
            bytes_before=record["results"]["bytes"],
            counts={
                "source_images": record["results"]["images"] - len(gone),
                "bad_images": len(embedding.bad),
                "kept_bytes": kept_bytes,
            },
        )
    _note(run, out, options, where.folder)
    _move(store, out)
    shutil.rmtree(building)


def _note(run: RunFolder, out: Path, options: PackOptions, keys: Path | None) -> None:
    """Remember what was packed, for whoever changes the run later, and where its keys are, for whoever reads it."""
    packed = [p for p in packed_stores(run) if p["out"] != str(out.resolve())]
    packed.append(
        {
            "out": str(out.resolve()),
            "after": run.digest("sample"),
            "options": asdict(options),
            "keys": None if keys is None else str(keys.resolve()),
        }
    )
    write_json(run.path / _PACKED, packed)


def recorded_keys(store: str | os.PathLike[str], work: str | os.PathLike[str] | None = None) -> Path | None:
    """Where the position keys of a store were put when it was packed, if not into the store, and they are still there.

    Args:
        store: its folder.
        work: the run folder that it was packed from; None is ``<store>.work``, where `compress` leaves it.
    """
    store = Path(store)
    file = (store.with_name(store.name + ".work") if work is None else Path(work)) / _PACKED
    if (store / KEYS).is_dir() or not file.is_file():
        return None
    for packed in read_json(file):
        keys = packed.get("keys")  # older runs do not say
        if packed["out"] == str(store.resolve()) and keys is not None and Path(keys).is_dir():
            return Path(keys)
    return None


def packed_stores(run: RunFolder) -> list[dict[str, Any]]:
    """Stores that were packed from a run and are still there.

    Each: "out", "after" (digest of the sample), "options", "keys" (their folder if that is not in the store).
    """
    file = run.path / _PACKED
    found = read_json(file) if file.is_file() else []
    return [packed for packed in found if (Path(packed["out"]) / "manifest.json").is_file()]


def _chosen(run: RunFolder) -> dict[str, Any]:
    """The parameters of the stages before, for the manifest: a store tells how it was made."""
    given = {}
    for stage in ("model", "bins", "sample"):
        given.update(
            {k: v for k, v in run.require(stage, "")["parameters"].items() if k not in ("seed", "typical_size")}
        )
    embedded = run.require("embed", "")["parameters"].get("precision")
    if embedded is not None:
        given["embed_precision"] = embedded
    changes = bins_changes(run)
    if changes:
        given["changes"] = changes
    return given


def _is_this(out: Path, parameters: dict[str, Any], source: Source, ids: list[str]) -> bool:
    if not (out / "manifest.json").is_file():
        return False
    manifest = Manifest.read(out).content
    if as_asked(manifest["parameters"]) != parameters or manifest["source"].get("fingerprint") != source.fingerprint():
        return False
    return list(PackedStore(out).ids) == ids  # images may have been removed from the run, and bins ranked again


def _write(
    writer: StoreWriter,
    source: Source,
    classifier: Classifier,
    embedding: Embedding,
    rows: Ints,
    patch: int,
    options: PackOptions,
    scoring: Arithmetic | None,
    batch_size: int,
    workers: int | None,
    progress: Progress,
) -> None:
    drop = _ratios(options, source.class_names)
    quantizer = PixelQuantizer(
        classifier.module,
        drop=drop,
        score=options.score,
        seed=options.seed,
        variant=options.variant,
        target=options.target,
        layer=options.layer,
        precision=None if scoring is None else scoring.precision,
    )
    if scoring is not None:
        scoring.place(classifier.module)
    batch_size = classifier.forward_size(batch_size)
    begin = (
        writer.done - writer.done % batch_size
    )  # whole batches, as in an uninterrupted run: the same scores to the bit
    todo = rows[begin:]
    done = begin
    progress("pack", done, len(rows))

    def unreadable(error: BadImageError) -> None:
        raise InputError(f"{error}; it could be read before: did {source.spec} change?")

    for positions, images in read_batches(
        source,
        embedding.index[todo],
        batch_size=batch_size,
        transform=lambda image: (image, classifier.resize(image)),
        workers=workers,
        on_bad=unreadable,
    ):
        batch = rows[done : done + len(positions)]
        labels = embedding.labels[batch]
        grids = [patch_grid(image.shape[0], image.shape[1], patch) for image, _ in images]
        if any(drop):
            x = classifier.normalize(torch.from_numpy(np.stack([resized for _, resized in images])))
            x = x if scoring is None else scoring.images(x)
            kept = quantizer.keep(x, torch.from_numpy(labels), grids, ids=[embedding.ids[row] for row in batch])
        else:
            kept = [np.arange(r * c) for r, c in grids]
        for place, row in enumerate(batch):
            if done + place >= writer.done:
                writer.add(embedding.ids[row], int(labels[place]), images[place][0], kept[place])
        done += len(positions)
        progress("pack", done, len(rows))


def _ratios(options: PackOptions, class_names: Sequence[str]) -> list[float]:
    """θ of every class."""
    own = numbered("drop_classes", options.drop_classes or {}, class_names)
    return [own.get(label, options.drop) for label in range(len(class_names))]


def _move(store: Path, out: Path) -> None:
    """Give the finished store its name: a rename, or a copy beside `out` and then a rename where it is another disk."""
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(store, out)
    except OSError:
        partial = out.with_name(f".{out.name}.part")
        if partial.exists():
            shutil.rmtree(partial)
        shutil.copytree(store, partial)
        os.rename(partial, out)
