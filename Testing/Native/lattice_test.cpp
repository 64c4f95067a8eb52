// The lattice's kernels through their C interface: random lattices with missing bricks, planes near and far, several
// thread counts, every instruction set. Images are compared with the definition in double precision and the adjoint
// with the images; everything else is for the sanitizers to watch. Usage: lattice_test [seed]
#include <lattice/api.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "native_test.h"

namespace {

constexpr float kBackground = 1e-4f;

size_t at(int64_t i) { return static_cast<size_t>(i); }

struct Scene {
  int32_t size[3];
  int64_t bricks = 0, planes, samples, total = 0;
  std::vector<int32_t> table, shapes;
  std::vector<float> nodes, frames, offsets, weights;
  double to_node[12] = {1.1, 0.1, 0, 12.3, -0.1, 0.9, 0, 11.7, 0, 0.05, 1.0, 9.2};
};

Scene make_scene(std::mt19937& random, int x, int y, int z, std::vector<int32_t> shapes, int64_t samples, float away) {
  std::uniform_real_distribution<float> unit(0.0f, 1.0f);
  Scene s;
  s.size[0] = x;
  s.size[1] = y;
  s.size[2] = z;
  s.samples = samples;
  s.shapes = std::move(shapes);
  s.planes = static_cast<int64_t>(s.shapes.size()) / 2;
  for (int i = 0; i < x * y * z; ++i) s.table.push_back(unit(random) < 0.7f ? static_cast<int32_t>(s.bricks++) : -1);
  std::vector<int32_t> order(at(s.bricks));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  for (int32_t& brick : s.table)
    if (brick >= 0) brick = order[at(brick)];
  s.nodes.resize(at(512 * s.bricks));
  for (float& node : s.nodes) node = unit(random);
  for (int64_t p = 0; p < s.planes; ++p) {
    const float tilt = 3.0f * unit(random), c = std::cos(tilt), n = std::sin(tilt), step = 0.5f + unit(random);
    const float frame[12] = {away * unit(random), -9, 5 * unit(random), step * c, 0, step * n, 0, 0.8f, 0, -n, 0, c};
    s.frames.insert(s.frames.end(), frame, frame + 12);
    for (int64_t q = 0; q < samples; ++q) {
      s.offsets.push_back(2.0f * unit(random) - 1.0f);
      s.weights.push_back(1.0f / static_cast<float>(samples));
    }
    s.total += static_cast<int64_t>(s.shapes[at(2 * p)]) * s.shapes[at(2 * p + 1)];
  }
  return s;
}

struct Result {
  std::vector<float> image, density, adjoint, smooth;
};

Result run(const Scene& s, const std::vector<float>& grad, int threads) {
  Result r;
  // Exactly as long as promised, so that the address sanitizer sees one float too many.
  r.image.resize(at(s.total));
  r.density.resize(at(s.total));
  r.adjoint.resize(s.nodes.size());
  r.smooth.resize(s.nodes.size());
  check(
      gaussianmri_lattice_render(s.nodes.data(), s.bricks, s.table.data(), s.size, s.to_node, s.frames.data(),
                                 s.shapes.data(), s.offsets.data(), s.weights.data(), s.planes, s.samples, kBackground,
                                 threads, r.image.data(), r.density.data(), message, sizeof message) == GAUSSIANMRI_OK,
      "lattice_render");
  check(gaussianmri_lattice_render_backward(grad.data(), s.bricks, s.table.data(), s.size, s.to_node, s.frames.data(),
                                            s.shapes.data(), s.offsets.data(), s.weights.data(), s.planes, s.samples,
                                            kBackground, threads, r.adjoint.data(), message,
                                            sizeof message) == GAUSSIANMRI_OK,
        "lattice_render_backward");
  const float scales[3] = {1.0f, 0.5f, 2.0f};
  check(gaussianmri_lattice_smooth(s.nodes.data(), s.nodes.data(), s.bricks, s.table.data(), s.size, scales, 0.1f,
                                   threads, r.smooth.data(), message, sizeof message) == GAUSSIANMRI_OK,
        "lattice_smooth");
  return r;
}

// The definition, sample by sample. Pixels with a sample at a plane of nodes within rounding are left out.
void compare_with_definition(const Scene& s, const Result& r, const std::string& name) {
  size_t pixel = 0;
  double worst = 0.0;
  for (int64_t p = 0; p < s.planes; ++p)
    for (int row = 0; row < s.shapes[at(2 * p)]; ++row)
      for (int column = 0; column < s.shapes[at(2 * p + 1)]; ++column, ++pixel) {
        const float* const f = s.frames.data() + 12 * p;
        double image = 0.0;
        bool edge = false;
        for (int64_t q = p * s.samples; q < (p + 1) * s.samples; ++q) {
          double u[3], numerator = 0.0, density = 0.0;
          int low[3];
          for (int a = 0; a < 3; ++a) {
            u[a] = s.to_node[4 * a + 3];
            for (int k = 0; k < 3; ++k)
              u[a] += s.to_node[4 * a + k] *
                      (f[k] + double(column) * f[3 + k] + double(row) * f[6 + k] + double(s.offsets[at(q)]) * f[9 + k]);
            edge |= std::fabs(u[a] - std::round(u[a])) < 3e-5;
            low[a] = static_cast<int>(std::floor(u[a])) - 1;
          }
          for (int tap = 0; tap < 64; ++tap) {
            const int n[3] = {low[0] + tap % 4, low[1] + tap / 4 % 4, low[2] + tap / 16};
            bool inside = true;
            double square = 0.0;
            for (int a = 0; a < 3; ++a) {
              inside = inside && n[a] >= 0 && n[a] < 8 * s.size[a];
              square += (u[a] - n[a]) * (u[a] - n[a]);
            }
            if (!inside) continue;
            const int32_t brick = s.table[at((n[2] / 8 * s.size[1] + n[1] / 8) * s.size[0] + n[0] / 8)];
            if (brick < 0) continue;
            const double w = std::exp(-square / 0.72);
            density += w;
            numerator += w * s.nodes[at(((brick * int64_t{8} + n[2] % 8) * 8 + n[1] % 8) * 8 + n[0] % 8)];
          }
          image += s.weights[at(q)] * numerator / (density + kBackground);
        }
        if (!edge) worst = std::fmax(worst, std::fabs(image - r.image[pixel]));
      }
  check(worst < 1e-5, name + ": image differs from the definition by " + std::to_string(worst));
}

double dot(const std::vector<float>& a, const std::vector<float>& b, double* size) {
  double sum = 0.0;
  *size = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    sum += double(a[i]) * b[i];
    *size += std::fabs(double(a[i]) * b[i]);
  }
  return sum;
}

