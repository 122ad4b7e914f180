// Warp collectives. All lanes of the mask have to arrive, at the same place in the source; lanes that have exited are
// not waited for and what is read from them is poison. Only __syncwarp orders memory.
#pragma once
#include <bit>
#include <cstring>
#include <type_traits>

#include "machine.hpp"

namespace emu {

enum WarpKind : unsigned { kShuffle = 1, kVote, kSync, kReduce, kMatch, kMatrix };

template <class T>
struct Exchange {
  T value;
  int source;
  T out;
};

// Lane `source`'s value.
template <class T>
EMU_UNSEEN T shuffle(uint32_t mask, T value, int source, const std::source_location& location) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "a shuffle moves numbers of up to 64 bits");
  Exchange<T> mine{value, source, value};
  const Complete complete = [](void** arguments, uint32_t lanes) {
    for (int i = 0; i < 32; ++i) {
      if (!(lanes >> i & 1)) continue;
      auto* it = static_cast<Exchange<T>*>(arguments[i]);
      if (lanes >> it->source & 1)
        it->out = static_cast<Exchange<T>*>(arguments[it->source])->value;
      else
        std::memset(&it->out, 0xff, sizeof(T));
    }
  };
  warp_operation(kShuffle, mask, &mine, complete, location);
  return mine.out;
}

// The same result for all lanes: combine(combine(first lane's, second's), ...).
template <class T, class Combine>
EMU_UNSEEN T reduce(uint32_t mask, T value, Combine, const std::source_location& location) {
  Exchange<T> mine{value, 0, value};
  const Complete complete = [](void** arguments, uint32_t lanes) {
    T all = static_cast<Exchange<T>*>(arguments[std::countr_zero(lanes)])->value;
    for (uint32_t left = lanes & (lanes - 1); left; left &= left - 1)
      all = Combine()(all, static_cast<Exchange<T>*>(arguments[std::countr_zero(left)])->value);
    for (int i = 0; i < 32; ++i)
      if (lanes >> i & 1) static_cast<Exchange<T>*>(arguments[i])->out = all;
  };
  warp_operation(kReduce, mask, &mine, complete, location);
  return mine.out;
}

// The lanes of the mask whose value is mine.
template <class T>
EMU_UNSEEN uint32_t match(uint32_t mask, T value, const std::source_location& location) {
  struct Argument {
    T value;
    uint32_t out;
  } mine{value, 0};
  const Complete complete = [](void** arguments, uint32_t lanes) {
    for (int i = 0; i < 32; ++i)
      for (int j = 0; j < 32 && lanes >> i & 1; ++j)
        if ((lanes >> j & 1) && std::memcmp(arguments[i], arguments[j], sizeof(T)) == 0)
          static_cast<Argument*>(arguments[i])->out |= 1u << j;
  };
  warp_operation(kMatch, mask, &mine, complete, location);
  return mine.out;
}

uint32_t ballot(uint32_t mask, bool predicate, const std::source_location& location);
void sync_warp(uint32_t mask, const std::source_location& location);

struct Or {
  template <class T>
  T operator()(T a, T b) const {
    return a | b;
  }
};
struct And {
  template <class T>
  T operator()(T a, T b) const {
    return a & b;
  }
};
struct Xor {
  template <class T>
  T operator()(T a, T b) const {
    return a ^ b;
  }
};
struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return T(std::make_unsigned_t<T>(a) + std::make_unsigned_t<T>(b));
  }
};
struct Least {
  template <class T>
  T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};
struct Largest {
  template <class T>
  T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};

}  // namespace emu

template <class T>
T __shfl_sync(unsigned mask, T v, int source, int width = 32, EMU_LOCATION) {
  return emu::shuffle(mask, v, (emu::lane() & ~(width - 1)) | (source & (width - 1)), location);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32, EMU_LOCATION) {
  const int lane = emu::lane(), within = lane & (width - 1);
  return emu::shuffle(mask, v, within + int(by) < width ? lane + int(by) : lane, location);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32, EMU_LOCATION) {
  const int lane = emu::lane(), within = lane & (width - 1);
  return emu::shuffle(mask, v, within >= int(by) ? lane - int(by) : lane, location);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int with, int width = 32, EMU_LOCATION) {
  const int lane = emu::lane(), other = lane ^ with;
  return emu::shuffle(mask, v, other / width <= lane / width ? other : lane, location);
}

inline unsigned __ballot_sync(unsigned mask, int p, EMU_LOCATION) { return emu::ballot(mask, p != 0, location); }
inline int __any_sync(unsigned mask, int p, EMU_LOCATION) { return emu::ballot(mask, p != 0, location) != 0; }
inline int __all_sync(unsigned mask, int p, EMU_LOCATION) { return emu::ballot(mask, p == 0, location) == 0; }
unsigned __activemask() = delete;  // its value is not defined by the programming model: refuse to guess
inline void __syncwarp(unsigned mask = 0xffffffffu, EMU_LOCATION) { emu::sync_warp(mask, location); }

template <class T>
unsigned __match_any_sync(unsigned mask, T v, EMU_LOCATION) {
  return emu::match(mask, v, location);
}
template <class T>
unsigned __match_all_sync(unsigned mask, T v, int* all, EMU_LOCATION) {
  *all = emu::match(mask, v, location) == mask;
  return *all ? mask : 0;
}

// redux.sync: 32-bit integers only
#define EMU_REDUCE(name, T, Combine) \
  inline T name(unsigned mask, T v, EMU_LOCATION) { return emu::reduce(mask, v, emu::Combine(), location); }
EMU_REDUCE(__reduce_add_sync, unsigned, Add)
EMU_REDUCE(__reduce_add_sync, int, Add)
EMU_REDUCE(__reduce_min_sync, unsigned, Least)
EMU_REDUCE(__reduce_min_sync, int, Least)
EMU_REDUCE(__reduce_max_sync, unsigned, Largest)
EMU_REDUCE(__reduce_max_sync, int, Largest)
EMU_REDUCE(__reduce_and_sync, unsigned, And)
EMU_REDUCE(__reduce_or_sync, unsigned, Or)
EMU_REDUCE(__reduce_xor_sync, unsigned, Xor)
#undef EMU_REDUCE
