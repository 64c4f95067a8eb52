"""The module in Slicer: time from Apply to the first image, and images a second while a plane or a curve is dragged.

`python -m Testing.Benchmarks.panel` works the real module's panel on Slicer's scene libraries (slicer-core), with Qt
offscreen and the slice view rendered by Mesa: what Slicer's own window adds is not in these figures.
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
SLICES = (20, 112, 224)
THREADS = 2
TARGET_RATE, CURVE_TARGET_RATE = 15.0, 10.0
SECONDS = 4.0


def run() -> dict[str, Any]:
    """Fit the phantom's axial slices through the panel, then drag a plane of 224 x 224 pixels."""
    with opened_panel("GaussianMRIResampling") as (app, panel, _):
        return _measure(app, panel)


def _measure(app: Any, panel: Any) -> dict[str, Any]:
    import numpy as np
    import slicer
    import torch

    def render(view: str) -> None:
        slicer.app.layoutManager().sliceWidget(view).sliceView().forceRender()

    torch.set_num_threads(THREADS)
    volume = _volume()
    panel.initializeParameterNode()
    panel._parameterNode.inputVolumes = [volume]
    from GaussianMRILib import native
    from GaussianMRILib.fitting import fast  # noqa: F401  a first import of torch is not part of a fit

    native.backend()
    app.process()
    started = time.perf_counter()
    panel.ui.applyButton.click()
    app.wait(600, until=lambda: bool(panel.previewController.previews))
    render("Red")
    first_image = time.perf_counter() - started

    parameters = panel._parameterNode
    plane = parameters.plane
    plane.SetSize(112, 112)
    results: dict[str, Any] = {"slices": list(SLICES), "apply_to_first_image_s": round(first_image, 2)}
    for name, settings in {
        "image": {"spacing": 0.5},
        "image and distance map": {"overlay": "distance"},
        "three views side by side": {"overlay": "none", "compare": True},
    }.items():
        for key, value in settings.items():
            setattr(parameters, key, type(parameters.overlay)[value] if key == "overlay" else value)
        app.wait(0.5)
        views = ("Red", "Yellow", "Green") if parameters.compare else ("Red",)
        # Moves as fast as they are handled; what counts is how often the Gaussians' image is new on the screen.
        center, updates, facts, compute = np.array(plane.GetCenter()), 0, {}, []
        started = time.perf_counter()
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
        rate = updates / elapsed
        results[name] = {
            "pixels": list(panel.previewController.previews[0].facts.shape),
            "updates_per_second": round(rate, 1),
            "image_ms": round(float(np.median(compute)), 1),
        }
        print(f"{name:<26} {rate:6.1f} updates/s, image {results[name]['image_ms']:.1f} ms", flush=True)
    results["gaussians"] = len(panel.previewController.field(parameters.field))
    parameters.compare = False
    results["along a curve"] = _measure_curve(app, panel, render)
    results["target"] = {"updates_per_second": TARGET_RATE, "along_a_curve": CURVE_TARGET_RATE}
    print(f"Apply to first image: {first_image:.1f} s", flush=True)
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
    place, started = np.array(node.GetNthControlPointPosition(2)), time.perf_counter()
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
        "image_ms": round(float(np.median(compute)), 1),
    }
    print(f"{'along a curve':<26} {made['updates_per_second']:6.1f} updates/s, image {made['image_ms']:.1f} ms", flush=True)
    return made


def _volume() -> Any:
    """The middle of the phantom's axial scan as a volume node."""
    import numpy as np
    import slicer

    import GaussianMRILib as gm
    from GaussianMRILib.mrml import volume_from_images
    from GaussianMRILib.phantom import Phantom
    from GaussianMRILib.phantom.scanner import Scan, acquire
    from GaussianMRILib.phantom.write import lumbar_scans

    phantom = Phantom(0)
    scan = lumbar_scans(phantom)[0]
    planes = scan.planes[1 : 1 + SLICES[0]]
    images = 1000 * acquire(phantom, Scan("axial", planes, scan.noise), seed=1)
    stack = gm.SliceStack.from_array(images, np.stack([p.ijk_to_ras for p in planes]), planes[0].thickness)
    rows, columns = ((have - want) // 2 for have, want in zip(stack.shape[1:], SLICES[1:], strict=True))
    stack = stack.window(slice(rows, rows + SLICES[1]), slice(columns, columns + SLICES[2]))
    cut = [stack.plane(k) for k in range(len(stack.pixels))]
    return volume_from_images(stack.pixels, cut, slicer.mrmlScene, name="axial")


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
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
