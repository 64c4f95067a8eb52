"""Speed of the path tracer and of cut faces on the shared scans: `python -m Testing.Benchmarks.cinematic_trace`.

The head is the Visible Human's (public/texture of GalMunGral/visible-human-volume, 234 slices of 512 x 512), its grey
values taken as HU = 16 grey - 1000 and its voxels as 1 mm, as the folder's description suggests.

The peer, with `--mitsuba`, is Mitsuba 3 (`pip install mitsuba`; variant llvm_ad_rgb, which needs libLLVM: 15
aborts, 19 works; DRJIT_LIBLLVM_PATH names it), timed with a few samples, as its time is linear in them: the same extinction
and albedo as grids of the same voxels, zero beyond the cut, the same camera, dome, lights and number of scatterings. Its
medium has particles only, no surfaces, and its cut is as smooth as voxels are, so its picture is darker; its delta tracking
has one majorant for the whole volume.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from .cinematic import HEAD, head_volume
from .stored import store

#: Samples per pixel that the peer is timed with.
PEER_SAMPLES = 2
#: Head without the table it lies on, RAS mm.
HEAD_ROI = ((-95.0, -150.0, 12.0), (95.0, 125.0, 240.0))


def measure(size: int, samples: int, threads: int, peer: bool) -> list[dict[str, Any]]:
    """Wall and processor seconds of each view."""
    import torch

    from GaussianMRILib.cinematic.clip import ClipPlane
    from GaussianMRILib.cinematic.looks import find_look
    from GaussianMRILib.cinematic.tracer import PathTracer

    torch.set_num_threads(threads)
    volume, matrix = head_volume()
    rows = []
    for name in ("CT soft tissue", "CT bone"):
        start = time.perf_counter()
        tracer = PathTracer(volume, matrix, find_look(name), roi=HEAD_ROI)
        prepare = time.perf_counter() - start
        cut = ClipPlane.from_point(tracer.centre, (1.0, 0.15, 0.0))
        camera = tracer.camera(azimuth=-60, elevation=12, size=size, zoom=1.5)
        for what, clips in (("cut", [cut]), ("whole", [])):
            wall, processor = time.perf_counter(), time.process_time()
            render = tracer.render(camera, clips=clips, samples=samples)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            inside = render.alpha > 0.9
            rows.append(
                {
                    "preset": name, "view": what, "size": size, "samples": samples, "threads": threads,
                    "prepare_s": prepare, "wall_s": wall, "processor_s": processor, "covered": float(render.alpha.mean()),
                    "noise": float((render.noise / render.radiance.mean(axis=-1).clip(1e-6))[inside].mean()),
                }
            )  # fmt: skip
            if peer and what == "cut" and name == "CT soft tissue":
                rows[-1]["mitsuba_s"] = mitsuba_seconds(tracer, camera, cut, samples, threads)
        rows[-2]["faces_processor_ms"] = faces_milliseconds(tracer, cut)
    return rows


def faces_milliseconds(tracer: Any, cut: Any, size: int = 512, repeats: int = 20) -> float:
    """Least processor time, ms, to paint the cut's face into a picture."""
    import torch

    from GaussianMRILib.cinematic.cut_face import CutFace

    face, camera = CutFace.of(tracer), tracer.camera(azimuth=-60, elevation=12, size=size, zoom=1.5)
    picture, times = (torch.zeros(size, size, 3), torch.zeros(size, size), torch.zeros(size, size)), []
    for _ in range(repeats):
        before = time.process_time()
        face.paint(*picture, camera=camera, plane=cut)
        times.append(time.process_time() - before)
    return 1e3 * min(times)


def mitsuba_seconds(tracer: Any, camera: Any, cut: Any, samples: int, threads: int) -> float:
    """Wall seconds of Mitsuba 3 for the same picture, its kernels compiled before; from those of `PEER_SAMPLES`."""
    import drjit
    import mitsuba

    drjit.set_thread_count(threads)
    mitsuba.set_variant("llvm_ad_rgb")
    scene = mitsuba.load_dict(mitsuba_scene(mitsuba, tracer, camera, cut))
    times = []
    for seed in range(2):
        start = time.perf_counter()
        np.asarray(mitsuba.render(scene, spp=PEER_SAMPLES, seed=seed))
        times.append(time.perf_counter() - start)
    return times[-1] * samples / PEER_SAMPLES


