"""The fixture itself: the public ops run the emulated kernels, and what a launcher must not do is found."""

from __future__ import annotations

import contextlib

import pytest
import torch

import dq_fast as dq
from dq_fast.errors import InputError
from dq_fast.ops import native


def rows(n, d, seed=0):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    if n > 2:
        x[2] = 0
    return x


def expected_sums(x, shifted):
    unit = torch.nn.functional.normalize(x.double(), dim=1)
    cosines = unit @ unit.T
    return (0.5 + 0.5 * cosines if shifted else cosines).sum(1)


@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (5, 33), (37, 300)])
def test_the_public_op_runs_the_emulated_kernels(emulated, n, d, shifted):
    x = rows(n, d)
    got = dq.ops.cosine_row_sums(x, shifted=shifted)
    assert emulated.launches(), "no kernel was launched"
    assert emulated.emulator.statistics()["threads"] > 0
    torch.testing.assert_close(got, expected_sums(x, shifted), rtol=0, atol=1e-10)


def test_the_module_has_the_interface_the_package_needs(emulated_modules):
    assert emulated_modules[0].interface == native.INTERFACE["cuda"]


@pytest.mark.parametrize("emulated", ["forward"], indirect=True)
def test_a_hook_takes_the_place_of_the_emulator(emulated):
    seen = []
    emulated.emulator.set_hook(lambda *launch: seen.append(launch))
    x = rows(5, 33)
    with contextlib.suppress(InputError):  # nothing wrote the norms, which are NaN then: a row is reported as bad
        dq.ops.cosine_row_sums(x)
    assert seen
    assert emulated.emulator.statistics()["threads"] == 0
    for name, grid, block, shared, arguments in seen:
        assert name.startswith("_ZN7dq_fast")
        assert len(grid) == len(block) == 3
        assert shared >= 0
        assert all(isinstance(each, bytes) for each in arguments)
    pointers = {int.from_bytes(each, "little") for launch in seen for each in launch[4] if len(each) == 8}
    assert x.data_ptr() in pointers


@pytest.mark.parametrize("emulated", ["forward"], indirect=True)
def test_uninitialised_tensors_hold_nan(emulated):
    assert torch.empty(100, dtype=torch.float64).isnan().all()
    assert torch.zeros(1).new_empty(100).isnan().all()


@pytest.mark.parametrize("emulated", ["forward"], indirect=True)
def test_what_a_hook_raises_comes_out_of_the_op(emulated):
    def hook(*launch):
        raise LookupError("no such kernel")

    emulated.emulator.set_hook(hook)
    with pytest.raises(LookupError, match="no such kernel"):
        dq.ops.cosine_row_sums(rows(5, 33))
