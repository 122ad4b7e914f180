// What the address and the thread sanitizer are told. Fibres switch stacks, which both must know; and for the thread
// sanitizer a fibre is a thread, so that it finds races between CUDA threads: only what orders memory in CUDA
// (barriers,
// __syncwarp, fences with atomics) makes an edge, and the emulator's own bookkeeping is hidden.
#pragma once

#if defined(__has_feature)
#define EMU_HAS(x) __has_feature(x)
#else
#define EMU_HAS(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || EMU_HAS(address_sanitizer)
#define EMU_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__) || EMU_HAS(thread_sanitizer)
#define EMU_TSAN 1
#endif

#ifdef EMU_TSAN
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
}
namespace emu {
struct Quiet {  // while it lives, nothing this thread does is looked at
  Quiet() {
    AnnotateIgnoreReadsBegin(__FILE__, 0);
    AnnotateIgnoreWritesBegin(__FILE__, 0);
  }
  ~Quiet() {
    AnnotateIgnoreWritesEnd(__FILE__, 0);
    AnnotateIgnoreReadsEnd(__FILE__, 0);
  }
  Quiet(const Quiet&) = delete;
};
constexpr unsigned kSwitchWithoutOrder = 1;  // of __tsan_switch_to_fiber: no edge from the fibre before
}  // namespace emu
#define EMU_ACQUIRE(p) __tsan_acquire((void*)(p))
#define EMU_RELEASE(p) __tsan_release((void*)(p))
#define EMU_UNSEEN __attribute__((noinline, no_sanitize_thread))
#define EMU_QUIET ::emu::Quiet quiet_
#else
#define EMU_ACQUIRE(p) ((void)(p))
#define EMU_RELEASE(p) ((void)(p))
#define EMU_UNSEEN
#define EMU_QUIET ((void)0)
#endif
