"""The table of machine code: its parsers, what it calls worse, and planted faults, which it has to find."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "bench" / "kernels" / "table.py"

USAGE = """
Resource usage:
 Common:
  GLOBAL:0 CONSTANT[3]:24
 Function _ZN7dq_fast9add_partsILi256EEEvPKdPdll:
  REG:34 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:384 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function _Z1fPf:
  REG:7 STACK:16 SHARED:1024 LOCAL:0 CONSTANT[0]:360 TEXTURE:0 SURFACE:0 SAMPLER:0
"""

SASS = """
	code for sm_90
		Function : _Z1fPf
	.headerflags	@"EF_CUDA_TEXMODE_UNIFIED EF_CUDA_64BIT_ADDRESS EF_CUDA_SM90"
        /*0000*/                   LDC R1, c[0x0][0x28] ;                    /* 0x00000a00ff017b82 */
                                                                             /* 0x000fe20000000800 */
        /*0010*/                   LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ; /* 0x0000000402047981 */
        /*0020*/              @!P0 LDG.E R8, desc[UR4][R2.64] ;              /* 0x0000000402047981 */
        /*0030*/                   LDG.E.128 R12, desc[UR4][R2.64] ;         /* 0x0000000402047981 */
        /*0040*/              @!UP0 UIADD3 UR4, UR4, 0x1, URZ ;              /* 0x0000000402047981 */
        /*0050*/                   DFMA R4, R4, R8, R12 ;                    /* 0x0000000402047981 */
        /*0060*/               @P1 BRA 0x20 ;                                /* 0x0000000402047981 */
        /*0070*/                   STL.64 [R1], R4 ;                         /* 0x0000000402047981 */
        /*0080*/                   LDL R4, [R1+0x4] ;                        /* 0x0000000402047981 */
        /*0090*/                   EXIT ;                                    /* 0x000000000000794d */
        /*00a0*/                   BRA 0xa0;                                 /* 0xfffffffc00fc7947 */
        /*00b0*/                   NOP;                                      /* 0x0000000000007918 */
"""

ELF = """
.nv.info._Z1fPf
	<0x1>
	Attribute:	EIATTR_REGCOUNT
	Format:	EIFMT_SVAL
	Value:	function: _Z1fPf(0x7)	register count: 7
	<0x2>
	Attribute:	EIATTR_MAX_THREADS
	Format:	EIFMT_SVAL
	Value:	0x80 0x2 0x1
.nv.info._Z1gPf
	<0x1>
	Attribute:	EIATTR_PARAM_CBANK
	Format:	EIFMT_SVAL
	Value:	0x4 0x80210
.text._Z1gPf
"""

PTXAS = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1fPf' for 'sm_90'
ptxas info    : Function properties for _Z1fPf
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 7 registers, used 1 barriers, 16 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compiling entry function '_Z1gPf' for 'sm_90'
ptxas info    : Function properties for _Z1gPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
"""


@pytest.fixture
def code():
    import machine_code

    return machine_code


def test_resource_usage(code):
    found = code.parse_usage(USAGE)
    assert found["_Z1fPf"]["REG"] == 7
    assert found["_Z1fPf"]["STACK"] == 16
    assert found["_Z1fPf"]["SHARED"] == 1024
    assert len(found) == 2


def test_opcodes_loops_and_wide_loads(code):
    found = code.parse_code(SASS)["_Z1fPf"]
    assert found.opcodes["LDG.E.128"] == found.opcodes["UIADD3"] == found.opcodes["DFMA"] == 1
    assert found.count("LDG") == 3
    assert found.loops == [(0x20, 0x60)]  # not the branch to itself
    assert found.wide_loads == 1  # the one before the loop does not count
    assert found.local == 2


def test_launch_bounds(code):
    assert code.parse_bounds(ELF) == {"_Z1fPf": 256}


