"""A masked autoencoder trained on a source: its images, a classifier for their patch scores, and the training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from dq_fast.data import Source
from dq_fast.errors import BadImageError, InputError
from dq_fast.patches import default_patch, patch_grid
from dq_fast.pipeline.options import ModelOptions, SourceOptions
from dq_fast.pipeline.run import RunFolder
from dq_fast.pipeline.stages import embed_stage, model_stage, source_stage, typical_size
from dq_fast.progress import Progress, silent

LARGEST_GRID = 16  # patches a side, unless asked for: attention grows with the fourth power of it
_PEEK = 256  # images looked at to choose the grid


def train_mae_on(
    spec: str,
    out: str | os.PathLike[str],
    *,
    source_options: SourceOptions | None = None,
    model_options: ModelOptions | None = None,
    patch: int | None = None,
    grid: tuple[int, int] | None = None,
    shape: dict[str, Any] | None = None,
    recipe: dict[str, Any] | None = None,
    variant: str = "paper",
    stop_after: int | None = None,
    half: bool = False,
    device: str = "cpu",
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train an MAE; see `dq-fast mae-train --help` for the parameters. The same call continues an interrupted one.

    Args:
        spec: the source.
        out: folder for mae.safetensors and log.csv.
        source_options: which of its images.
        model_options: the classifier that scores patches; with `real_share` 0 in the recipe there is none.
        patch: side, px; None is `default_patch`.
        grid: (rows, cols); None is that of the smallest of a few images, at most 16 x 16.
        shape: other fields of `MAEConfig`.
        recipe: fields of `MAERecipe`.
        variant: of GradCAM++.
        stop_after: write the checkpoint after so many of the recipe's updates; a later call goes on.
        half: write float16.
        device: to score and train on.
        workers: reading threads.
        progress: called with every stage's progress.

    Returns:
        checkpoint, bytes, images, left_out, bad, steps, seconds, the last row's losses, and the configuration.

    Raises:
        InputError: `out` has a finished training, or one with other parameters; the options do not fit the images.
    """
    from dq_fast.restore.mae import MAEConfig, MAERecipe, train_mae
    from dq_fast.restore.mae.checkpoints import MODEL_FILE
    from dq_fast.restore.mae.state import STATE_FILE

    out, how = Path(out), MAERecipe(**(recipe or {}))
    checkpoint = out / MODEL_FILE
    if checkpoint.exists() and not (out / STATE_FILE).exists():
        raise InputError(f"{checkpoint} exists already: choose another OUT or delete it")
    source_options, model_options = source_options or SourceOptions(), model_options or ModelOptions()
    run = RunFolder(out / "classifier")
    source = source_stage(run, spec, source_options)
    typical = typical_size(source)
    patch = patch or default_patch(*typical)
    config = MAEConfig(patch=patch, grid=grid or common_grid(source, patch), **(shape or {}))
    classifier = None
    max_bad = source_options.max_bad
    if how.real_share > 0:
        given: dict[str, Any] = {"device": device, "max_bad": max_bad, "workers": workers, "progress": progress}
        classifier = model_stage(run, source, model_options, **given)
        if classifier.state == "body":
            embed_stage(run, source, classifier, **given)  # fits a head of the source's classes
    done = train_mae(
        source,
        out,
        config,
        how,
        classifier=classifier,
        variant=variant,
        stop_after=stop_after,
        half=half,
        device=device,
        max_bad=max_bad,
        workers=workers,
        progress=progress,
    )
    if not (out / STATE_FILE).exists():
        run.remove()
    return {
        "checkpoint": str(checkpoint),
        "steps_done": done.steps,
        "bytes": checkpoint.stat().st_size,
        "images": done.images,
        "left_out": done.left_out,
        "bad": done.bad,
        "parameters": sum(p.numel() for p in done.model.parameters()),
        **(done.history[-1] if done.history else {}),
        "config": config.to_dict(),
    }


def common_grid(source: Source, patch: int) -> tuple[int, int]:
    """(rows, cols) that fit into every one of a few images, at most `LARGEST_GRID` each."""
    grids = []
    for i in np.unique(np.linspace(0, len(source) - 1, min(len(source), _PEEK)).astype(int)).tolist():
        try:
            height, width = source.read(i).shape[:2]
        except BadImageError:
            continue  # counted where every image is read
        grids.append(patch_grid(height, width, patch))
    if not grids:
        raise InputError(f"{source.spec}: none of {_PEEK} images looked at can be read")
    rows, cols = np.array(grids).min(axis=0).tolist()
    return min(rows, LARGEST_GRID), min(cols, LARGEST_GRID)
