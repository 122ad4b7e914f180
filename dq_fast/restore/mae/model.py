"""The masked autoencoder: an encoder of the visible patches, and a decoder that predicts the pixels of the others.

Names of parameters are those of the published weights (He et al. 2022). Patches are vectors of 3·p² numbers, pixels row
by row, channels last.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dq_fast.embed.models import seeded
from dq_fast.errors import InputError, missing_extra
from dq_fast.restore.mae.positions import sincos_positions

BASES = ("none", "smooth")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_VARIANCE_FLOOR = 1e-6  # of norm_pix, as published
_TOKEN_STD = 0.02  # of the class and mask token at the start, as published

Grid = tuple[int, int]


@dataclass(frozen=True)
class MAEConfig:
    """What an MAE is built from.

    Attributes:
        patch: side of a patch, px.
        grid: (rows, cols) of patches it was trained on.
        dim, depth, heads: of the encoder.
        decoder_dim, decoder_depth, decoder_heads: of the decoder.
        mlp_ratio: width of the blocks' hidden layer over their own.
        eps: of the layer norms: 1e-6 in Meta's weights, 1e-12 in Hugging Face's.
        norm_pix: it predicts pixels normalised by their own patch's mean and variance.
        base: "none": it predicts pixels. "smooth" (this project's variant): it predicts what the pixels differ by from
            a smooth fill, and its decoder sees that fill where the published one sees only the mask token.
        mean, std: of the channels on the scale 0..1; inputs and predictions are normalised by them.
    """

    patch: int = 16
    grid: Grid = (14, 14)
    dim: int = 768
    depth: int = 12
    heads: int = 12
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    mlp_ratio: float = 4.0
    eps: float = 1e-6
    norm_pix: bool = False
    base: str = "none"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name in ("patch", "dim", "heads", "decoder_dim", "decoder_heads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if min(self.depth, self.decoder_depth) < 0 or len(self.grid) != 2 or min(self.grid) < 1:
            raise InputError(f"depths must be at least 0 and the grid at least 1 x 1, got {self}")
        for dim, heads in ((self.dim, self.heads), (self.decoder_dim, self.decoder_heads)):
            if dim % heads or dim % 4:
                raise InputError(f"dim must be a multiple of 4 and of the heads, got {dim} and {heads} heads")
        if self.base not in BASES:
            raise InputError(f"base must be one of {', '.join(BASES)}, got {self.base!r}")
        if self.norm_pix and self.base != "none":
            raise InputError("norm_pix predicts normalised pixels, which have no base: give base='none'")

    @property
    def pixels(self) -> int:
        """Numbers of a patch, 3·p²."""
        return 3 * self.patch * self.patch

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> MAEConfig:
        """The configuration that `to_dict` wrote.

        Raises:
            InputError: fields are missing, unknown or of another kind.
        """
        try:
            lists = {name: tuple(given[name]) for name in ("grid", "mean", "std")}
            return cls(**{**given, **lists})
        except (TypeError, KeyError) as error:
            raise InputError(f"configuration must be one of dq_fast's MAE, got {given!r}: {error}") from None


class MAE(nn.Module):
    """Predicts the pixels of dropped patches from the kept ones (He et al. 2022).

    Args:
        config: what it is built from.
        seed: of its first weights; torch's global generator stays as it was.
    """

    def __init__(self, config: MAEConfig, *, seed: int = 0) -> None:
        super().__init__()
        try:
            from timm.models.vision_transformer import Block
        except ImportError:
            raise missing_extra("timm", "images", "an MAE") from None
        self.config = config
        norm: Any = partial(nn.LayerNorm, eps=config.eps)
        block = partial(Block, mlp_ratio=config.mlp_ratio, qkv_bias=True, norm_layer=norm)

        def build() -> None:
            dim, decoder_dim = config.dim, config.decoder_dim
            self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, config.patch, config.patch)})
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
            self.blocks = nn.ModuleList(block(dim, config.heads) for _ in range(config.depth))
            self.norm = nn.LayerNorm(dim, eps=config.eps)
            self.decoder_embed = nn.Linear(dim, decoder_dim)
            self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
            if config.base != "none":
                self.decoder_base = nn.Linear(config.pixels, decoder_dim)
            self.decoder_blocks = nn.ModuleList(
                block(decoder_dim, config.decoder_heads) for _ in range(config.decoder_depth)
            )
            self.decoder_norm = nn.LayerNorm(decoder_dim, eps=config.eps)
            self.decoder_pred = nn.Linear(decoder_dim, config.pixels)
            self._start()

        seeded(seed, build)
        self._positions: dict[tuple[Grid, torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def _start(self) -> None:
        """First weights as published: Xavier, biases zero, small tokens; a residual starts at zero."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.cls_token, std=_TOKEN_STD)
        nn.init.normal_(self.mask_token, std=_TOKEN_STD)
        if self.config.base != "none":
            nn.init.zeros_(self.decoder_pred.weight)

    def positions(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """Positions of the encoder [1 + P, dim] and the decoder [1 + P, decoder_dim] for a grid, class token first."""
        like = self.cls_token
        key = (grid, like.device, like.dtype)
        if key not in self._positions:
            encoder, decoder = (
                torch.from_numpy(sincos_positions(grid, dim)).to(like.device, like.dtype)
                for dim in (self.config.dim, self.config.decoder_dim)
            )
            self._positions[key] = (encoder, decoder)
        return self._positions[key]

    def forward(self, patches: Tensor, kept: Tensor, grid: Grid, base: Tensor | None = None) -> Tensor:
        """Predict the dropped patches.

        Args:
            patches: visible patches [b, k, 3·p²], normalised by mean and std.
            kept: their places int64 [b, k], ascending, in the grid counted row by row; different in every row.
            grid: (rows, cols), P places; any, though it was trained on one.
            base: the smooth fill of the dropped patches [b, P - k, 3·p²], for configurations with one.

        Returns:
            [b, P - k, 3·p²], the other places in ascending order, normalised by mean and std (with norm_pix: by each
            patch's own mean and variance).

        Raises:
            InputError: shapes do not fit each other.
        """
        config = self.config
        b, k, pixels = patches.shape
        places = grid[0] * grid[1]
        if pixels != config.pixels or kept.shape != (b, k) or not 0 <= k <= places:
            raise InputError(
                f"patches must be [b, k, {config.pixels}] and kept [b, k] with k up to {places}, "
                f"got {tuple(patches.shape)} and {tuple(kept.shape)}"
            )
        if (base is None) != (config.base == "none") or (base is not None and base.shape != (b, places - k, pixels)):
            got = None if base is None else tuple(base.shape)
            raise InputError(f"base must be given for base={config.base!r} as {(b, places - k, pixels)}, got {got}")
        dropped = dropped_places(kept, places)
        at, decoder_at = self.positions(grid)
        # A convolution with stride p is one linear map of every patch.
        projection: Any = self.patch_embed["proj"]
        weight = projection.weight.permute(0, 2, 3, 1).reshape(config.dim, -1)
        x = F.linear(patches, weight, projection.bias) + at[1 + kept]
        x = torch.cat([(self.cls_token + at[0]).expand(b, -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.decoder_embed(self.norm(x))
        # The order of tokens means nothing to attention: visible ones first, no need to sort them into the grid.
        missing = self.mask_token + decoder_at[1 + dropped]
        if base is not None:
            missing = missing + self.decoder_base(base)
        x = torch.cat([x[:, :1] + decoder_at[0], x[:, 1:] + decoder_at[1 + kept], missing], dim=1)
        for block in self.decoder_blocks:
            x = block(x)
        predicted: Tensor = self.decoder_pred(self.decoder_norm(x[:, 1 + k :]))
        return predicted if base is None else predicted + base

    def loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Mean squared error over dropped patches [b, m, 3·p²]; with norm_pix of the normalised ones."""
        if self.config.norm_pix:
            target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + _VARIANCE_FLOOR).sqrt()
        return F.mse_loss(predicted, target)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels 0..255 [..., 3·p²], channels last, to the network's scale."""
        mean, std = self._channels(pixels)
        return (pixels.to(mean.dtype) - mean) / std

    def denormalize(self, patches: Tensor) -> Tensor:
        """The network's scale back to 0..255, float."""
        mean, std = self._channels(patches)
        return patches * std + mean

    def _channels(self, like: Tensor) -> tuple[Tensor, Tensor]:
        repeats = self.config.patch**2
        mean, std = (
            torch.tensor(values, dtype=self.cls_token.dtype, device=like.device).mul(255).repeat(repeats)
            for values in (self.config.mean, self.config.std)
        )
        return mean, std


def unnormalize_patches(predicted: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Undo norm_pix: predictions [b, m, 3·p²] with a mean and an unbiased variance [b, m, 1] a patch."""
    return predicted * (variance + _VARIANCE_FLOOR).sqrt() + mean


def dropped_places(kept: Tensor, places: int) -> Tensor:
    """The places of 0..places - 1 not in `kept` [b, k], ascending, int64 [b, places - k]."""
    b, k = kept.shape
    missing = torch.ones(b, places, dtype=torch.bool, device=kept.device).scatter_(1, kept, False)
    found = missing.nonzero()[:, 1]
    if len(found) != b * (places - k):
        raise InputError("kept must be different places in every row, got some twice")
    return found.view(b, places - k)
