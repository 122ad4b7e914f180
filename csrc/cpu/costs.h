// What the ways of ranking a group cost, in nanoseconds of one thread; all of them share the work alike. Measured
// constants (costs.cpp) times counts: good to a third or so, which is enough to choose from.
#pragma once
#include "graph_cut.h"

namespace dq_fast {

constexpr int64_t kPool = 512;  // slots of the pool of lazy: its similarities, 1 MB, stay in the second-level cache
constexpr int64_t kGramNumbers = 1 << 27;  // of a matrix of all similarities in float32: 512 MB

// What costs depend on of a group's rows.
struct Shape {
  int64_t n, d1, d2;  // d2: padded
  bool has_narrow, centred;
  bool is_added;  // is their sum there
  bool is_tight;  // are centred rows so near their mean that float64 of all pairs loses too many digits

  static Shape of(const Rows& rows);
};
// Of the squared norm outside the directions: rows without structure have more.
constexpr double kLoose = 0.5;

class Costs {
 public:
  explicit Costs(const Shape& shape);
  explicit Costs(const Rows& rows) : Costs(Shape::of(rows)) {}

  // For a group from the start.
  double naive(const Job& job) const;
  double gram64(const Job& job) const;
  double stored(const Job& job) const;
  double formed(const Job& job) const;
  double directions() const;
  double lazy_at_least(const Job& job) const;  // with bounds as tight as can be

  // For `left` picks of m rows whose gains are known.
  double stored(double m, double left) const;
  double formed(double m, double left) const;
  double all_rows(double m, double left, Method method, bool* is_stored) const;  // the better of the two
  // Of bounds, by what they do.
  double renewed(double rows) const;   // by products with a sum
  double looked(double bounds) const;  // renewed
  double joined(double pairs) const { return pairs * similarity_; }
  double picked(double picks, double pool) const;  // from so many rows with true gains

 private:
  double bins(const Job& job) const;

  double n_, numbers_;
  double sum_;                                          // of all rows, where it is not there yet
  double similarity_, similarity64_, alone_, alone64_;  // a pair of rows: among many pairs, or for one pick
  double renewal_, renewal64_;                          // a row and a sum of rows
  double pick_;                                         // float64 sums that a pick is added to
};

// The way to begin with.
Way way_to_begin(const Shape& shape, const Job& job);

}  // namespace dq_fast
