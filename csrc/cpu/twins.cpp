#include "twins.h"

#include <algorithm>
#include <unordered_map>

namespace dq_fast {

std::vector<int64_t> Twins::find(const std::vector<int64_t>& list) {
  next_.assign(size_t(rows_.n()), -1);
  std::unordered_map<uint64_t, std::vector<int64_t>> last;  // the last row of each kind, by hash
  std::vector<int64_t> waiting;
  for (int64_t i : list) {
    std::vector<int64_t>& kinds = last[rows_.hash(i)];
    const auto same = std::find_if(kinds.begin(), kinds.end(), [&](int64_t j) { return rows_.same(i, j); });
    if (same == kinds.end()) {
      kinds.push_back(i);
    } else {
      next_[size_t(*same)] = i;
      *same = i;
      waiting.push_back(i);
    }
  }
  return waiting;
}

}  // namespace dq_fast
