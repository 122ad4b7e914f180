// Switching between stacks: a few instructions on x86-64, ucontext elsewhere (or with -DEMU_UCONTEXT).
#pragma once
#include <cstddef>

#if !defined(__x86_64__) || defined(EMU_UCONTEXT)
#include <ucontext.h>
#define EMU_WITH_UCONTEXT 1
#endif

namespace emu {

struct Context {
#ifdef EMU_WITH_UCONTEXT
  ucontext_t saved;
#else
  void* stack_pointer = nullptr;
#endif
};

// A context that starts `entry`, which never returns, on the stack [low, low + bytes).
void make_context(Context& context, char* low, size_t bytes, void (*entry)());
void switch_context(Context& from, Context& to);

}  // namespace emu
