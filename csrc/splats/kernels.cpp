// Tiles of splats, compiled for each instruction set: drawing, and the sums of the gradient.
#include "splats/kernels.h"

#include <string.h>

#include "splats/cut_math.h"
#include "support/simd_functions.h"

namespace GM_ISA {

constexpr int kSplatCheck = 16;  // splats between two looks at which blocks are finished
constexpr int kSplatAhead = 4;   // splats whose colours are fetched ahead

// The pixels of a tile lie in memory block by block, one vector each; the blocks column by column. A splat's ellipse
// meets fewer blocks that are nearly square than rows of as many pixels.
constexpr int kBlockWidth = kLanes >= 8 ? 4 : kLanes >= 4 ? 2 : 1, kBlockHeight = kLanes / kBlockWidth;
constexpr int kBlockRows = kTile / kBlockHeight, kBlocks = kTilePixels / kLanes;
constexpr int kBands = kBlockRows > kLanes ? kBlockRows / kLanes : 1;  // vectors that hold all rows of blocks
constexpr int kMaskWords = (kBlocks + 63) / 64;

struct TilePlaces {  // in the tile: of each pixel, and of each block's first pixel
  alignas(64) float x[kTilePixels], y[kTilePixels], block_x[kBlocks], block_y[kBlocks];
  constexpr TilePlaces() : x(), y(), block_x(), block_y() {
    for (int block = 0; block < kBlocks; ++block) {
      const int left = block / kBlockRows * kBlockWidth, top = block % kBlockRows * kBlockHeight;
      block_x[block] = static_cast<float>(left);
      block_y[block] = static_cast<float>(top);
      for (int lane = 0; lane < kLanes; ++lane) {
        x[block * kLanes + lane] = static_cast<float>(left + lane % kBlockWidth);
        y[block * kLanes + lane] = static_cast<float>(top + lane / kBlockWidth);
      }
    }
  }
};
static constexpr TilePlaces kPlaces;

struct BlockMask {  // one bit a block
  uint64_t words[kMaskWords];
  // False if no bit is left.
  bool any() const {
    uint64_t all = 0;
    for (const uint64_t word : words) all |= word;
    return all != 0;
  }
};

// Blocks of the tile in which some pixel still lets light through.
static inline BlockMask splat_live(const float* transmittance) {
  BlockMask live = {};
  for (int block = 0; block < kBlocks; ++block)
    if (any(less(set(0.0f), load(transmittance + block * kLanes)))) live.words[block / 64] |= uint64_t{1} << block % 64;
  return live;
}

// Calls each(at, pixel) for every pixel of the tile that is in the image; at is its place in the tile's memory.
template <typename Each>
static inline void splat_pixels(const SplatScene& scene, int left, int top, const Each& each) {
  for (int at = 0; at < kTilePixels; ++at) {
    const int x = left + static_cast<int>(kPlaces.x[at]), y = top + static_cast<int>(kPlaces.y[at]);
    if (x < scene.width && y < scene.height) each(at, static_cast<int64_t>(y) * scene.width + x);
  }
}

// Transmittance 1 within the image, 0 (finished) outside of it.
static inline BlockMask splat_start(const SplatScene& scene, int left, int top, float* transmittance) {
  memset(transmittance, 0, kTilePixels * sizeof(float));
  splat_pixels(scene, left, top, [&](int at, int64_t) { transmittance[at] = 1.0f; });
  return splat_live(transmittance);
}

// Phi at z, and its density there.
static inline F splat_kept(F z, F* density) {
  return normal_distribution(most(least(z, set(kPhiEnd)), set(-kPhiEnd)), density);
}

// Which blocks the ellipse q < q_max meets: along each row of blocks it lies between its leftmost and its rightmost
// point there.
static inline BlockMask splat_meets(const GmSplat& splat, float left, float top) {
  const float x0 = left + 0.5f - splat.x, y0 = top + 0.5f - splat.y;
  const float turn = -splat.shear * splat.q_max / (splat.D * splat.half_x);  // y of the ellipse's rightmost point
  const F zero = set(0.0f), margin = set(0.01f);                             // keeps rounding out
  const F q_max = set(splat.q_max), D = set(splat.D), over_A = set(1.0f / splat.A), shear = set(splat.shear);
  F first[kBands], last[kBands];  // of a block's first pixel
  for (int band = 0; band < kBands; ++band) {
    const F low = add(load(kPlaces.block_y + band * kLanes), set(y0)), high = add(low, set(kBlockHeight - 1.0f));
    const auto within = [&](float y) { return least(most(set(y), low), high); };
    const auto square = [&](F y) { return subtract_product(mul(y, y), D, q_max); };
    const auto reach = [&](F y) { return add(root(mul(most(square(y), zero), over_A)), margin); };
    const F y_right = within(turn), y_left = within(-turn);
    const F rightmost = subtract_product(shear, y_right, reach(y_right));
    const F leftmost = sub(sub(zero, mul(shear, y_left)), reach(y_left));
    // Beyond the ellipse's top and bottom there is no place for a block.
    const M met = less(sub(zero, margin), square(within(0.0f)));
    first[band] = sub(leftmost, set(x0 + kBlockWidth - 1.0f));
    last[band] = select(met, sub(rightmost, set(x0)), set(-1.0f));
  }
  BlockMask mask = {};
  for (int block = 0; block < kBlocks; block += kLanes) {
    const F x = load(kPlaces.block_x + block);
    const int band = block / kLanes % kBands;
    const M met = both(less(first[band], x), less(x, last[band]));
    mask.words[block / 64] |= static_cast<uint64_t>(bits(met)) << block % 64;
  }
  return mask;
}

// What the kSplatCheck splats from k on meet of `live`. Together, since each by itself is a chain of roots and
// divisions that its pixels would wait for.
static inline void splat_meets_some(const SplatList& list, int k, int left, int top, const BlockMask& live,
                                    BlockMask* meets) {
  for (int i = k + kSplatCheck; i < k + 2 * kSplatCheck && i < list.count; ++i) prefetch(list.splats + list.entries[i]);
  for (int i = k; i < k + kSplatCheck && i < list.count; ++i) {
    BlockMask& mask = meets[i - k];
    mask = splat_meets(list.splats[list.entries[i]], static_cast<float>(left), static_cast<float>(top));
    for (int word = 0; word < kMaskWords; ++word) mask.words[word] &= live.words[word];
  }
}

// Calls each(at, X, Y, q, inside) for every block that the splat meets.
template <typename Each>
static inline void splat_blocks(const GmSplat& splat, int left, int top, const BlockMask& meets, const Each& each) {
  const float x0 = static_cast<float>(left) + 0.5f - splat.x, y0 = static_cast<float>(top) + 0.5f - splat.y;
  const F q_max = set(splat.q_max), A = set(splat.A), D = set(splat.D), shear = set(splat.shear);
  const F origin_x = set(x0), origin_y = set(y0);
  for (int word = 0; word < kMaskWords; ++word)
    for (uint64_t left_over = meets.words[word]; left_over; left_over &= left_over - 1) {
      const int at = (64 * word + lowest_bit(left_over)) * kLanes;
      const F Y = add(load(kPlaces.y + at), origin_y);
      const F X = fma(shear, Y, add(load(kPlaces.x + at), origin_x));
      const F q = fma(mul(X, A), X, mul(mul(Y, D), Y));
      each(at, X, Y, q, less(q, q_max));
    }
}

static void splat_draw(const SplatScene& scene, const SplatList& list, int left, int top, const SplatImages& out) {
  alignas(64) float T[kTilePixels], sums[5][kTilePixels];
  memset(sums, 0, sizeof sums);
  BlockMask live = splat_start(scene, left, top, T);
  const GmCutView view = gm_cut_view(*scene.camera);
  const F threshold = set(kTransmittanceMin), alpha_max = set(kAlphaMax), alpha_min = set(kAlphaMin);
  BlockMask meets[kSplatCheck];
  for (int k = 0; k < list.count; ++k) {
    if (k % kSplatCheck == 0) {
      if (k > 0 && !(live = splat_live(T)).any()) break;
      splat_meets_some(list, k, left, top, live, meets);
    }
    const GmSplat& splat = list.splats[list.entries[k]];
    const F red = set(splat.colour[0]), green = set(splat.colour[1]), blue = set(splat.colour[2]);
    const F depth = set(splat.depth), opacity = set(splat.opacity);
    const auto blend = [&](int at, F raw, M valid) {
      const F alpha = keep(valid, least(raw, alpha_max));
      const F before = load(T + at), after = subtract_product(before, alpha, before);
      const M finished = less(after, threshold);  // now or earlier
      const F w = drop(finished, mul(alpha, before));
      store(sums[0] + at, fma(w, red, load(sums[0] + at)));
      store(sums[1] + at, fma(w, green, load(sums[1] + at)));
      store(sums[2] + at, fma(w, blue, load(sums[2] + at)));
      store(sums[3] + at, fma(w, depth, load(sums[3] + at)));
      store(sums[4] + at, add(w, load(sums[4] + at)));
      // A finished pixel keeps its transmittance with the sign turned.
      store(T + at, select(finished, sub(set(0.0f), magnitude(before)), after));
    };
    if (splat.straddles) {
      const GmCut& cut = list.cuts[list.entries[k]];
      const F shear = set(splat.shear);
      splat_blocks(splat, left, top, meets[k % kSplatCheck], [&](int at, F X, F Y, F q, M inside) {
        F density;
        const auto ray = gm_cut_ray<Lanes>(splat, cut, view, subtract_product(shear, Y, X), Y);
        const F fraction = splat_kept(ray.z, &density);
        const F alpha = mul(mul(opacity, exp_minus_half<3>(q)), fraction);
        blend(at, alpha, first_only(inside, less(alpha, alpha_min)));
      });
    } else {
      splat_blocks(splat, left, top, meets[k % kSplatCheck],
                   [&](int at, F, F, F q, M inside) { blend(at, mul(opacity, exp_minus_half<3>(q)), inside); });
    }
  }
  const float* const background = scene.camera->background;
  splat_pixels(scene, left, top, [&](int at, int64_t pixel) {
    const float through = fabsf(T[at]), alpha = sums[4][at];  // 1 - through would cancel
    for (int c = 0; c < 3; ++c) out.image[3 * pixel + c] = sums[c][at] + through * background[c];
    out.alpha[pixel] = alpha;
    out.depth[pixel] = alpha > 0.0f ? sums[3][at] / alpha : 0.0f;
  });
}

static void splat_pull(const SplatScene& scene, const SplatList& list, int left, int top,
                       const SplatImageGradients& images, const int32_t* destinations, int stride, float* records) {
  alignas(64) float T[kTilePixels], rest[kTilePixels], pulls[6][kTilePixels];
  memset(rest, 0, sizeof rest);
  memset(pulls, 0, sizeof pulls);
  BlockMask live = splat_start(scene, left, top, T);
  const GmCamera& camera = *scene.camera;
  splat_pixels(scene, left, top, [&](int at, int64_t pixel) {
    float gradient[5];
    rest[at] = gm_splat_pull(camera, images.image + 3 * pixel, images.alpha[pixel], images.grad_image + 3 * pixel,
                             images.grad_alpha[pixel], images.grad_depth[pixel], gradient);
    for (int c = 0; c < 5; ++c) pulls[c][at] = gradient[c];
    pulls[5][at] = images.depth[pixel];
  });
  const GmCutView view = gm_cut_view(camera);
  const F zero = set(0.0f), one = set(1.0f), threshold = set(kTransmittanceMin);
  const F alpha_max = set(kAlphaMax), alpha_min = set(kAlphaMin);
  BlockMask meets[kSplatCheck];
  bool lit = live.any();
  for (int k = 0; k < list.count; ++k) {
    if (k % kSplatCheck == 0 && lit) {
      if (k > 0) lit = (live = splat_live(T)).any();
      splat_meets_some(list, k, left, top, live, meets);
    }
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
    const auto pull = [&](int at, F X, F Y, F raw, M valid) {
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
      const F f = mul(slope, raw), fX = mul(f, X), fY = mul(f, Y);
      s[kSplatF] = add(s[kSplatF], f);
      s[kSplatX] = add(s[kSplatX], fX);
      s[kSplatY] = add(s[kSplatY], fY);
      s[kSplatXX] = fma(fX, X, s[kSplatXX]);
      s[kSplatXY] = fma(fX, Y, s[kSplatXY]);
      s[kSplatYY] = fma(fY, Y, s[kSplatYY]);
      return slope;
    };
    if (lit && splat.straddles) {
      const GmCut& cut = list.cuts[list.entries[k]];
      const F shear = set(splat.shear);
      splat_blocks(splat, left, top, meets[k % kSplatCheck], [&](int at, F X, F Y, F q, M inside) {
        const auto r = gm_cut_ray<Lanes>(splat, cut, view, subtract_product(shear, Y, X), Y);
        F density;
        const F fraction = splat_kept(r.z, &density);
        const F whole = mul(opacity, exp_minus_half<3>(least(q, q_max))), alpha = mul(whole, fraction);
        const F slope = pull(at, X, Y, alpha, first_only(inside, less(alpha, alpha_min)));
        const F gz = keep(less(magnitude(r.z), set(kPhiEnd)), mul(mul(slope, whole), density));
        gm_cut_gradient<Lanes>(splat, cut, view, r, gz, s);
      });
    } else if (lit) {
      splat_blocks(splat, left, top, meets[k % kSplatCheck], [&](int at, F X, F Y, F q, M inside) {
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

// gm_splat_colour, three colours and a spare in one vector: of 16 coefficients in six tenths of its time. CUDA, whose
// threads have no vectors, and the gradient's chain have the plain one.
template <int Count>
static inline bool splat_colour(const float* basis, const float* sh, float* colour) {
  Quad sums[4] = {set4(0.5f), set4(0.0f), set4(0.0f), set4(0.0f)};
  for (int k = 0; k + 1 < Count; ++k) sums[k % 4] = fma4(set4(basis[k]), load4(sh + 3 * k), sums[k % 4]);
  float parts[4][4];
  for (int k = 0; k < 4; ++k) store4(parts[k], sums[k]);
  bool finite = true;
  for (int i = 0; i < 3; ++i) {
    // No fourth float lies behind the last coefficient.
    const float last = basis[Count - 1] * sh[3 * Count - 3 + i];
    const float sum = (parts[0][i] + parts[1][i]) + (parts[2][i] + parts[3][i]) + last;
    colour[i] = sum > 0.0f ? sum : 0.0f;
    finite = finite && fabsf(sum) < 3e38f;
  }
  return finite;
}

// The splats [first, first + count), kLanes at most, placed; bit i: splat first + i can be seen.
static inline unsigned splat_shapes(const SplatScene& scene, int64_t first, int count, GmSplatShape<Wide>* out) {
  alignas(64) float given[11][kLanes];
  for (int i = 0; i < kLanes; ++i) {
    const int64_t n = first + (i < count ? i : count - 1);
    for (int k = 0; k < 3; ++k) given[k][i] = scene.means[3 * n + k];
    for (int k = 0; k < 4; ++k) given[3 + k][i] = scene.quaternions[4 * n + k];
    for (int k = 0; k < 3; ++k) given[7 + k][i] = scene.scales[3 * n + k];
    given[10][i] = scene.opacities[n];
  }
  Wide wide[11];
  for (int k = 0; k < 11; ++k) wide[k] = load(given[k]);
  const auto seen = gm_splat_shape(*scene.camera, scene.width, scene.height, wide, wide + 3, wide + 7, wide[10], out);
  return bits(seen.m) & ((1u << count) - 1u);
}

template <int Count>
static int splat_place_as(const SplatScene& scene, int64_t first, int count, GmSplat* splats, GmCut* cuts,
                          float* radii) {
  int placed = 0;
  for (int i = 0; i < count; i += kLanes) {
    GmSplatShape<Wide> shapes;
    const int lanes = count - i < kLanes ? count - i : kLanes;
    const unsigned seen = splat_shapes(scene, first + i, lanes, &shapes), straddles = bits(shapes.straddles.m);
    alignas(64) float place[kPlaceNumbers][kLanes], cut[kCutNumbers][kLanes], radius[kLanes];
    for (int k = 0; k < kPlaceNumbers; ++k) store(place[k], shapes.place[k].v);
    for (int k = 0; k < kCutNumbers && straddles; ++k) store(cut[k], shapes.cut[k].v);
    store(radius, shapes.radius.v);
    for (int lane = 0; lane < lanes; ++lane) {
      const int64_t n = first + i + lane;
      const float* const sh = scene.sh + 3 * Count * n;
      for (int line = 0; line < 3 * Count; line += 16) prefetch(sh + 3 * Count * kSplatAhead + line);
      radii[i + lane] = 0.0f;
      if (!(seen >> lane & 1u)) continue;
      float direction[3], basis[16], numbers[kPlaceNumbers], cut_numbers[kCutNumbers];
      gm_splat_direction(*scene.camera, scene.means + 3 * n, direction);
      gm_sh_basis(direction, Count, basis);
      GmSplat& splat = splats[placed];
      if (!splat_colour<Count>(basis, sh, splat.colour)) continue;
      for (int k = 0; k < kPlaceNumbers; ++k) numbers[k] = place[k][lane];
      memcpy(&splat, numbers, sizeof numbers);
      splat.straddles = straddles >> lane & 1u;
      splat.index = static_cast<int>(n);
      if (splat.straddles) {
        for (int k = 0; k < kCutNumbers; ++k) cut_numbers[k] = cut[k][lane];
        memcpy(cuts + placed, cut_numbers, sizeof cut_numbers);
      }
      radii[i + lane] = radius[lane];
      ++placed;
    }
  }
  return placed;
}

static int splat_place(const SplatScene& scene, int64_t first, int count, GmSplat* splats, GmCut* cuts, float* radii) {
  const auto place = scene.coefficients == 1   ? splat_place_as<1>
                     : scene.coefficients == 4 ? splat_place_as<4>
                     : scene.coefficients == 9 ? splat_place_as<9>
                                               : splat_place_as<16>;
  return place(scene, first, count, splats, cuts, radii);
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
