#include "context.hpp"

#include <cstdint>
#include <cstring>

namespace emu {

#ifdef EMU_WITH_UCONTEXT

void make_context(Context& context, char* low, size_t bytes, void (*entry)()) {
  getcontext(&context.saved);
  context.saved.uc_stack.ss_sp = low;
  context.saved.uc_stack.ss_size = bytes;
  context.saved.uc_link = nullptr;
  makecontext(&context.saved, entry, 0);
}

void switch_context(Context& from, Context& to) { swapcontext(&from.saved, &to.saved); }

#else

// Saves the six registers that a function must keep, and the stack pointer; then the same backwards.
extern "C" void emu_switch_stacks(void** save, void* load);
asm(R"(
.text
.type emu_switch_stacks,@function
emu_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emu_switch_stacks,.-emu_switch_stacks
)");

void make_context(Context& context, char* low, size_t bytes, void (*entry)()) {
  constexpr int kSavedRegisters = 6;
  const uintptr_t top = reinterpret_cast<uintptr_t>(low + bytes) & ~uintptr_t(15);
  void** frame = reinterpret_cast<void**>(top) - 2;  // entry finds the stack aligned as after a call
  frame[0] = reinterpret_cast<void*>(entry);
  frame[1] = nullptr;  // and no caller
  frame -= kSavedRegisters;
  std::memset(frame, 0, kSavedRegisters * sizeof(void*));
  context.stack_pointer = frame;
}

void switch_context(Context& from, Context& to) { emu_switch_stacks(&from.stack_pointer, to.stack_pointer); }

#endif

}  // namespace emu
