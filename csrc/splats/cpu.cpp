// Drawing of splats: they are placed in chunks, sorted by depth as a whole, and scattered in that order into lists of
// 16 x 16 pixel tiles. A tile is drawn by one thread. Backward: each tile leaves the sums of each of its entries in a
// record; a splat adds its own records in the order of the tiles. So nothing depends on the number of threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "splats/api.h"
#include "splats/kernels.h"
#include "support/exports.h"
#include "support/guard.h"
#include "support/thread_pool.h"

#if defined(_MSC_VER)
#define GM_PREFETCH(p) ((void)(p))
#else
#define GM_PREFETCH(p) __builtin_prefetch(p)
#endif

namespace {

GM_EXPORT_FUNCTION(gaussianmri_splat);
GM_EXPORT_FUNCTION(gaussianmri_splat_backward);
GM_EXPORT_SIZE(GmCamera);
GM_EXPORT_SIZE(GmSplat);
GM_EXPORT_SIZE(GmCut);
GM_EXPORT_NUMBER(kSplatSums);
GM_EXPORT_NUMBER(kSplatCutSums);

constexpr int kChunk = 1024;  // splats per task
constexpr int kBlocks = 16;   // ranges of the depth order that are scattered in parallel

struct Entry {
  int32_t tile, splat;
};

int64_t chunk_count(const SplatScene& scene) { return (scene.splats + kChunk - 1) / kChunk; }
int chunk_size(const SplatScene& scene, int64_t chunk) {
  return static_cast<int>(std::min<int64_t>(kChunk, scene.splats - chunk * kChunk));
}

class Frame {
 public:
  Frame(const SplatScene& scene, int threads, float* radii)
      : scene_(scene),
        kernels_(gm_splat_kernels()),
        threads_(threads),
        tiles_x_((scene.width + kTile - 1) / kTile),
        tiles_y_((scene.height + kTile - 1) / kTile) {
    place(radii);
    sort();
  }

  // Fills the tiles' lists; with_records: also where each entry's record goes.
  void scatter(bool with_records) {
    const int64_t tiles = tile_count();
    std::vector<Entry> entries[kBlocks];
    std::vector<int32_t> next[kBlocks];  // per tile: at first how many, then where the block's next one goes
    if (with_records) {
      record_starts_.reset(new int32_t[static_cast<size_t>(scene_.splats)]);
      record_counts_.reset(new int32_t[static_cast<size_t>(scene_.splats)]);
    }
    const int64_t count = static_cast<int64_t>(order_.size());
    const auto splat_at = [&](int64_t rank) {
      return static_cast<int32_t>(order_[static_cast<size_t>(rank)] & 0xffffffffu);
    };
    parallel_for(kBlocks, threads_, [&](int64_t block, int) {
      std::vector<Entry> list;
      std::vector<int32_t> counts(static_cast<size_t>(tiles), 0);
      list.reserve(static_cast<size_t>(4 * count / kBlocks + 64));
      const int64_t end = count * (block + 1) / kBlocks;
      for (int64_t rank = count * block / kBlocks; rank < end; ++rank) {
        const int32_t splat = splat_at(rank);
        GM_PREFETCH(splats_.get() + splat_at(std::min(rank + 8, end - 1)));
        const size_t before = list.size();
        visit_tiles(splats_[static_cast<size_t>(splat)], [&](int tile) {
          list.push_back({tile, splat});
          ++counts[static_cast<size_t>(tile)];
        });
        if (with_records) {
          record_starts_[static_cast<size_t>(splat)] = static_cast<int32_t>(before);  // the block's start comes below
          record_counts_[static_cast<size_t>(splat)] = static_cast<int32_t>(list.size() - before);
        }
      }
      entries[block] = std::move(list);
      next[block] = std::move(counts);
    });
    int64_t total = 0;
    starts_.resize(static_cast<size_t>(tiles + 1));
    for (int64_t tile = 0; tile < tiles; ++tile) {
      starts_[static_cast<size_t>(tile)] = static_cast<int32_t>(total);
      for (std::vector<int32_t>& block : next) {
        const int32_t size = block[static_cast<size_t>(tile)];
        block[static_cast<size_t>(tile)] = static_cast<int32_t>(total);
        total += size;
      }
      if (total > INT32_MAX) throw std::bad_alloc();
    }
    starts_[static_cast<size_t>(tiles)] = static_cast<int32_t>(total);
    entries_.reset(new int32_t[static_cast<size_t>(total)]);
    if (with_records) destinations_.reset(new int32_t[static_cast<size_t>(total)]);
    int64_t block_start[kBlocks + 1] = {};
    for (int block = 0; block < kBlocks; ++block)
      block_start[block + 1] = block_start[block] + static_cast<int64_t>(entries[block].size());
    parallel_for(kBlocks, threads_, [&](int64_t block, int) {
      int32_t record = static_cast<int32_t>(block_start[block]);
      for (const Entry& entry : entries[block]) {
        const int32_t at = next[block][static_cast<size_t>(entry.tile)]++;
        entries_[static_cast<size_t>(at)] = entry.splat;
        if (with_records) destinations_[static_cast<size_t>(at)] = record++;
      }
      if (!with_records) return;
      for (int64_t rank = count * block / kBlocks; rank < count * (block + 1) / kBlocks; ++rank)
        record_starts_[static_cast<size_t>(splat_at(rank))] += static_cast<int32_t>(block_start[block]);
    });
  }

