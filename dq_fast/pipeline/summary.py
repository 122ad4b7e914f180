"""A store's facts for people: counts, ratios, bytes, parameters."""

from __future__ import annotations

import os
from typing import Any

from dq_fast.store import PackedStore


def store_summary(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Facts of a store, from its manifest and index; the position keys are not needed.

    Returns:
        images, classes, source_images, bad_images; kept_samples, kept_pixels (of the kept images; edge patches count
        whole), samples_times_pixels, kept_bytes: ratios in [0, 1]; source_bytes, store_bytes, mosaic_bytes, key_bytes;
        patch, codec, class_names, parameters, versions, source.
    """
    store = PackedStore(path)
    manifest = store.manifest
    counts, sizes = manifest["counts"], manifest["bytes"]
    images, grid = counts["images"], counts["grid_patches"]
    source_images = counts.get("source_images", images)
    samples = images / max(1, source_images)
    pixels = counts["patches"] / max(1, grid)
    return {
        "images": images,
        "source_images": source_images,
        "bad_images": counts.get("bad_images", 0),
        "classes": counts["classes"],
        "kept_samples": samples,
        "kept_pixels": pixels,
        "samples_times_pixels": samples * pixels,
        "source_bytes": sizes["before"],
        "kept_images_bytes": counts.get("kept_bytes", 0),
        "store_bytes": sizes["after"],
        "mosaic_bytes": sizes["mosaics"],
        "key_bytes": sizes["keys"],
        "bytes_ratio": sizes["after"] / max(1, sizes["before"]),
        "patches": counts["patches"],
        "patch": manifest["patch"],
        "codec": manifest["codec"],
        "shards": counts["shards"],
        "class_names": manifest["class_names"],
        "parameters": manifest["parameters"],
        "source": {name: manifest["source"].get(name) for name in ("spec", "kind", "fingerprint")},
        "versions": manifest["versions"],
    }
