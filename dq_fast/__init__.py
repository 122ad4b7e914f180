"""dq_fast: Dataset Quantization, fast.

Keeps the samples and the image patches that train a model as well as the whole data set::

    import dq_fast as dq

    store = dq.compress("photos/", "photos.dq", keep=0.6, drop=0.2)
    image, label = store[0]

The stages can be used alone, and so can the kernels: `dq.ops.cosine_row_sums`, `dq.ops.graph_cut_greedy`,
`dq.ops.graph_cut_bins`, `dq.ops.patch_scores`. Names load when they are first used: `import dq_fast` alone imports
nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> module that defines it ("ops" is the module itself)
_EXPORTS = {
    "ops": "dq_fast.ops",
    "InputError": "dq_fast.errors",
    "BadImageError": "dq_fast.errors",
    "open_source": "dq_fast.data",
    "gradient_embedding": "dq_fast.embed",
    "load_classifier": "dq_fast.embed",
    "SampleQuantizer": "dq_fast.select",
    "PixelQuantizer": "dq_fast.patches",
    "Store": "dq_fast.restore",
    "Keys": "dq_fast.store",
    "open": "dq_fast.restore",
    "compress": "dq_fast.pipeline",
}

__all__ = [*_EXPORTS, "__version__"]

if TYPE_CHECKING:
    from dq_fast import ops as ops
    from dq_fast.data import open_source as open_source
    from dq_fast.embed import gradient_embedding as gradient_embedding
    from dq_fast.embed import load_classifier as load_classifier
    from dq_fast.errors import BadImageError as BadImageError
    from dq_fast.errors import InputError as InputError
    from dq_fast.patches import PixelQuantizer as PixelQuantizer
    from dq_fast.pipeline import compress as compress
    from dq_fast.restore import Store as Store
    from dq_fast.restore import open as open
    from dq_fast.select import SampleQuantizer as SampleQuantizer
    from dq_fast.store import Keys as Keys


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'dq_fast' has no attribute {name!r}")
    module = importlib.import_module(_EXPORTS[name])
    value = module if name == "ops" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
