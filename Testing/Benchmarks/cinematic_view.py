"""Cinematic pictures in the module: `python -m Testing.Benchmarks.cinematic_view`.

Frames a second while a plane cuts a model open, and a volume without a model: seconds from choosing it to the first picture
and to 64 paths per pixel, and pictures a second while the camera turns.

The module's own panel shows the model of `cinematic_raster` (100,000 splats, spherical harmonics of degree 3, analytic
cut), behind the cut faces of a volume of 221^3 voxels, in a 3D view of 512 x 512 pixels on Slicer's scene libraries, the
markups plane with its handles over it, rendered by Mesa: what Slicer's own window adds is not in these figures.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path
from typing import Any

from .module_panel import opened_panel
from .stored import RESULTS, store

SIZE, THREADS, TARGET_RATE = 512, 2, 10.0
#: Seconds from choosing a volume to the first picture, and to 64 paths per pixel.
TARGET_FIRST, TARGET_RESTED, SAMPLES = 0.3, 10.0, 64
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SCANS = {
    "heart, CT angiography": (DATA / "ct" / "totalseg_cardiac_cta_1p5mm.nii.gz", "CT vessels"),
    "vertebrae, CT": (DATA / "ct" / "tptbox_vertebra_ct_1p5mm.nii.gz", "CT bone"),
    "lumbar spine, T2": (DATA / "mr_spine" / "sct_lumbar_t2_1mm.nii.gz", "MR head"),
}


def run(seconds: float) -> dict[str, Any]:
    with opened_panel("GaussianMRICinematic") as (app, panel, folder):
        results = _measure(app, panel, folder, seconds)
    results["volumes"] = volumes(seconds)
    return results


def volumes(seconds: float) -> list[dict[str, Any]]:
    """A row for each scan that is there."""
    rows = []
    for name, (file, look) in SCANS.items():
        if file.is_file():
            with opened_panel("GaussianMRICinematic") as (app, panel, _):
                rows.append({"scan": name, "look": look, **_measure_volume(app, panel, file, look, seconds)})
    return rows


def _measure_volume(app: Any, panel: Any, file: Path, look: str, seconds: float) -> dict[str, Any]:
    import slicer
    import torch

    from GaussianMRILib.cinematic.denoise import available

    torch.set_num_threads(THREADS)
    view = slicer.app.layoutManager().threeDWidget(0).threeDView()
    view.renderWindow().SetSize(SIZE, SIZE)
    parameters = panel._parameterNode
    parameters.show, parameters.look, parameters.samples, parameters.pixels = False, look, SAMPLES, SIZE
    _warm(panel)
    parameters.inputVolume = _loaded(file)

    def shown() -> str:
        return str(panel.ui.viewLabel.text)

    started, busy = time.perf_counter(), time.process_time()
    parameters.show = True
    first = time.perf_counter() - started, time.process_time() - busy
    assert panel._view is not None and panel._view.picture().max() > 60, shown()
    app.wait(3600, until=lambda: f"{SAMPLES} of {SAMPLES} paths" in shown())
    rested = time.perf_counter() - started, time.process_time() - busy

    camera = view.cameraNode().GetCamera()
    count, started, busy = 0, time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - started) < seconds:
        version = panel._view.live.version
        camera.Azimuth(2)
        view.forceRender()
        app.process()
        assert panel._view.live.version > version, "the picture did not follow the camera"
        count += 1
    spent = (time.process_time() - busy) / count
    side = panel._view.picture().shape
    print(
        f"{file.name}, {look}, {SIZE}^2, {THREADS} threads{', denoised' if available() else ''}: "
        f"first picture {first[0]:.2f} s (processor {first[1]:.2f}; target {TARGET_FIRST}), "
        f"{SAMPLES} paths {rested[0]:.1f} s (processor {rested[1]:.1f}; target {TARGET_RESTED:.0f}), "
        f"moving {count / elapsed:.1f} pictures/s of {side[1]} x {side[0]} pixels "
        f"(processor {1e3 * spent:.0f} ms each; target {TARGET_RATE:.0f})",
        flush=True,
    )
    return {
        "size": SIZE,
        "samples": SAMPLES,
        "denoised": available(),
        "first_s": round(first[0], 2),
        "first_processor_s": round(first[1], 2),
        "rested_s": round(rested[0], 1),
        "rested_processor_s": round(rested[1], 1),
        "pictures_per_second": round(count / elapsed, 1),
        "picture_processor_ms": round(1e3 * spent, 1),
        "moving_pixels": list(side[:2]),
        "target": {"first_s": TARGET_FIRST, "rested_s": TARGET_RESTED, "pictures_per_second": TARGET_RATE},
    }


def _loaded(file: Path) -> Any:
    """A scan as a volume node, as Slicer loads it."""
    import numpy as np
    import slicer

    from GaussianMRILib.cinematic.dataset import regular_volume
    from GaussianMRILib.mrml.scene import as_matrix
    from GaussianMRILib.stacks import read_stacks

    values, matrix = regular_volume(read_stacks([file])[0])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", file.name)
    slicer.util.updateVolumeFromArray(node, np.rint(values).astype(np.int16))
    node.SetIJKToRASMatrix(as_matrix(matrix))
    return node


def _warm(panel: Any) -> None:
    """A first import of torch and a first build of the kernels are not part of a picture."""
    import numpy as np

    from GaussianMRILib.cinematic import LivePicture, find_look

    live = LivePicture(np.random.default_rng(0).random((8, 8, 8)), np.eye(4), find_look("MR head"))
    live.look(live.camera(size=32))
    panel.logic.packagesMissing()


def _measure(app: Any, panel: Any, folder: Path, seconds: float) -> dict[str, Any]:
    import numpy as np
    import slicer
    import torch

    from GaussianMRILib.cinematic import save_model
    from GaussianMRILib.cinematic.model import CinematicModel

    from .cinematic_raster import EYE, head, head_faces

    torch.set_num_threads(THREADS)
    view = slicer.app.layoutManager().threeDWidget(0).threeDView()
    view.renderWindow().SetSize(SIZE, SIZE)
    camera = view.cameraNode().GetCamera()
    camera.SetPosition(*EYE)
    camera.SetFocalPoint(0, 0, 0)
    camera.SetViewUp(0, 0, 1)
    camera.SetViewAngle(28)
    model = CinematicModel(head(), np.zeros(3), 120, face=head_faces())
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
    parser.add_argument("--volumes", action="store_true", help="volumes without a model only; writes no file")
    parser.add_argument(
        "--json", type=Path, default=RESULTS / "cinematic_view.json", help="file for the figures"
    )
    options = parser.parse_args()
    if importlib.util.find_spec("slicer") is None or importlib.util.find_spec("PySide6") is None:
        print("Not measured: slicer-core and PySide6_Essentials are not installed here.")
        return
    seconds = 1.0 if options.quick else 5.0
    if options.volumes:
        volumes(seconds)
        return
    results = run(seconds)
    store(options.json, results)


if __name__ == "__main__":
    main()