def test_spills_and_barriers(code):
    found = code.parse_ptxas(PTXAS)
    assert found["_Z1fPf"] == code.Compiled(registers=7, spills=20, barriers=1, shared=1024)
    assert found["_Z1gPf"] == code.Compiled(registers=40, spills=0, barriers=0, shared=0)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("void dq_fast::row_dots<256>(float const*, double const*, long)", "row_dots<256>"),
        ("void dq_fast::(anonymous namespace)::f<float, (int)4>(float*)", "f<float, 4>"),
        ("void dq_fast::f<dq_fast::Part<__nv_bfloat16>, (bool)1>(unsigned long (*)(int))", "f<Part<__nv_bfloat16>, 1>"),
        ("dq_fast::plain(int)", "plain"),
        ("plain", "plain"),
    ],
)
def test_names_are_short(code, name, short):
    assert code.short_name(name) == short


def a_row():
    import rows

    values = dict.fromkeys(rows.COLUMNS, 0) | {
        "kernel": "add_parts<256>", "target": "sm_90", "nvcc": "13.0", "threads": 256, "registers": 40,
        "occupancy": 0.75, "blocks_per_sm": 6, "limited_by": "registers", "streams": "yes", "ldg128_in_loops": 2,
        "case": "op/case",
        "bound": "bytes", "predicted_s": 1.5e-5,
    }  # fmt: skip
    return rows.Row(**values)


BLOCK = (256, 0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"spills": 8}, "spills"),
        ({"local": 1}, "local memory"),
        ({"stack": 8}, "local memory"),
        ({"blocks_per_sm": 0}, "does not fit"),
        ({"ldg128_in_loops": 0}, "LDG.128"),
        ({"streams": ""}, "neither list"),
        ({"threads": 512}, "compiled for 256"),
    ],
)
def test_faults_that_no_table_excuses(change, word):
    import rows

    assert rows.faults(a_row(), BLOCK, 256) == []
    (fault,) = rows.faults(replace(a_row(), **change), BLOCK, 256)
    assert word in fault


def test_a_kernel_needs_a_block_and_bounds():
    import rows

    assert "no block" in rows.faults(a_row(), None, 256)[0]
    assert "__launch_bounds__" in rows.faults(a_row(), BLOCK, 0)[0]


def test_what_is_worse():
    import rows

    before = a_row()
    assert rows.worse([before], [before]) == []
    assert "registers" in rows.worse([replace(before, registers=41)], [before])[0]
    assert rows.worse([replace(before, registers=39)], [before]) == []
    assert (
        rows.worse([replace(before, registers=41, nvcc="13.1")], [before]) == []
    )  # another compiler allocates otherwise
    assert "warps" in rows.worse([replace(before, occupancy=0.5, nvcc="13.1")], [before])[0]
    assert "not in the table" in rows.worse([before, replace(before, kernel="new<1>")], [before])[0]
    assert "no more in the code" in rows.worse([], [before])[0]
    assert "128-bit" in rows.worse([replace(before, ldg128_in_loops=0)], [before])[0]


def test_csv_there_and_back():
    import rows

    both = [a_row(), replace(a_row(), kernel="f<float, 4>", target="sm_80", predicted_s=None)]
    assert rows.from_csv(rows.to_csv(both)) == both
    with pytest.raises(ValueError, match="columns"):
        rows.from_csv("kernel,target\na,b\n")


def test_predictions_are_called_so_and_follow_from_bytes_and_operations():
    import predict
    import rows

    lines = [
        "launch\top\tcase\tadd_parts<256>\t10\t256\t0\t2\t3e9\t0\t0\t0",
        "launch\top\tcase\tother<1>\t10\t64\t128\t1\t0\t0\t0\t1000",
        "product\top\tcase\t5e11\t8\t1",
        "floor\top\tcase\t1.5e9",
        "block\tother<1>\t64\t128",
        "block\tother<1>\t32\t256",
    ]
    (case,), blocks = predict.parse(lines)
    assert blocks == {"other<1>": (32, 256)}
    assert [x.bound for x in case.launches] == ["bytes", "steps"]
    assert case.launches[0].predicted == pytest.approx(2e-3)
    assert case.predicted == pytest.approx(2e-3 + 1000 * predict.STEP + 5e11 / predict.PRODUCT64 + 4 * predict.LAUNCH)
    assert replace(case.launches[1], waves=3).predicted == pytest.approx(3000 * predict.STEP)
    assert case.floor == pytest.approx(5e-4)
    assert predict.launch_of("other<1>", [case]) is case.launches[1]
    assert predict.launch_of("nobody", [case]) is None
    text = rows.markdown([a_row()], [case])
    assert "| predicted |" in text
    assert all("predicted" in line for line in text.splitlines() if "H100" in line and "|" in line)
    with pytest.raises(ValueError, match="floor"):
        predict.parse(lines[:1])