  template <typename Body>
  void each_tile(const Body& body) const {
    parallel_for(tile_count(), threads_, [&](int64_t tile, int) {
      const int32_t start = starts_[static_cast<size_t>(tile)], end = starts_[static_cast<size_t>(tile + 1)];
      const SplatList list = {splats_.get(), cuts_.get(), entries_.get() + start, end - start};
      body(list, static_cast<int>(tile % tiles_x_) * kTile, static_cast<int>(tile / tiles_x_) * kTile, start);
    });
  }

  const int32_t* destinations() const { return destinations_.get(); }
  int64_t entry_count() const { return starts_.back(); }

  void chain(int stride, const float* records, const SplatGradients& out) const {
    parallel_for(chunk_count(scene_), threads_, [&](int64_t chunk, int) {
      const int64_t first = chunk * kChunk, count = chunk_size(scene_, chunk), row = 3 * scene_.coefficients;
      std::fill_n(out.means + 3 * first, 3 * count, 0.0f);
      std::fill_n(out.quaternions + 4 * first, 4 * count, 0.0f);
      std::fill_n(out.scales + 3 * first, 3 * count, 0.0f);
      std::fill_n(out.sh + row * first, row * count, 0.0f);
      std::fill_n(out.opacities + first, count, 0.0f);
      std::fill_n(out.screen + 2 * first, 2 * count, 0.0f);
      kernels_.chain(scene_, splats_.get() + first, placed_[static_cast<size_t>(chunk)], record_starts_.get() + first,
                     record_counts_.get() + first, stride, records, out);
    });
  }

 private:
  int64_t tile_count() const { return static_cast<int64_t>(tiles_x_) * tiles_y_; }

  void place(float* radii) {
    splats_.reset(new GmSplat[static_cast<size_t>(scene_.splats)]);
    cuts_.reset(new GmCut[static_cast<size_t>(scene_.splats)]);
    placed_.resize(static_cast<size_t>(chunk_count(scene_)));
    parallel_for(chunk_count(scene_), threads_, [&](int64_t chunk, int) {
      const int64_t first = chunk * kChunk;
      placed_[static_cast<size_t>(chunk)] = kernels_.place(scene_, first, chunk_size(scene_, chunk),
                                                           splats_.get() + first, cuts_.get() + first, radii + first);
    });
  }

