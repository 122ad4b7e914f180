"""Training an MAE on a source, with kept patterns like those it will meet."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dq_fast.data import Source
from dq_fast.embed import Classifier
from dq_fast.embed.classifier import check_device
from dq_fast.embed.fit import schedule
from dq_fast.errors import InputError
from dq_fast.files import atomic_write
from dq_fast.progress import Progress, silent
from dq_fast.restore.mae.checkpoints import MODEL_FILE, save_mae
from dq_fast.restore.mae.model import MAE, MAEConfig, dropped_places
from dq_fast.restore.mae.patchify import gather_patches, smooth_fill, to_images, to_patches
from dq_fast.restore.mae.patterns import (
    SCORES_FILE,
    digest_of,
    load_scores,
    save_scores,
    score_images,
)
from dq_fast.restore.mae.recipe import MAERecipe
from dq_fast.restore.mae.state import TrainingState
from dq_fast.restore.mae.windows import VALIDATION, Windows

LOG_STEPS = 100  # updates a row of the log
VALIDATE_STEPS = 1000  # updates between looks at the validation images
VALIDATION_IMAGES = 256
SAVE_SECONDS = 60.0  # between saved states: what an interruption costs at most

Grid = tuple[int, int]


@dataclass
class MAETraining:
    """What a training did.

    Attributes:
        model: the trained MAE, in eval mode.
        history: rows of the log: step, images, loss, psnr (dB, of dropped pixels while training), lr, seconds, and
            every `VALIDATE_STEPS` also validation_psnr and base_psnr (of the smooth fill) on images left out.
        steps: updates made.
        images: images trained on.
        left_out: images smaller than the model's grid.
        bad: {"id", "reason"} of the unreadable ones.
    """

    model: MAE
    history: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    images: int = 0
    left_out: int = 0
    bad: list[dict[str, str]] = field(default_factory=list)


def train_mae(
    source: Source,
    out: str | os.PathLike[str],
    config: MAEConfig,
    recipe: MAERecipe | None = None,
    *,
    classifier: Classifier | None = None,
    variant: str = "paper",
    stop_after: int | None = None,
    validation: int = VALIDATION_IMAGES,
    half: bool = False,
    device: str = "cpu",
    max_bad: float = 0.01,
    workers: int | None = None,
    progress: Progress = silent,
) -> MAETraining:
    """Train an MAE and write ``out/mae.safetensors`` and ``out/log.csv``.

    A state is kept in `out` while it trains; the same call continues an interrupted training and ends with the weights
    of an uninterrupted one (on the same machine, with as many threads).

    Args:
        source: images; those smaller than the configuration's grid are left out, larger ones are trained on window by
            window.
        out: folder.
        config: of the model.
        recipe: of the training.
        classifier: scores the patches; None: all kept patterns are random.
        variant: of GradCAM++, see `PixelQuantizer`.
        stop_after: write the checkpoint after so many of the recipe's updates and keep the state; a later call goes on.
        validation: images left out of training and looked at now and then.
        half: write the weights as float16, half as large.
        device: to train on.
        max_bad: share of unreadable images that stops the run.
        workers: reading threads.
        progress: called with ("patch scores", …) and ("mae-train", updates done, updates in all).

    Raises:
        InputError: no image is large enough; `out` holds a training with other parameters; the loss is not finite.
    """
    recipe, out, where = recipe or MAERecipe(), Path(out), check_device(device)
    key = {
        "source": {"name": Path(str(source.spec)).name, "fingerprint": source.fingerprint()},
        "classifier": None if classifier is None else {"name": classifier.name, "sha256": digest_of(classifier)},
        "patch": config.patch,
        "variant": variant,
    }
    scored = load_scores(out, key)
    if scored is None:
        scored = score_images(
            source, classifier, config.patch, variant=variant, max_bad=max_bad, workers=workers, progress=progress
        )
        save_scores(out, key, scored)
    fits = np.flatnonzero((scored.grids >= np.array(config.grid)).all(axis=1))
    held = min(validation, len(fits) // 10)
    order = np.random.default_rng([recipe.seed, VALIDATION]).permutation(fits)
    rows, held_rows = np.sort(order[held:]), np.sort(order[:held])
    if len(rows) < recipe.batch_size:
        raise InputError(
            f"source {source.spec} must have at least a batch of {recipe.batch_size} images of {config.grid[0]} x "
            f"{config.grid[1]} patches, got {len(rows)}: give a smaller grid or batch"
        )
    parameters = {
        **key,
        "config": config.to_dict(),
        "recipe": recipe.to_dict(),
        "images": len(rows),
        "validation_images": held,
    }
    model = MAE(config, seed=recipe.seed).to(where)
    state = TrainingState(model, recipe)
    state.resume(out, parameters)
    windows = Windows(source, scored, rows, config, recipe)
    checks = [Windows(source, scored, held_rows, config, recipe).validation(sum(recipe.drops) / 2)] if held else []
    _run(state, windows, checks, out, parameters, stop_after, workers, progress)
    if state.step < recipe.steps:
        state.save(out, parameters)
    state.use_mean()
    notes = {**parameters, "steps_done": state.step, "history": state.history}
    save_mae(out / MODEL_FILE, model.eval(), notes, half=half)
    if state.step >= recipe.steps:
        state.forget(out)
        (out / SCORES_FILE).unlink(missing_ok=True)
    return MAETraining(model, state.history, state.step, len(rows), len(scored) - len(fits), scored.bad)


def _run(
    state: TrainingState,
    windows: Windows,
    checks: list[tuple[Tensor, Tensor]],
    out: Path,
    parameters: dict[str, Any],
    stop_after: int | None,
    workers: int | None,
    progress: Progress,
) -> None:
    recipe, model = windows.recipe, state.model
    last = recipe.steps if stop_after is None else min(stop_after, recipe.steps)
    warmup = max(1, round(recipe.warmup * recipe.steps))
    started, before, saved = time.perf_counter(), state.seconds, time.perf_counter()
    model.train()
    progress("mae-train", state.step, recipe.steps)
    for images, kept in windows.batches(state.step, last, workers):
        lr = recipe.lr * schedule(state.step, recipe.steps, warmup)
        predicted, target = predict(model, images, kept)
        loss = model.loss(predicted, target)
        state.update(loss, lr)
        state.losses += float(loss.detach())
        if state.step % LOG_STEPS == 0 or state.step == recipe.steps:
            count = (state.step - 1) % LOG_STEPS + 1
            mean = state.losses / count
            state.losses = 0.0
            state.seconds = before + time.perf_counter() - started
            if not math.isfinite(mean):
                raise InputError(f"training diverged by step {state.step} (loss {mean}): lower lr, now {recipe.lr:g}")
            row = {"step": state.step, "images": state.step * recipe.batch_size, "loss": mean, "lr": lr}
            if not model.config.norm_pix:
                row["psnr"] = psnr_of_loss(mean, model.config)
            if checks and (state.step % VALIDATE_STEPS == 0 or state.step == recipe.steps):
                row.update(_validate(state, checks))
            row["seconds"] = round(state.seconds, 1)
            state.history.append(row)
            write_log(out / "log.csv", state.history)
        progress("mae-train", state.step, recipe.steps)
        if time.perf_counter() - saved > SAVE_SECONDS:
            state.seconds = before + time.perf_counter() - started
            state.save(out, parameters)
            saved = time.perf_counter()


def predict(model: MAE, images: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Predictions for the dropped patches of uint8 images [b, rows·p, cols·p, 3], and what they are, normalised."""
    config, where = model.config, model.cls_token.device
    images, kept = images.to(where), kept.to(where)
    grid = images.shape[1] // config.patch, images.shape[2] // config.patch
    patches = model.normalize(to_patches(images, config.patch))
    dropped = dropped_places(kept, patches.shape[1])
    base = base_patches(model, patches, kept, dropped, grid) if config.base == "smooth" else None
    predicted = model(gather_patches(patches, kept), kept, grid, base)
    return predicted, gather_patches(patches, dropped)


