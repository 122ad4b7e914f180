// A launch: arguments converted and copied as by <<<>>>, configuration checked as by the driver, then emulated; or
// handed to a hook (tests/ptx interprets the kernel's PTX instead).
#pragma once
#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "runtime.hpp"

namespace emu {

struct Launch {
  const void* kernel;  // the function's address
  dim3 grid, block;
  size_t shared;  // dynamic shared memory, bytes
  cudaStream_t stream;
  bool cooperative;
  const void* const* arguments;  // [count], each of sizes[i] bytes
  const size_t* sizes;
  size_t count;
  void (*body)(const void*);  // calls the kernel, in a thread of it
  const void* body_argument;
};

using Hook = std::function<void(const Launch&)>;

void launch(const Launch& what);
Hook& hook();                                    // empty: emulate
std::string mangled_name(const void* kernel);    // throws where the kernel has none outside its file
std::map<std::string, int>& launches();          // since the last reset, by name with template arguments
std::map<std::string, int>& on_other_streams();  // those of them that were not on expected_stream
extern cudaStream_t expected_stream;

template <class P>
P as_passed(P value) {
  return value;
}

template <class... P, class... A>
void launch_kernel(bool cooperative, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                   A&&... values) {
  static_assert(sizeof...(P) == sizeof...(A), "the kernel has another number of parameters");
  static_assert((std::is_trivially_copyable_v<P> && ...), "a kernel's arguments are copied as bytes");
  const std::tuple<P...> arguments(as_passed<P>(std::forward<A>(values))...);
  const auto body = [&] { std::apply(kernel, arguments); };
  using Body = decltype(body);
  std::apply(
      [&](const auto&... each) {
        const void* const places[] = {&each..., nullptr};
        const size_t sizes[] = {sizeof(each)..., 0};
        launch({reinterpret_cast<const void*>(kernel), grid, block, shared, stream, cooperative, places, sizes,
                sizeof...(P), [](const void* it) { (*static_cast<const std::remove_reference_t<Body>*>(it))(); },
                &body});
      },
      arguments);
}

}  // namespace emu

#define CUDA_LAUNCH(kernel, grid, block, shared, stream, ...) \
  ::emu::launch_kernel(false, kernel, grid, block, shared, stream, __VA_ARGS__)
#define CUDA_LAUNCH_COOP(kernel, grid, block, shared, stream, ...) \
  ::emu::launch_kernel(true, kernel, grid, block, shared, stream, __VA_ARGS__)

template <class... P>
cudaError_t cudaLaunchCooperativeKernel(void (*kernel)(P...), dim3 grid, dim3 block, void** arguments, size_t shared,
                                        cudaStream_t stream) {
  [&]<size_t... I>(std::index_sequence<I...>) {
    ::emu::launch_kernel(true, kernel, grid, block, shared, stream, *static_cast<P*>(arguments[I])...);
  }(std::index_sequence_for<P...>());
  return cudaPeekAtLastError();
}
