// units ORDER NAME...: runs the named units, or all; the status is 1 if an expectation does not hold.
#include <algorithm>
#include <cstring>

#include "unit.hpp"

namespace units {

static int failures = 0;

std::vector<Unit>& all() {
  static std::vector<Unit> list;
  return list;
}

void expect(bool holds, const char* text, const std::source_location& location) {
  if (holds) return;
  failures++;
  std::printf("%s:%u: does not hold: %s\n", location.file_name(), unsigned(location.line()), text);
}

static void configure(const char* order) {
  emu::config = {};
  if (!std::strcmp(order, "reverse")) emu::config.order = emu::Order::Reverse;
  if (!std::strcmp(order, "random")) {
    emu::config.order = emu::Order::Random;
    emu::config.preempt_permille = 20;
    emu::config.live_blocks = std::max(3u, emu::config.live_blocks);
  }
}

}  // namespace units

int main(int count, char** words) {
  if (count < 2) return 2;
  int ran = 0;
  for (const units::Unit& unit : units::all()) {
    const auto named = [&](const char* word) { return !std::strcmp(word, unit.name); };
    if (count > 2 && std::none_of(words + 2, words + count, named)) continue;
    units::configure(words[1]);
    ran++;
    try {
      unit.run();
    } catch (const std::exception& error) {
      units::failures++;
      std::printf("%s: %s\n", unit.name, error.what());
    }
    if (cudaGetLastError() != cudaSuccess) {
      units::failures++;
      std::printf("%s: left an error unread\n", unit.name);
    }
  }
  std::printf("%d units, %d failures\n", ran, units::failures);
  return units::failures != 0 || ran == 0;
}
