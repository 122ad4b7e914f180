"""What the contact sheet of a report is made of: which images, as they were, how scored, how restored."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dq_fast.data import Source
from dq_fast.errors import InputError
from dq_fast.patches import PixelQuantizer
from dq_fast.pipeline.options import SourceOptions
from dq_fast.pipeline.run import RunFolder
from dq_fast.pipeline.stages import load_model, open_part
from dq_fast.restore import Store
from dq_fast.restore.fill import Fill
from dq_fast.store import PackedStore

AUTO_MAE = "auto"
SMALL_PATCH = 4  # px: what the MAE that comes with the package was trained on
SMALL_SIDE = 64  # px: where `default_patch` goes over to larger patches

Pixels = NDArray[np.uint8]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Fills:
    """How images are restored for the contact sheet.

    Attributes:
        fill: by name.
        mae: a masked autoencoder for a column of its own, if one is asked for.
        checkpoint: what it was loaded from.
    """

    fill: str
    mae: Fill | None = None
    checkpoint: str = ""

    def words(self) -> dict[str, str]:
        """By column of the contact sheet."""
        words = {"restored": f"{self.fill} fill"}
        return words if self.mae is None else {**words, "MAE": f"checkpoint {self.checkpoint}"}


def load_autoencoder(store: PackedStore, checkpoint: str | os.PathLike[str], device: str) -> tuple[Fill, str]:
    """A masked autoencoder for a store, and what it was loaded from.

    Args:
        store: whose images it is to restore.
        checkpoint: see `MAEFill`; "auto" is the one that comes with the package.
        device: where it runs.

    Raises:
        InputError: "auto" does not fit the store, or the checkpoint cannot be used.
    """
    from dq_fast.restore.mae import MAEFill
    from dq_fast.restore.mae.checkpoints import SHIPPED

    if checkpoint == AUTO_MAE:
        sides = np.asarray(store.sizes)
        if store.patch != SMALL_PATCH or int(sides.max(initial=0)) > SMALL_SIDE:
            raise InputError(
                f"mae must be a checkpoint for this store (patches of {store.patch} px, images up to "
                f"{int(sides.max(initial=0))} px), got none: the one that comes with the package is for patches of "
                f"{SMALL_PATCH} px and images up to {SMALL_SIDE} px; dq-fast mae-train makes one (docs/MAE.md)"
            )
        checkpoint = next(iter(SHIPPED))
    return MAEFill(checkpoint, device=device), os.fspath(checkpoint)


def spread_over_classes(labels: NDArray[np.int64], count: int, seed: int) -> list[int]:
    """`count` images, or all: one of each class in turn, classes and images drawn by `seed`."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    turn = np.empty(len(labels), np.int64)  # how many of its class come before an image
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        turn[mine] = np.arange(len(mine))
    ranks = np.lexsort((np.argsort(order), turn))
    return sorted(ranks[:count].tolist(), key=lambda i: (int(labels[i]), i))


def originals(store: Store) -> Callable[[int], Pixels] | None:
    """A reader of the images as they were, if the source of the store is still where it was and the same."""
    origin = store.manifest["source"]
    try:
        source: Source = open_part(origin["spec"], SourceOptions(**origin["options"]))
        if source.fingerprint() != origin["fingerprint"]:
            return None
    except (InputError, KeyError, TypeError, OSError):
        return None
    place = {id: i for i, id in enumerate(source.ids)}
    return lambda i: source.read(place[store.ids[i]])


def patch_scores(run: RunFolder, store: Store, device: str) -> Callable[[Pixels, int, tuple[int, int]], Scores] | None:
    """Scores of an image's patches by the run's classifier, as they were when the store was packed; None: by chance."""
    parameters = store.manifest["parameters"]
    if run.record("model") is None or parameters.get("score") == "random":
        return None
    classifier = load_model(run, device)
    classifier.module.to(device)
    settings = {name: parameters[name] for name in ("variant", "score", "target", "layer") if name in parameters}
    precision = (parameters.get("scoring") or {}).get("precision")
    if precision == "float16" and classifier.device.type != "cuda":
        precision = "float32"
    quantizer = PixelQuantizer(classifier.module, **settings, precision=precision)

    def score(image: Pixels, label: int, grid: tuple[int, int]) -> NDArray[np.float32]:
        x = classifier.normalize(torch.from_numpy(np.array(classifier.resize(image)))[None])
        found: Scores = quantizer.scores(x, torch.tensor([label]), [grid])[0].cpu().numpy()
        return found

    return score
