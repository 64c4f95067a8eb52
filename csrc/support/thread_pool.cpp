#include "support/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace {

struct Job {
  void (*task)(void*, int64_t, int);
  void* context;
  int64_t count;
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;

  void work(int worker) {
    for (;;) {
      const int64_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index >= count) return;
      try {
        task(context, index, worker);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!error) error = std::current_exception();
        next.store(count);
      }
    }
  }
};

class Pool {
 public:
  bool run(Job& job, int threads) {
    const std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
    if (!owner.owns_lock()) return false;
    int helpers;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      try {
        while (size_ < threads - 1) {
          std::thread(&Pool::serve, this, size_ + 1, generation_).detach();
          ++size_;
        }
      } catch (const std::system_error&) {
        // The system grants no more threads: go on with those that are there.
      }
      helpers = std::min(size_, threads - 1);
      job_ = &job;
      wanted_ = helpers;
      active_ = helpers;
      ++generation_;
    }
    wake_.notify_all();
    job.work(0);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return active_ == 0; });
    job_ = nullptr;
    return true;
  }

 private:
  void serve(int worker, uint64_t seen) {
    for (;;) {
      Job* job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen; });
        seen = generation_;
        if (worker > wanted_) continue;
        job = job_;
      }
      job->work(worker);
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (--active_ > 0) continue;
      }
      done_.notify_one();
    }
  }

  std::mutex owner_;  // one job at a time
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  uint64_t generation_ = 0;
  int size_ = 0, wanted_ = 0, active_ = 0;
};

// Never destroyed: joining threads while a process exits or a DLL unloads can hang. A forked child has none of its
// parent's threads and takes a new pool.
Pool& pool() {
#if defined(_WIN32)
  static Pool* const instance = new Pool;
  return *instance;
#else
  static std::mutex mutex;
  static Pool* instance = nullptr;
  static pid_t owner = 0;
  const std::lock_guard<std::mutex> lock(mutex);
  if (owner != getpid()) {
    instance = new Pool;
    owner = getpid();
  }
  return *instance;
#endif
}

}  // namespace

void gm_parallel(int64_t count, int threads, void (*task)(void*, int64_t, int), void* context) {
  Job job;
  job.task = task;
  job.context = context;
  job.count = count;
  const int used = static_cast<int>(std::min<int64_t>(threads, count));
  if (used < 2 || !pool().run(job, used)) job.work(0);
  if (job.error) std::rethrow_exception(job.error);
}
