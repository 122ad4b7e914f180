#include "launch.hpp"

#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdlib>
#include <mutex>

#include "machine.hpp"

namespace emu {

cudaStream_t expected_stream = nullptr;

Hook& hook() {
  static Hook* const it = new Hook;  // never destroyed: it may hold a Python function, and Python ends before us
  return *it;
}

std::map<std::string, int>& launches() {
  static std::map<std::string, int> count;
  return count;
}

std::map<std::string, int>& on_other_streams() {
  static std::map<std::string, int> count;
  return count;
}

std::string mangled_name(const void* kernel) {
  Dl_info found;
  if (!dladdr(kernel, &found) || found.dli_sname == nullptr || found.dli_saddr != kernel)
    fail("a kernel has no name outside its file: it must not be static or in an unnamed namespace");
  return found.dli_sname;
}

static std::string readable_name(const void* kernel) {
  const std::string mangled = mangled_name(kernel);
  int status = 0;
  char* text = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
  std::string name = status == 0 ? text : mangled;
  std::free(text);
  if (name.compare(0, 5, "void ") == 0) name.erase(0, 5);  // the return type, which templates have in their names
  int depth = 0;
  for (size_t i = 0; i < name.size(); ++i) {  // cut the parameters off: the first parenthesis outside <>
    if (name[i] == '<') ++depth;
    if (name[i] == '>') --depth;
    if (name[i] == '(' && depth == 0) return name.substr(0, i);
  }
  return name;
}

static cudaError_t refused(const Launch& what) {
  const uint64_t threads = uint64_t(what.block.x) * what.block.y * what.block.z;
  const uint64_t blocks = uint64_t(what.grid.x) * what.grid.y * what.grid.z;
  if (threads == 0 || threads > kThreadsPerBlock || what.block.z > 64) return cudaErrorInvalidConfiguration;
  if (blocks == 0 || what.grid.x > 0x7fffffffu || what.grid.y > 65535 || what.grid.z > 65535)
    return cudaErrorInvalidConfiguration;
  if (what.shared > allowed_shared_memory(what.kernel)) return cudaErrorInvalidValue;
  if (what.cooperative && blocks > uint64_t(kMultiprocessors) * resident_blocks(unsigned(threads), what.shared))
    return cudaErrorCooperativeLaunchTooLarge;
  return cudaSuccess;
}

void launch(const Launch& what) {
  static std::mutex one_at_a_time;  // the machine is one; Python may call from several threads
  {
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    const std::string name = readable_name(what.kernel);
    ++launches()[name];
    if (what.stream != expected_stream) ++on_other_streams()[name];
    if (note_error(refused(what)) != cudaSuccess) return;
    if (!hook()) return run(what);
  }
  hook()(what);  // not locked: it waits for Python's lock
}

}  // namespace emu
