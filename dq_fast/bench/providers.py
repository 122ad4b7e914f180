"""Who answers the cases, and whether they are here."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

import dq_fast


@dataclass(frozen=True)
class Provider:
    """A named way of doing things.

    Attributes:
        name: as in the results.
        about: one line.
        package: the PyPI package it needs, "" for none.
        exact: computes in float64, or promises results as if it did; else float32 arithmetic is allowed for.
        part: does only part of what the case asks for (a yardstick), and is not a rival.
    """

    name: str
    about: str
    package: str = ""
    exact: bool = True
    part: bool = False

    def missing(self, op: str) -> str:
        """Why it cannot answer cases of this op here, or "" if it can."""
        if self.name.startswith("native"):
            from dq_fast import ops

            backend = ops.backends()[op]["cpu"]
            return "" if backend.serves == "native" else f"no native kernel: {backend.detail}"
        if not self.package or _version(self.package):
            return ""
        return f"{self.package} is not installed: pip install {self.package}"

    @property
    def version(self) -> str:
        """Of what does the work."""
        if self.package:
            return f"{self.package} {_version(self.package)}"
        if self.name.startswith("native") or self.name == "torch":
            return f"dq_fast {dq_fast.__version__}"
        return f"numpy {_version('numpy')}" if self.name == "published" else f"torch {_version('torch')}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


_ALL = (
    Provider("native", "dq_fast as installed, method auto"),
    Provider("native-gram", "dq_fast, method gram"),
    Provider("native-lazy", "dq_fast, method lazy"),
    Provider("native-naive", "dq_fast, method naive: a product with all rows for each pick"),
    Provider("native-dispatch", "dq_fast through torch.ops, without the public function's checks"),
    Provider("torch", "the ops' definitions in torch, float64: what serves without native code"),
    Provider("torch-linear", "what a user would write: normalize, sum, matmul", exact=False),
    Provider(
        "torch-matrix", "forms the similarity matrices, one product a factor, and no more", exact=False, part=True
    ),
    Provider("torch-gram", "what a user would write: similarity matrix, then a loop over its rows", exact=False),
    Provider("torch-incremental", "what a user would write: a loop with one matrix-vector product a pick", exact=False),
    Provider("torch-upsample", "what a user would write: upsample the map, average over patches", exact=False),
    Provider("published", "the published dense algorithm, in numpy and float32", exact=False),
    Provider("apricot", "GraphCutSelection, lazy, on the given matrix", "apricot-select"),
    Provider("submodlib", "GraphCutFunction built from the matrix, then LazyGreedy", "submodlib-py", exact=False),
    Provider("submodlib-built", "LazyGreedy alone, the function built before", "submodlib-py", exact=False, part=True),
    Provider("torchcam", "GradCAMpp's weights and map, without its backward pass", "torchcam", exact=False),
    Provider("grad-cam", "GradCAMPlusPlus' weights and map, without its backward pass", "grad-cam", exact=False),
)
PROVIDERS = {provider.name: provider for provider in _ALL}
