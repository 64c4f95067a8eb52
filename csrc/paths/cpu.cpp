// Path tracing: the C interface, and blocks of pixels handed out to threads.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "paths/api.h"
#include "paths/kernels.h"
#include "support/exports.h"
#include "support/guard.h"
#include "support/thread_pool.h"

namespace {

GM_EXPORT_FUNCTION(gaussianmri_trace);
GM_EXPORT_FUNCTION(gaussianmri_trace_faces);
GM_EXPORT_SIZE(GmTraceScene);
GM_EXPORT_SIZE(GmTraceLight);
GM_EXPORT_NUMBER(kTraceCell);
GM_EXPORT_NUMBER(kTraceSums);
GM_EXPORT_NUMBER(kTracePlanes);
GM_EXPORT_NUMBER(kTraceLights);

// Sides of blocks of pixels: a kernel's rays run out only at the end of one, but every thread needs several.
constexpr int kLargestBlock = 32, kSmallestBlock = 8, kBlocksPerThread = 8;

GmTraceScene checked(const float* scene, int64_t scene_floats, const GmTraceVolume& v) {
  require(scene, "scene is a null pointer");
  require(scene_floats == static_cast<int64_t>(sizeof(GmTraceScene) / 4), "the scene has another size");
  GmTraceScene s;
  std::memcpy(&s, scene, sizeof(s));
  for (int a = 0; a < 3; ++a)
    require(s.size[a] >= 2 && s.size[a] <= (1 << 15), "a volume needs 2 to 32768 voxels along each axis");
  require(v.values && v.table, "values or table is a null pointer");
  require(s.levels >= 2 && s.levels <= 65536, "the table needs 2 to 65536 levels");
  require(s.planes >= 6 && s.planes <= kTracePlanes, "there are too many clip planes, or the box is missing");
  require(s.holes >= 0 && s.holes <= s.planes - 6, "the planes of the hole are among those of the box");
  require(s.lights >= 0 && s.lights <= kTraceLights, "there are too many lights");
  require(s.events >= 1, "a path needs at least one scattering");
  require(s.width >= 1 && s.height >= 1 && s.width <= 16384 && s.height <= 16384,
          "an image has 1 to 16384 pixels a side");
  require(s.value_scale >= 0.0f && s.value_scale * 65535.0f + 0.5f < static_cast<float>(s.levels),
          "value_scale leads beyond the table");
  require(s.gradient_scale > 0.0f && s.face >= 0.0f && std::fabs(s.anisotropy) < 1.0f && s.shininess >= 0.0f &&
              s.reflectance >= 0.0f && s.reflectance <= 1.0f,
          "a property of the surfaces is out of range");
  return s;
}

}  // namespace

int gaussianmri_trace(const float* scene, int64_t scene_floats, const uint16_t* values, const uint8_t* gradients,
                      const float* majorants, const uint8_t* skips, const float* table, uint32_t seed, int32_t first,
                      int32_t count, int threads, float* sums, char* message, int64_t message_size) {
  return guarded(message, message_size, [&] {
    require(sums, "sums is a null pointer");
    require(first >= 0 && count >= 0 && count <= INT32_MAX - first, "a range of samples needs numbers from 0");
    require(threads >= 1, "the number of threads must be at least 1");
    const GmTraceVolume v{values, gradients, majorants, skips, table};
    const GmTraceScene s = checked(scene, scene_floats, v);
    require(majorants && skips, "majorants or skips is a null pointer");
    for (int a = 0; a < 3; ++a)
      require(s.cells[a] == (s.size[a] - 1 + kTraceCell - 1) / kTraceCell, "the number of cells does not fit");
    const PathKernels& kernels = gm_path_kernels();
    int side = kLargestBlock;
    const auto along = [&](int pixels) { return (pixels + side - 1) / side; };
    while (side > kSmallestBlock && along(s.width) * along(s.height) < kBlocksPerThread * threads) side /= 2;
    const int across = along(s.width), blocks = across * along(s.height);
    parallel_for(blocks, threads, [&](int64_t index, int) {
      const int column = static_cast<int>(index) % across * side, row = static_cast<int>(index) / across * side;
      kernels.trace(s, v, column, std::min(side, s.width - column), row, std::min(side, s.height - row), seed, first,
                    count, sums);
    });
  });
}

int gaussianmri_trace_faces(const float* scene, int64_t scene_floats, const uint16_t* values, const uint8_t* gradients,
                            const float* table, const float* dome, float exposure, int32_t side, int threads,
                            float* image, float* alpha, float* depth, char* message, int64_t message_size) {
  return guarded(message, message_size, [&] {
    require(dome && image && alpha && depth, "dome, image, alpha or depth is a null pointer");
    require(exposure > 0.0f && std::isfinite(exposure), "the exposure must be more than 0");
    require(side >= 1 && side <= 16, "a pixel has 1 to 16 rays a side");
    require(threads >= 1, "the number of threads must be at least 1");
    const GmTraceVolume v{values, gradients, nullptr, nullptr, table};
    const GmTraceScene s = checked(scene, scene_floats, v);
    require(s.holes == 0, "what is left by a hole is not convex, so its faces have no closed form");
    const PathKernels& kernels = gm_path_kernels();
    parallel_for(s.height, threads, [&](int64_t row, int) {
      kernels.trace_faces(s, v, dome, exposure, side, static_cast<int>(row), image, alpha, depth);
    });
  });
}
