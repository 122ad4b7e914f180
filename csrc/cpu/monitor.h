// Progress and interruption: any thread reports, only the calling thread speaks to the listener.
#pragma once
#include <atomic>
#include <chrono>
#include <thread>

#include "../kernels.h"

namespace dq_fast {

class Monitor {
 public:
  explicit Monitor(const Listener& listener) : listener_(listener), caller_(std::this_thread::get_id()) {}

  // Tell that `rows` more rows are ranked (0: only that time has passed). True: stop.
  bool tick(int64_t rows) {
    if (rows) ranked_.fetch_add(rows, std::memory_order_relaxed);
    if (std::this_thread::get_id() == caller_) {
      const auto now = Clock::now();
      if (now - last_ > kInterval) {
        last_ = now;
        if (listener_.poll && listener_.poll(listener_.context, ranked_.load(std::memory_order_relaxed))) stop();
      }
    }
    return stopped();
  }
  void finish() {  // the last word, so that the listener hears the total
    if (listener_.poll && !stopped() && listener_.poll(listener_.context, ranked_.load())) stop();
  }
  void stop() { stopped_.store(true, std::memory_order_relaxed); }
  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kInterval{50};  // far below the second in which Ctrl-C must work

  Listener listener_;
  std::thread::id caller_;
  Clock::time_point last_ = Clock::now();
  std::atomic<int64_t> ranked_{0};
  std::atomic<bool> stopped_{false};
};

}  // namespace dq_fast
