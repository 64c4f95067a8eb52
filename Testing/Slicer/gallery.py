"""The gallery of docs/cinematic.md, six public scans by the path tracer: `python Testing/Slicer/gallery.py`.

It needs the shared public scans in ../shared/data, and pyoidn, without which the pictures stay noisy.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import GaussianMRILib as gm  # noqa: E402
from GaussianMRILib.cinematic import ClipPlane, render_picture  # noqa: E402
from GaussianMRILib.cinematic.dataset import regular_volume  # noqa: E402
from Testing.Benchmarks.cinematic import SHARED, brain_volume, head_volume, heart_volume  # noqa: E402

Volume = tuple[Any, Any]


def fetal_volume() -> Volume:
    """A fetal brain, as its publishers reconstructed it from six thick-slice series."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(SHARED / "mr_multi" / "fetal_haste.tar.xz") as content:
            content.extract("fetal_haste/upstream_sr.nii.gz", folder, filter="data")
        return regular_volume(gm.read_stacks(Path(folder) / "fetal_haste" / "upstream_sr.nii.gz")[0])


def spine_volume() -> Volume:
    """A T2 of the thoracic and lumbar spine, 38 mm wide."""
    return regular_volume(gm.read_stacks(SHARED / "mr_spine" / "sct_lumbar_t2_1mm.nii.gz")[0])


def prostate_volume() -> Volume:
    """A pelvis, the axial T2 series as it was acquired: 0.5 x 0.5 x 3 mm."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(SHARED / "mr_multi" / "prostate_a.tar.xz") as content:
            content.extractall(folder, filter="data")
        return regular_volume(gm.read_stacks(Path(folder) / "prostate_a" / "ax_t2")[0])


@dataclass(frozen=True)
class View:
    """A scan, and how it is shown; planes are (normal, mm from the volume's middle)."""

    volume: Callable[[], Volume]
    look: str
    planes: tuple[tuple[tuple[float, float, float], float], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


VIEWS = (
    View(head_volume, "CT bone", (), {"azimuth": -38, "elevation": 8, "zoom": 1.4, "body_only": True}),
    View(heart_volume, "CT vessels", (), {"azimuth": 25, "elevation": 12, "zoom": 1.25}),
    View(brain_volume, "MR soft tissue", (((0.0, 0.25, 1.0), 25.0), ((-1.0, 0.6, 0.0), 5.0)),
         {"clip_type": "intersection", "azimuth": 40, "elevation": 22, "zoom": 1.45}),
    View(spine_volume, "MR head", (((1.0, 0.0, 0.0), 0.0),), {"azimuth": -62, "elevation": 6, "zoom": 1.45}),
    View(prostate_volume, "MR head", (((0.0, 0.0, 1.0), 3.0),), {"azimuth": 15, "elevation": 55, "zoom": 1.5}),
    View(fetal_volume, "MR head", (((0.0, 0.0, 1.0), 0.0),), {"azimuth": 30, "elevation": 40, "zoom": 1.4}),
)  # fmt: skip


def picture(view: View, size: tuple[int, int], samples: int) -> Any:
    """(H, W, 3) uint8."""
    voxels, affine = view.volume()
    middle = (affine @ np.array([*(np.array(voxels.shape[::-1]) - 1) / 2, 1.0]))[:3]
    clips = []
    for normal, away in view.planes:
        direction = np.array(normal) / np.linalg.norm(normal)
        clips.append(ClipPlane.from_point(middle + away * direction, direction))
    modality = view.look.split()[0]
    render = render_picture(
        voxels, affine, look=view.look, modality=modality, clips=clips, size=size, samples=samples,
        background=(0.05, 0.05, 0.06), **view.options,
    )  # fmt: skip
    return np.rint(np.clip(render.image, 0, 1) * 255).astype(np.uint8)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "Resources" / "Screenshots" / "cinematic_gallery.png")
    parser.add_argument("--samples", type=int, default=24, help="paths per pixel")
    parser.add_argument("--size", type=int, nargs=2, default=(400, 360), help="pixels of each picture: width, height")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the pictures, from 0")
    options = parser.parse_args()
    if not SHARED.is_dir():
        print("needs the shared public scans in ../shared/data", file=sys.stderr)
        return 1
    shown = [VIEWS[n] for n in options.only] if options.only else list(VIEWS)
    pictures = [picture(view, tuple(options.size), options.samples) for view in shown]
    rows = [np.concatenate(pictures[n : n + 3], axis=1) for n in range(0, len(pictures), 3)]
    Image.fromarray(np.concatenate(rows)).save(options.output, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