def mitsuba_scene(mitsuba: Any, tracer: Any, camera: Any, cut: Any) -> dict[str, Any]:
    """The tracer's volume, lights and camera; everything relative to the volume's middle, as in the tracer."""
    from GaussianMRILib.cinematic.tracer_volume import LEVELS

    volume, look = tracer._volume, tracer.look
    table = volume.table.numpy()
    level = (volume.values.numpy() * ((LEVELS - 1) / 65535) + 0.5).astype(np.int64)
    to_ras = volume.ijk_to_ras
    k, j, i = np.meshgrid(*(np.arange(n) for n in level.shape), indexing="ij")
    ras = np.stack([i, j, k], axis=-1) @ to_ras[:3, :3].T + to_ras[:3, 3]
    shown = ras @ cut.normal < cut.offset
    for plane in volume.rois:
        shown &= ras @ plane.normal < plane.offset
    extinction = table[:LEVELS][level] * shown
    albedo = table[LEVELS : 4 * LEVELS].reshape(-1, 3)[level]
    # Mitsuba's grids fill the unit cube, voxels' centres half a voxel from its sides.
    unit = np.eye(4)
    unit[:3, :3] = to_ras[:3, :3] * np.array(level.shape[::-1])
    unit[:3, 3] = to_ras[:3, 3] - to_ras[:3, :3] @ np.full(3, 0.5) - tracer.centre
    box = unit @ np.array([[0.5, 0, 0, 0.5], [0, 0.5, 0, 0.5], [0, 0, 0.5, 0.5], [0, 0, 0, 1]])
    world = mitsuba.ScalarTransform4f

    def grid(values: np.ndarray, raw: bool) -> dict[str, Any]:
        data = mitsuba.VolumeGrid(np.ascontiguousarray(values, dtype=np.float32))
        return {"type": "gridvolume", "grid": data, "to_world": world(unit), "raw": raw}

    camera_to_world = np.linalg.inv(camera.world_to_camera)
    camera_to_world[:3, 3] -= tracer.centre
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {
            "type": "volpath",
            "max_depth": look.scatterings + 1,
            "rr_depth": 1,
            "hide_emitters": True,
        },
        "sensor": {
            "type": "perspective",
            "fov": float(np.degrees(2 * np.arctan(camera.width / 2 / camera.fx))),
            "to_world": world(camera_to_world @ np.diag([-1.0, -1.0, 1.0, 1.0])),  # its x is left, its y up
            "film": {
                "type": "hdrfilm",
                "width": camera.width,
                "height": camera.height,
                "rfilter": {"type": "box"},
            },
        },
        "dome": {"type": "constant", "radiance": {"type": "rgb", "value": list(look.horizon)}},
        "volume": {
            "type": "cube",
            "to_world": world(box),
            "bsdf": {"type": "null"},
            "interior": {
                "type": "heterogeneous",
                "sigma_t": grid(extinction[..., None], True),
                "albedo": grid(albedo, True),
                "phase": {"type": "isotropic"},
            },
        },
    }
    for number, light in enumerate(look.lights):
        distance, half = light.distance * tracer.radius, light.size * tracer.radius / 2
        radiance = np.asarray(light.colour) * light.intensity * np.pi * distance**2 / (4 * half * half)
        scene[f"light{number}"] = {
            "type": "rectangle",
            "to_world": world().look_at((light.direction * distance).tolist(), [0, 0, 0], up=[0, 0, 1])
            @ world().scale(half),
            "emitter": {"type": "area", "radiance": {"type": "rgb", "value": radiance.tolist()}},
        }
    return scene


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="a quarter of the samples")
    parser.add_argument("--mitsuba", action="store_true", help="measure Mitsuba 3 as well: minutes")
    options = parser.parse_args()
    if not HEAD.is_file():
        print("needs the shared public scans in ../shared/data", file=sys.stderr)
        return 1
    rows = measure(256, options.samples // (4 if options.quick else 1), options.threads, options.mitsuba)
    print(f"{'look':16} {'view':6} {'wall s':>7} {'cpu s':>7} {'covered':>8} {'noise':>6} {'prepare s':>9}")
    for row in rows:
        print(
            f"{row['preset']:16} {row['view']:6} {row['wall_s']:7.2f} {row['processor_s']:7.2f} "
            f"{row['covered']:8.2f} {row['noise']:6.3f} {row['prepare_s']:9.2f}"
            + (f"; cut face at 512^2 {row['faces_processor_ms']:.1f} cpu ms" if "faces_processor_ms" in row else "")
            + (f"; Mitsuba 3 {row['mitsuba_s']:.1f} s" if "mitsuba_s" in row else "")
        )
    if options.json:
        store(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