PLANTED = """
namespace dq_fast {
__global__ void __launch_bounds__(256) local_memory(const float* x, float* out, int k) {
  float kept[64];
  for (int i = 0; i < 64; ++i) kept[i * k % 64] = x[i];
  out[threadIdx.x] = kept[k];
}
__global__ void __launch_bounds__(1024, 2) spilled(const double* x, double* out, int n) {
  double kept[48];
#pragma unroll
  for (int i = 0; i < 48; ++i) kept[i] = x[i * n + threadIdx.x];
  for (int k = 0; k < n; ++k)
#pragma unroll
    for (int i = 0; i < 48; ++i) kept[i] = kept[i] * kept[(i + 7) % 48] + x[k];
  double sum = 0;
#pragma unroll
  for (int i = 0; i < 48; ++i) sum += kept[i];
  out[threadIdx.x] = sum;
}
__global__ void unbounded(float* out) { out[threadIdx.x] = 1; }
}  // namespace dq_fast
"""


def check(sources: Path, results: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TABLE), "--sources", str(sources), "--results", str(results), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def toolkit():
    import toolkit

    try:
        return toolkit.find()
    except toolkit.MissingToolError as error:
        pytest.skip(f"{error}")


def test_planted_kernels_are_found(toolkit, tmp_path):
    (tmp_path / "planted.cu").write_text(PLANTED)
    done = check(tmp_path, tmp_path, "--write")
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert any(line.startswith("local_memory on sm_80 uses local memory") for line in said), done.stderr
    assert any(line.startswith("spilled on sm_90 spills") for line in said)
    assert any(line.startswith("unbounded on sm_90 has no __launch_bounds__") for line in said)
    again = check(tmp_path, tmp_path, "--check")
    assert "before" not in again.stderr  # the same faults, nothing worse than in the table


def test_a_warning_is_an_error(toolkit, tmp_path):
    (tmp_path / "warned.cu").write_text(
        "__global__ void __launch_bounds__(32) f(int* out) { int unused; out[0] = 1; }\n"
    )
    done = check(tmp_path, tmp_path, "--write")
    assert done.returncode == 1
    assert "does not compile for sm_80 without warnings" in done.stderr


def test_occupancy_is_nvidias(toolkit, tmp_path):
    """Figures of the programming guide's tables, by hand."""
    import machine_code
    import table

    def blocks(target, threads, registers, shared=0, dynamic=0):
        kernel = machine_code.Kernel("f", target, threads, registers, 0, shared, 0, 1, machine_code.Code())
        return table.occupancy(toolkit, tmp_path, [(kernel, (threads, dynamic))])[0]

    assert blocks("sm_90", 256, 32) == (8, "wr")  # 2048 threads, 65536 registers
    assert blocks("sm_90", 256, 33)[0] == 6  # 40 registers a thread are given, 65536 / (40 * 256)
    assert blocks("sm_80", 1024, 64) == (1, "r")
    assert blocks("sm_80", 128, 16, shared=80 * 1024) == (2, "s")  # 164 KB, 1 KB of each block is the driver's
    assert blocks("sm_80", 128, 16, dynamic=164 * 1024)[0] == 0
    assert blocks("sm_90", 128, 16, dynamic=227 * 1024)[0] == 1
    assert blocks("sm_90", 32, 16) == (32, "b")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc here: machine code is not looked at")
def test_the_committed_table_is_up_to_date(toolkit):
    done = check(ROOT / "csrc" / "cuda", ROOT / "bench" / "results", "--check", "--jobs", "2")
    assert done.returncode == 0, done.stderr + done.stdout
