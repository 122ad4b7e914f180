"""What of CUDA is here, and what is missing for the kernels to run on a GPU: for `dq-fast doctor`."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

from dq_fast.ops.cuda import launch

_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch sees."""

    name: str
    capability: tuple[int, int]
    memory_bytes: int


@dataclass(frozen=True)
class Cuda:
    """Facts.

    Attributes:
        torch: CUDA release that torch was built for, None for a CPU build.
        driver: newest CUDA release that the driver serves, None where there is no driver.
        driver_error: what the driver's initialisation returned, 0 for success, None where there is no driver.
        visible: CUDA_VISIBLE_DEVICES, None where it is not set.
        gpus: what torch sees.
        module: what the native module was built with, "" where it does not serve.
        module_reason: why it does not.
    """

    torch: str | None
    driver: str | None
    driver_error: int | None
    visible: str | None
    gpus: tuple[Gpu, ...]
    module: str
    module_reason: str

    @property
    def missing(self) -> list[str]:
        """What keeps the CUDA kernels from running here, and what to do, the first cause first; empty if they run."""
        found = []
        if self.torch is None:
            found.append("this torch is a CPU build: install one for CUDA")
        if not self.module and self.torch is not None:
            found.append(f"no native module: {self.module_reason}")
        if self.driver is None:
            found.append(
                "no NVIDIA driver (libcuda.so.1 was not found): install it on the machine; "
                "a container is started with access to the GPUs (--gpus all)"
            )
        elif self.torch is not None and _major(self.driver) < _major(self.torch):
            found.append(
                f"the driver serves CUDA {self.driver}, this torch is built for {self.torch}: update the driver, or "
                f"install torch for CUDA {_major(self.driver)} and build dq_fast with its nvcc"
            )
        elif not self.gpus and self.torch is not None:
            hidden = "" if self.visible is None else f" (CUDA_VISIBLE_DEVICES is {self.visible!r})"
            error = "" if self.driver_error in (0, _NO_DEVICE) else f"; cuInit returned {self.driver_error}"
            found.append(f"there is a driver, but no GPU is visible{hidden}{error}")
        for gpu in self.gpus:
            if gpu.capability < launch.OLDEST:
                major, minor = gpu.capability
                found.append(
                    f"{gpu.name} has compute capability {major}.{minor}, the kernels are compiled for "
                    f"{launch.OLDEST[0]}.{launch.OLDEST[1]} and newer: on it the torch definitions serve"
                )
        return found


def _major(release: str) -> int:
    return int(release.partition(".")[0])


def gather() -> Cuda:
    """Look."""
    import torch

    from dq_fast.ops import native

    module, reason = native.find("cuda")
    driver, error = _driver()
    gpus = []
    if torch.version.cuda is not None and torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(i)
            gpus.append(Gpu(about.name, (about.major, about.minor), about.total_memory))
    return Cuda(
        torch.version.cuda, driver, error, os.environ.get("CUDA_VISIBLE_DEVICES"), tuple(gpus),
        reason if module is not None else "", "" if module is not None else reason,
    )  # fmt: skip


def _driver() -> tuple[str | None, int | None]:
    """The driver's newest CUDA release and what its initialisation returns."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None, None
    version = ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}", int(library.cuInit(0))
