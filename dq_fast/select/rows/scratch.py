"""Arrays in temporary files: memory that the system takes back when it needs it."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import torch
from torch import Tensor

from dq_fast.errors import InputError

SMALL = 32 << 20  # bytes: below, a file is not worth it


def scratch(shape: tuple[int, ...], dtype: torch.dtype, *, purpose: str, small: int = SMALL) -> Tensor:
    """An array whose contents are not set, for `shape` numbers of `dtype`; above `small` bytes it lies in a file.

    The file has no name any more when this returns (where the system allows it), so that nothing is left behind
    however the process ends; its space is taken beforehand, because a full disk under a memory map kills the process.
    The folder is the system's temporary one: TMPDIR names another.

    Raises:
        InputError: there is no room for it.
    """
    numbers = int(np.prod(shape, dtype=np.int64))
    size = numbers * dtype.itemsize
    if size <= small:
        return torch.empty(shape, dtype=dtype)
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(prefix="dq_fast.", dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            mapped = np.memmap(file, np.uint8, "r+", shape=(size,))
    except OSError as error:
        raise InputError(
            f"the temporary folder must have {size / 1e9:.1f} GB free for {purpose}, got {folder!r}: "
            f"{error.strerror or error}; set TMPDIR to a folder on a larger disk"
        ) from None
    return torch.from_numpy(mapped).view(dtype).view(shape)
