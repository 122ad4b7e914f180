"""Where images come from: one interface over folders, batches, parquet files, tar shards and arrays.

`open_source` turns what a user wrote into a `Source`; `read_batches` reads one ahead of its consumer.
"""

from dq_fast.data.batches import BadImages, read_batches
from dq_fast.data.decode import decode_image
from dq_fast.data.open import has_split, open_source
from dq_fast.data.source import SMALL_SIDE, Source, Subset, split_off

__all__ = [
    "SMALL_SIDE",
    "BadImages",
    "Source",
    "Subset",
    "decode_image",
    "has_split",
    "open_source",
    "read_batches",
    "split_off",
]
