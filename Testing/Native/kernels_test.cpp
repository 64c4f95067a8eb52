// The kernels through their C interface: odd sizes, odd Gaussians, misuse, every instruction set and several thread
// counts, on random scenes. Images are compared with the definition in double precision; everything else is for the
// sanitizers to watch. Usage: kernels_test [seed]
#include <planes/api.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "native_test.h"

namespace {

constexpr float kCut = 7.814728f, kBackground = 1e-3f;

struct Scene {
  int64_t gaussians;
  std::vector<float> parameters, frames, offsets, weights;
  std::vector<int32_t> shapes;
  int64_t planes, samples, total = 0;
};

Scene make_scene(std::mt19937& random, int64_t gaussians, std::vector<int32_t> shapes, int64_t samples) {
  std::uniform_real_distribution<float> unit(0.0f, 1.0f);
  std::normal_distribution<float> normal;
  Scene s{gaussians, {}, {}, {}, {}, std::move(shapes), 0, samples};
  s.planes = static_cast<int64_t>(s.shapes.size()) / 2;
  s.parameters.resize(static_cast<size_t>(11 * gaussians));
  const auto at = [&](int row, int64_t i) -> float& { return s.parameters[static_cast<size_t>(row * gaussians + i)]; };
  for (int64_t i = 0; i < gaussians; ++i) {
    for (int k = 0; k < 3; ++k) at(k, i) = 40.0f * unit(random) - 5.0f;
    for (int k : {3, 6, 8}) at(k, i) = 1.0f / (0.3f + 3.0f * unit(random));
    for (int k : {4, 5, 7}) at(k, i) = 0.3f * normal(random);
    at(9, i) = unit(random);
    at(10, i) = 0.05f + unit(random);
  }
  for (int64_t p = 0; p < s.planes; ++p) {
    const float tilt = unit(random), c = std::cos(tilt), n = std::sin(tilt), step = 0.5f + unit(random);
    const float frame[12] = {0, 0, 30 * unit(random), step * c, 0, step * n, 0, 1, 0, -n, 0, c};
    s.frames.insert(s.frames.end(), frame, frame + 12);
    for (int64_t q = 0; q < samples; ++q) {
      s.offsets.push_back(2.0f * unit(random) - 1.0f);
      s.weights.push_back(1.0f / static_cast<float>(samples));
    }
    s.total += static_cast<int64_t>(s.shapes[static_cast<size_t>(2 * p)]) * s.shapes[static_cast<size_t>(2 * p + 1)];
  }
  return s;
}

struct Result {
  std::vector<float> image, samples, density, gradient;
};

Result run(const Scene& s, int threads, const std::vector<float>& grad_image) {
  Result r;
  // Exactly as long as promised, so that the address sanitizer sees one float too many.
  r.image.resize(static_cast<size_t>(s.total));
  r.samples.resize(static_cast<size_t>(s.samples * s.total));
  r.density.resize(static_cast<size_t>(s.samples * s.total));
  r.gradient.resize(static_cast<size_t>(11 * s.gaussians));
  check(gaussianmri_render(s.parameters.data(), s.gaussians, s.frames.data(), s.shapes.data(), s.offsets.data(),
                           s.weights.data(), s.planes, s.samples, kBackground, kCut, threads, r.image.data(),
                           r.samples.data(), r.density.data(), message, sizeof message) == GAUSSIANMRI_OK,
        "render");
  check(gaussianmri_render_backward(grad_image.data(), r.samples.data(), r.density.data(), s.parameters.data(),
                                    s.gaussians, s.frames.data(), s.shapes.data(), s.offsets.data(), s.weights.data(),
                                    s.planes, s.samples, kBackground, kCut, threads, r.gradient.data(), message,
                                    sizeof message) == GAUSSIANMRI_OK,
        "render_backward");
  return r;
}

// The definition, pixel by pixel, in double precision. Pixels with a Gaussian at the cut within rounding are left out.
void compare_with_definition(const Scene& s, const Result& r, const std::string& name) {
  size_t pixel = 0;
  double worst = 0.0;
  for (int64_t p = 0; p < s.planes; ++p) {
    const float* f = s.frames.data() + 12 * p;
    for (int row = 0; row < s.shapes[static_cast<size_t>(2 * p)]; ++row)
      for (int column = 0; column < s.shapes[static_cast<size_t>(2 * p + 1)]; ++column, ++pixel) {
        double image = 0.0;
        bool edge = false;
        for (int64_t q = 0; q < s.samples; ++q) {
          const auto sample = static_cast<size_t>(p * s.samples + q);
          double x[3], numerator = 0.0, density = kBackground;
          for (int k = 0; k < 3; ++k)
            x[k] = f[k] + double(column) * f[3 + k] + double(row) * f[6 + k] + double(s.offsets[sample]) * f[9 + k];
          for (int64_t i = 0; i < s.gaussians; ++i) {
            const auto v = [&](int k) { return double(s.parameters[static_cast<size_t>(k * s.gaussians + i)]); };
            const double a = x[0] - v(0), b = x[1] - v(1), c = x[2] - v(2);
            const double h0 = v(3) * a + v(4) * b + v(5) * c, h1 = v(6) * b + v(7) * c, h2 = v(8) * c;
            const double d = h0 * h0 + h1 * h1 + h2 * h2;
            edge |= std::fabs(d - kCut) < 1e-3;
            if (!(d < kCut) || !(v(10) > 0)) continue;
            const double w = v(10) * std::exp(-0.5 * d);
            numerator += w * v(9);
            density += w;
          }
          image += s.weights[sample] * numerator / density;
        }
        if (!edge) worst = std::fmax(worst, std::fabs(image - r.image[pixel]));
      }
  }
  check(worst < 2e-5, name + ": image differs from the definition by " + std::to_string(worst));
}

void test_scenes(std::mt19937& random, const std::string& simd) {
  const std::vector<std::vector<int32_t>> shapes = {
      {}, {0, 5}, {1, 1}, {1, 37}, {41, 1}, {7, 9, 0, 0, 16, 16, 3, 130}, {65, 33}};
  for (const auto& shape : shapes)
    for (int64_t gaussians : {0, 1, 300})
      for (int64_t samples : {1, 3}) {
        const Scene s = make_scene(random, gaussians, shape, samples);
        std::vector<float> grad(static_cast<size_t>(s.total));
        std::normal_distribution<float> normal;
        for (float& g : grad) g = normal(random);
        const Result one = run(s, 1, grad), three = run(s, 3, grad);
        check(one.image == three.image && one.gradient == three.gradient, simd + ": depends on the thread count");
        compare_with_definition(s, one, simd);
        std::vector<float> mean(static_cast<size_t>(s.planes)), slope(static_cast<size_t>(s.total));
        check(gaussianmri_ssim(one.image.data(), grad.data(), s.shapes.data(), s.planes, 2, mean.data(), slope.data(),
                               message, sizeof message) == GAUSSIANMRI_OK,
              "ssim");
        std::vector<float> values = s.parameters, m(values.size()), v(values.size()), rates(11, 0.01f);
        const std::vector<int32_t> modes = {0, 0, 0, 1, 0, 0, 1, 0, 1, 2, 1};
        check(gaussianmri_adam(values.data(), one.gradient.data(), m.data(), v.data(), 11, s.gaussians, rates.data(),
                               modes.data(), 1, 0.9f, 0.999f, 1e-8f, 2, message, sizeof message) == GAUSSIANMRI_OK,
              "adam");
        for (float x : values) check(std::isfinite(x), "adam makes a value that is not finite");
      }
}

// Gaussians that cannot be drawn, among others that can: the image is the one without them.
void test_broken_gaussians(std::mt19937& random, const std::string& simd) {
  Scene s = make_scene(random, 200, {24, 31}, 2);
  const std::vector<float> grad(static_cast<size_t>(s.total), 1.0f);
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity(),
                       0.0f,
                       1e38f,
                       -std::numeric_limits<float>::infinity(),
                       1e-38f};
  for (int64_t i = 0; i < 66; ++i)
    if (i % 11 != 9 || !std::isfinite(bad[i / 11]))  // a finite colour shows, and one of 1e38 overflows gradients
      s.parameters[static_cast<size_t>(i % 11 * 200 + i)] = bad[i / 11];
  const Result r = run(s, 2, grad);
  for (float x : r.image) check(std::isfinite(x), simd + ": a broken Gaussian spoils the image");
  for (int64_t i = 66; i < 200; ++i)
    for (int row = 0; row < 11; ++row)
      check(std::isfinite(r.gradient[static_cast<size_t>(row * 200 + i)]), simd + ": a broken one spoils the gradient");
}

