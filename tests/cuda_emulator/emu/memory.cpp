#include "memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "launch.hpp"

namespace emu {

// Addresses for edges of the thread sanitizer, never used twice: Block::barrier_token and warp_token.
static char* new_tokens() {
#ifdef EMU_TSAN
  constexpr size_t kRoom = size_t(1) << 36, kBlock = (2 + 32 * 32 * 2) * 8;  // room is address space only
  static char* const begin = static_cast<char*>(
      mmap(nullptr, kRoom, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  static size_t used = 0;
  used += kBlock;
  if (begin == MAP_FAILED || used > kRoom) fail("no addresses left for the thread sanitizer's edges");
  return begin + used - kBlock;
#else
  return nullptr;
#endif
}

// Poisoned bytes, aligned as asked. Under a sanitizer no better than that, so that it sees accesses that need more.
static char* fresh(size_t bytes, size_t alignment) {
  constexpr size_t kAligned = 128;
#if defined(EMU_ASAN) || defined(EMU_TSAN)
  const size_t skip = alignment < kAligned ? alignment : 0;
#else
  const size_t skip = 0;
  (void)alignment;
#endif
  const size_t whole = (skip + bytes + kAligned) / kAligned * kAligned;
  char* base = static_cast<char*>(std::aligned_alloc(kAligned, whole));
  if (base == nullptr) fail("no memory for a block's shared memory");
  std::memset(base, 0xff, whole);
#ifdef EMU_ASAN
  ASAN_POISON_MEMORY_REGION(base, skip / 8 * 8);  // poison is kept for whole groups of 8 bytes, or the end of one
  ASAN_POISON_MEMORY_REGION(base + skip + bytes, whole - skip - bytes);
#endif
  return base + skip;
}

static void release(char* data) {
  if (data == nullptr) return;
  char* base = reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(data) & ~uintptr_t(127));
  std::free(base);
}

Block::Block() : tokens(new_tokens()) {}

Block::~Block() {
  release(dynamic);
  for (const auto& array : arrays) release(array.second);
}

char* shared_array(const void* declaration, size_t bytes, size_t alignment) {
  EMU_QUIET;
  Block* block = machine.current->block;
  char*& data = block->arrays[declaration];
  if (data == nullptr) {
    block->static_bytes += bytes;
    if (block->static_bytes > kSharedMemoryDefault) fail("more than 48 KB of shared memory declared with SHARED_ARRAY");
    if (block->static_bytes + machine.launch->shared > machine.shared_allowed)
      fail("static and dynamic shared memory together are more than the kernel may have: " +
           std::to_string(block->static_bytes) + " + " + std::to_string(machine.launch->shared));
    data = fresh(bytes, alignment);
  }
  return data;
}

char* dynamic_shared() {
  constexpr size_t kAlignment = 16;  // portable.cuh: DYN_SMEM
  EMU_QUIET;
  Block* block = machine.current->block;
  if (block->dynamic == nullptr) block->dynamic = fresh(machine.launch->shared, kAlignment);
  return block->dynamic;
}

}  // namespace emu
