"""The stages of a run, each from the folder that the one before left to its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import nn

from dq_fast.data import SMALL_SIDE, Source, open_source, split_off
from dq_fast.embed import Classifier, Embedding, embed, load_classifier, train_classifier
from dq_fast.errors import BadImageError, InputError
from dq_fast.files import atomic_write, sha256_file
from dq_fast.pipeline.members import left_out, mark_images, save_images, without
from dq_fast.pipeline.options import ModelOptions, SourceOptions
from dq_fast.pipeline.run import RunFolder
from dq_fast.progress import Progress, silent

_log = logging.getLogger(__name__)

PAPER_TRAIN_EPOCHS = 10  # section 4.1: feature extractors are trained for 10 epochs
_MODEL_FILE = "model.safetensors"
HEAD_FILE = "head.safetensors"
_PEEKED = 32  # images looked at to learn a source's typical size

Ints = NDArray[np.int64]


def typical_size(source: Source) -> tuple[int, int]:
    """Median height and width over a few images spread over the source."""
    sizes = []
    for i in np.unique(np.linspace(0, len(source) - 1, _PEEKED).astype(int)):
        try:
            sizes.append(source.read(int(i)).shape[:2])
        except BadImageError:
            continue  # counted where every image is read
    if not sizes:
        raise InputError(f"{source.spec}: none of {_PEEKED} images looked at can be read")
    height, width = np.median(np.array(sizes), axis=0)
    return int(height), int(width)


def source_stage(run: RunFolder, spec: str, options: SourceOptions) -> Source:
    """Open the images and remember what they are; a source that changed since makes every stage start over.

    Images that were removed from the run stay out of it.
    """
    source = open_part(spec, options)
    parameters = {"spec": str(spec), **asdict(options)}
    fingerprint = source.fingerprint()
    if run.is_current("source", parameters):
        record = run.record("source")
        if record is not None and record["results"]["fingerprint"] == fingerprint:
            return source
    gone = left_out(run)
    with run.writing("source", parameters) as (folder, results):
        results.update(describe_source(folder, source, fingerprint, mark_images(source), gone))
    return source


def describe_source(
    folder: Path, source: Source, fingerprint: str, marks: NDArray[np.uint64], gone: Sequence[str]
) -> dict[str, Any]:
    """Leave what is known of every image in a source stage's folder; its results.

    Args:
        folder: of the stage.
        source: the images.
        fingerprint: of the source.
        marks: of the images, see `mark_images`.
        gone: ids that do not belong to the run.
    """
    save_images(folder, source, marks)
    out = set(gone).intersection(source.ids)
    return {
        "kind": source.kind,
        "fingerprint": fingerprint,
        "images": len(source),
        "bytes": sum(source.size_of(i) for i, id in enumerate(source.ids) if id not in out),
        "class_names": list(source.class_names),
        "hflip": source.hflip,
        "left_out": [id for id in source.ids if id in out],
    }


def open_part(spec: str, options: SourceOptions, *, held_out: bool = False) -> Source:
    """The part of a source that is compressed, or the part set aside for testing (`held_out`)."""
    source = open_source(
        spec, split=options.split, image_column=options.image_column, label_column=options.label_column
    )
    if not options.holdout:
        if held_out:
            raise InputError("holdout must be above 0 for a source to have a held-out part, got 0")
        return source
    return split_off(source, options.holdout, options.seed)[1 if held_out else 0]


def reopen_source(run: RunFolder) -> Source:
    """The source of a run that another process started; an error if it changed in the meantime."""
    record = run.require("source", f"dq-fast embed SOURCE {run.path}")
    given = dict(record["parameters"])
    source = open_part(given.pop("spec"), SourceOptions(**given))
    if source.fingerprint() != record["results"]["fingerprint"]:
        raise InputError(
            f"{source.spec} changed since {run.path} was made from it; take the change over with: dq-fast bins "
            f"{source.spec} --add {run.path}, or start again with: dq-fast embed {source.spec} {run.path}"
        )
    return source


def model_stage(
    run: RunFolder,
    source: Source,
    options: ModelOptions,
    *,
    device: str = "cpu",
    max_bad: float = 0.01,
    workers: int | None = None,
    progress: Progress = silent,
) -> Classifier:
    """Load the classifier, and train it where it has no weights. A head of other classes is fitted when embedding."""
    before = (run.record("source") or {"results": {}})["results"].get("typical_size")
    typical = typical_size(source) if before is None else (int(before[0]), int(before[1]))
    small = max(typical) <= SMALL_SIDE
    name = options.model or ("resnet20_cifar" if small else "resnet18")
    parameters = {
        **options.plain(),
        "model": name,
        "weights_sha256": None if options.weights is None else _weights_digest(options.weights),
        "typical_size": typical,
    }
    if run.is_current("model", parameters):
        return Classifier.load(run.folder("model") / _MODEL_FILE, device=device)
    size = options.input_size
    if size is None and name.endswith("_cifar"):
        size = typical  # these nets take any size, and small images are best left as they are
    with run.writing("model", parameters) as (folder, results):
        classifier = load_classifier(
            name,
            num_classes=len(source.class_names),
            weights=options.weights,
            pretrained=options.pretrained,
            input_size=size,
            mean=options.mean,
            std=options.std,
            seed=options.seed,
            device=device,
        )
        untrained = classifier.state == "untrained"
        epochs = (PAPER_TRAIN_EPOCHS if untrained else 0) if options.train_epochs is None else options.train_epochs
        if epochs:
            train_classifier(
                classifier,
                without(source, left_out(run))[0],
                epochs=epochs,
                seed=options.seed,
                max_bad=max_bad,
                workers=workers,
                progress=progress,
            )
        elif untrained:
            _log.warning("model %s has random weights: give --weights, or let it train (--train-epochs)", name)
        classifier.save(folder / _MODEL_FILE)
        results.update(name=name, trained_epochs=epochs, state=classifier.state)
    return classifier


def feature_width(source: Source, options: ModelOptions) -> int:
    """Numbers of a feature of the model that `model_stage` would take; no weights are read."""
    typical = typical_size(source)
    name = options.model or ("resnet20_cifar" if max(typical) <= SMALL_SIDE else "resnet18")
    size = typical if options.input_size is None and name.endswith("_cifar") else options.input_size
    classifier = load_classifier(name, num_classes=len(source.class_names), input_size=size)
    return int(classifier.head.in_features)


def _weights_digest(path: str) -> str:
    if not Path(path).is_file():
        raise InputError(f"weights must be a file (safetensors, or torch), got {path!r}, which is not there")
    return sha256_file(path)


def pick_device(name: str) -> str:
    """The device to work on: "auto" is the GPU where torch sees one."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(run: RunFolder, device: str = "cpu") -> Classifier:
    """The classifier of a run, with the head that was fitted when embedding."""
    run.require("model", f"dq-fast embed SOURCE {run.path}")
    classifier = Classifier.load(run.folder("model") / _MODEL_FILE, device=device)
    fitted = run.folder("embed") / HEAD_FILE
    if fitted.is_file():
        state = load_file(fitted)
        classes, width = state["weight"].shape
        head = nn.Linear(width, classes)
        head.load_state_dict(state)
        classifier.replace_head(head.to(device))
    return classifier


