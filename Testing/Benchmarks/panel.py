"""The module in Slicer: time from Fit to the images of first guess and fit, and images a second while something is dragged.

`python -m Testing.Benchmarks.panel` works the real module's panel on Slicer's scene libraries (slicer-core), with Qt
offscreen and the slice view rendered by Mesa: what Slicer's own window adds is not in these figures.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path
from typing import Any

from .module_panel import opened_panel
from .stored import RESULTS, store

THREADS = 2
#: Images a second that a drag should have, by the pixels of the image, and seconds from Fit to the first image.
TARGET_RATES = {"224 x 224": 40.0, "512 x 512": 15.0}
TARGET_FIRST_IMAGE = 10.0
SIDE_MM = 112.0
CURVE_TARGET_RATE = 10.0
SECONDS = 4.0


def run() -> dict[str, Any]:
    """Fit the axial scan of the sample data through the panel, then drag a plane."""
    with opened_panel("GaussianMRIResampling") as (app, panel, _):
        return _measure(app, panel)


def _measure(app: Any, panel: Any) -> dict[str, Any]:
    import numpy as np
    import slicer
    import torch

    from GaussianMRILib.mrml.sample import load_lumbar_phantom

    def render(view: str) -> None:
        slicer.app.layoutManager().sliceWidget(view).sliceView().forceRender()

    torch.set_num_threads(THREADS)
    volume = load_lumbar_phantom(slicer.mrmlScene)[0]
    panel.initializeParameterNode()
    panel._parameterNode.inputVolumes = [volume]
    from GaussianMRILib import native
    from GaussianMRILib.fitting import fast  # noqa: F401  a first import of torch is not part of a fit
    from GaussianMRILib.mrml import preview as live

    native.backend()
    app.process()
    started, busy = time.perf_counter(), time.process_time()
    panel.ui.applyButton.click()

    def seen() -> tuple[float, float]:
        """Seconds and processor seconds since the button was pressed, with the view drawn."""
        render("Red")
        return time.perf_counter() - started, time.process_time() - busy

    app.wait(3600, until=lambda: bool(panel.previewController.previews))
    assert panel.fitController.running and "First guess" in panel.ui.previewLabel.text
    first_image, first_busy = seen()
    app.wait(3600, until=lambda: not panel.fitController.running)
    assert "First guess" not in panel.ui.previewLabel.text
    fitted, fitted_busy = seen()
    live.LONGEST_MS = float("inf")  # what is measured from here on has all its pixels

    parameters = panel._parameterNode
    plane = parameters.plane
    plane.SetSize(SIDE_MM, SIDE_MM)
    overlays = type(parameters.overlay)
    print(f"Fit to first image: {first_image:.1f} s, {first_busy:.1f} processor s", flush=True)
    print(f"Fit to the fit's image: {fitted:.1f} s, {fitted_busy:.1f} processor s", flush=True)
    results: dict[str, Any] = {
        "slices": list(slicer.util.arrayFromVolume(volume).shape),
        "apply_to_first_image_s": round(first_image, 2),
        "apply_to_first_image_processor_s": round(first_busy, 2),
        "apply_to_fitted_image_s": round(fitted, 2),
        "apply_to_fitted_image_processor_s": round(fitted_busy, 2),
    }
    for name, settings in {
        "large image": {"spacing": SIDE_MM / 512},
        "image": {"spacing": SIDE_MM / 224},
        "image and distance map": {"overlay": overlays["distance"]},
        "three views side by side": {"overlay": overlays["none"], "compare": True},
    }.items():
        for key, value in settings.items():
            setattr(parameters, key, value)
        app.wait(0.5)
        views = ("Red", "Yellow", "Green") if parameters.compare else ("Red",)
        # Moves as fast as they are handled; what counts is how often the Gaussians' image is new on the screen.
        center, updates, facts, compute = np.array(plane.GetCenter()), 0, {}, []
        started, busy = time.perf_counter(), time.process_time()
        while (elapsed := time.perf_counter() - started) < SECONDS:
            plane.SetCenter(*np.add(center, [0, 4 * np.sin(4 * elapsed), 2 * np.sin(3 * elapsed)]))
            app.process()
            for view, preview in zip(views, panel.previewController.previews, strict=True):
                if facts.get(view) is not preview.facts:
                    facts[view] = preview.facts
                    render(view)
                    if view == views[0]:
                        updates += 1
                        compute.append(preview.facts.milliseconds)
        plane.SetCenter(*center)
        rate, busy = updates / elapsed, time.process_time() - busy
        results[name] = {
            "pixels": list(panel.previewController.previews[0].facts.shape),
            "updates_per_second": round(rate, 1),
            "updates_per_processor_second": round(updates / busy, 1),
            "image_ms": round(float(np.median(compute)), 1),
        }
        print(f"{name:<26} {rate:6.1f} updates/s, {updates / busy:.1f} a processor second", flush=True)
    results["gaussians"] = len(panel.previewController.field(parameters.field))
    parameters.compare = False
    results["along a curve"] = _measure_curve(app, panel, render)
    results["target"] = {
        "updates_per_second": TARGET_RATES, "along_a_curve": CURVE_TARGET_RATE, "apply_to_first_image_s": TARGET_FIRST_IMAGE
    }  # fmt: skip
    return results


def _measure_curve(app: Any, panel: Any, render: Any) -> dict[str, Any]:
    """Straightened images along the spine a second while a point of the curve is dragged."""
    import numpy as np
    import slicer

    from GaussianMRILib.phantom import Phantom

    parameters, frame = panel._parameterNode, Phantom(0).frame
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsCurveNode", "canal")
    for s in np.linspace(-5, 75, 6):
        node.AddControlPoint(*frame.to_ras(0, -24, s))
    parameters.curveSpacing, parameters.curveView = 0.5, slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeGreen")
    parameters.curve = node
    app.wait(0.5)
    preview, facts, compute = panel.curveController.preview, None, []
    place = np.array(node.GetNthControlPointPosition(2))
    started, busy = time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - started) < SECONDS:
        node.SetNthControlPointPosition(2, *np.add(place, [0, 4 * np.sin(4 * elapsed), 2 * np.sin(3 * elapsed)]))
        app.process()
        if facts is not preview.facts:
            facts = preview.facts
            render("Green")
            compute.append(facts.milliseconds)
    made = {
        "pixels": list(facts.shape),
        "updates_per_second": round(len(compute) / elapsed, 1),
        "updates_per_processor_second": round(len(compute) / (time.process_time() - busy), 1),
        "image_ms": round(float(np.median(compute)), 1),
    }
    print(f"{'along a curve':<26} {made['updates_per_second']:6.1f} updates/s, image {made['image_ms']:.1f} ms", flush=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="for the sake of the other benchmarks; changes nothing"
    )
    parser.add_argument("--json", type=Path, default=RESULTS / "panel.json", help="file for the figures")
    options = parser.parse_args()
    if importlib.util.find_spec("slicer") is None or importlib.util.find_spec("PySide6") is None:
        print("Not measured: slicer-core and PySide6_Essentials are not installed here.")
        return
    results = run()
    store(options.json, results)


if __name__ == "__main__":
    main()
