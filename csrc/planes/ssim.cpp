#include "planes/ssim.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "planes/kernels.h"
#include "support/thread_pool.h"

namespace {

constexpr int kBand = 16;                           // rows per task
constexpr int64_t kGroupPixels = int64_t{1} << 17;  // of planes taken together
constexpr double kSigma = 1.5;

struct Task {
  int64_t first_pixel, first_row_sum;
  int plane, rows, columns, first_row;
};

// 1 / (the window's weight inside the image) per column.
std::vector<float> column_scales(const float* window, int columns) {
  std::vector<float> scale(static_cast<size_t>(columns));
  for (int i = 0; i < columns; ++i) {
    float total = 0.0f;
    for (int k = -kSsimRadius; k <= kSsimRadius; ++k)
      if (i + k >= 0 && i + k < columns) total += window[k + kSsimRadius];
    scale[static_cast<size_t>(i)] = 1.0f / total;
  }
  return scale;
}

class Similarity {
 public:
  explicit Similarity(int threads) : threads_(threads), scratch_(static_cast<size_t>(std::max(threads, 1))) {
    double norm = 0.0;
    for (int k = -kSsimRadius; k <= kSsimRadius; ++k) norm += std::exp(-0.5 * k * k / (kSigma * kSigma));
    for (int k = -kSsimRadius; k <= kSsimRadius; ++k)
      window_[k + kSsimRadius] = static_cast<float>(std::exp(-0.5 * k * k / (kSigma * kSigma)) / norm);
  }

  // Some planes at a time, so that the maps stay in the cache.
  void run(const float* image, const float* target, const int32_t* shapes, int64_t planes, float* mean,
           float* gradient) {
    plan(shapes, planes);
    const auto total = static_cast<int64_t>(total_);
    if (maps_size_ < 3 * total_) {
      maps_.reset();
      maps_.reset(new float[3 * total_]);
      maps_size_ = 3 * total_;
    }
    float* const maps = maps_.get();
    const PlaneKernels& kernels = gm_plane_kernels();
    each_row([&](const Task& t, int row, float* scratch) {
      row_sums_[static_cast<size_t>(t.first_row_sum + row)] =
          kernels.ssim_row(image + t.first_pixel, target + t.first_pixel, t.rows, t.columns, row, window_,
                           scales_[static_cast<size_t>(t.plane)].data(), scratch,
                           maps + t.first_pixel + static_cast<int64_t>(row) * t.columns, total);
    });
    const double* sums = row_sums_.data();
    for (int64_t p = 0; p < planes; sums += shapes[2 * p], ++p) {
      const double pixels = static_cast<double>(shapes[2 * p]) * shapes[2 * p + 1];
      mean[p] = pixels > 0 ? static_cast<float>(std::accumulate(sums, sums + shapes[2 * p], 0.0) / pixels) : NAN;
    }
    if (!gradient) return;
    each_row([&](const Task& t, int row, float* scratch) {
      const float scale = 1.0f / (static_cast<float>(t.rows) * static_cast<float>(t.columns));
      kernels.ssim_gradient_row(image + t.first_pixel, target + t.first_pixel, t.rows, t.columns, row, window_,
                                maps + t.first_pixel, total, t.columns, scale, scratch, gradient + t.first_pixel);
    });
  }

 private:
  void plan(const int32_t* shapes, int64_t planes) {
    tasks_.clear();
    scales_.clear();
    int64_t pixel = 0, row_sum = 0;
    int widest = 0;
    for (int64_t p = 0; p < planes; ++p) {
      const int rows = shapes[2 * p], columns = shapes[2 * p + 1];
      scales_.push_back(column_scales(window_, columns));
      for (int row = 0; row < rows; row += kBand)
        tasks_.push_back({pixel, row_sum, static_cast<int>(p), rows, columns, row});
      pixel += static_cast<int64_t>(rows) * columns;
      row_sum += rows;
      widest = std::max(widest, columns);
    }
    total_ = static_cast<size_t>(pixel);
    row_sums_.assign(static_cast<size_t>(row_sum), 0.0);
    scratch_size_ = 10 * static_cast<size_t>(widest + 2 * kSsimRadius + kPadding);
  }

  template <typename Body>
  void each_row(Body&& body) {
    parallel_for(static_cast<int64_t>(tasks_.size()), threads_, [&](int64_t index, int worker) {
      const Task& t = tasks_[static_cast<size_t>(index)];
      auto& scratch = scratch_[static_cast<size_t>(worker)];
      scratch.resize(std::max(scratch.size(), scratch_size_));
      for (int row = t.first_row; row < std::min(t.first_row + kBand, t.rows); ++row) body(t, row, scratch.data());
    });
  }

  const int threads_;
  float window_[2 * kSsimRadius + 1];
  std::vector<Task> tasks_;
  std::vector<std::vector<float>> scales_, scratch_;
  std::vector<double> row_sums_;
  std::unique_ptr<float[]> maps_;
  size_t maps_size_ = 0, total_ = 0, scratch_size_ = 0;
};

}  // namespace

void gm_ssim(const float* image, const float* target, const int32_t* shapes, int64_t planes, int threads, float* mean,
             float* gradient) {
  Similarity similarity(threads);
  for (int64_t first = 0; first < planes;) {
    int64_t end = first, pixels = 0;
    while (end < planes && (end == first || pixels < kGroupPixels)) {
      pixels += static_cast<int64_t>(shapes[2 * end]) * shapes[2 * end + 1];
      ++end;
    }
    similarity.run(image, target, shapes + 2 * first, end - first, mean + first, gradient);
    image += pixels;
    target += pixels;
    if (gradient) gradient += pixels;
    first = end;
  }
}
