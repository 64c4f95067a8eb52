// Tiles of splats, compiled for each instruction set: drawing, and the sums of the gradient.
#include "splats/kernels.h"

#include <string.h>

#include "splats/cut_math.h"
#include "support/simd_functions.h"

namespace GM_ISA {

constexpr int kSplatCheck = 16;  // splats between two looks at which rows are finished

// Pixels [first, end) of `size` from `origin` on whose centres lie in centre +- half.
static inline void splat_range(float centre, float half, int origin, int size, int* first, int* end) {
  const float low = centre - half - 0.5f - static_cast<float>(origin);
  const float high = centre + half - 0.5f - static_cast<float>(origin);
  *first = low > 0.0f ? (low < static_cast<float>(size) ? ceiling(low) : size) : 0;
  *end = high < static_cast<float>(size - 1) ? (high >= 0.0f ? floored(high) + 1 : 0) : size;
}

// Rows of the tile in which some pixel still lets light through.
static inline unsigned splat_live_rows(const float* transmittance, unsigned rows) {
  unsigned live = 0;
  for (int row = 0; row < kTile; ++row) {
    if (!(rows >> row & 1u)) continue;
    F most_left = load(transmittance + row * kTile);
    for (int x = kLanes; x < kTile; x += kLanes) most_left = most(most_left, load(transmittance + row * kTile + x));
    if (any(less(set(0.0f), most_left))) live |= 1u << row;
  }
  return live;
}

// Transmittance 1 within the image, 0 (finished) outside of it.
static inline unsigned splat_start(const SplatScene& scene, int left, int top, float* transmittance) {
  const int columns = scene.width - left < kTile ? scene.width - left : kTile;
  const int rows = scene.height - top < kTile ? scene.height - top : kTile;
  for (int row = 0; row < kTile; ++row)
    for (int x = 0; x < kTile; ++x) transmittance[row * kTile + x] = row < rows && x < columns ? 1.0f : 0.0f;
  return (1u << rows) - 1u;
}

// Phi at z, and its density there.
static inline F splat_kept(F z, F* density) {
  return normal_distribution(most(least(z, set(kPhiEnd)), set(-kPhiEnd)), density);
}

// Calls each(row, x, X, Y, q) for every group of kLanes pixels of the live rows that the splat meets.
template <typename Each>
static inline void splat_groups(const GmSplat& splat, int left, int top, unsigned live, const Each& each) {
  int first, end, first_x = 0, end_x = kTile;
  splat_range(splat.y, splat.half_y, top, kTile, &first, &end);
  if (kLanes < kTile) {
    splat_range(splat.x, splat.half_x, left, kTile, &first_x, &end_x);
    first_x = first_x / kLanes * kLanes;
  }
  const F q_max = set(splat.q_max), A = set(splat.A);
  const float x0 = static_cast<float>(left) + 0.5f - splat.x, y0 = static_cast<float>(top) + 0.5f - splat.y;
  for (int row = first; row < end; ++row) {
    if (!(live >> row & 1u)) continue;
    const float Y = y0 + static_cast<float>(row);
    const F rest = set(splat.D * Y * Y), shift = set(x0 + splat.shear * Y);
    for (int x = first_x; x < end_x; x += kLanes) {
      const F X = add(load(kLaneNumbers + x), shift);
      const F q = fma(mul(X, A), X, rest);
      const M inside = less(q, q_max);
      if (any(inside)) each(row * kTile + x, X, Y, q, inside);
    }
  }
}

static void splat_draw(const SplatScene& scene, const SplatList& list, int left, int top, const SplatImages& out) {
  alignas(64) float T[kTilePixels], sums[5][kTilePixels];
  memset(sums, 0, sizeof sums);
  unsigned live = splat_start(scene, left, top, T);
  const GmCutView view = gm_cut_view(*scene.camera);
  const F threshold = set(kTransmittanceMin), alpha_max = set(kAlphaMax), alpha_min = set(kAlphaMin);
  for (int k = 0; k < list.count; ++k) {
    if (k % kSplatCheck == 0 && k > 0 && !(live = splat_live_rows(T, live))) break;
    if (k + 4 < list.count) prefetch(list.splats + list.entries[k + 4]);
    const GmSplat& splat = list.splats[list.entries[k]];
    const F red = set(splat.colour[0]), green = set(splat.colour[1]), blue = set(splat.colour[2]);
    const F depth = set(splat.depth), opacity = set(splat.opacity);
    const auto blend = [&](int at, F alpha, M valid) {
      alpha = least(alpha, alpha_max);
      const F before = load(T + at), after = subtract_product(before, alpha, before);
      const M finished = less(after, threshold);
      const F w = keep(first_only(valid, finished), mul(alpha, before));
      store(sums[0] + at, fma(w, red, load(sums[0] + at)));
      store(sums[1] + at, fma(w, green, load(sums[1] + at)));
      store(sums[2] + at, fma(w, blue, load(sums[2] + at)));
      store(sums[3] + at, fma(w, depth, load(sums[3] + at)));
      store(sums[4] + at, add(w, load(sums[4] + at)));
      // A finished pixel keeps its transmittance with the sign turned.
      const F next = select(finished, sub(set(0.0f), magnitude(before)), after);
      store(T + at, select(valid, next, before));
    };
    if (splat.straddles) {
      const GmCut& cut = list.cuts[list.entries[k]];
      splat_groups(splat, left, top, live, [&](int at, F X, float Y, F q, M inside) {
        F density;
        const auto ray = gm_cut_ray<Lanes>(splat, cut, view, sub(X, set(splat.shear * Y)), Y);
        const F fraction = splat_kept(ray.z, &density);
        const F alpha = mul(mul(opacity, exp_minus_half<3>(q)), fraction);
        blend(at, alpha, first_only(inside, less(alpha, alpha_min)));
      });
    } else {
      splat_groups(splat, left, top, live,
                   [&](int at, F, float, F q, M inside) { blend(at, mul(opacity, exp_minus_half<3>(q)), inside); });
    }
  }
  const float* const background = scene.camera->background;
  for (int row = 0; row < kTile && top + row < scene.height; ++row)
    for (int x = 0; x < kTile && left + x < scene.width; ++x) {
      const int at = row * kTile + x;
      const int64_t pixel = static_cast<int64_t>(top + row) * scene.width + left + x;
      const float through = fabsf(T[at]), alpha = sums[4][at];  // 1 - through would cancel
      for (int c = 0; c < 3; ++c) out.image[3 * pixel + c] = sums[c][at] + through * background[c];
      out.alpha[pixel] = alpha;
      out.depth[pixel] = alpha > 0.0f ? sums[3][at] / alpha : 0.0f;
    }
}

static void splat_pull(const SplatScene& scene, const SplatList& list, int left, int top,
                       const SplatImageGradients& images, const int32_t* destinations, int stride, float* records) {
  alignas(64) float T[kTilePixels], rest[kTilePixels], pulls[6][kTilePixels];
  memset(rest, 0, sizeof rest);
  memset(pulls, 0, sizeof pulls);
  unsigned live = splat_start(scene, left, top, T);
  const GmCamera& camera = *scene.camera;
  for (int row = 0; row < kTile && top + row < scene.height; ++row)
    for (int x = 0; x < kTile && left + x < scene.width; ++x) {
      const int at = row * kTile + x;
      const int64_t pixel = static_cast<int64_t>(top + row) * scene.width + left + x;
      float gradient[5];
      rest[at] = gm_splat_pull(camera, images.image + 3 * pixel, images.alpha[pixel], images.grad_image + 3 * pixel,
                               images.grad_alpha[pixel], images.grad_depth[pixel], gradient);
      for (int c = 0; c < 5; ++c) pulls[c][at] = gradient[c];
      pulls[5][at] = images.depth[pixel];
    }
  const GmCutView view = gm_cut_view(camera);
  const F zero = set(0.0f), one = set(1.0f), threshold = set(kTransmittanceMin);
  const F alpha_max = set(kAlphaMax), alpha_min = set(kAlphaMin);
  for (int k = 0; k < list.count; ++k) {
    if (k % kSplatCheck == 0 && k > 0 && live) live = splat_live_rows(T, live);
    if (k + 4 < list.count) prefetch(list.splats + list.entries[k + 4]);
    const GmSplat& splat = list.splats[list.entries[k]];
    const F q_max = set(splat.q_max);  // 0 times what lies beyond must be 0
    float* const record = records + static_cast<int64_t>(destinations[k]) * stride;
    F s[kSplatCutSums];
    const int used = splat.straddles ? kSplatCutSums : kSplatSums;
    for (int i = 0; i < used; ++i) s[i] = zero;
    const F red = set(splat.colour[0]), green = set(splat.colour[1]), blue = set(splat.colour[2]);
    const F depth = set(splat.depth), opacity = set(splat.opacity);
    // Adds the group's share of the sums; returns dL/dalpha (of the alpha before its upper limit), 0 where there is
    // none.
    const auto pull = [&](int at, F X, float Y, F raw, M valid) {
      const F alpha = least(raw, alpha_max);
      const F before = load(T + at), after = subtract_product(before, alpha, before);
      const M finished = less(after, threshold), adds = first_only(valid, finished);
      const F w = keep(adds, mul(alpha, before));
      const F g0 = load(pulls[0] + at), g1 = load(pulls[1] + at), g2 = load(pulls[2] + at), g3 = load(pulls[3] + at);
      const F worth =
          fma(g0, red, fma(g1, green, fma(g2, blue, fma(g3, sub(depth, load(pulls[5] + at)), load(pulls[4] + at)))));
      const F behind = subtract_product(w, worth, load(rest + at));
      store(rest + at, behind);
      const F next = select(finished, sub(zero, magnitude(before)), after);
      store(T + at, select(valid, next, before));
      s[kSplatRed] = fma(w, g0, s[kSplatRed]);
      s[kSplatGreen] = fma(w, g1, s[kSplatGreen]);
      s[kSplatBlue] = fma(w, g2, s[kSplatBlue]);
      s[kSplatDepth] = fma(w, g3, s[kSplatDepth]);
      const F slope = keep(both(adds, less(raw, alpha_max)), sub(mul(before, worth), div(behind, sub(one, alpha))));
      const F f = mul(slope, raw), fX = mul(f, X), y = set(Y), fY = mul(f, y);
      s[kSplatF] = add(s[kSplatF], f);
      s[kSplatX] = add(s[kSplatX], fX);
      s[kSplatY] = add(s[kSplatY], fY);
      s[kSplatXX] = fma(fX, X, s[kSplatXX]);
      s[kSplatXY] = fma(fX, y, s[kSplatXY]);
      s[kSplatYY] = fma(fY, y, s[kSplatYY]);
      return slope;
    };
    if (live && splat.straddles) {
      const GmCut& cut = list.cuts[list.entries[k]];
      splat_groups(splat, left, top, live, [&](int at, F X, float Y, F q, M inside) {
        const auto r = gm_cut_ray<Lanes>(splat, cut, view, sub(X, set(splat.shear * Y)), Y);
        F density;
        const F fraction = splat_kept(r.z, &density);
        const F whole = mul(opacity, exp_minus_half<3>(least(q, q_max))), alpha = mul(whole, fraction);
        const F slope = pull(at, X, Y, alpha, first_only(inside, less(alpha, alpha_min)));
        const F gz = keep(less(magnitude(r.z), set(kPhiEnd)), mul(mul(slope, whole), density));
        gm_cut_gradient<Lanes>(splat, cut, view, r, gz, s);
      });
    } else if (live) {
      splat_groups(splat, left, top, live, [&](int at, F X, float Y, F q, M inside) {
        pull(at, X, Y, mul(opacity, exp_minus_half<3>(least(q, q_max))), inside);
      });
    }
    for (int i = 0; i < used; i += 7) {
      float total[8];
      const auto part = [&](int j) { return i + j < used ? s[i + j] : zero; };
      sum8(part(0), part(1), part(2), part(3), part(4), part(5), part(6), total);
      for (int j = 0; j < 7 && i + j < used; ++j) record[i + j] = total[j];
    }
  }
}

static int splat_place(const SplatScene& scene, int64_t first, int count, GmSplat* splats, GmCut* cuts, float* radii) {
  int placed = 0;
  for (int i = 0; i < count; ++i) {
    const int64_t n = first + i;
    float radius = 0.0f;
    GmCut cut;
    GmSplat& splat = splats[placed];
    radii[i] = 0.0f;
    if (!gm_splat_place(*scene.camera, scene.width, scene.height, scene.means + 3 * n, scene.quaternions + 4 * n,
                        scene.scales + 3 * n, scene.opacities[n], &splat, &cut, &radius))
      continue;
    float direction[3], basis[16];
    gm_splat_direction(*scene.camera, scene.means + 3 * n, direction);
    gm_sh_basis(direction, scene.coefficients, basis);
    if (!gm_splat_colour(basis, scene.sh + 3 * scene.coefficients * n, scene.coefficients, splat.colour)) continue;
    splat.index = static_cast<int>(n);
    if (splat.straddles) cuts[placed] = cut;
    radii[i] = radius;
    ++placed;
  }
  return placed;
}

static void splat_chain(const SplatScene& scene, const GmSplat* splats, int count, const int32_t* starts,
                        const int32_t* counts, int stride, const float* records, const SplatGradients& out) {
  for (int k = 0; k < count; ++k) {
    const GmSplat& splat = splats[k];
    const int64_t n = splat.index;
    const int used = splat.straddles ? kSplatCutSums : kSplatSums;
    float sums[kSplatCutSums] = {};
    for (int e = 0; e < counts[k]; ++e) {
      const float* const record = records + (static_cast<int64_t>(starts[k]) + e) * stride;
      for (int i = 0; i < used; ++i) sums[i] += record[i];
    }
    GmSplatGradient g;
    gm_splat_chain(*scene.camera, scene.width, scene.height, scene.means + 3 * n, scene.quaternions + 4 * n,
                   scene.scales + 3 * n, scene.opacities[n], splat.straddles, sums, &g);
    const int64_t first = 3 * scene.coefficients * n;
    gm_splat_colour_chain(*scene.camera, scene.means + 3 * n, scene.sh + first, scene.coefficients, sums + kSplatRed,
                          out.sh + first, g.mean);
    memcpy(out.means + 3 * n, g.mean, sizeof g.mean);
    memcpy(out.quaternions + 4 * n, g.quaternion, sizeof g.quaternion);
    memcpy(out.scales + 3 * n, g.scale, sizeof g.scale);
    memcpy(out.screen + 2 * n, g.screen, sizeof g.screen);
    out.opacities[n] = g.opacity;
  }
}

const SplatKernels splat_kernels = {splat_place, splat_draw, splat_pull, splat_chain};

}  // namespace GM_ISA