void test_scenes(std::mt19937& random, const std::string& simd) {
  const std::vector<std::vector<int32_t>> shapes = {{}, {0, 5}, {1, 1}, {1, 37}, {41, 1}, {7, 9, 0, 0, 16, 16, 3, 30}};
  const int sizes[][3] = {{0, 0, 0}, {1, 1, 1}, {3, 4, 2}, {1, 9, 1}};
  for (const auto& shape : shapes)
    for (const auto& size : sizes)
      for (float away : {0.0f, 30.0f, 1e30f}) {
        const Scene s = make_scene(random, size[0], size[1], size[2], shape, away > 0.0f ? 1 : 3, away);
        std::vector<float> grad(at(s.total));
        std::normal_distribution<float> normal;
        for (float& g : grad) g = normal(random);
        const Result one = run(s, grad, 1), three = run(s, grad, 3);
        check(one.image == three.image && one.density == three.density && one.adjoint == three.adjoint &&
                  one.smooth == three.smooth,
              simd + ": depends on the thread count");
        if (away < 1e9f) compare_with_definition(s, one, simd);
        double scale, ignored;
        const double image = dot(grad, one.image, &scale), nodes = dot(one.adjoint, s.nodes, &ignored);
        check(std::fabs(image - nodes) <= 1e-5 * scale + 1e-6, simd + ": the adjoint is not the image's");
      }
}

void test_misuse() {
  const float frame[12] = {0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1}, offset = 0, weight = 1, nodes[1024] = {};
  const double to_node[12] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
  const int32_t shape[2] = {2, 2}, pair[3] = {2, 1, 1}, huge[3] = {1 << 16, 1 << 16, 1}, negative[3] = {-1, 1, 1};
  const int32_t good[2] = {1, 0}, twice[2] = {1, 1}, beyond[2] = {0, 2};
  float image[4], density[4];
  const auto render = [&](const float* values, int64_t bricks, const int32_t* table, const int32_t* size,
                          float background, int threads) {
    return gaussianmri_lattice_render(values, bricks, table, size, to_node, frame, shape, &offset, &weight, 1, 1,
                                      background, threads, image, density, message, sizeof message);
  };
  check(render(nodes, 2, good, pair, 0.0f, 1) == GAUSSIANMRI_OK, "a lattice of two bricks");
  check(render(nullptr, 2, good, pair, 0.0f, 1) == GAUSSIANMRI_INVALID && std::strlen(message) > 0, "null nodes");
  check(render(nodes, 2, nullptr, pair, 0.0f, 1) == GAUSSIANMRI_INVALID, "null table");
  check(render(nodes, 2, twice, pair, 0.0f, 1) == GAUSSIANMRI_INVALID, "a brick twice");
  check(render(nodes, 2, beyond, pair, 0.0f, 1) == GAUSSIANMRI_INVALID, "a brick that there is not");
  check(render(nodes, -1, good, pair, 0.0f, 1) == GAUSSIANMRI_INVALID, "negative number of bricks");
  check(render(nodes, 2, good, huge, 0.0f, 1) == GAUSSIANMRI_INVALID, "a table too large");
  check(render(nodes, 2, good, negative, 0.0f, 1) == GAUSSIANMRI_INVALID, "a negative size");
  check(render(nodes, 2, good, pair, NAN, 1) == GAUSSIANMRI_INVALID, "background is NaN");
  check(render(nodes, 2, good, pair, 0.0f, 0) == GAUSSIANMRI_INVALID, "no threads");
  const float scales[3] = {1, 1, 1};
  float out[1024];
  for (float edge : {-1.0f, NAN, 1e-30f})
    check(gaussianmri_lattice_smooth(nodes, nodes, 2, good, pair, scales, edge, 1, out, message, sizeof message) ==
              GAUSSIANMRI_INVALID,
          "edge out of range");
}

}  // namespace

int main(int count, char** arguments) { return run_tests(count, arguments, test_scenes, test_misuse); }
