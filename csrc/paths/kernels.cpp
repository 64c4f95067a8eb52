// Path tracing of a block of pixels, and cut faces of a row, compiled for each instruction set, with GM_ISA naming it.
#include "paths/kernels.h"

#include "paths/face_math.h"
#include "support/simd_functions.h"

namespace GM_ISA {

constexpr int kFaceSpan = 16;  // rays of a row that are clipped together

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pairs of voxels are read as one number, the first in its low half"
#endif

// Rays that are walked together, one in each lane. Compilers make vectors of each loop over lanes but those that read
// the volume or the table. With fewer lanes each loop waits for the one before.
constexpr int kRays = 48;

struct Walks {
  // As in GmTraceWalk.
  float from[3][kRays], along[3][kRays], inverse[3][kRays], t[kRays], leave[kRays], tau[kRays];
  unsigned key[kRays], tries[kRays];
  int cell[3][kRays];
  // How the last step ended: kTraceTries with a collision, kTraceCrosses with none yet.
  int ended[kRays];

  void put(int n, const GmTraceWalk& walk) {
    for (int a = 0; a < 3; ++a) {
      from[a][n] = walk.ray.from[a], along[a][n] = walk.ray.along[a], inverse[a][n] = walk.ray.inverse[a];
      cell[a][n] = walk.cell[a];
    }
    t[n] = walk.t, leave[n] = walk.leave, tau[n] = walk.tau, key[n] = walk.key, tries[n] = walk.tries;
  }

  GmTraceWalk get(int n) const {
    GmTraceWalk walk;
    for (int a = 0; a < 3; ++a) {
      walk.ray.from[a] = from[a][n], walk.ray.along[a] = along[a][n], walk.ray.inverse[a] = inverse[a][n];
      walk.cell[a] = cell[a][n];
    }
    walk.t = t[n], walk.leave = leave[n], walk.tau = tau[n], walk.key = key[n], walk.tries = tries[n];
    return walk;
  }

