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
        devices: where it runs.
    """

    name: str
    about: str
    package: str = ""
    exact: bool = True
    part: bool = False
    devices: tuple[str, ...] = ("cpu",)

    def missing(self, op: str, device: str = "cpu") -> str:
        """Why it cannot answer cases of this op on a device type here, or "" if it can."""
        if device not in self.devices:
            return f"does not run on {device}"
        if self.name.startswith("native"):
            from dq_fast import ops

            backend = ops.backends()[op][device]
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


_BOTH = ("cpu", "cuda")
_ALL = (
    Provider("native", "dq_fast as installed, method auto", devices=_BOTH),
    Provider("native-gram", "dq_fast, method gram", devices=_BOTH),
    Provider(
        "native-gram-float32",
        "the same from float32 similarities: ops.similarity_precision",
        exact=False,
        devices=("cuda",),
    ),
    Provider("native-lazy", "dq_fast, method lazy", devices=_BOTH),
    Provider("native-naive", "dq_fast, method naive: a product with all rows for each pick", devices=_BOTH),
    Provider("native-dispatch", "dq_fast through torch.ops, without the public function's checks", devices=_BOTH),
    Provider("torch", "the ops' definitions in torch, float64: what serves without native code", devices=_BOTH),
    Provider("torch-linear", "what a user would write: normalize, sum, matmul", exact=False, devices=_BOTH),
    Provider(
        "torch-matrix",
        "forms the similarity matrices, one product a factor, and no more",
        exact=False,
        part=True,
        devices=_BOTH,
    ),
    Provider(
        "torch-gram",
        "what a user would write: similarity matrix, then a loop over its rows",
        exact=False,
        devices=_BOTH,
    ),
    Provider(
        "torch-batched", "what a user would write: the same for many groups at a time", exact=False, devices=_BOTH
    ),
    Provider(
        "torch-incremental",
        "what a user would write: a loop with one matrix-vector product a pick",
        exact=False,
        devices=_BOTH,
    ),
    Provider(
        "torch-upsample", "what a user would write: upsample the map, average over patches", exact=False, devices=_BOTH
    ),
    Provider("published", "the published dense algorithm, in numpy and float32", exact=False),
    Provider("apricot", "GraphCutSelection, lazy, on the given matrix", "apricot-select"),
    Provider("submodlib", "GraphCutFunction built from the matrix, then LazyGreedy", "submodlib-py", exact=False),
    Provider("submodlib-built", "LazyGreedy alone, the function built before", "submodlib-py", exact=False, part=True),
    Provider(
        "triton-submodular",
        "GraphCut on the given matrix, LazyGreedy as a Triton kernel",
        "triton-submodular",
        exact=False,
        devices=("cuda",),
    ),
    Provider(
        "triton-submodular-naive",
        "GraphCut on the given matrix, NaiveGreedy as a Triton kernel",
        "triton-submodular",
        exact=False,
        devices=("cuda",),
    ),
    Provider("torchcam", "GradCAMpp's weights and map, without its backward pass", "torchcam", exact=False),
    Provider("grad-cam", "GradCAMPlusPlus' weights and map, without its backward pass", "grad-cam", exact=False),
)
PROVIDERS = {provider.name: provider for provider in _ALL}
