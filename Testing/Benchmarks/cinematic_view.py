"""Frames a second while a plane cuts a cinematic model open: `python -m Testing.Benchmarks.cinematic_view`.

The module's own panel shows the model of `cinematic_raster` (100,000 splats, spherical harmonics of degree 3, analytic
cut), behind the cut faces of a volume of 221^3 voxels, in a 3D view of 512 x 512 pixels on Slicer's scene libraries, the
markups plane with its handles over it, rendered by Mesa: what Slicer's own window adds is not in these figures.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path
from typing import Any

from .module_panel import opened_panel

RESULTS = Path(__file__).resolve().parent / "results"
SIZE, THREADS, TARGET_RATE = 512, 2, 10.0


def run(seconds: float) -> dict[str, Any]:
    with opened_panel("GaussianMRICinematic") as (app, panel, folder):
        return _measure(app, panel, folder, seconds)


def _faces() -> Any:
    """Cut faces of a ball of noisy soft tissue as large as the splats' head, voxels of 1 mm."""
    import numpy as np

    from GaussianMRILib.cinematic.cut_face import CutFace
    from GaussianMRILib.cinematic.presets import find_preset
    from GaussianMRILib.cinematic.tracer import PathTracer

    side = np.arange(-110.0, 111.0)
    distance = np.sqrt(side[:, None, None] ** 2 + side[:, None] ** 2 + side**2)
    tissue = np.random.default_rng(0).normal(40, 30, distance.shape)
    matrix = np.eye(4)
    matrix[:3, 3] = side[0]
    return CutFace.of(
        PathTracer(
            np.where(distance < 100, tissue, -1000).astype(np.int16), matrix, find_preset("CT soft tissue")
        )
    )


def _measure(app: Any, panel: Any, folder: Path, seconds: float) -> dict[str, Any]:
    import numpy as np
    import slicer
    import torch

    from GaussianMRILib.cinematic import save_model
    from GaussianMRILib.cinematic.model import CinematicModel

    from .cinematic_raster import EYE, head

    torch.set_num_threads(THREADS)
    view = slicer.app.layoutManager().threeDWidget(0).threeDView()
    view.renderWindow().SetSize(SIZE, SIZE)
    camera = view.cameraNode().GetCamera()
    camera.SetPosition(*EYE)
    camera.SetFocalPoint(0, 0, 0)
    camera.SetViewUp(0, 0, 1)
    camera.SetViewAngle(28)
    model = CinematicModel(head(), np.zeros(3), 120, face=_faces())
    panel._parameterNode.modelPath = str(save_model(folder / "head.ply", model))
    plane = panel._parameterNode.plane
    plane.SetNormal(0.4, 0.8, 0.45)
    picture = panel._view.picture()
    assert picture.shape == (SIZE, SIZE, 3) and picture.max() > 100, "the view does not show the model"

    frames, drawing = [], []
    started = before = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        plane.SetCenter(0, 20 * np.sin(2 * elapsed), 20 * np.cos(2 * elapsed))
        shown = panel._view._drawn
        view.forceRender()
        app.process()
        assert panel._view._drawn != shown, "the model did not follow the plane"
        now = time.perf_counter()
        frames.append(now - before)
        drawing.append(panel._view.milliseconds)
        before = now
    rate = len(frames) / elapsed
    milliseconds = 1e3 * float(np.median(frames))
    print(
        f"{SIZE}^2, {THREADS} threads: {rate:.1f} frames/s (target {TARGET_RATE:.0f}); a frame {milliseconds:.0f} ms, "
        f"of which the picture {np.median(drawing):.0f} ms"
    )
    return {
        "size": SIZE,
        "splats": len(panel._view.model),
        "frames_per_second": round(rate, 1),
        "frame_ms": round(milliseconds, 1),
        "picture_ms": round(float(np.median(drawing)), 1),
        "target": {"frames_per_second": TARGET_RATE},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one second instead of five")
    parser.add_argument(
        "--json", type=Path, default=RESULTS / "cinematic_view.json", help="file for the figures"
    )
    options = parser.parse_args()
    if importlib.util.find_spec("slicer") is None or importlib.util.find_spec("PySide6") is None:
        print("Not measured: slicer-core and PySide6_Essentials are not installed here.")
        return
    results = run(1.0 if options.quick else 5.0)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