  // A step of each, as in gm_trace_collide.
  void step(const GmTraceScene& s, const GmTraceVolume& v) {
    // Copies: the compiler cannot know that nothing here is written into the scene.
    const int cells[3] = {s.cells[0], s.cells[1], s.cells[2]}, size[3] = {s.size[0], s.size[1], s.size[2]};
    const float scale = s.value_scale;
    float majorant[kRays], part[3][kRays], extinction[kRays];
    int skip[kRays], below[3][kRays], pairs[4][kRays], level[kRays];
    for (int n = 0; n < kRays; ++n) {
      const int at[3] = {cell[0][n], cell[1][n], cell[2][n]};
      const int64_t index = gm_trace_cell(s, at);
      majorant[n] = v.majorants[index], skip[n] = v.skips[index];
    }
    for (int n = 0; n < kRays; ++n) {
      GmTraceWalk walk = get(n);
      const int end = gm_trace_step(cells, majorant[n], skip[n], &walk);
      float at[3], beyond[3];
      gm_trace_near(walk.ray, walk.t, gm_trace_bits(walk), at);
      for (int a = 0; a < 3; ++a) {
        const int voxel = gm_trace_below(at[a], size[a], beyond + a);
        below[a][n] = end == kTraceTries ? voxel : 0;  // what is not asked for need not be fetched
        part[a][n] = beyond[a], cell[a][n] = walk.cell[a];
      }
      t[n] = walk.t, tau[n] = walk.tau, ended[n] = end;
    }
    const int64_t row = size[0], slice = size[1] * row;
    for (int n = 0; n < kRays; ++n) {
      const uint16_t* const near = v.values + below[2][n] * slice + below[1][n] * row + below[0][n];
      memcpy(&pairs[0][n], near, 4), memcpy(&pairs[1][n], near + row, 4);
      memcpy(&pairs[2][n], near + slice, 4), memcpy(&pairs[3][n], near + slice + row, 4);
    }
    for (int n = 0; n < kRays; ++n) {
      float rows[4];
      for (int k = 0; k < 4; ++k)
        rows[k] = gm_lerp((float)(pairs[k][n] & 0xffff), (float)((unsigned)pairs[k][n] >> 16), part[0][n]);
      const float near = gm_lerp(rows[0], rows[1], part[1][n]), far = gm_lerp(rows[2], rows[3], part[1][n]);
      level[n] = (int)(gm_lerp(near, far, part[2][n]) * scale + 0.5f);
    }
    for (int n = 0; n < kRays; ++n) extinction[n] = v.table[level[n]];
    for (int n = 0; v.gradients && n < kRays; ++n) {
      if (ended[n] != kTraceTries || extinction[n] == 0.0f) continue;
      const GmTraceWalk walk = get(n);
      float at[3];
      gm_trace_near(walk.ray, walk.t, gm_trace_bits(walk), at);
      extinction[n] *= gm_trace_factor(s, v, at);
    }
    for (int n = 0; n < kRays; ++n) {
      GmTraceWalk walk = get(n);
      const bool tried = ended[n] == kTraceTries, happens = gm_trace_happens(majorant[n], extinction[n], &walk);
      ended[n] = tried & !happens ? kTraceCrosses : ended[n];
      tau[n] = tried ? walk.tau : tau[n], tries[n] = tried ? walk.tries : tries[n];
    }
  }
};

// Each lane takes a pixel's samples in their order, then the next pixel that none has taken.
static void trace(const GmTraceScene& scene, const GmTraceVolume& volume, int column, int columns, int row, int rows,
                  uint32_t seed, int first, int count, float* sums) {
  const int pixels = columns * rows;
  Walks walks;
  GmTracePath paths[kRays];
  int pixel[kRays], sample[kRays], taken = 0, busy = 0;
  const auto begin = [&](int n) {  // the lane's next sample that meets something
    GmTraceWalk walk = {};
    for (; pixel[n] < pixels; pixel[n] = taken++, sample[n] = 0)
      while (sample[n] < count) {
        const int x = column + pixel[n] % columns, y = row + pixel[n] / columns;
        const uint32_t number = static_cast<uint32_t>(first + sample[n]++);
        if (gm_trace_begin(scene, x, y, seed, number, &paths[n], &walk)) {
          walks.put(n, walk);
          return true;
        }
      }
    walks.put(n, {});
    return false;
  };
  for (int n = 0; n < kRays; ++n) {
    pixel[n] = taken++, sample[n] = 0;
    busy += begin(n);
  }
  while (busy > 0) {
    walks.step(scene, volume);
    for (int n = 0; n < kRays; ++n) {
      if (walks.ended[n] == kTraceCrosses || pixel[n] >= pixels) continue;
      GmTraceWalk walk = walks.get(n);
      const int64_t place = static_cast<int64_t>(row + pixel[n] / columns) * scene.width + column + pixel[n] % columns;
      const bool met = walks.ended[n] == kTraceTries;
      if (gm_trace_arrive(scene, volume, met, &paths[n], &walk, sums + place * kTraceSums))
        walks.put(n, walk);
      else
        busy -= !begin(n);
    }
  }
}

// The curve of a screen, by a table: within 2e-5 of gm_trace_tone.
struct ScreenCurve {
  static constexpr int kSteps = 4096;
  float values[kSteps + 2];
  ScreenCurve() {
    for (int i = 0; i <= kSteps + 1; ++i) values[i] = gm_trace_screen(static_cast<float>(i) / kSteps);
  }
  float operator()(float y) const {
    const float place = y * kSteps;
    const int step = static_cast<int>(place);
    return gm_lerp(values[step], values[step + 1], place - static_cast<float>(step));
  }
};

// 1 - exp(-x) of kFaceSpan numbers from 0 on.
static inline void absorbed(float* x) {
  for (int i = 0; i < kFaceSpan; i += kLanes)
    store(x + i, sub(set(1.0f), exp_minus_half<4>(least(mul(load(x + i), set(2.0f)), set(22.0f)))));
}

// Rays next to each other in a row: directions are start + i step, i from 0.
struct FaceSpan {
  Vec3 start, step;
  float from[3], along[3], change[3];  // voxels of the eye; voxels per unit of ray 0, and what each ray adds to that
  alignas(64) float face[kFaceSpan], enter[kFaceSpan], leave[kFaceSpan];  // as gm_trace_clip has them

  FaceSpan(const GmTraceScene& s, float x, float y) : start(s.corner + x * s.right + y * s.down), step(s.right) {
    for (int a = 0; a < 3; ++a) {
      const float* const m = s.to_voxel + 4 * a;
      from[a] = gm_dot(m, s.eye) + m[3], along[a] = gm_dot(m, start), change[a] = gm_dot(m, step);
    }
    const F zero = set(0.0f);
    for (int i = 0; i < kFaceSpan; i += kLanes) {
      F in = zero, out = set(3.0e38f), through = set(-1.0f);
      for (int p = 0; p < s.planes; ++p) {
        const F room = set(gm_trace_room(s, p, from));
        const F rate = fma(add(load(kLaneNumbers), set(static_cast<float>(i))), set(gm_trace_rate(s, p, change)),
                           set(gm_trace_rate(s, p, along)));
        const F t = div(room, rate);
        const M leaves = less(zero, rate), enters = less(rate, zero), later = both(enters, less(in, t));
        out = select(leaves, least(out, t), out);
        in = select(later, t, in), through = select(later, set(static_cast<float>(p)), through);
        const M outside = first_only(first_only(less(room, set(1e-30f)), leaves), enters);
        out = select(outside, set(-1.0f), out);
      }
      store(face + i, through), store(enter + i, in), store(leave + i, out);
    }
  }

