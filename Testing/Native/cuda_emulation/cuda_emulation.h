// CUDA's block and thread model on one host thread, enough of it to run csrc/*/*.cuh under g++, UBSan and pytest.
//
// Every thread of a block is a fiber with a stack of its own. A fiber runs until it meets a barrier
// (__syncthreads, or a warp collective, which is a barrier among its mask), gives way to the scheduler, and goes on
// when all the threads that the barrier waits for have come. Fibers and blocks run in an order drawn from a seed, so
// a missing barrier or a dependence between blocks shows as a result that changes with the seed.
// What real hardware would leave undefined is refused aloud: a warp mask that names an exited or absent lane, lanes
// of a warp in different collectives, a barrier that never fills.
#pragma once

#undef _FORTIFY_SOURCE  // its longjmp refuses to change stacks
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static  // one block runs at a time
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct int2 {
  int x, y;
};
struct float2 {
  float x, y;
};
struct float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }

inline dim3 threadIdx, blockIdx, blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace emulation {

enum class State { ready, at_block_barrier, at_warp_barrier, done };

struct Fiber {
  ucontext_t start;
  jmp_buf resume;
  std::unique_ptr<char[]> stack;
  bool started = false;
  State state = State::ready;
  dim3 thread;
};

struct Warp {
  unsigned waiting = 0, mask = 0, alive = 0;
  std::uint64_t slot[32];
};

inline std::vector<Fiber> fibers;
inline std::vector<Warp> warps;
inline unsigned fiber_count = 0, at_barrier = 0, alive = 0, current = 0;
inline jmp_buf scheduler;
inline std::function<void()> body;
inline std::uint64_t seed = 0;

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "cuda emulation: %s (block %u,%u,%u thread %u)\n", what, blockIdx.x, blockIdx.y, blockIdx.z,
               current);
  std::abort();
}

inline void give_way() {
  if (_setjmp(fibers[current].resume) == 0) _longjmp(scheduler, 1);
}

inline void release(State from, unsigned first, unsigned count) {
  for (unsigned i = first; i < first + count && i < fiber_count; ++i)
    if (fibers[i].state == from) fibers[i].state = State::ready;
}

inline void block_barrier() {
  fibers[current].state = State::at_block_barrier;
  if (++at_barrier == alive) {
    at_barrier = 0;
    release(State::at_block_barrier, 0, fiber_count);
  }
  give_way();
}

inline void warp_barrier(unsigned mask) {
  Warp& warp = warps[current / 32];
  const unsigned lane_bit = 1u << (current % 32);
  if (!(mask & lane_bit)) fail("a lane is not in the mask of its own warp collective");
  if (mask & ~warp.alive) fail("a warp mask names a lane that has exited or never existed");
  if (warp.waiting && warp.mask != mask) fail("lanes of one warp are in collectives with different masks");
  warp.mask = mask;
  warp.waiting |= lane_bit;
  fibers[current].state = State::at_warp_barrier;
  if (warp.waiting == mask) {
    warp.waiting = 0;
    release(State::at_warp_barrier, current / 32 * 32, 32);
  }
  give_way();
}

// Every lane of the mask puts its value down; returns lane `source`'s.
template <class T>
T exchange(unsigned mask, T value, unsigned source) {
  static_assert(sizeof(T) <= 8, "warp collectives move at most 8 bytes");
  Warp& warp = warps[current / 32];
  std::memcpy(&warp.slot[current % 32], &value, sizeof(T));
  warp_barrier(mask);
  std::memcpy(&value, &warp.slot[source % 32], sizeof(T));
  warp_barrier(mask);
  return value;
}

inline void fiber_main() {
  body();
  fibers[current].state = State::done;
  warps[current / 32].alive &= ~(1u << (current % 32));
  if (--alive && at_barrier == alive) {  // the others wait only for each other now
    at_barrier = 0;
    release(State::at_block_barrier, 0, fiber_count);
  }
  _longjmp(scheduler, 1);
}

inline void shuffle(std::vector<unsigned>& order) {  // seed 0 leaves the natural order
  for (std::size_t i = order.size(); seed && i > 1; --i) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    std::swap(order[i - 1], order[(seed >> 33) % i]);
  }
}

inline void resume(unsigned index) {
  constexpr std::size_t stack_bytes = 128 * 1024;
  Fiber& fiber = fibers[index];
  current = index;
  threadIdx = fiber.thread;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.resume, 1);
  fiber.started = true;
  if (!fiber.stack) fiber.stack.reset(new char[stack_bytes]);
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = stack_bytes;
  makecontext(&fiber.start, fiber_main, 0);
  setcontext(&fiber.start);
}

inline void run_block() {
  fiber_count = alive = blockDim.x * blockDim.y * blockDim.z;
  at_barrier = 0;
  if (fibers.size() < fiber_count) fibers.resize(fiber_count);
  warps.assign((fiber_count + 31) / 32, Warp());
  std::vector<unsigned> order(fiber_count);
  std::iota(order.begin(), order.end(), 0u);
  for (unsigned i = 0; i < fiber_count; ++i) {
    fibers[i].started = false;
    fibers[i].state = State::ready;
    fibers[i].thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    warps[i / 32].alive |= 1u << (i % 32);
  }
  while (alive) {
    bool progress = false;
    shuffle(order);
    for (unsigned i : order)
      if (fibers[i].state == State::ready) {
        progress = true;
        resume(i);
      }
    if (!progress) fail("deadlock: a barrier waits for threads that wait elsewhere");
  }
}

template <class... Args, std::size_t... I>
void launch(void (*kernel)(Args...), dim3 grid, dim3 block, void** args, std::index_sequence<I...>) {
  body = [=] { kernel(*static_cast<Args*>(args[I])...); };
  gridDim = grid;
  blockDim = block;
  std::vector<unsigned> order(grid.x * grid.y * grid.z);
  std::iota(order.begin(), order.end(), 0u);
  shuffle(order);
  for (unsigned i : order) {
    blockIdx = {i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)};
    run_block();
  }
}

// As cuLaunchKernel has it: `args` points to one pointer for each argument.
template <class... Args>
void launch(void (*kernel)(Args...), dim3 grid, dim3 block, void** args) {
  launch(kernel, grid, block, args, std::index_sequence_for<Args...>());
}

}  // namespace emulation

inline void __syncthreads() { emulation::block_barrier(); }
inline void __syncwarp(unsigned mask = ~0u) { emulation::warp_barrier(mask); }
template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
  return emulation::exchange(mask, value, unsigned(source));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return emulation::exchange(mask, value, (emulation::current % 32) ^ unsigned(lanes));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int by) {
  const unsigned lane = emulation::current % 32;
  return emulation::exchange(mask, value, lane + by < 32 ? lane + by : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  emulation::Warp& warp = emulation::warps[emulation::current / 32];
  warp.slot[emulation::current % 32] = predicate ? 1 : 0;
  emulation::warp_barrier(mask);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1u) votes |= unsigned(warp.slot[lane]) << lane;
  emulation::warp_barrier(mask);
  return votes;
}
inline int atomicAdd(int* address, int value) { return std::exchange(*address, *address + value); }
inline int __ffs(unsigned bits) { return __builtin_ffs(int(bits)); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline float __expf(float x) { return std::exp(x); }
template <class T>
T __ldg(const T* address) {
  return *address;
}
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
