"""Every instruction of the interpreter's table has a test of its own, and the tests can fail."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from . import exact
from .interpreter.opcodes import OPCODES
from .snippets import run

HERE = Path(__file__).resolve().parent
UNIT_TESTS = (
    "integers",
    "bits",
    "floating",
    "conversions",
    "lanes",
    "memory",
    "atomics",
    "hazards",
    "control",
    "matrices",
)
# What has no effect, or none that a test could ask for, on this machine.
NOTHING_TO_SEE = {"prefetch", "prefetchu", "discard", "applypriority"}


def test_every_instruction_is_in_a_test():
    text = "".join((HERE / f"test_{name}.py").read_text() for name in UNIT_TESTS)
    words = {"bar.warp": r"bar\.warp", "cp.async": r"cp\.async"}
    missing = {
        name
        for name in set(OPCODES) - NOTHING_TO_SEE
        if not re.search(rf"(?<![\w.%]){words.get(name, re.escape(name))}\b", text)
    }
    assert not missing, f"no test in tests/ptx names {sorted(missing)}"


@pytest.mark.parametrize("op", sorted(NOTHING_TO_SEE))
def test_hints_do_nothing(op):
    a = np.arange(4, dtype="u4")
    np.testing.assert_array_equal(run(f"{op}.global.L2 [%pa]; mov.u32 %o, %a;", a, out="u4"), a)


@pytest.mark.parametrize(
    ("x", "type_", "want"),
    [
        (exact.Fraction(2049), "f16", 2048.0),  # a tie: to even
        (exact.Fraction(2051), "f16", 2052.0),
        (exact.Fraction(65519), "f16", 65504.0),
        (exact.Fraction(65520), "f16", float("inf")),
        (exact.Fraction(1, 3), "f32", float(np.float32(1) / np.float32(3))),
        (exact.Fraction(1, 2**1075), "f64", 0.0),
        (exact.Fraction(3, 2**1076), "f64", 2.0**-1074),
        (exact.Fraction(257), "bf16", 256.0),
    ],
)
def test_the_definition_of_rounding(x, type_, want):
    assert exact.nearest(x, type_) == want
    assert exact.from_bits(exact.to_bits(want, type_), type_) == want
