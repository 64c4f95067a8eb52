// Rendering: planes are taken in waves. In each wave, chunks of Gaussians are culled and projected in parallel; then
//   forward: each plane's footprints are sorted into bands of rows, and each band is drawn by one thread, in the order
//            of the Gaussians, so the sum at a pixel never depends on the number of threads;
//   backward: each chunk gathers its own Gaussians' moments over the wave's planes, in the order of the planes.
#include "planes/render.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "planes/kernels.h"
#include "support/thread_pool.h"

namespace {

constexpr int kChunk = 1024;                       // Gaussians per task
constexpr int kSumStride = kChunk + 16;            // not a power of two, which caches dislike
constexpr int64_t kWaveValues = int64_t{1} << 20;  // pixels x samples per wave, bounds the memory
constexpr int kWavePlanes = 16;
constexpr int kBandFloats = 5120;  // a band's numerator and density fit in the first-level cache

struct PlaneWork {
  PlaneSamples samples;
  const float* weights;
  const float* normal;
  int64_t first_pixel;
  float low, high;  // n.x of the nearest and farthest sample
};

struct Wave {
  int64_t first, end;
};

std::vector<PlaneWork> prepare(const RenderArguments& a) {
  std::vector<PlaneWork> planes(static_cast<size_t>(a.planes));
  int64_t pixel = 0;
  for (int64_t p = 0; p < a.planes; ++p) {
    PlaneWork& work = planes[static_cast<size_t>(p)];
    const float* const frame = a.frames + 12 * p;
    work.samples.plane = gm_make_plane(frame);
    work.samples.rows = a.shapes[2 * p];
    work.samples.columns = a.shapes[2 * p + 1];
    work.samples.offsets = a.offsets + p * a.sample_count;
    work.samples.sample_count = a.sample_count;
    work.weights = a.weights + p * a.sample_count;
    work.normal = frame + 9;
    work.first_pixel = pixel;
    const auto range = std::minmax_element(work.samples.offsets, work.samples.offsets + a.sample_count);
    const float position = gm_dot(frame, work.normal[0], work.normal[1], work.normal[2]);
    work.low = position + *range.first;
    work.high = position + *range.second;
    pixel += static_cast<int64_t>(work.samples.rows) * work.samples.columns;
  }
  return planes;
}

std::vector<Wave> waves(const std::vector<PlaneWork>& planes, int sample_count, int most) {
  std::vector<Wave> result;
  const int64_t count = static_cast<int64_t>(planes.size());
  for (int64_t first = 0; first < count;) {
    int64_t end = first, values = 0;
    while (end < count && end - first < most) {
      const PlaneSamples& s = planes[static_cast<size_t>(end)].samples;
      values += static_cast<int64_t>(s.rows) * s.columns * sample_count;
      if (end > first && values > kWaveValues) break;
      ++end;
    }
    result.push_back({first, end});
    first = end;
  }
  return result;
}

// Culling of one chunk against plane after plane; parallel planes (the slices of a stack) share the costly part.
class ChunkCuller {
 public:
  ChunkCuller(const RenderArguments& a, const PlaneKernels& kernels, int64_t chunk)
      : a_(a),
        kernels_(kernels),
        first_(chunk * kChunk),
        count_(static_cast<int>(std::min<int64_t>(kChunk, a.gaussians - first_))) {}

  int64_t first() const { return first_; }
  int count() const { return count_; }

  // Calls block(visible, count) with the Gaussians (relative to first) that reach the plane, at most kBlock at a time.
  template <typename Block>
  void operator()(const PlaneWork& plane, const Block& block) {
    if (plane.samples.rows == 0 || plane.samples.columns == 0) return;
    if (!normal_ || std::memcmp(normal_, plane.normal, 3 * sizeof(float)) != 0) {
      normal_ = plane.normal;
      kernels_.reach(a_.parameters, a_.gaussians, first_, count_, normal_, a_.cut, position_, reach_, bounds_);
    }
    if (!(bounds_[0] <= plane.high && bounds_[1] >= plane.low)) return;
    const int met = kernels_.cull(position_, reach_, count_, plane.low, plane.high, visible_);
    for (int i = 0; i < met; i += kBlock) block(visible_ + i, std::min(kBlock, met - i));
  }

