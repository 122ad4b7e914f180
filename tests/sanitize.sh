#!/usr/bin/env bash
# Runs the op tests on the CPU kernels under gcc's sanitizers: address + undefined behaviour, then thread. Any report fails.
#
#   tests/sanitize.sh [--self-test] [address] [thread]       (no sanitizer named: both)
#
# --self-test then plants a read past a tensor's end, a signed overflow and a race in a copy of the sources and fails
# unless each is reported. Needs g++ with its sanitizer libraries, cmake, and a Python (PYTHON, else python3) with torch,
# numpy, pybind11, pytest, pytest-timeout, hypothesis and what the store needs. What is missing is said and skipped; with
# CI=true that fails.
#
# Threads: the barriers of gcc's own OpenMP runtime are not visible to the thread sanitizer, which would report every
# parallel region as a race. So LLVM's runtime, which has gcc's entry points too, is put in its place, with its tool
# Archer, which tells the sanitizer of every fork, join, barrier and critical section (Debian: libomp-14-dev).
set -euo pipefail
repository="$(cd "$(dirname "$0")/.." && pwd)"
python="$(command -v "${PYTHON:-python3}")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
self_test=0 kinds=() skipped=0
for word in "$@"; do
  case "$word" in
    --self-test) self_test=1 ;;
    address | thread) kinds+=("$word") ;;
    *) echo "sanitize.sh: arguments must be --self-test, address or thread, got '$word'" >&2; exit 2 ;;
  esac
done
[ "${#kinds[@]}" -gt 0 ] || kinds=(address thread)

# Which tests. Those of the torch definitions (ids with "torch") run no native code. The compiler tests are about Python,
# and Ctrl-C is about time.
address_tests="not torch and not compile and not opcheck and not ctrl_c and not oracles"
# Every parallel region with 2 and with 4 threads (copy() below): over groups, row sums, tiles, candidates, bounds and
# similarities on the spot of large groups, given similarities; the float64 matrix ("product wider than long") with 4, patch scores with 2, 3 and 5.
thread_tests="not torch and (threads_change_nothing or product or bounds_matter or bounds_do_not_help or given_similarity \
or equal_groups or bad_rows or thread_count or row_sums_of_hard or test_greedy or test_progress or listener or memory_orders)"

say() { printf '\n=== sanitize: %s (%s s so far)\n' "$*" "$SECONDS"; }
skip() { say "SKIPPED $1: $2"; skipped=1; }

library() { # library NAME: the path of one of gcc's run-time libraries, or nothing
  local path
  path="$("${CXX:-g++}" -print-file-name="$1")"
  [ "$path" = "$1" ] || readlink -f "$path"
}

archer() { # the folder of LLVM's OpenMP runtime with Archer; fetched into $work, without installing, where it is missing
  local found
  found="$(find /usr/lib/llvm-*/lib "$work/llvm" -name libarcher.so 2>/dev/null | sort -V | tail -n 1)"
  if [ -z "$found" ] && command -v apt-get >/dev/null && command -v dpkg >/dev/null && [ "${1:-}" != "again" ]; then
    mkdir -p "$work/llvm"
    (
      cd "$work/llvm"
      apt-get download -qq libomp5-14 libomp-14-dev || { apt-get update -qq && apt-get download -qq libomp5-14 libomp-14-dev; }
      for package in *.deb; do dpkg -x "$package" .; done
    ) >/dev/null 2>"$work/apt.log" || true
    archer again
  elif [ -n "$found" ]; then
    dirname "$found"
  fi
}

