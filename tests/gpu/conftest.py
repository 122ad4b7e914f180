"""Where these tests run: on GPUs, or visibly not at all.

DQ_FAST_GPU_TESTS_DEVICE=cpu runs them on the processor instead, all but those about streams: bench/gpu.sh does so where
there is no GPU, so that nothing in them is tried for the first time on one.
"""

from __future__ import annotations

import os

import pytest
import torch

FORCED = os.environ.get("DQ_FAST_GPU_TESTS_DEVICE")


@pytest.fixture(params=[FORCED] if FORCED else ["cuda:0", "cuda:1"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The first GPU, and the second where there is one; the current one is always the first."""
    found = torch.device(request.param)
    if found.type == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device here: nothing of this ran on a GPU (`dq-fast doctor` says what is missing)")
        if found.index >= torch.cuda.device_count():
            pytest.skip("only one GPU here")
    return found


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """The same for tests that make no sense on a processor."""
    if device.type != "cuda":
        pytest.skip("streams and graphs are of GPUs")
    return device