  Vec3 direction(float i) const { return start + i * step; }

  // Irradiance where the rays meet a plane: by a parabola through three of them where the light hardly bends.
  Vec3 irradiance(const GmTraceScene& s, const float* dome, int plane, int i) {
    if (plane != lit_) {
      lit_ = plane, bends_ = false;
      for (int k = 0; k < 3 && !bends_; ++k) {
        const float at = 0.5f * static_cast<float>(k * kFaceSpan);
        const float way[3] = {along[0] + at * change[0], along[1] + at * change[1], along[2] + at * change[2]};
        const float rate = gm_trace_rate(s, plane, way), room = gm_trace_room(s, plane, from);
        bends_ = !(rate < 0.0f && room < 0.0f);
        if (!bends_) lit_at_[k] = gm_trace_irradiance(s, dome, plane, s.eye + (room / rate) * direction(at));
      }
      if (!bends_) {
        bend_ = 2.0f * (lit_at_[0] + lit_at_[2] - 2.0f * lit_at_[1]);
        const Vec3 bound = 0.02f * lit_at_[1];
        bends_ = fabsf(bend_.x) > bound.x || fabsf(bend_.y) > bound.y || fabsf(bend_.z) > bound.z;
      }
    }
    const float t = static_cast<float>(i) / kFaceSpan;
    if (bends_) return gm_trace_irradiance(s, dome, plane, s.eye + enter[i] * direction(static_cast<float>(i)));
    return lit_at_[0] + t * (lit_at_[2] - lit_at_[0]) + (t * (t - 1.0f)) * bend_;
  }

 private:
  int lit_ = -1;
  bool bends_ = false;
  Vec3 lit_at_[3] = {}, bend_ = {};
};

static void trace_faces(const GmTraceScene& scene, const GmTraceVolume& volume, const float* dome, float exposure,
                        int side, int row, float* image, float* alpha, float* depth) {
  static const ScreenCurve curve;
  const float part = 1.0f / static_cast<float>(side), weight = part * part;
  for (int column = 0; column < scene.width; column += kFaceSpan) {
    const int count = scene.width - column < kFaceSpan ? scene.width - column : kFaceSpan;
    Vec3 colours[kFaceSpan] = {};
    float covers[kFaceSpan] = {}, far[kFaceSpan] = {};
    for (int ray = 0; ray < side * side; ++ray) {
      FaceSpan span(scene, static_cast<float>(column) + (static_cast<float>(ray % side) + 0.5f) * part,
                    static_cast<float>(row) + (static_cast<float>(ray / side) + 0.5f) * part);
      alignas(64) float cover[kFaceSpan] = {}, light[3][kFaceSpan] = {};
      bool any_face = false;
      for (int i = 0; i < count; ++i) {
        const int face = static_cast<int>(span.face[i]);
        const float enter = span.enter[i], lane = static_cast<float>(i);
        if (face < 0 || !(enter < span.leave[i])) continue;
        float along[3], at[3];
        for (int a = 0; a < 3; ++a) {
          along[a] = span.along[a] + lane * span.change[a];
          at[a] = span.from[a] + enter * along[a];
        }
        const Vec3 direction = span.direction(lane);
        const float length = sqrtf(gm_dot(direction, direction));
        Vec3 reflected;
        cover[i] = gm_trace_face_depth(scene, volume, at, along, length, span.leave[i] - enter, &reflected);
        if (cover[i] <= 0.0f) continue;
        const Vec3 seen = exposure * (reflected * span.irradiance(scene, dome, face, i));
        light[0][i] = seen.x, light[1][i] = seen.y, light[2][i] = seen.z;
        any_face = true;
      }
      if (!any_face) continue;
      absorbed(cover);
      for (int c = 0; c < 3; ++c) absorbed(light[c]);
      for (int i = 0; i < count; ++i) {
        const float share = weight * cover[i];
        if (share <= 0.0f) continue;
        colours[i] = colours[i] + share * Vec3{curve(light[0][i]), curve(light[1][i]), curve(light[2][i])};
        covers[i] += share, far[i] += share * span.enter[i];
      }
    }
    for (int i = 0; i < count; ++i) {
      const int64_t pixel = static_cast<int64_t>(row) * scene.width + column + i;
      gm_trace_face_over(colours[i], covers[i], far[i], image + 3 * pixel, alpha + pixel, depth + pixel);
    }
  }
}

const PathKernels path_kernels = {trace, trace_faces};

}  // namespace GM_ISA
