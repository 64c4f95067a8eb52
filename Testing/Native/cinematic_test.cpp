// Path tracer and splat rasteriser through their C interface, for the sanitizers to watch: odd sizes, rays along the
// axes and out of the volume, broken splats, cuts, misuse, every instruction set and several thread counts. Buffers are
// exactly as long as promised. Usage: cinematic_test [seed]
#include <paths/api.h>
#include <paths/math.h>
#include <splats/api.h>
#include <splats/math.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "native_test.h"

namespace {

size_t product(std::initializer_list<int> sizes) {
  size_t all = 1;
  for (int size : sizes) all *= static_cast<size_t>(size);
  return all;
}

struct Medium {
  GmTraceScene scene{};
  std::vector<uint16_t> values;
  std::vector<uint8_t> gradients, skips;
  std::vector<float> majorants, table;
};

// A random medium of 1 mm voxels about the origin, half of its cells empty, seen from outside or from within.
Medium make_medium(std::mt19937& random, int i, int j, int k, bool inside, bool gradients) {
  std::uniform_real_distribution<float> unit(0.0f, 1.0f);
  Medium m;
  GmTraceScene& s = m.scene;
  const int size[3] = {i, j, k};
  for (int a = 0; a < 3; ++a) {
    s.size[a] = size[a];
    s.cells[a] = (size[a] - 1 + kTraceCell - 1) / kTraceCell;
    s.to_voxel[5 * a] = 1.0f;
    s.to_voxel[4 * a + 3] = 0.5f * static_cast<float>(size[a] - 1);
    for (int side = 0; side < 2; ++side) {
      const int p = 2 * a + side;
      const float sign = side ? 1.0f : -1.0f;
      s.plane[a][p] = sign;
      s.normal[p] = sign * Vec3{a == 0 ? 1.0f : 0.0f, a == 1 ? 1.0f : 0.0f, a == 2 ? 1.0f : 0.0f};
      s.plane[3][p] = side ? static_cast<float>(size[a] - 1) : 0.0f;
    }
  }
  s.planes = 7;
  s.normal[6] = {0.6f, 0.0f, 0.8f};
  s.plane[0][6] = 0.6f, s.plane[1][6] = 0.0f, s.plane[2][6] = 0.8f;
  s.plane[3][6] = 0.3f * static_cast<float>(i) + 0.5f * static_cast<float>(k);
  s.lights = 1;
  s.light[0] = {{0, 200, 0}, {20, 0, 0}, {0, 0, 20}, {0, -1, 0}, {1, 1, 1}, 1600.0f};
  s.levels = 256;
  s.events = 4;
  s.width = 13;
  s.height = 9;
  if (!inside) s.eye.y = 100.0f;
  // The middle pixel's rays are nearly parallel to an axis.
  s.corner = {-0.05f * static_cast<float>(s.width), -1.0f, 0.05f * static_cast<float>(s.height)};
  s.right.x = 0.1f;
  s.down.z = -0.1f;
  s.value_scale = 255.0f / 65535.0f;
  s.gradient_scale = 5000.0f;
  s.face = 1.0f;
  s.anisotropy = 0.3f;
  s.reflectance = 0.04f;
  s.shininess = 20.0f;
  s.up.z = 1.0f;
  s.zenith = s.horizon = s.nadir = {1.0f, 1.0f, 1.0f};
  m.values.resize(product({i, j, k}));
  for (auto& value : m.values) value = static_cast<uint16_t>(65535.0f * unit(random));
  if (gradients) {
    m.gradients.resize(m.values.size());
    for (auto& value : m.gradients) value = static_cast<uint8_t>(255.0f * unit(random));
  }
  m.table.resize(4 * 256 + 256);
  for (size_t n = 0; n < m.table.size(); ++n) m.table[n] = n < 256 ? 0.5f * unit(random) : unit(random);
  const size_t cells = product({s.cells[0], s.cells[1], s.cells[2]});
  for (size_t c = 0; c < cells; ++c) {
    const bool empty = unit(random) < 0.5f;
    m.majorants.push_back(empty ? 0.0f : 0.5f);
    m.skips.push_back(empty ? 1 : 0);
  }
  return m;
}

std::vector<float> trace(const Medium& m, int threads, int expected = GAUSSIANMRI_OK) {
  std::vector<float> sums(product({m.scene.width, m.scene.height, kTraceSums}));
  const int code =
      gaussianmri_trace(reinterpret_cast<const float*>(&m.scene), sizeof(GmTraceScene) / 4, m.values.data(),
                        m.gradients.empty() ? nullptr : m.gradients.data(), m.majorants.data(), m.skips.data(),
                        m.table.data(), 7, 0, 5, threads, sums.data(), message, sizeof message);
  check(code == expected, "trace");
  return sums;
}

std::vector<float> faces(const Medium& m, int side, int threads, int expected = GAUSSIANMRI_OK) {
  const size_t pixels = product({m.scene.width, m.scene.height});
  std::vector<float> picture(5 * pixels, 0.5f);
  const std::vector<float> dome(3 * std::max(m.scene.planes, 1), 0.3f);
  const int code = gaussianmri_trace_faces(
      reinterpret_cast<const float*>(&m.scene), sizeof(GmTraceScene) / 4, m.values.data(),
      m.gradients.empty() ? nullptr : m.gradients.data(), m.table.data(), dome.data(), 1.0f, side, threads,
      picture.data(), picture.data() + 3 * pixels, picture.data() + 4 * pixels, message, sizeof message);
  check(code == expected, "faces");
  return picture;
}

void test_tracer(std::mt19937& random, const std::string& simd) {
  const int sizes[][3] = {{2, 2, 2}, {5, 3, 2}, {6, 17, 9}, {33, 20, 30}};
  for (const auto& size : sizes)
    for (bool inside : {false, true})
      for (bool gradients : {false, true}) {
        const Medium m = make_medium(random, size[0], size[1], size[2], inside, gradients);
        const std::vector<float> one = trace(m, 1);
        check(one == trace(m, 3), simd + ": the path tracer depends on the thread count");
        for (float x : one) check(std::isfinite(x), simd + ": a traced value is not finite");
        const std::vector<float> face = faces(m, 2, 1);
        check(face == faces(m, 2, 3), simd + ": cut faces depend on the thread count");
        for (float x : face) check(std::isfinite(x), simd + ": a cut face's value is not finite");
      }
  Medium m = make_medium(random, 4, 4, 4, false, false);
  m.scene.cells[0] += 1;
  trace(m, 1, GAUSSIANMRI_INVALID);
  m.scene.cells[0] -= 1;
  m.scene.planes = kTracePlanes + 1;
  trace(m, 1, GAUSSIANMRI_INVALID);
  faces(m, 1, 1, GAUSSIANMRI_INVALID);
  m.scene.planes = 6;
  m.scene.holes = 1;  // one of the box's planes
  trace(m, 1, GAUSSIANMRI_INVALID);
  m.scene.planes = 8;
  m.scene.holes = 2;
  const std::vector<float> hollow = trace(m, 1);
  check(hollow == trace(m, 3), simd + ": a hole depends on the thread count");
  for (float x : hollow) check(std::isfinite(x), simd + ": a value beside a hole is not finite");
  faces(m, 1, 1, GAUSSIANMRI_INVALID);
  m.scene.planes = 6;
  m.scene.holes = 0;
  faces(m, 17, 1, GAUSSIANMRI_INVALID);
  faces(m, 1, 0, GAUSSIANMRI_INVALID);
}

struct Splats {
  int count, coefficients;
  std::vector<float> means, quaternions, scales, sh, opacities;
};

Splats make_splats(std::mt19937& random, int count, int coefficients) {
  std::uniform_real_distribution<float> unit(0.0f, 1.0f);
  std::normal_distribution<float> normal;
  Splats s{count, coefficients, {}, {}, {}, {}, {}};
  for (int n = 0; n < count; ++n) {
    for (int a = 0; a < 3; ++a) {
      s.means.push_back(15.0f * normal(random));
      s.scales.push_back(0.05f + 4.0f * unit(random) * unit(random));
    }
    for (int a = 0; a < 4; ++a) s.quaternions.push_back(normal(random));
    for (int c = 0; c < 3 * coefficients; ++c) s.sh.push_back(0.3f * normal(random));
    s.opacities.push_back(unit(random));
  }
  return s;
}

GmCamera make_camera(int width, int height, bool clipped) {
  GmCamera camera{};
  // Looks along -A from 60 mm: right is -R, down is -S.
  const float rotation[9] = {-1, 0, 0, 0, 0, -1, 0, -1, 0};
  for (int n = 0; n < 9; ++n) camera.rotation[n] = rotation[n];
  camera.eye[1] = 60.0f;
  camera.fx = camera.fy = 40.0f;
  camera.cx = 0.5f * static_cast<float>(width);
  camera.cy = 0.5f * static_cast<float>(height);
  const float plane[3] = {0.6f, 0.0f, 0.8f};
  for (int row = 0; row < 3; ++row) {
    camera.plane[row] = plane[row];
    for (int k = 0; k < 3; ++k) camera.normal[row] += rotation[3 * row + k] * plane[k];
  }
  camera.offset = 2.0f;
  camera.clipped = clipped ? 1.0f : 0.0f;
  camera.antialiased = 1.0f;
  return camera;
}

std::vector<float> draw(const Splats& s, int width, int height, bool clipped, int threads, const std::string& simd) {
  const GmCamera camera = make_camera(width, height, clipped);
  const float* const packed = reinterpret_cast<const float*>(&camera);
  const size_t pixels = product({width, height}), count = static_cast<size_t>(s.count);
  std::vector<float> image(3 * pixels), alpha(pixels), depth(pixels), radii(count);
  check(gaussianmri_splat(packed, width, height, s.means.data(), s.quaternions.data(), s.scales.data(), s.sh.data(),
                          s.opacities.data(), s.count, s.coefficients, threads, image.data(), alpha.data(),
                          depth.data(), radii.data(), message, sizeof message) == GAUSSIANMRI_OK,
        "splat");
  for (float x : image) check(std::isfinite(x), simd + ": a drawn value is not finite");
  const std::vector<float> grad_image(3 * pixels, 1.0f), grad_alpha(pixels, 0.5f), grad_depth(pixels, 0.01f);
  std::vector<float> means(3 * count), quaternions(4 * count), scales(3 * count), sh(s.sh.size()), opacities(count),
      screen(2 * count);
  check(gaussianmri_splat_backward(image.data(), alpha.data(), depth.data(), grad_image.data(), grad_alpha.data(),
                                   grad_depth.data(), packed, width, height, s.means.data(), s.quaternions.data(),
                                   s.scales.data(), s.sh.data(), s.opacities.data(), s.count, s.coefficients, threads,
                                   means.data(), quaternions.data(), scales.data(), sh.data(), opacities.data(),
                                   screen.data(), message, sizeof message) == GAUSSIANMRI_OK,
        "splat_backward");
  std::vector<float> all = image;
  for (const auto* part : {&alpha, &depth, &radii, &means, &quaternions, &scales, &sh, &opacities, &screen})
    all.insert(all.end(), part->begin(), part->end());
  return all;
}

void test_splats(std::mt19937& random, const std::string& simd) {
  const int sizes[][2] = {{1, 1}, {1, 37}, {41, 1}, {33, 50}};
  for (const auto& size : sizes)
    for (int count : {0, 1, 400})
      for (int coefficients : {1, 4, 9, 16})
        for (bool clipped : {false, true}) {
          const Splats s = make_splats(random, count, coefficients);
          check(draw(s, size[0], size[1], clipped, 1, simd) == draw(s, size[0], size[1], clipped, 3, simd),
                simd + ": the rasteriser depends on the thread count");
        }
  // Splats that cannot be drawn, among others that can.
  Splats s = make_splats(random, 120, 16);
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 0.0f, 1e38f,
                       -1e38f};
  for (size_t n = 0; n < 60; ++n) {
    const float value = bad[n % 5];
    if (n < 15)
      s.means[3 * n + n % 3] = value;
    else if (n < 30)
      s.quaternions[4 * n + n % 4] = value;
    else if (n < 45)
      s.scales[3 * n + n % 3] = value;
    else
      s.opacities[n] = value;
  }
  for (bool clipped : {false, true}) draw(s, 30, 20, clipped, 2, simd);
  float nothing = 0.0f;
  check(gaussianmri_splat(nullptr, 2, 2, &nothing, &nothing, &nothing, &nothing, &nothing, 0, 1, 1, &nothing, &nothing,
                          &nothing, &nothing, message, sizeof message) == GAUSSIANMRI_INVALID,
        "no camera");
}

}  // namespace

int main(int count, char** arguments) {
  const auto test = [](std::mt19937& random, const std::string& simd) {
    test_tracer(random, simd);
    test_splats(random, simd);
  };
  return run_tests(count, arguments, test);
}
