#include "ssim.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels.h"
#include "thread_pool.h"

namespace {

constexpr int kBand = 16;  // rows per task
constexpr double kSigma = 1.5;

struct Task {
  int64_t first_pixel;
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

}  // namespace

void gm_ssim(const float* image, const float* target, const int32_t* shapes, int64_t planes, int threads, float* mean,
             float* gradient) {
  const Kernels& kernels = gm_kernels();
  float window[2 * kSsimRadius + 1];
  double norm = 0.0;
  for (int k = -kSsimRadius; k <= kSsimRadius; ++k) norm += std::exp(-0.5 * k * k / (kSigma * kSigma));
  for (int k = -kSsimRadius; k <= kSsimRadius; ++k)
    window[k + kSsimRadius] = static_cast<float>(std::exp(-0.5 * k * k / (kSigma * kSigma)) / norm);

  std::vector<Task> tasks;
  std::vector<std::vector<float>> scales(static_cast<size_t>(planes));
  int64_t total = 0, total_rows = 0;
  int widest = 0;
  std::vector<int64_t> first_row_sum(static_cast<size_t>(planes));
  for (int64_t p = 0; p < planes; ++p) {
    const int rows = shapes[2 * p], columns = shapes[2 * p + 1];
    scales[static_cast<size_t>(p)] = column_scales(window, columns);
    for (int row = 0; row < rows; row += kBand) tasks.push_back({total, static_cast<int>(p), rows, columns, row});
    first_row_sum[static_cast<size_t>(p)] = total_rows;
    total += static_cast<int64_t>(rows) * columns;
    total_rows += rows;
    widest = std::max(widest, columns);
  }
  std::vector<float> maps(static_cast<size_t>(3 * total));
  std::vector<double> row_sums(static_cast<size_t>(total_rows));
  const size_t scratch_size = 10 * static_cast<size_t>(widest + 2 * kSsimRadius + kPadding);
  std::vector<std::vector<float>> scratch(static_cast<size_t>(std::max(threads, 1)));

  parallel_for(static_cast<int64_t>(tasks.size()), threads, [&](int64_t index, int worker) {
    const Task& t = tasks[static_cast<size_t>(index)];
    auto& buffer = scratch[static_cast<size_t>(worker)];
    buffer.resize(scratch_size);
    for (int row = t.first_row; row < std::min(t.first_row + kBand, t.rows); ++row)
      row_sums[static_cast<size_t>(first_row_sum[static_cast<size_t>(t.plane)] + row)] = kernels.ssim_row(
          image + t.first_pixel, target + t.first_pixel, t.rows, t.columns, row, window,
          scales[static_cast<size_t>(t.plane)].data(), buffer.data(),
          maps.data() + t.first_pixel + static_cast<int64_t>(row) * t.columns, total);
  });
  for (int64_t p = 0; p < planes; ++p) {
    const int rows = shapes[2 * p], columns = shapes[2 * p + 1];
    double value = 0.0;
    for (int row = 0; row < rows; ++row)
      value += row_sums[static_cast<size_t>(first_row_sum[static_cast<size_t>(p)] + row)];
    mean[p] = rows && columns ? static_cast<float>(value / (static_cast<double>(rows) * columns)) : NAN;
  }
  if (!gradient) return;
  parallel_for(static_cast<int64_t>(tasks.size()), threads, [&](int64_t index, int worker) {
    const Task& t = tasks[static_cast<size_t>(index)];
    auto& buffer = scratch[static_cast<size_t>(worker)];
    buffer.resize(scratch_size);
    const float scale = 1.0f / (static_cast<float>(t.rows) * static_cast<float>(t.columns));
    for (int row = t.first_row; row < std::min(t.first_row + kBand, t.rows); ++row)
      kernels.ssim_gradient_row(image + t.first_pixel, target + t.first_pixel, t.rows, t.columns, row, window,
                                maps.data() + t.first_pixel, total, t.columns, scale, buffer.data(),
                                gradient + t.first_pixel);
  });
}
