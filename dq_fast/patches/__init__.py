"""Pixel-level quantizer: which patches of an image inform its class, and which are kept."""

from dq_fast.patches.grid import default_patch, keep_top, kept_count, patch_grid
from dq_fast.patches.maps import Maps
from dq_fast.patches.quantizer import PixelQuantizer

__all__ = ["Maps", "PixelQuantizer", "default_patch", "keep_top", "kept_count", "patch_grid"]
