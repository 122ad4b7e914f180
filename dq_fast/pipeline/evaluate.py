"""What a model trained on a store reaches, beside the full data and a random subset of the same size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dq_fast.data import SMALL_SIDE, Source, has_split, open_source
from dq_fast.errors import InputError
from dq_fast.pipeline.job import CompressResult
from dq_fast.pipeline.members import left_out, without
from dq_fast.pipeline.options import SourceOptions
from dq_fast.pipeline.stages import open_part, pick_device, typical_size
from dq_fast.progress import Progress, silent
from dq_fast.restore import Store
from dq_fast.restore import open as open_store
from dq_fast.store import Keys
from dq_fast.train import random_subset, train

QUICK_EPOCHS = 5  # of `compress --train`: a first look within minutes; `dq-fast train` has the paper's 200
_TEST_SPLITS = ("test", "val", "validation")

Data = Source | Store


def find_test_source(spec: str, options: SourceOptions, given: str | None = None) -> Source:
    """The images to test on: those given, those held out, or the source's own test part.

    Raises:
        InputError: there are none; says how to get some.
    """
    if given is not None:
        split = next((s for s in _TEST_SPLITS if has_split(given, s)), None)
        return open_source(given, split=split, image_column=options.image_column, label_column=options.label_column)
    if options.holdout:
        return open_part(spec, options, held_out=True)
    for split in _TEST_SPLITS:
        if split != options.split and has_split(spec, split):
            return open_source(spec, split=split, image_column=options.image_column, label_column=options.label_column)
    raise InputError(
        f"{spec} has no test part to measure accuracy on: give --test SOURCE, or compress with --holdout 0.2"
    )


def default_train_model(source: Source) -> str:
    """The paper's ResNet-18: its CIFAR form for small images, timm's otherwise."""
    return "resnet18_cifar" if max(typical_size(source)) <= SMALL_SIDE else "resnet18"


def compare_training(
    done: CompressResult,
    test: Source,
    *,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train the run's own architecture from scratch on full data, store and random subset, all for as many steps.

    Returns:
        model, epochs, test_images, and a row each (data, images, last, best, seconds).
    """
    full, store = without(done.source, left_out(done.run))[0], done.store
    model = done.run.require("model", "")["results"]["name"]
    epochs = epochs or QUICK_EPOCHS
    sets: list[tuple[str, Data]] = [
        ("full data", full),
        ("dq_fast store", store),
        ("random, same size", random_subset(full, len(store), seed=seed)),
    ]
    rows = []
    for name, data in sets:
        result = train(
            data,
            test,
            model=model,
            epochs=epochs,
            match_steps=len(full),
            seed=seed,
            device=pick_device(device),
            progress=_as(progress, f"train: {name}"),
        )
        rows.append(
            {"data": name, "images": len(data), "last": result.last, "best": result.best, "seconds": result.seconds}
        )
    return {"model": model, "epochs": epochs, "test_images": len(test), "seed": seed, "rows": rows}


def _as(progress: Progress, name: str) -> Progress:
    """The training's progress under another name; reading the images goes without a bar."""
    return lambda stage, done, total: progress(name, done, total) if stage == "train" else None


def train_on(
    data: str,
    *,
    test: str | None = None,
    baseline: str | None = None,
    keep: float | None = None,
    model: str | None = None,
    input_size: tuple[int, int] | None = None,
    epochs: int = 200,
    match_steps: bool = False,
    batch_size: int | None = None,
    lr: float | None = None,
    seeds: Iterable[int] = (0,),
    keys: str | Keys | None = None,
    fill: str = "mean",
    device: str = "auto",
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train on a store or a source, once a seed; see `dq-fast train --help` for the parameters.

    Returns:
        model, data, images, test_images, runs (seed, last, best, seconds, history), mean, sd.
    """
    store: Store | None = None
    options = SourceOptions()
    gone: list[str] = []  # removed from the run that the store was packed from
    spec = data
    if (Path(data) / "manifest.json").is_file():
        store = open_store(data, keys=keys, fill=fill)
        origin = store.manifest["source"]
        spec = origin["spec"]
        options = SourceOptions(**origin["options"])
        gone = origin.get("left_out", [])
    tested = find_test_source(spec, options, test)
    if store is not None and baseline is None:
        trained: Data = store
    else:
        full = without(open_part(spec, options), gone)[0]
        size = len(store) if store is not None else round((1.0 if keep is None else keep) * len(full))
        if store is None and baseline == "random" and keep is None:
            raise InputError("--baseline random on a plain source needs --keep F: how many of its images?")
        trained = full
    runs = []
    name = model or default_train_model(tested)
    for seed in seeds:
        part = random_subset(trained, size, seed=seed) if baseline == "random" else trained
        steps = store.manifest["counts"]["source_images"] if store is not None else len(trained)
        result = train(
            part,
            tested,
            model=name,
            epochs=epochs,
            match_steps=steps if match_steps else None,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            input_size=input_size,
            device=pick_device(device),
            workers=workers,
            progress=_as(progress, f"train, seed {seed}"),
        )
        runs.append(result.to_dict())
    last = np.array([row["last"] for row in runs])
    return {
        "model": name,
        "data": data if baseline is None else f"{baseline} of {spec}",
        "images": len(part),
        "test_images": len(tested),
        "epochs": epochs,
        "runs": runs,
        "mean": float(last.mean()),
        "sd": float(last.std(ddof=1)) if len(last) > 1 else 0.0,
    }
