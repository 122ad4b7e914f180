// The rows among which the next one is picked: their gains are kept true, with their similarities at hand.
#pragma once
#include <cstdint>
#include <vector>

#include "rows32.h"

namespace dq_fast {

class Pool {
 public:
  enum class Source { kStored, kFormed32, kFormed64 };  // where a row of similarities comes from

  Pool(const Rows& rows, const Rows32& copies) : rows_(rows), copies_(copies) {}

  void reset(int64_t capacity, Source source);  // empties it
  int64_t capacity() const { return capacity_; }
  int64_t alive() const { return int64_t(used_) - int64_t(free_.size()); }
  int64_t used() const { return used_; }  // slots in use lie below
  int64_t row(int64_t slot) const { return row_[slot]; }
  bool is_alive(int64_t slot) const { return row_[slot] >= 0; }
  double* gains() { return gain_.data(); }  // [used], -inf where free
  const double* scales() const { return scale_.data(); }

  // Put rows in, with their gains; forms their similarities with all rows here.
  void add(const int64_t* rows, const double* gains, int64_t count);
  void remove(int64_t slot);
  void replace(int64_t slot, int64_t row) { row_[slot] = row; }  // by a row that is the same bit for bit
  // gains -= factor * c(row in slot, .)
  void subtract(int64_t slot, double factor);
  int64_t products() const { return products_; }  // pairs of rows multiplied so far

 private:
  const Rows& rows_;
  const Rows32& copies_;
  Source source_ = Source::kStored;
  int64_t capacity_ = 0, used_ = 0, products_ = 0;
  std::vector<int64_t> free_;
  Array<int64_t> row_;
  Array<double> gain_, scale_, formed64_;
  Array<float> gram_, formed32_;  // [capacity, capacity]
};

}  // namespace dq_fast
