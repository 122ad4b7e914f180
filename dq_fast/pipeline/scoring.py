"""How the classifier runs when patches are scored: chosen once a run, and then the same whenever it is packed."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from dq_fast.embed import Classifier
from dq_fast.embed.precision import Arithmetic, check_precision, choose
from dq_fast.files import read_json, write_json
from dq_fast.pipeline.run import RunFolder

_log = logging.getLogger(__name__)

SCORING = "scoring.json"
_FLEXIBLE = ("auto", "fastest")  # what they come to depends on the machine
_KEYS = ("precision", "memory_format", "why")


def scoring_of(run: RunFolder, classifier: Classifier, precision: str, batch_size: int) -> Arithmetic:
    """The arithmetic that `precision` comes to; for "auto" and "fastest" the one that this run's model has been given.

    What was chosen first is kept in the run folder: a run that goes on elsewhere, on a machine with other instructions,
    another device or in a slower hour, ends as it would have where it began.

    Args:
        run: of the stages.
        classifier: on the device it is to run on.
        precision: one of `dq_fast.embed.precision.PRECISIONS`.
        batch_size: images a forward pass.
    """
    check_precision("precision", precision, classifier.device)
    if precision not in _FLEXIBLE:
        return choose(precision, classifier.module, lambda: torch.empty(0))[0]
    file = run.path / SCORING
    known: dict[str, Any] = read_json(file) if file.is_file() else {}
    model = run.require("model", f"dq-fast embed SOURCE {run.path}")["files"]
    if known.get(precision, {}).get("model") != model:

        def images() -> Tensor:
            shape = (classifier.forward_size(batch_size), *classifier.input_size, 3)
            pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
            return classifier.normalize(pixels)

        found, times = choose(precision, classifier.module, images)
        seconds = {" ".join(way): taken for way, taken in times.items()}
        known[precision] = {"model": model, **found.as_dict(), **({"seconds": seconds} if seconds else {})}
        write_json(file, known)
    chosen = Arithmetic(**{name: known[precision][name] for name in _KEYS})
    _log.info("patch scores in %s, %s: %s", chosen.precision, chosen.memory_format, chosen.why)
    return chosen


def as_asked(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters in a manifest without what they came to; stores of before there was a choice are of float32."""
    asked = {name: value for name, value in parameters.items() if name != "scoring"}
    return {"precision": "auto", **asked}
