"""How an MAE is trained: every number that decides the result."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from dq_fast.errors import InputError
from dq_fast.patches.grid import check_drop


@dataclass(frozen=True)
class MAERecipe:
    """How to train; with the source, the classifier and the configuration it decides the weights.

    Attributes:
        steps: updates.
        batch_size: images an update.
        lr: peak of AdamW's learning rate; it rises linearly over `warmup` of all updates, then falls along a cosine.
        warmup: share of all updates.
        weight_decay: of AdamW, on matrices only.
        clip: largest norm of the gradient.
        ema: decay of the running mean of the weights, which is what is saved; 0 saves the last weights.
        drops: lowest and highest drop ratio θ; every update draws one for its batch.
        real_share: share of kept patterns from patch scores; the others are random.
        hflip: mirror half of the images, where the source allows it.
        seed: of weights, order, patterns and mirroring.
    """

    steps: int = 2500
    batch_size: int = 32
    lr: float = 2e-3
    warmup: float = 0.03
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    drops: tuple[float, float] = (0.2, 0.5)
    real_share: float = 0.7
    hflip: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, math.inf),
            ("batch_size", 1, math.inf),
            ("lr", 0, math.inf),
            ("warmup", 0, 1),
            ("weight_decay", 0, math.inf),
            ("clip", 0, math.inf),
            ("ema", 0, 1),
            ("real_share", 0, 1),
            ("seed", 0, math.inf),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} must lie in {low}..{high}, got {value}")
        if len(self.drops) != 2 or self.drops[0] > self.drops[1]:
            raise InputError(f"drops must be the lowest and the highest drop ratio, got {self.drops!r}")
        for drop in self.drops:
            check_drop(drop)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "drops": list(self.drops)}
