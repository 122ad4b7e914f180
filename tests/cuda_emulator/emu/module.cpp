// The module `_emulator`, in the same library as the kernels: settings, what was launched, and the hook.
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "launch.hpp"
#include "machine.hpp"

namespace py = pybind11;

namespace {

// order "forward", "reverse" or "random": in which order threads run that could. Random also interrupts threads and
// runs several blocks at a time. live_blocks 0: as many as the order and the build ask for.
void configure(const std::string& order, uint64_t seed, unsigned live_blocks) {
  emu::config = {};
  emu::config.seed = seed;
  if (order == "forward") {
    emu::config.order = emu::Order::Forward;
  } else if (order == "reverse") {
    emu::config.order = emu::Order::Reverse;
  } else if (order == "random") {
    emu::config.order = emu::Order::Random;
    emu::config.preempt_permille = 20;
    emu::config.live_blocks = std::max(3u, emu::config.live_blocks);
  } else {
    throw std::invalid_argument("order must be forward, reverse or random, got " + order);
  }
  if (live_blocks) emu::config.live_blocks = live_blocks;
}

// Forgets launches and errors; launches on another stream than this one will be noted.
void reset(uintptr_t stream) {
  emu::expected_stream = reinterpret_cast<cudaStream_t>(stream);
  emu::launches().clear();
  emu::on_other_streams().clear();
  emu::stats = {};
  cudaGetLastError();
}

py::tuple triple(dim3 v) { return py::make_tuple(v.x, v.y, v.z); }

// function(mangled kernel name, grid, block, bytes of dynamic shared memory, [bytes of each argument]) is called
// instead of the emulator; None: emulate again. What it raises comes out of the op.
void set_hook(py::object function) {
  if (function.is_none()) {
    emu::hook() = nullptr;
    return;
  }
  emu::hook() = [function](const emu::Launch& what) {
    const py::gil_scoped_acquire gil;
    py::list arguments;
    for (size_t i = 0; i < what.count; ++i)
      arguments.append(py::bytes(static_cast<const char*>(what.arguments[i]), what.sizes[i]));
    function(emu::mangled_name(what.kernel), triple(what.grid), triple(what.block), what.shared, arguments);
  };
}

py::dict statistics() {
  py::dict out;
  out["threads"] = emu::stats.threads;
  out["switches"] = emu::stats.switches;
  out["barriers"] = emu::stats.barriers;
  out["warp_operations"] = emu::stats.warp_ops;
  out["grid_barriers"] = emu::stats.grid_syncs;
  out["atomics"] = emu::stats.atomics;
  out["interrupts"] = emu::stats.preempts;
  return out;
}

std::string unread_error() {
  const cudaError_t error = cudaPeekAtLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace

PYBIND11_MODULE(_emulator, m) {
  m.def("configure", &configure, py::arg("order"), py::arg("seed") = 1, py::arg("live_blocks") = 0);
  m.def("reset", &reset, py::arg("stream"));
  m.def("set_hook", &set_hook);
  m.def("launches", [] { return emu::launches(); });
  m.def("on_other_streams", [] { return emu::on_other_streams(); });
  m.def("unread_error", &unread_error);
  m.def("statistics", &statistics);
}