copy() { # copy KIND: the sources into $work/KIND/source
  mkdir -p "$work/$1/source"
  cp -r "$repository"/{CMakeLists.txt,pyproject.toml,csrc,dq_fast,tests} "$work/$1/source/"
  rm -f "$work/$1/source/dq_fast/"_c*.so
  [ "$1" = thread ] || return 0
  # The kernels use one thread where the work is small, as it is in the tests: here they use all of them always, and small
  # bands and tiles. Torch takes no more threads than there are cores unless told: 4, and 2 in the tests that set them.
  sed -i -z -E -e 's/(constexpr int64_t kParallel[A-Za-z]*) =[^;]*;/\1 = 0;/g' -e 's/(constexpr int64_t kBand) =[^;]*;/\1 = 16;/g' \
    "$work/$1/source/csrc/cpu/"*.cpp
  sed -i -E 's/(constexpr int64_t kBatch) =[^;]*;/\1 = 24;/' "$work/$1/source/csrc/cpu/graph_cut_gram64.cpp"
  sed -i -E 's/(constexpr int64_t kPart) =[^;]*;/\1 = 64;/' "$work/$1/source/csrc/cpu/pool.cpp"
  sed -i -E 's/(constexpr int64_t kChunk) =[^;]*;/\1 = 64;/' "$work/$1/source/csrc/cpu/outside.cpp"
  sed -i 's/@pytest.fixture(params=\[1, 2\])/@pytest.fixture(params=[2, 4])/' "$work/$1/source/tests/ops/conftest.py"
  printf '\nimport torch\n\ntorch.set_num_threads(4)\n' >>"$work/$1/source/tests/conftest.py"
  # Nothing else would show it if one of these stopped to match.
  grep -q 'params=\[2, 4\]' "$work/$1/source/tests/ops/conftest.py" \
    && grep -q 'kBatch = 24;' "$work/$1/source/csrc/cpu/graph_cut_gram64.cpp" \
    && grep -q 'kBand = 16;' "$work/$1/source/csrc/cpu/graph_cut_given.cpp" \
    && grep -q 'kPart = 64;' "$work/$1/source/csrc/cpu/pool.cpp" \
    && grep -q 'kParallel = 0;' "$work/$1/source/csrc/cpu/pool.cpp" \
    && grep -q 'kChunk = 64;' "$work/$1/source/csrc/cpu/outside.cpp" \
    && grep -q 'kParallel = 0;' "$work/$1/source/csrc/cpu/outside.cpp" \
    && grep -q 'kParallel = 0;' "$work/$1/source/csrc/cpu/rows.cpp" \
    && grep -q 'kParallel = 0;' "$work/$1/source/csrc/cpu/rows32.cpp" \
    || { echo "sanitize.sh: a threshold of the sources has another name now: change copy()" >&2; return 1; }
}

build() { # build KIND: the module, beside a copy of the package and its tests in $work/KIND
  local flags="$1"
  [ "$1" = thread ] || flags="address,undefined"
  mkdir -p "$work/$1"
  # -O1 -g1: stacks with lines, in a third of the time that full optimisation takes to compile
  cmake -S "$work/$1/source" -B "$work/$1/build" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1" \
    -DSKBUILD_PROJECT_NAME=dq_fast -DSKBUILD_PROJECT_VERSION=0 -DDQ_FAST_CUDA=OFF -DDQ_FAST_SANITIZE="$flags" \
    -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" -DPython_EXECUTABLE="$python" >"$work/$1/cmake.log" \
    || { cat "$work/$1/cmake.log"; return 1; }
  cmake --build "$work/$1/build" --parallel 2 >"$work/$1/build.log" 2>&1 || { tail -n 50 "$work/$1/build.log"; return 1; }
  rm -rf "$work/$1/package"
  mkdir -p "$work/$1/package/tests"
  cp -r "$work/$1/source/dq_fast" "$work/$1/source/pyproject.toml" "$work/$1/package/"
  cp -r "$work/$1/source/tests/"{__init__.py,conftest.py,ops,store,restore} "$work/$1/package/tests/"
  cp "$work/$1/build/"_cpu*.so "$work/$1/package/dq_fast/"
}

sanitized() { # sanitized KIND PYTHON-ARGUMENTS...: run under a sanitizer; fails, and shows it, on a report or any failure
  local kind="$1" status=0 reports="$work/$1/reports" settings
  shift
  rm -rf "$reports"
  mkdir -p "$reports"
  if [ "$kind" = thread ]; then
    settings=(LD_PRELOAD="$tsan:$openmp/libomp.so.5" OMP_TOOL_LIBRARIES="$openmp/libarcher.so" OMP_NUM_THREADS=4 KMP_BLOCKTIME=0
      TSAN_OPTIONS="ignore_noninstrumented_modules=1 exitcode=66 log_path=$reports/thread")
  else # leaks are Python's own
    settings=(LD_PRELOAD="$asan:$ubsan" OMP_NUM_THREADS=2 ASAN_OPTIONS="detect_leaks=0 log_path=$reports/address"
      UBSAN_OPTIONS="print_stacktrace=1 halt_on_error=1 log_path=$reports/undefined")
  fi
  # setarch -R: the sanitizers' shadow memory collides with programs that newer kernels place at random
  (cd "$work/$kind/package" && env OPENBLAS_NUM_THREADS=1 "${settings[@]}" PYTHONPATH="$PWD" PYTHONFAULTHANDLER=1 DQ_FAST_REQUIRE_NATIVE=1 \
    "${fixed_addresses[@]}" "$python" "$@") || status=$?
  if [ -n "$(ls "$reports")" ]; then
    cat "$reports"/*
    return 1
  fi
  return "$status"
}

plant() { # plant KIND: a native function more, with three defects to choose from
  cat >"$work/$1/source/csrc/planted.inc" <<'CPP'
#include <climits>
static void planted(const std::string& name, uintptr_t rows, int64_t numbers, int threads) {
  const float* x = reinterpret_cast<const float*>(rows);
  volatile float seen = 0;
  volatile int largest = INT_MAX;
  if (name == "bounds") seen = x[numbers];
  if (name == "overflow") seen = float(largest + int(numbers));
  double sum = 0;
  if (name == "race") {
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < numbers; ++i) sum += double(x[i]);
  }
  if (name == "critical") {
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < numbers; ++i) {
#pragma omp critical
      sum += double(x[i]);
    }
  }
  seen = float(sum);
}
CPP
  sed -i -e '0,/^namespace {/s//#include "planted.inc"\nnamespace {/' \
    -e 's/^PYBIND11_MODULE(.*/&\n  m.def("planted", \&planted, py::call_guard<py::gil_scoped_release>());/' \
    "$work/$1/source/csrc/bind_cpu.cpp"
  grep -q 'planted.inc' "$work/$1/source/csrc/bind_cpu.cpp" && grep -q '&planted' "$work/$1/source/csrc/bind_cpu.cpp" \
    || { echo "sanitize.sh: csrc/bind_cpu.cpp looks different now: change plant()" >&2; return 1; }
}