 private:
  const RenderArguments& a_;
  const PlaneKernels& kernels_;
  const int64_t first_;
  const int count_;
  const float* normal_ = nullptr;
  float position_[kChunk], reach_[kChunk], bounds_[2];
  int32_t visible_[kChunk];
};

int64_t chunk_count(const RenderArguments& a) { return (a.gaussians + kChunk - 1) / kChunk; }

// Rows of a band: 2^band_shift, as many as fit.
int band_shift(const PlaneSamples& s) {
  int shift = 2;
  while (shift < 5 && (gm_padded(s.columns) << (shift + 1)) <= kBandFloats) ++shift;
  return shift;
}

// The footprints that one chunk found in a wave, plane after plane.
struct Found {
  std::unique_ptr<Placed[]> footprints;
  int64_t size = 0, capacity = 0;
  std::vector<int64_t> start;  // of each plane

  Placed* room(int64_t more) {
    if (size + more > capacity) {
      capacity = std::max(2 * capacity, size + more);
      std::unique_ptr<Placed[]> larger(new Placed[static_cast<size_t>(capacity)]);  // not zeroed
      std::copy_n(footprints.get(), size, larger.get());
      footprints = std::move(larger);
    }
    return footprints.get() + size;
  }
};

// The footprints of one plane by sample and band, in the order of the Gaussians: entries[start[at] .. start[at + 1]),
// at = bin(sample, band).
struct Bands {
  int rows = 0, count = 0;
  std::vector<int32_t> start;
  std::vector<const Placed*> entries;

  size_t bin(int sample, int band) const {
    return static_cast<size_t>(sample) * static_cast<size_t>(count) + static_cast<size_t>(band);
  }

  void sort(const PlaneSamples& samples, const std::vector<Found>& found, size_t plane) {
    const int shift = band_shift(samples);
    rows = 1 << shift;
    count = (samples.rows + rows - 1) / rows;
    start.assign(bin(samples.sample_count, 0) + 1, 0);
    const auto each = [&](auto&& visit) {
      for (const Found& chunk : found)
        for (int64_t k = chunk.start[plane]; k < chunk.start[plane + 1]; ++k) {
          const Placed& p = chunk.footprints[static_cast<size_t>(k)];
          for (int band = p.first_row >> shift; band <= (p.end_row - 1) >> shift; ++band) visit(bin(p.sample, band), p);
        }
    };
    each([&](size_t at, const Placed&) { ++start[at + 1]; });
    for (size_t at = 1; at < start.size(); ++at) start[at] += start[at - 1];
    entries.resize(static_cast<size_t>(start.back()));
    std::vector<int32_t> next(start.begin(), start.end() - 1);
    each([&](size_t at, const Placed& p) { entries[static_cast<size_t>(next[at]++)] = &p; });
  }
};

void draw_band(const RenderArguments& a, const PlaneKernels& kernels, const PlaneWork& plane, const Bands& bands,
               int band, int64_t total, float* image, float* samples, float* density) {
  const PlaneSamples& s = plane.samples;
  const int first_row = band * bands.rows, end_row = std::min(first_row + bands.rows, s.rows);
  const int stride = gm_padded(s.columns);
  const size_t size = static_cast<size_t>(bands.rows) * static_cast<size_t>(stride) + kSlack;
  static thread_local std::vector<float> buffer;
  if (buffer.size() < 2 * size) buffer.resize(2 * size);
  float *const numerator = buffer.data(), *const sum = buffer.data() + size;
  const int64_t first_pixel = plane.first_pixel + static_cast<int64_t>(first_row) * s.columns;
  std::fill_n(image + first_pixel, static_cast<int64_t>(end_row - first_row) * s.columns, 0.0f);
  for (int q = 0; q < s.sample_count; ++q) {
    std::fill_n(numerator, size, 0.0f);
    std::fill_n(sum, size, a.background);
    const int32_t* const bin = bands.start.data() + bands.bin(q, band);
    kernels.scatter(bands.entries.data() + bin[0], bin[1] - bin[0], a.cut, first_row, end_row, stride, numerator, sum);
    for (int row = first_row; row < end_row; ++row) {
      const float* const row_sum = sum + (row - first_row) * stride;
      const int64_t pixel = first_pixel + static_cast<int64_t>(row - first_row) * s.columns;
      kernels.resolve(numerator + (row - first_row) * stride, row_sum, plane.weights[q], s.columns,
                      samples + q * total + pixel, image + pixel);
      std::memcpy(density + q * total + pixel, row_sum, sizeof(float) * static_cast<size_t>(s.columns));
    }
  }
}

bool same_basis(const GmPlane& a, const GmPlane& b) {
  return !std::memcmp(a.u, b.u, sizeof a.u) && !std::memcmp(a.v, b.v, sizeof a.v) && !std::memcmp(a.n, b.n, sizeof a.n);
}

int64_t pixel_count(const std::vector<PlaneWork>& planes) {
  if (planes.empty()) return 0;
  const PlaneWork& last = planes.back();
  return last.first_pixel + static_cast<int64_t>(last.samples.rows) * last.samples.columns;
}

}  // namespace

