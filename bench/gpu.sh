#!/usr/bin/env bash
# Everything that only a GPU can tell, in one go and in under 8 minutes: build, tests on CUDA, compute-sanitizer, timings.
#
#   bench/gpu.sh [--python PYTHON] [--data DIR]...   on a machine with a GPU
#   bench/gpu.sh --no-gpu-steps                       also where there is none: its steps that need no GPU (CI runs these)
#   bench/gpu.sh --list                               the steps and their time limits
#
# Without a GPU it says so and exits 0 (after the steps that need none, if asked for them); 1 if a step failed.
# PYTHON (else python3) has torch, numpy, pillow, rich, safetensors and pytest; where it has no torch for CUDA although there
# is a GPU, a virtual environment is made and they are installed, which is not counted in the 8 minutes. Nothing is installed
# into PYTHON: the package is built into a temporary folder. nvcc, cuobjdump and compute-sanitizer are taken from the machine;
# what is missing of them comes from PyPI. Timings go to bench/results/cuda-NAME.csv. DIR: see bench/README.md.
set -euo pipefail
repository="$(cd "$(dirname "$0")/.." && pwd)"
python="${PYTHON:-python3}" host_only=0 list=0 data=()
while [ "$#" -gt 0 ]; do
  case "$1" in
    --python) python="$2"; shift 2 ;;
    --data) data+=("$(cd "$2" && pwd)"); shift 2 ;;
    --no-gpu-steps) host_only=1; shift ;;
    --list) list=1; shift ;;
    *) echo "gpu.sh: arguments must be --python PYTHON, --data DIR, --no-gpu-steps or --list, got '$1'" >&2; exit 2 ;;
  esac
done

# name, seconds at most, where ("host" needs no GPU)
steps=(
  "build 110 host"
  "doctor 20 host"
  "launch-arithmetic 60 host"
  "machine-code 180 host"
  "tests-of-the-tests 120 host"
  "facts 10 gpu"
  "tests 110 gpu"
  "memcheck 35 gpu"
  "racecheck 35 gpu"
  "synccheck 35 gpu"
  "timings 110 gpu"
)
total=470 # seconds for all of them: with a GPU only build and doctor of the host's steps are run
gpu_host_steps=(build doctor)
patience=4 # without a GPU, on whatever machine, the host's steps may take so many times as long

if [ "$list" = 1 ]; then
  printf '%s\n' "${steps[@]}"
  exit 0
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PYTHONUNBUFFERED=1
passed=0 failed=0 skipped=0 report=()

say() { printf '\n=== gpu.sh: %s (%s s so far)\n' "$*" "$SECONDS"; }
limit_of() { printf '%s\n' "${steps[@]}" | awk -v name="$1" '$1 == name { print $2 }'; }

step() { # step NAME: run the function do_NAME in its time; its status 3 is a visible skip
  local name="$1" limit left status=0 begin=$SECONDS
  limit="$(limit_of "$name")"
  [ "$has_gpu" = 1 ] || limit=$((patience * limit))
  left=$((begun + total - SECONDS))
  [ "$left" -ge "$limit" ] || limit="$left"
  say "$name (at most $limit s)"
  if [ "$limit" -le 0 ]; then
    status=124
  else
    export work repository python has_gpu
    timeout --kill-after=5 "$limit" bash -euo pipefail -c "$(declare -f); $variables; do_${name//-/_}" || status=$?
  fi
  case "$status" in
    0) passed=$((passed + 1)); report+=("ok       $name, $((SECONDS - begin)) s") ;;
    3) skipped=$((skipped + 1)); report+=("SKIPPED  $name") ;;
    124 | 137) failed=$((failed + 1)); report+=("FAILED   $name: not done in $limit s") ;;
    *) failed=$((failed + 1)); report+=("FAILED   $name: status $status") ;;
  esac
}

packaged() { # packaged COMMAND...: from a copy of the tests, with the package that was built
  mkdir -p "$work/run/csrc"
  cp -r "$repository/tests" "$repository/pyproject.toml" "$work/run/"
  cd "$work/run"
  PYTHONPATH="$work/package" "$@"
}

do_build() { # the package with its CUDA kernels, for sm_80 and sm_90 or for the GPUs of this machine
  if ! command -v nvcc >/dev/null && [ -z "${CUDACXX:-}" ]; then
    echo "no nvcc on the PATH: getting the one of PyPI"
    PYTHONPATH="$repository/bench/kernels" "$python" -c "import pathlib, toolkit; toolkit.fetch(pathlib.Path('$work/toolkit'))"
    CUDACXX="$(find "$work/toolkit" -name nvcc -type f | head -n 1)"
    export CUDACXX
  fi
  if [ "$has_gpu" = 1 ]; then  # for this machine's only
    CUDAARCHS="$("$python" -c "import torch; print('%d%d-real' % torch.cuda.get_device_capability())")"
    export CUDAARCHS
  fi
  DQ_FAST_CUDA=ON DQ_FAST_REQUIRE_NATIVE=1 "$python" -m pip install -q --no-deps --target "$work/package" \
    --config-settings=build-dir="$work/build" "$repository"
  ls "$work/package/dq_fast/"_cuda*
}

