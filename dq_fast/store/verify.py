"""Everything that can be checked about a store, as a list for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dq_fast.errors import InputError
from dq_fast.store.keys import KEYS, SEAL

if TYPE_CHECKING:
    from dq_fast.store.reader import PackedStore


def find_problems(store: PackedStore) -> list[str]:
    """One line per problem: files missing, of another size or hash, keys missing, mosaics that do not decode.

    Also files that the manifest does not list; the index was checked when the store was opened.
    """
    problems: list[str] = []
    try:
        store.unlock()
    except InputError as error:
        problems.append(str(error))
    without_keys = 0
    for number, shard in enumerate(store._checked.shards):
        try:
            data = store._load(shard.mosaic, store.path / shard.mosaic.path)
            store._decode_mosaic(shard, data)
        except InputError as error:
            problems.append(str(error))
        if not (store.keys_folder / shard.key.path.rpartition("/")[2]).is_file():
            without_keys += 1
            continue
        try:
            if store._sealed:
                store._read_key(number, shard)
            else:  # why not was said; damage can be told nevertheless
                store._load(shard.key, store.keys_folder / shard.key.path.rpartition("/")[2])
        except InputError as error:
            problems.append(str(error))
    if without_keys and store._sealed:
        problems.append(
            f"position keys of {without_keys} of {store.n_shards} shards are missing in {store.keys_folder}; "
            f"give keys=FOLDER if they are kept elsewhere"
        )
    counts = store.manifest["counts"]
    expected = {
        "patches": sum(shard.patches for shard in store._checked.shards),
        "shards": store.n_shards,
        "classes": len(store.class_names),
        "grid_patches": int(store._grids.sum()),
    }
    for name, value in expected.items():
        if counts.get(name) != value:
            problems.append(f"counts.{name} in the manifest must be {value}, got {counts.get(name)!r}")
    listed = {f"{store.path}/{name}" for name in (*store.manifest["files"], "manifest.json", f"{KEYS}/{SEAL}")}
    for path in sorted(store.path.rglob("*")):
        if path.is_file() and str(path) not in listed:
            problems.append(f"{path} is not listed in the manifest")
    return problems
