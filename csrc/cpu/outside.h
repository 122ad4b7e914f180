// The rows that are not in the pool: each has a gain that was true at some moment (with what error it may have had
// added) and a bound on what it can be now. Rows renewed at the same moment form a segment and share the sum of the
// rows picked since.
#pragma once
#include <cstdint>
#include <vector>

#include "directions.h"

namespace dq_fast {

class Outside {
 public:
  Outside(const Rows& rows, const Directions* directions, double unit, int threads);

  int64_t size() const { return size_; }
  int64_t row(int64_t p) const { return row_[p]; }
  double bound(int64_t p) const { return bound_[p]; }

  void clear();
  void begin_bin();  // the sum of picked rows is zero
  // The same for all rows at once, without a list of them: fill() has room for `count` rows and their gains, to be
  // written by the caller; filled() closes it, error * scale added to the gains, less the rows of which `leave` [n] is
  // not 0.
  void fill(int64_t** rows, double** gains) { *rows = row_.data(), *gains = gain_.data(); }
  void filled(int64_t count, double error, const char* leave, const double* w);
  // Rows with gains (error added) that are true now; now: -2 unit <., w> is what the picked rows took from the gains.
  void append(const int64_t* rows, const double* gains, int64_t count, const double* w);
  void picked(int64_t row);  // a row was added to w
  // Renew all bounds; returns the largest.
  double renew(const double* w);
  // What the largest bound can be by now, from what it was when last renewed or filled, for all rows alike: a bound on
  // what any row can have gained since, from how far the sum of picks went along the first direction and off it.
  double largest_now(const double* w) const;
  // A limit that the largest `count` bounds reach, as they were renewed.
  double limit_of(int64_t count);
  // Take out the rows with a bound of at least `limit`; returns how many. Until rows are appended they stand in
  // `taken`, in no particular order, and there is room for a number of each: both may be appended from there.
  int64_t take(double limit, int64_t** taken, double** room);
  int64_t segments() const { return int64_t(segments_.size()); }

 private:
  struct Segment {
    int64_t begin;              // rows [begin, next segment's begin)
    int64_t picked;             // rows that had been picked
    Array<double> w;            // their sum
    double along[kDirections];  // its coordinates
  };
  void open_segment(const double* w);
  Segment moment(const double* w) const;
  int64_t end_of(size_t s) const { return s + 1 < segments_.size() ? segments_[s + 1].begin : size_; }

  void remember(double largest, const double* w);

  const Rows& rows_;
  const Directions* directions_;
  double unit_;
  int threads_;
  Segment last_;  // the moment of the last renewal
  double last_largest_ = 0;
  int64_t size_ = 0, picked_ = 0;
  double along_[kDirections] = {};
  std::vector<Segment> segments_;
  Array<int64_t> row_;
  Array<double> gain_, bound_;
};

}  // namespace dq_fast