void gm_render(const RenderArguments& a, float* image, float* samples, float* density) {
  const PlaneKernels& kernels = gm_plane_kernels();
  const std::vector<PlaneWork> planes = prepare(a);
  const int64_t total = pixel_count(planes), chunks = chunk_count(a);
  // A plane for each thread: its footprints then stay in the caches between the stages.
  const int most = std::min(a.threads, kWavePlanes);
  std::vector<Bands> bands(static_cast<size_t>(most));
  std::vector<Found> found(static_cast<size_t>(chunks));
  const std::vector<Wave> all_waves = waves(planes, a.sample_count, most);
  std::vector<ChunkCuller> cullers;  // kept from wave to wave
  if (all_waves.size() > 1) {
    cullers.reserve(static_cast<size_t>(chunks));
    for (int64_t chunk = 0; chunk < chunks; ++chunk) cullers.emplace_back(a, kernels, chunk);
  }
  for (const Wave& wave : all_waves) {
    const int64_t wave_planes = wave.end - wave.first;
    parallel_for(chunks, a.threads, [&](int64_t chunk, int) {
      ChunkCuller for_one_wave(a, kernels, chunk);
      ChunkCuller& cull = cullers.empty() ? for_one_wave : cullers[static_cast<size_t>(chunk)];
      Found& out = found[static_cast<size_t>(chunk)];
      out.size = 0;
      out.start.assign(1, 0);
      for (int64_t p = wave.first; p < wave.end; ++p) {
        const PlaneWork& plane = planes[static_cast<size_t>(p)];
        cull(plane, [&](const int32_t* visible, int count) {
          out.size += kernels.place(a.parameters + cull.first(), a.gaussians, visible, count, plane.samples, a.cut,
                                    out.room(int64_t{kBlock} * a.sample_count));
        });
        out.start.push_back(out.size);
      }
    });
    std::vector<std::pair<int64_t, int>> tasks;
    parallel_for(wave_planes, a.threads, [&](int64_t p, int) {
      bands[static_cast<size_t>(p)].sort(planes[static_cast<size_t>(wave.first + p)].samples, found,
                                         static_cast<size_t>(p));
    });
    for (int64_t p = 0; p < wave_planes; ++p)
      for (int band = 0; band < bands[static_cast<size_t>(p)].count; ++band) tasks.emplace_back(p, band);
    parallel_for(static_cast<int64_t>(tasks.size()), a.threads, [&](int64_t task, int) {
      const auto [p, band] = tasks[static_cast<size_t>(task)];
      draw_band(a, kernels, planes[static_cast<size_t>(wave.first + p)], bands[static_cast<size_t>(p)], band, total,
                image, samples, density);
    });
  }
}