do_doctor() { # _cuda is imported by torch for CUDA, also where there is no GPU
  packaged "$python" -m dq_fast doctor
  packaged "$python" - <<'PY'
import torch
from dq_fast.ops import native
if torch.version.cuda is None:
    print("this torch is a CPU build: _cuda was not imported")
    raise SystemExit(3)
module, reason = native.find("cuda")
assert module is not None, reason
PY
}

do_launch_arithmetic() { # the table is the next step
  cd "$repository" && PYTHONPATH="$work/package" "$python" -m pytest -q -p no:cacheprovider tests/launch -k "not up_to_date"
}

do_machine_code() { # status 3 where the tools are missing, here and on PyPI
  local status=0 table="$repository/bench/kernels/table.py"
  "$python" "$table" --check --jobs "$(nproc)" || status=$?
  if [ "$status" = 3 ]; then
    status=0
    "$python" "$table" --check --jobs "$(nproc)" --toolkit "$work/toolkit" || status=$?
  fi
  return "$status"
}

do_tests_of_the_tests() { # the tests that are for a GPU, on the processor: nothing in them is tried there for the first time
  DQ_FAST_GPU_TESTS_DEVICE=cpu packaged "$python" -m pytest -q -p no:cacheprovider tests/gpu
  packaged "$python" tests/gpu/small_run.py cpu
}

do_facts() {
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,ecc.mode.current --format=csv || true
  "$python" -c "import torch; print('torch', torch.__version__, 'CUDA', torch.version.cuda); assert torch.cuda.is_available()"
}

do_tests() { packaged "$python" -m pytest -q -p no:cacheprovider tests/gpu; }

sanitizer() { # its path, from the machine or from PyPI
  local found
  found="$(command -v compute-sanitizer || find "${CUDA_HOME:-/usr/local/cuda}/bin" "$work/sanitizer" -name compute-sanitizer 2>/dev/null | head -n 1)"
  if [ -z "$found" ] && [ ! -d "$work/sanitizer" ]; then
    "$python" -m pip install -q --no-deps --target "$work/sanitizer" "nvidia-cuda-sanitizer-api==13.0.*" >&2 || return 1
    found="$(find "$work/sanitizer" -name compute-sanitizer -type f | head -n 1)"
    chmod +x "$found"
  fi
  [ -n "$found" ] && echo "$found"
}

sanitized() { # only our kernels: their mangled names hold the namespace
  local program
  program="$(sanitizer)" || { echo "SKIPPED: there is no compute-sanitizer"; exit 3; }
  # torch's caching allocator would hide reads past the end of a tensor in the block that it cut it from
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 packaged "$program" --tool "$1" --error-exitcode 99 --report-api-errors no --kernel-name kns=dq_fast \
    "$python" tests/gpu/small_run.py cuda
}
do_memcheck() { sanitized memcheck; }
do_racecheck() { sanitized racecheck; }
do_synccheck() { sanitized synccheck; }

do_timings() { # every op against torch on the GPU, triton-submodular where it is importable, and the floor
  local name arguments=()
  name="$("$python" -c "import re, torch; print(re.sub('[^a-z0-9]+', '-', torch.cuda.get_device_name(0).lower()).strip('-'))")"
  [ -z "${data:-}" ] || arguments+=(--data "${data[@]}")
  packaged "$python" -m dq_fast bench --device cuda --seconds 0.3 "${arguments[@]}" --csv "$repository/bench/results/cuda-$name.csv" -q \
    --case cosine_row_sums patch_scores graph_cut_bins/cifar10-10x65 graph_cut_greedy graph_cut_bins/isotropic graph_cut_bins/imagenet
}

variables='data=('"$(printf '%q ' "${data[@]}")"')'
has_gpu=0
if nvidia-smi -L >/dev/null 2>&1 || "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2>/dev/null; then has_gpu=1; fi

if [ "$has_gpu" = 1 ] && ! "$python" -c "import sys, torch, pytest; sys.exit(not torch.cuda.is_available())" 2>/dev/null; then
  say "$python has no torch for this GPU, or no pytest: installing both into a virtual environment (not counted)"
  "$python" -m venv "$work/venv"
  python="$work/venv/bin/python"
  "$python" -m pip install -q torch numpy pillow rich safetensors pytest pytest-timeout hypothesis
  "$python" -m pip install -q triton-submodular || echo "triton-submodular is not to be had: left out"
fi
begun=$SECONDS

if [ "$has_gpu" = 1 ]; then
  for name in "${gpu_host_steps[@]}"; do step "$name"; done
  for line in "${steps[@]}"; do
    read -r name _ where <<<"$line"
    if [ "$where" = gpu ]; then step "$name"; fi
  done
elif [ "$host_only" = 1 ]; then
  total=$((patience * total))
  for line in "${steps[@]}"; do
    read -r name _ where <<<"$line"
    if [ "$where" = host ]; then step "$name"; fi
  done
fi

say "results"
[ "${#report[@]}" -eq 0 ] || printf '%s\n' "${report[@]}"
if [ "$has_gpu" = 0 ]; then echo "there is no GPU here: nothing was run or timed on one"; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