def embed_stage(
    run: RunFolder,
    source: Source,
    classifier: Classifier,
    *,
    max_bad: float = 0.01,
    device: str = "cpu",
    batch_size: int = 128,
    workers: int | None = None,
    precision: str = "float32",
    progress: Progress = silent,
) -> Embedding:
    """Features and logits of every readable image, in one pass.

    A classifier whose head is not of these classes (an ImageNet model, say) gets one here, by logistic regression on
    the features: its gradients and class activations then speak of the classes of the data set. It is changed.
    """
    parameters: dict[str, Any] = {"max_bad": max_bad}
    if precision != "float32":
        parameters["precision"] = precision
    if run.is_current("embed", parameters):
        if classifier.state == "body":
            classifier.replace_head(load_model(run, device).head)
        return load_embedding(run)
    part, positions = without(source, left_out(run))
    with run.writing("embed", parameters) as (folder, results):
        embedding = embed(
            part,
            classifier,
            batch_size=batch_size,
            device=device,
            max_bad=max_bad,
            workers=workers,
            precision=precision,
            progress=progress,
        )
        embedding.index = positions[embedding.index]
        if classifier.state == "body":
            features, labels = torch.as_tensor(embedding.features), torch.as_tensor(embedding.labels)
            head = classifier.fit_head(features, labels, len(source.class_names))
            embedding = embedding.with_head(head)
            state = {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
            with atomic_write(folder / HEAD_FILE) as file:
                file.write(save(state))
        embedding.save(folder)
        results.update(images=len(embedding.ids), bad=embedding.bad)
    return embedding


def load_embedding(run: RunFolder) -> Embedding:
    """What `embed_stage` left."""
    run.require("embed", f"dq-fast embed SOURCE {run.path}")
    return Embedding.load(run.folder("embed"))
