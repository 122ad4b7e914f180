"""Which columns of a parquet file hold the images and the labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dq_fast.errors import InputError

# Where several columns could be meant, these names decide, in this order.
_IMAGE_NAMES = ("image", "img", "images", "picture", "photo", "jpg", "png", "webp", "bytes")
_LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "category", "y", "cls")


@dataclass(frozen=True)
class Columns:
    """Attributes: image, label: column names; has_path: the image is a struct with a path; names: of the classes."""

    image: str
    label: str
    has_path: bool
    names: list[str] | None


def find_columns(files: list[Path], image: str | None, label: str | None) -> Columns:
    """Find the columns by Hugging Face's metadata, by type, and by name; `image` and `label` override.

    Raises:
        InputError: none or several fit, a column is missing or of another type, or the files differ.
    """
    first = _schema(files[0])
    features = _features(first)
    image = _pick(first, image, features, "Image", _is_image, _IMAGE_NAMES, "image", files[0])
    label = _pick(first, label, features, "ClassLabel", _is_label, _LABEL_NAMES, "label", files[0])
    for file in files[1:]:
        schema = _schema(file)
        for name in (image, label):
            if name not in schema.names or schema.field(name).type != first.field(name).type:
                got = schema.field(name).type if name in schema.names else "no such column"
                like = f"{first.field(name).type} as in {files[0].name}"
                raise InputError(f"{file}: column {name!r} must be {like}, got {got}")
    import pyarrow.types as types

    image_type = first.field(image).type
    has_path = types.is_struct(image_type) and any(
        f.name == "path" and (types.is_string(f.type) or types.is_large_string(f.type)) for f in _fields(image_type)
    )
    names = features.get(label, {}).get("names")
    good = isinstance(names, list) and all(isinstance(n, str) for n in names) and len(set(names)) == len(names)
    return Columns(image, label, has_path, names if good else None)


def _schema(file: Path) -> Any:
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} must be a parquet file, but is broken: {' '.join(str(error).split())}") from None


def _features(schema: Any) -> dict[str, Any]:
    """Hugging Face's description of the columns; empty where there is none or it is unreadable."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}


def _pick(
    schema: Any,
    given: str | None,
    features: dict[str, Any],
    feature: str,
    fits: Callable[[Any], bool],
    usual: tuple[str, ...],
    what: str,
    file: Path,
) -> str:
    listing = ", ".join(f"{f.name} ({f.type})" for f in schema)
    if given is not None:
        if given not in schema.names:
            raise InputError(f"{what}_column must be a column of {file}, got {given!r}; it has {listing}")
        if not fits(schema.field(given).type):
            expected = "encoded images (binary, or struct<bytes>)" if what == "image" else "integers or texts"
            raise InputError(f"{what}_column must hold {expected}, got {given!r} with {schema.field(given).type}")
        return given
    candidates = [f.name for f in schema if fits(f.type)]
    described = [name for name in candidates if features.get(name, {}).get("_type") == feature]
    for group in (described, candidates):
        if len(group) == 1:
            return group[0]
        for name in usual:
            if name in group:
                return name
    found = "several could be" if candidates else "none is"
    hint = "a data set without labels cannot be used; " if what == "label" and not candidates else ""
    raise InputError(f"{file}: {hint}{found} the {what} column; give {what}_column (--{what}-column). It has {listing}")


def _fields(type_: Any) -> list[Any]:
    return [type_.field(k) for k in range(type_.num_fields)]


def _is_image(type_: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(type_):
        return any(f.name == "bytes" and _is_binary(f.type) for f in _fields(type_))
    return _is_binary(type_)


def _is_binary(type_: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(type_) or types.is_large_binary(type_))


def _is_label(type_: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(type_):
        type_ = type_.value_type
    return bool(types.is_integer(type_) or types.is_string(type_) or types.is_large_string(type_))
