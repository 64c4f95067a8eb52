// A few threads of our own: torch's OpenMP runtime cannot be shared from a library that does not link torch, and two
// OpenMP runtimes in one process fight over the cores.
#pragma once

#include <cstdint>

// Calls task(context, index, worker) for every index in [0, count), on at most `threads` threads including the caller;
// worker in [0, threads) tells them apart. Indices are handed out in order. A call from a second thread while the pool
// is busy runs on that thread alone. An exception in a task is thrown again here once all have stopped.
void gm_parallel(int64_t count, int threads, void (*task)(void* context, int64_t index, int worker), void* context);

template <typename Body>
void parallel_for(int64_t count, int threads, Body&& body) {
  gm_parallel(
      count, threads, [](void* context, int64_t index, int worker) { (*static_cast<Body*>(context))(index, worker); },
      &body);
}
