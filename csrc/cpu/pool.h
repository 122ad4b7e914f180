// The rows among which the next one is picked: their gains are kept true, with their similarities at hand, stored or
// formed for each pick.
#pragma once
#include <cstdint>
#include <vector>

#include "rows32.h"

namespace dq_fast {

class Pool {
 public:
  enum class Source { kStored, kFormed32, kFormed64 };  // where a row of similarities comes from

  Pool(const Rows& rows, const Rows32& copies, int threads) : rows_(rows), copies_(copies), threads_(threads) {}

  void reset(int64_t capacity, Source source);  // empties it
  int64_t capacity() const { return capacity_; }
  int64_t alive() const { return int64_t(used_) - int64_t(free_.size()); }
  int64_t used() const { return used_; }  // slots in use lie below
  int64_t row(int64_t slot) const { return row_[slot]; }
  bool is_alive(int64_t slot) const { return row_[slot] >= 0; }
  double gain(int64_t slot) const { return gain_[slot]; }  // -inf where free
  double scale(int64_t slot) const { return scale_[slot]; }
  void set_gain(int64_t slot, double gain) { gain_[slot] = gain, known_ = false; }

  // Put rows in, with their gains; forms their similarities with all rows here, where those are stored.
  void add(const int64_t* rows, const double* gains, int64_t count);
  void remove(int64_t slot);
  void replace(int64_t slot, int64_t row) { row_[slot] = row; }  // by a row that is the same bit for bit
  // gains -= factor * c(row, .), row being in `slot` or just removed from there; `error`: of gains from now on, for
  // scale 1. Slots may change their numbers.
  void subtract(int64_t slot, int64_t row, double factor, double error);
  // The largest gain - error * scale, and the slots with gain + error * scale of at least `limit`, from the lowest on.
  double largest(double error);
  int64_t at_least(double error, double limit, int32_t* where);
  int64_t products() const { return products_; }  // pairs of rows multiplied so far, for what is stored

 private:
  void subtract_part(int64_t begin, int64_t end, int64_t slot, int64_t row, double factor);
  void look(int64_t part);
  void compact();

  const Rows& rows_;
  const Rows32& copies_;
  int threads_;
  Source source_ = Source::kStored;
  int64_t capacity_ = 0, used_ = 0, products_ = 0;
  std::vector<int64_t> free_;
  Array<int64_t> row_, formed_;  // formed_: where similarities are formed, row_ before it was removed
  Array<double> gain_, scale_, inverse_, formed64_;
  Array<float> gram_, formed32_;  // [capacity, capacity]
  bool known_ = false;            // are the following up to date
  double error_ = 0;
  Array<double> low_, high_;  // of each kPart slots: the largest gain - error_ * scale, and + error_ * scale
};

}  // namespace dq_fast