void gm_render_backward(const RenderArguments& a, const float* grad_image, const float* samples, const float* density,
                        float* gradient) {
  const PlaneKernels& kernels = gm_plane_kernels();
  const std::vector<PlaneWork> planes = prepare(a);
  const int64_t total = pixel_count(planes), N = a.gaussians;
  static_assert(static_cast<int>(kSumRows) == static_cast<int>(kParameterRows), "sums are kept in the gradient");
  const std::vector<Wave> all_waves = waves(planes, a.sample_count, kWavePlanes);
  if (all_waves.empty()) std::fill_n(gradient, kParameterRows * N, 0.0f);
  std::unique_ptr<float[]> pulls;
  int64_t pulls_size = 0;
  std::vector<int64_t> pull_start;
  std::vector<std::pair<int64_t, int>> rows;
  for (const Wave& wave : all_waves) {
    pull_start.clear();
    rows.clear();
    int64_t size = 0;
    for (int64_t p = wave.first; p < wave.end; ++p) {
      const PlaneSamples& s = planes[static_cast<size_t>(p)].samples;
      pull_start.push_back(size);
      size += static_cast<int64_t>(s.rows) * 2 * gm_padded(s.columns) * a.sample_count;
      for (int row = 0; row < s.rows; row += 32) rows.emplace_back(p, row);
    }
    if (!pulls || pulls_size < size) {
      pulls.reset();
      pulls.reset(new float[static_cast<size_t>(size + kSlack)]);  // not zeroed: all of it is written below
      pulls_size = size;
    }
    std::fill_n(pulls.get() + size, kSlack, 0.0f);
    parallel_for(static_cast<int64_t>(rows.size()), a.threads, [&](int64_t task, int) {
      const auto [p, first_row] = rows[static_cast<size_t>(task)];
      const PlaneWork& plane = planes[static_cast<size_t>(p)];
      const PlaneSamples& s = plane.samples;
      const int stride = gm_padded(s.columns);
      for (int q = 0; q < s.sample_count; ++q)
        for (int row = first_row; row < std::min(first_row + 32, s.rows); ++row) {
          const int64_t pixel = plane.first_pixel + static_cast<int64_t>(row) * s.columns;
          float* const out = pulls.get() + pull_start[static_cast<size_t>(p - wave.first)] +
                             (static_cast<int64_t>(q) * s.rows + row) * 2 * stride;
          kernels.pull(grad_image + pixel, samples + q * total + pixel, density + q * total + pixel, plane.weights[q],
                       s.columns, out, out + stride);
          std::fill(out + s.columns, out + stride, 0.0f);
          std::fill(out + stride + s.columns, out + 2 * stride, 0.0f);
        }
    });
    parallel_for(chunk_count(a), a.threads, [&](int64_t chunk, int) {
      ChunkCuller cull(a, kernels, chunk);
      static thread_local float moments[kChunk * kMomentSums];  // zero between chunks
      static thread_local float sums[kSumRows * kSumStride];
      const int count = cull.count();
      float* const chunk_gradient = gradient + cull.first();  // holds the sums between waves
      for (int row = 0; row < kSumRows; ++row)
        if (&wave == &all_waves.front())
          std::fill_n(sums + row * kSumStride, count, 0.0f);
        else
          std::copy_n(chunk_gradient + row * N, count, sums + row * kSumStride);
      uint8_t touched[kChunk] = {};
      int32_t indices[kChunk];
      int found = 0;
      const GmPlane* basis = nullptr;  // that the moments are in: the slices of a stack share it
      const auto flush = [&] {
        if (found > 0) kernels.add_plane_sums(*basis, moments, indices, found, kSumStride, sums);
        for (int k = 0; k < found; ++k) touched[indices[k]] = 0;
        found = 0;
      };
      for (int64_t p = wave.first; p < wave.end; ++p) {
        const PlaneWork& plane = planes[static_cast<size_t>(p)];
        cull(plane, [&](const int32_t* visible, int visible_count) {
          if (!basis || !same_basis(*basis, plane.samples.plane)) {
            flush();
            basis = &plane.samples.plane;
          }
          int32_t seen[kBlock];
          const int seen_count =
              kernels.gather(a.parameters + cull.first(), N, visible, visible_count, plane.samples, a.cut,
                             gm_padded(plane.samples.columns),
                             pulls.get() + pull_start[static_cast<size_t>(p - wave.first)], moments, seen);
          for (int k = 0; k < seen_count; ++k) {
            if (touched[seen[k]]) continue;
            touched[seen[k]] = 1;
            indices[found++] = seen[k];
          }
        });
      }
      flush();
      if (&wave == &all_waves.back())
        kernels.chain(a.parameters + cull.first(), sums, kSumStride, N, count, chunk_gradient);
      else
        for (int row = 0; row < kSumRows; ++row) std::copy_n(sums + row * kSumStride, count, chunk_gradient + row * N);
    });
  }
}
