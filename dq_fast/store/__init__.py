"""The store: kept patches of many images, shuffled into mosaics, with their position keys apart.

The format is in docs/STORE.md. `StoreWriter` writes, `PackedStore` reads patches; `dq_fast.restore` makes images.
"""

from __future__ import annotations

from dq_fast.store.codecs import CODECS, default_codec
from dq_fast.store.keys import Keys
from dq_fast.store.reader import PackedStore
from dq_fast.store.writer import StoreWriter, patches_per_mosaic

__all__ = ["CODECS", "Keys", "PackedStore", "StoreWriter", "default_codec", "patches_per_mosaic"]