  // By depth, nearest first, equal ones in their own order: least significant digits first. Depths are positive, so
  // their bits order them.
  void sort() {
    size_t seen = 0;
    for (const int placed : placed_) seen += static_cast<size_t>(placed);
    order_.reserve(seen);
    for (size_t chunk = 0; chunk < placed_.size(); ++chunk)
      for (int k = 0; k < placed_[chunk]; ++k) {
        const size_t splat = chunk * kChunk + static_cast<size_t>(k);
        uint32_t bits;
        std::memcpy(&bits, &splats_[splat].depth, sizeof bits);
        order_.push_back(static_cast<uint64_t>(bits) << 32 | splat);
      }
    constexpr int kDigit = 11, kValues = 1 << kDigit;
    std::vector<uint64_t> other(order_.size());
    std::vector<uint32_t> counts(3 * kValues, 0);
    for (const uint64_t item : order_)
      for (int pass = 0; pass < 3; ++pass) ++counts[pass * kValues + (item >> (32 + pass * kDigit) & (kValues - 1))];
    for (int pass = 0; pass < 3; ++pass) {
      uint32_t* const next = counts.data() + pass * kValues;
      uint32_t total = 0;
      for (int value = 0; value < kValues; ++value) {
        const uint32_t size = next[value];
        next[value] = total;
        total += size;
      }
      for (const uint64_t item : order_) other[next[item >> (32 + pass * kDigit) & (kValues - 1)]++] = item;
      order_.swap(other);
    }
  }

  // The tiles that the ellipse q < q_max meets, row by row.
  template <typename Visit>
  void visit_tiles(const GmSplat& s, const Visit& visit) const {
    const auto tile_of = [](float pixel, int tiles) {
      const float tile = pixel * (1.0f / kTile);
      return !(tile > 0.0f) ? 0 : tile >= static_cast<float>(tiles - 1) ? tiles - 1 : static_cast<int>(tile);
    };
    // Centres of pixels lie half a pixel inside; a little more keeps rounding out.
    const float inset = 0.49f;
    const int top = tile_of(s.y - s.half_y + inset, tiles_y_), bottom = tile_of(s.y + s.half_y - inset, tiles_y_);
    const int left = tile_of(s.x - s.half_x + inset, tiles_x_), right = tile_of(s.x + s.half_x - inset, tiles_x_);
    const bool narrow = bottom > top && right > left;
    const float turn = -s.shear * s.q_max / (s.D * s.half_x);  // y at the ellipse's rightmost point
    for (int row = top; row <= bottom; ++row) {
      int from = left, to = right;
      if (narrow) {
        const float low = static_cast<float>(row * kTile) - s.y, high = low + kTile;
        const auto reach = [&](float y) {
          y = std::min(std::max(y, low), high);
          return std::sqrt(std::max(s.q_max - s.D * y * y, 0.0f) / s.A);
        };
        const auto shift = [&](float y) { return s.x - s.shear * std::min(std::max(y, low), high); };
        from = std::max(left, tile_of(shift(-turn) - reach(-turn) + inset - 0.01f, tiles_x_));
        to = std::min(right, tile_of(shift(turn) + reach(turn) - inset + 0.01f, tiles_x_));
      }
      for (int column = from; column <= to; ++column) visit(row * tiles_x_ + column);
    }
  }

