// The state of a ranking with bounds: see graph_cut_lazy.cpp. Its parts: graph_cut_lazy.cpp (picks and bins),
// lazy_exchange.cpp (rows in and out of the pool), lazy_judge.cpp (whether the bounds are worth it, and what if not).
#pragma once
#include <cmath>
#include <memory>
#include <vector>

#include "costs.h"
#include "outside.h"
#include "pool.h"
#include "twins.h"

namespace dq_fast {

class Lazy {
 public:
  Lazy(const Rows& rows, const Job& job, Way way);
  void run();

 private:
  enum class State : char { kHere, kGone, kHidden };  // kHidden: behind a twin
  enum class Everything {                             // are all rows in the pool, and where its similarities come from
    kNo,
    kFew,  // the last rows of a group, all in the pool
    kStored,
    kFormed,
    kExact,  // formed in float64
  };

  // graph_cut_lazy.cpp
  void rank();
  void begin_bin();
  void end_bin();
  int64_t choose();  // the slot of the row to pick
  int64_t decide(int64_t count);
  void pick(int64_t slot, int64_t row);
  double unit() const { return job_.unit(); }
  double error() const;  // of a gain of a row of scale 1, at any time in the bin

  // lazy_exchange.cpp
  std::vector<int64_t> here() const;
  void populate();       // renew the gains of all rows and share them between the pool and the outside
  void populate_pool();  // the same where all rows are in the pool
  void fresh(const int64_t* list, int64_t count, double* gain) const;  // plain gains that are true now
  void exchange(double low);
  void make_room(int64_t wanted, std::vector<int64_t>* out, std::vector<double>* out_gain);
  void refill(double low);

  // lazy_judge.cpp
  double within_reach(double loose) const;
  void probe();
  Everything other_way(double m, double left, double* cost) const;
  void judge();
  void degrade();
  void reset_pool();

  const Rows& rows_;
  const Job& job_;
  Rows32 copies_;
  std::unique_ptr<Directions> directions_;
  std::unique_ptr<Outside> outside_, far_;  // far_: of a long group, most rows, which share one bound
  Pool pool_;
  Costs costs_;
  Twins twins_;
  int64_t n_;
  double tolerance_;
  std::vector<State> state_;
  std::vector<char> wanted_;  // populate()'s: is the row to be in the pool (1), is it there (2)
  Everything everything_ = Everything::kNo, first_ = Everything::kNo;  // first_: as it began
  Array<double> scratch_, total_, gradient_, sum_;                     // [d1 + d2], then [d1, d2]: M, G and W
  Array<double> base_;                                                 // [n]: <x, M> within base_error_ * scale
  Array<int32_t> where_;
  double base_error_ = 0, scales_ = 0;  // scales_: of the rows picked in this bin, each at least 1, added up
  double outside_bound_ = 0, far_bound_ = -HUGE_VAL, last_low_ = NAN;
  int64_t near_ = 0, refilled_ = 0;  // rows that come near at once; when they last did
  int64_t decided_ = 0;
  int64_t picked_ = 0, last_picked_ = 0, doubts_ = 0;
  int64_t renewed_ = 0, looked_ = 0, ranked_ = 0;  // what judge() goes by
  double judged_spent_ = 0;
  int64_t judged_ranked_ = 0;
};

}  // namespace dq_fast