void test_misuse() {
  float x[12] = {0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1}, offset = 0, weight = 1, out[16];
  const int32_t shape[2] = {2, 2}, negative[2] = {-1, 2};
  const auto render = [&](const float* parameters, int64_t n, const float* frame, const int32_t* size, float cut,
                          int threads) {
    return gaussianmri_render(parameters, n, frame, size, &offset, &weight, 1, 1, 0.0f, cut, threads, out, out + 4,
                              out + 8, message, sizeof message);
  };
  float flat[12] = {0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1}, skew[12] = {0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0};
  check(render(nullptr, 0, x, shape, kCut, 1) == GAUSSIANMRI_OK && out[0] == 0.0f, "no Gaussians");
  check(render(nullptr, 1, x, shape, kCut, 1) == GAUSSIANMRI_INVALID && std::strlen(message) > 0, "null parameters");
  check(render(nullptr, -1, x, shape, kCut, 1) == GAUSSIANMRI_INVALID, "negative number of Gaussians");
  check(render(nullptr, 0, x, negative, kCut, 1) == GAUSSIANMRI_INVALID, "negative rows");
  check(render(nullptr, 0, x, shape, NAN, 1) == GAUSSIANMRI_INVALID, "cut is NaN");
  check(render(nullptr, 0, x, shape, 100.0f, 1) == GAUSSIANMRI_INVALID, "cut out of range");
  check(render(nullptr, 0, x, shape, kCut, 0) == GAUSSIANMRI_INVALID, "no threads");
  check(render(nullptr, 0, flat, shape, kCut, 1) == GAUSSIANMRI_INVALID, "parallel rows and columns");
  check(render(nullptr, 0, skew, shape, kCut, 1) == GAUSSIANMRI_INVALID, "normal lies in the plane");
  check(gaussianmri_set_simd("mmx") == GAUSSIANMRI_INVALID, "unknown instruction set");
}

}  // namespace

int main(int count, char** arguments) {
  const auto test = [](std::mt19937& random, const std::string& simd) {
    test_scenes(random, simd);
    test_broken_gaussians(random, simd);
  };
  return run_tests(count, arguments, test, test_misuse);
}