  const SplatScene& scene_;
  const SplatKernels& kernels_;
  const int threads_, tiles_x_, tiles_y_;
  std::unique_ptr<GmSplat[]> splats_;  // each chunk's from its first on
  std::unique_ptr<GmCut[]> cuts_;
  std::vector<int> placed_;      // per chunk
  std::vector<uint64_t> order_;  // depth and index into splats_
  std::vector<int32_t> starts_;  // of each tile's entries
  std::unique_ptr<int32_t[]> entries_, destinations_, record_starts_, record_counts_;
};

SplatScene check_scene(const float* camera, int32_t width, int32_t height, const float* means, const float* quaternions,
                       const float* scales, const float* sh, const float* opacities, int64_t splats,
                       int32_t coefficients, int threads) {
  require(camera, "camera is a null pointer");
  const auto* const packed = reinterpret_cast<const GmCamera*>(camera);
  for (size_t i = 0; i < sizeof(GmCamera) / sizeof(float); ++i)
    require(std::isfinite(camera[i]), "the camera has a value that is not finite");
  require(packed->fx > 0.0f && packed->fy > 0.0f, "the camera's focal lengths must be positive");
  require(width >= 1 && height >= 1 && width <= 16384 && height <= 16384, "a picture has 1 to 16384 pixels a side");
  require(splats >= 0 && splats < (int64_t{1} << 31), "the number of splats is negative or 2^31 or more");
  require(splats == 0 || (means && quaternions && scales && sh && opacities), "an array of splats is a null pointer");
  require(coefficients == 1 || coefficients == 4 || coefficients == 9 || coefficients == 16,
          "colours have 1, 4, 9 or 16 coefficients");
  require(threads >= 1, "the number of threads must be at least 1");
  return {packed, width, height, means, quaternions, scales, sh, opacities, splats, coefficients};
}

}  // namespace

int gaussianmri_splat(const float* camera, int32_t width, int32_t height, const float* means, const float* quaternions,
                      const float* scales, const float* sh, const float* opacities, int64_t splats,
                      int32_t coefficients, int threads, float* image, float* alpha, float* depth, float* radii,
                      char* message, int64_t message_size) {
  return guarded(message, message_size, [&] {
    const SplatScene scene =
        check_scene(camera, width, height, means, quaternions, scales, sh, opacities, splats, coefficients, threads);
    require(image && alpha && depth && (splats == 0 || radii), "an image or radii is a null pointer");
    Frame frame(scene, threads, radii);
    frame.scatter(false);
    const SplatImages images = {image, alpha, depth};
    frame.each_tile([&](const SplatList& list, int left, int top, int32_t) {
      gm_splat_kernels().draw(scene, list, left, top, images);
    });
  });
}

int gaussianmri_splat_backward(const float* image, const float* alpha, const float* depth, const float* grad_image,
                               const float* grad_alpha, const float* grad_depth, const float* camera, int32_t width,
                               int32_t height, const float* means, const float* quaternions, const float* scales,
                               const float* sh, const float* opacities, int64_t splats, int32_t coefficients,
                               int threads, float* grad_means, float* grad_quaternions, float* grad_scales,
                               float* grad_sh, float* grad_opacities, float* grad_screen, char* message,
                               int64_t message_size) {
  return guarded(message, message_size, [&] {
    const SplatScene scene =
        check_scene(camera, width, height, means, quaternions, scales, sh, opacities, splats, coefficients, threads);
    require(image && alpha && depth && grad_image && grad_alpha && grad_depth, "an image is a null pointer");
    require(splats == 0 || (grad_means && grad_quaternions && grad_scales && grad_sh && grad_opacities && grad_screen),
            "a gradient is a null pointer");
    std::unique_ptr<float[]> radii(new float[static_cast<size_t>(splats)]);
    Frame frame(scene, threads, radii.get());
    frame.scatter(true);
    const int stride = scene.camera->clipped > 0.0f ? kSplatCutSums : kSplatSums;
    std::unique_ptr<float[]> records(new float[static_cast<size_t>(frame.entry_count() * stride)]);
    const SplatImageGradients images = {image, alpha, depth, grad_image, grad_alpha, grad_depth};
    frame.each_tile([&](const SplatList& list, int left, int top, int32_t start) {
      gm_splat_kernels().pull(scene, list, left, top, images, frame.destinations() + start, stride, records.get());
    });
    frame.chain(stride, records.get(),
                {grad_means, grad_quaternions, grad_scales, grad_sh, grad_opacities, grad_screen});
  });
}