caught() { # caught KIND DEFECT TEXT: the run with DEFECT must fail and its report hold TEXT; without TEXT it must pass
  local status=0
  sanitized "$1" -c "import torch, dq_fast._cpu as native; x = torch.ones(4096, 8)
native.planted('$2', x.data_ptr(), x.numel(), 4)" \
    >"$work/$1/planted.log" 2>&1 || status=$?
  if [ -n "$3" ] && [ "$status" -ne 0 ] && grep -q "$3" "$work/$1/planted.log" && grep -q "planted.inc" "$work/$1/planted.log"; then
    echo "reported: planted $2: $(grep -m 1 "$3" "$work/$1/planted.log")"
  elif [ -z "$3" ] && [ "$status" -eq 0 ]; then
    echo "not reported, as it should be: $2"
  else
    cat "$work/$1/planted.log"
    echo "sanitize.sh: planted '$2' should $([ -n "$3" ] && echo "be reported as '$3'" || echo "pass"), status $status" >&2
    return 1
  fi
}

for tool in cmake "${CXX:-g++}"; do
  command -v "$tool" >/dev/null || { skip "all" "install $tool"; kinds=(); }
done
if [ "${#kinds[@]}" -gt 0 ] && ! "$python" -c "import torch, numpy, pybind11, pytest, pytest_timeout, hypothesis" 2>"$work/import.log"; then
  skip "all" "pip install torch numpy pybind11 pytest pytest-timeout hypothesis ($(tail -n 1 "$work/import.log"))"
  kinds=()
fi
fixed_addresses=()
if setarch -R true 2>/dev/null; then fixed_addresses=(setarch -R); fi
asan="$(library libasan.so)" ubsan="$(library libubsan.so)" tsan="$(library libtsan.so)" openmp=""

for kind in "${kinds[@]}"; do
  if [ "$kind" = address ]; then
    if [ -z "$asan" ] || [ -z "$ubsan" ]; then skip "address" "install g++ with libasan and libubsan"; continue; fi
  else
    if [ -z "$tsan" ]; then skip "thread" "install g++ with libtsan"; continue; fi
    openmp="$(archer)"
    if [ -z "$openmp" ]; then skip "thread" "apt-get install libomp5-14 libomp-14-dev"; continue; fi
  fi
  tests="${kind}_tests"
  say "$kind: build"
  copy "$kind"
  build "$kind"
  say "$kind: op tests"
  # --capture=sys: what the undefined-behaviour runtime writes to stderr before it ends the process stays visible
  sanitized "$kind" -m pytest -q --capture=sys -p no:cacheprovider --durations=5 tests/ops -k "${!tests}"
  [ "$kind" = address ] || continue # the mosaics' kernels have one thread
  say "$kind: mosaics, patches and images"
  sanitized "$kind" -m pytest -q --capture=sys -p no:cacheprovider tests/store/test_colour.py tests/store/test_jpeg.py \
    tests/restore/test_shards.py
done
if [ "$self_test" = 1 ]; then
  for kind in "${kinds[@]}"; do
    [ -d "$work/$kind/package" ] || continue
    say "$kind: planted defects"
    plant "$kind"
    build "$kind"
    caught "$kind" nothing ""
    if [ "$kind" = address ]; then
      caught address bounds "heap-buffer-overflow"
      caught address overflow "signed integer overflow"
    else
      caught thread critical ""
      caught thread race "data race"
    fi
  done
fi
say "done"
if [ "$skipped" = 1 ] && [ "${CI:-}" = true ]; then
  echo "sanitize.sh: a sanitizer was skipped, which CI=true forbids" >&2
  exit 1
fi