def base_patches(model: MAE, patches: Tensor, kept: Tensor, dropped: Tensor, grid: Grid) -> Tensor:
    """The smooth fill of the dropped patches [b, m, 3·p²] from all patches [b, P, 3·p²], of which `kept` are read."""
    patch = model.config.patch
    seen = torch.zeros(patches.shape[:2], device=patches.device).scatter_(1, kept, 1.0)
    mask = seen.view(-1, *grid).repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    filled = smooth_fill(to_images(patches, grid, patch), mask)
    return gather_patches(to_patches(filled, patch), dropped)


@torch.no_grad()
def _validate(state: TrainingState, checks: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """PSNR, dB, of the dropped pixels of left-out images, by the running mean of the weights; and of the base."""
    model = state.model
    sums = torch.zeros(2, dtype=torch.float64)
    with state.mean_weights():
        for images, kept in checks:
            predicted, target = predict(model, images, kept)
            if model.config.norm_pix:
                return {"validation_loss": float(model.loss(predicted, target))}
            truth = model.denormalize(target)
            sums[0] += ((model.denormalize(predicted).clamp(0, 255) - truth) ** 2).mean(dtype=torch.float64).cpu()
            if model.config.base == "smooth":
                patches = model.normalize(to_patches(images.to(truth.device), model.config.patch))
                places = kept.to(truth.device)
                base = base_patches(model, patches, places, dropped_places(places, patches.shape[1]), model.config.grid)
                sums[1] += ((model.denormalize(base) - truth) ** 2).mean(dtype=torch.float64).cpu()
    names = ("validation_psnr", "base_psnr")
    return {name: psnr(float(s) / len(checks)) for name, s in zip(names, sums, strict=True) if s > 0}


def psnr(mean_square: float) -> float:
    """Peak signal-to-noise ratio, dB, of 8-bit values with this mean squared error."""
    return 10 * math.log10(255**2 / mean_square) if mean_square > 0 else math.inf


def psnr_of_loss(loss: float, config: MAEConfig) -> float:
    """PSNR, dB, that a mean squared error of normalised pixels stands for, if it is spread evenly over the channels."""
    return psnr(loss * float(np.mean(np.square(config.std))) * 255**2)


def write_log(path: Path, history: list[dict[str, Any]]) -> None:
    """The history as CSV; numbers with five digits."""
    columns = ["step", "images", "loss", "psnr", "lr", "validation_psnr", "base_psnr", "validation_loss", "seconds"]
    used = [name for name in columns if any(name in row for row in history)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(used)
    for row in history:
        values = [row.get(name, "") for name in used]
        writer.writerow([f"{value:.5g}" if isinstance(value, float) else value for value in values])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
