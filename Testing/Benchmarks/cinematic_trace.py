"""Speed and noise of the path tracer on the shared scans: `python -m Testing.Benchmarks.cinematic_trace`.

The head is the Visible Human's (public/texture of GalMunGral/visible-human-volume, 234 slices of 512 x 512), its grey
values taken as HU = 16 grey - 1000 and its voxels as 1 mm, as the folder's description suggests.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
#: Head without the table it lies on, RAS mm.
HEAD_ROI = ((-95.0, -150.0, 12.0), (95.0, 125.0, 240.0))


def visible_human(archive: Path) -> tuple[np.ndarray, np.ndarray]:
    """The head as HU (234, 512, 512) int16 and its ijk_to_ras; rows run backwards, columns leftwards."""
    from PIL import Image

    slices = []
    with tarfile.open(archive) as content:
        for member in sorted(content.getmembers(), key=lambda m: m.name):
            file = content.extractfile(member) if member.name.endswith(".png") else None
            if file is not None:
                slices.append(np.asarray(Image.open(file)))
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix[:2, 3] = 256
    return np.stack(slices).astype(np.int16) * 16 - 1000, matrix


def measure(size: int, samples: int, threads: int) -> list[dict[str, Any]]:
    """Wall and processor seconds of each view."""
    import torch

    from GaussianMRILib.cinematic.clip import ClipPlane
    from GaussianMRILib.cinematic.presets import find_preset
    from GaussianMRILib.cinematic.tracer import PathTracer

    torch.set_num_threads(threads)
    volume, matrix = visible_human(SHARED / "ct" / "visible_human_head_neck_ct_png.tar.xz")
    rows = []
    for name in ("CT soft tissue", "CT bone"):
        start = time.perf_counter()
        tracer = PathTracer(volume, matrix, find_preset(name), HEAD_ROI)
        prepare = time.perf_counter() - start
        cut = ClipPlane.from_point(tracer.centre, (1.0, 0.15, 0.0))
        camera = tracer.camera(-60, 12, size, zoom=1.5)
        for what, clips in (("cut", [cut]), ("whole", [])):
            wall, processor = time.perf_counter(), time.process_time()
            render = tracer.render(camera, clips, samples)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            inside = render.alpha > 0.9
            rows.append(
                {
                    "preset": name, "view": what, "size": size, "samples": samples, "threads": threads,
                    "prepare_s": prepare, "wall_s": wall, "processor_s": processor, "covered": float(render.alpha.mean()),
                    "noise": float((render.noise / render.radiance.mean(axis=-1).clip(1e-6))[inside].mean()),
                }
            )  # fmt: skip
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="a quarter of the samples")
    options = parser.parse_args()
    if not (SHARED / "README.md").is_file():
        print("needs the shared public scans in ../shared/data", file=sys.stderr)
        return 1
    rows = measure(256, options.samples // (4 if options.quick else 1), options.threads)
    print(f"{'preset':16} {'view':6} {'wall s':>7} {'cpu s':>7} {'covered':>8} {'noise':>6} {'prepare s':>9}")
    for row in rows:
        print(
            f"{row['preset']:16} {row['view']:6} {row['wall_s']:7.2f} {row['processor_s']:7.2f} "
            f"{row['covered']:8.2f} {row['noise']:6.3f} {row['prepare_s']:9.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
