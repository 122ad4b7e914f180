// Rows that are the same bit for bit: one of them is here, the others wait behind it, in order.
#pragma once
#include <cstdint>
#include <vector>

#include "rows.h"

namespace dq_fast {

class Twins {
 public:
  explicit Twins(const Rows& rows) : rows_(rows) {}

  bool found() const { return !next_.empty(); }
  // Look for them among `list`, which rises; returns those that wait behind another.
  std::vector<int64_t> find(const std::vector<int64_t>& list);
  int64_t next(int64_t row) const { return next_.empty() ? -1 : next_[size_t(row)]; }  // behind this one, or -1

 private:
  const Rows& rows_;
  std::vector<int64_t> next_;
};

}  // namespace dq_fast
