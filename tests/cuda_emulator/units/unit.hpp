// The emulator's own tests: UNIT(name) { ... EXPECT(...); }, run one at a time by main.cpp.
#pragma once
#include <cstdio>
#include <functional>
#include <source_location>
#include <string>
#include <vector>

#include "cuda_emu.hpp"

namespace units {

struct Unit {
  const char* name;
  void (*run)();
};
std::vector<Unit>& all();
void expect(bool holds, const char* text, const std::source_location& location = std::source_location::current());

struct Register {
  Register(const char* name, void (*run)()) { all().push_back({name, run}); }
};

// What the emulator says is wrong with the kernel; "" if nothing is.
inline std::string error_of(const std::function<void()>& launch) {
  try {
    launch();
  } catch (const emu::Error& error) {
    return error.what();
  }
  return "";
}

inline bool holds(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// A launch of one block on the default stream.
template <class... P, class... A>
void one_block(void (*kernel)(P...), unsigned threads, A&&... arguments) {
  CUDA_LAUNCH(kernel, 1, threads, 0, nullptr, std::forward<A>(arguments)...);
}

}  // namespace units

#define UNIT(name)                                        \
  static void name();                                     \
  static const units::Register name##_entry(#name, name); \
  static void name()
#define EXPECT(condition) units::expect((condition), #condition)
