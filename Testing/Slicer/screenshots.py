"""The pictures of the modules and of the demo in README.md and docs/: `python Testing/Slicer/screenshots.py`.

The real panel works on Slicer's scene libraries with the synthetic spine; window and views are drawn offscreen by the
test host, so frames and fonts differ from Slicer's own.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from host.application import Application  # noqa: E402

MODULE = ROOT / "GaussianMRI" / "GaussianMRIResampling" / "GaussianMRIResampling.py"
CINEMATIC = ROOT / "GaussianMRI" / "GaussianMRICinematic" / "GaussianMRICinematic.py"
GRADING = ROOT / "GaussianMRI" / "GaussianMRIGrading" / "GaussianMRIGrading.py"
#: Made by `python -m Testing.Benchmarks.cinematic`; for one picture in docs.
MODEL = ROOT / "out" / "cinematic" / "quick" / "head" / "face.ply"
SIZE = (1280, 800)
#: Pixels between the rows of a comparison (`GaussianMRILib.cli.comparison`).
GAP = 4


def take(app: Any, folder: Path) -> None:
    """Fit the synthetic spine through the panel, follow the disc, compare."""
    import slicer

    app.close_scene()
    app.load_module(MODULE)
    app.start()
    axial = app.sample_data.click("SyntheticLumbarSpine")[0]
    panel = app.select(MODULE.stem)
    assert list(panel._parameterNode.inputVolumes) == [axial]
    panel.ui.applyButton.click()
    app.wait(1200, until=lambda: not panel.fitController.running)
    for name in ("Green", "Yellow"):
        slicer.app.layoutManager().sliceWidget(name).sliceLogic().FitSliceToAll()
    app.wait(0.5)
    app.screenshot(folder / "resampling.png", size=SIZE)
    panel.ui.compareCheckBox.checked = True
    app.wait(1.0)
    app.screenshot(folder / "side_by_side.png", size=SIZE)
    panel.ui.compareCheckBox.checked = False
    panel.ui.overlaySelector.currentText = "Distance to the nearest slice"
    for section in (panel.ui.inputsCollapsibleButton, panel.ui.planesCollapsibleButton):
        section.collapsed = True
    app.wait(1.0)
    panel.ui.splineCheckBox.checked = True
    panel.ui.resampleButton.click()
    panel._parameterNode.reference = slicer.util.getNode("Phantom truth")
    app.wait(0.5)
    app.screenshot(folder / "results.png", size=(SIZE[0], 1100))


def take_grading(app: Any, folder: Path) -> None:
    """The region of the synthetic spine's L5-S1 disc, from two points."""
    import slicer
    import vtk

    from GaussianMRILib.mrml.sample import load_lumbar_phantom
    from GaussianMRILib.phantom import Phantom

    app.close_scene()
    app.load_module(GRADING)
    axial, sagittal, *others = load_lumbar_phantom(slicer.mrmlScene)
    for node in others:
        slicer.mrmlScene.RemoveNode(node)
    panel = app.select(GRADING.stem)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    parameters = panel._parameterNode
    parameters.inputVolumes, parameters.sagittalVolume = [axial], sagittal
    plane = Phantom(0).disc_plane("L5-S1")
    middle = plane.center + 22 * -plane.j_axis  # of the disc; the plane's is in the canal
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "L5-S1")
    for side in (-17, 17):
        points.AddControlPoint(vtk.vtkVector3d(*(middle + side * plane.j_axis)))
    parameters.points, parameters.inputType = points, type(parameters.inputType)["R-VI"]
    for name, volume in (("Red", axial), ("Yellow", sagittal), ("Green", sagittal)):
        logic = slicer.app.layoutManager().sliceWidget(name).sliceLogic()
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        logic.FitSliceToAll()
        logic.GetSliceNode().JumpSliceByCentering(*middle)
    panel.ui.checkButton.click()
    app.wait(300, until=lambda: not panel.gradeController.running)
    app.wait(0.5)
    app.screenshot(folder / "grading.png", size=(SIZE[0], 1000))


def take_cinematic(app: Any, folder: Path) -> None:
    """A head CT in the 3D view, cut open by two planes, without a model."""
    import numpy as np
    import slicer

    from GaussianMRILib.mrml.scene import as_matrix
    from Testing.Benchmarks.cinematic import HEAD, head_volume

    if not HEAD.is_file():
        print(f"No picture of the Cinematic module: {HEAD.name} is not in the shared scans.")
        return
    app.close_scene()
    app.load_module(CINEMATIC)
    panel = app.select(CINEMATIC.stem)
    manager = slicer.app.layoutManager()
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView)
    view = manager.threeDWidget(0).threeDView()
    view.mrmlViewNode().SetBoxVisible(False)
    view.mrmlViewNode().SetAxisLabelsVisible(False)
    voxels, affine = head_volume()
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "head CT")
    slicer.util.updateVolumeFromArray(volume, voxels)
    volume.SetIJKToRASMatrix(as_matrix(affine))
    parameters = panel._parameterNode
    parameters.look, parameters.bodyOnly, parameters.pixels = "CT soft tissue", True, 700
    parameters.inputVolume = volume
    corners = affine @ np.array([*np.array(voxels.shape[::-1]) / 2, 1.0])
    center = corners[:3]
    camera = view.cameraNode().GetCamera()
    camera.SetFocalPoint(*center)
    camera.SetPosition(*np.add(center, [430.0, 560.0, 230.0]))
    camera.SetViewUp(0, 0, 1)
    planes = []
    for name, normal, away in (("top", (0.1, 0.1, 1.0), 40.0), ("front", (0.5, 1.0, 0.0), 20.0)):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", name)
        direction = np.array(normal) / np.linalg.norm(normal)
        node.SetNormal(*direction)
        node.SetCenter(*(center + away * direction))
        node.SetSize(230, 260)
        planes.append(node)
    parameters.plane, parameters.morePlanes, parameters.clipType = (
        planes[0], planes[1:], type(parameters.clipType)["intersection"],
    )  # fmt: skip
    app.screenshot(folder / "cinematic_module.png", size=SIZE)  # the view has its size; from here on nothing moves
    finished = f"{parameters.samples} of {parameters.samples} paths"
    app.wait(1800, until=lambda: finished in str(panel.ui.viewLabel.text))
    app.screenshot(folder / "cinematic_module.png", size=SIZE)


def take_head(folder: Path) -> None:
    """The path tracer's head, from the shared scans: bone, and soft tissue with a cut."""
    import numpy as np
    from PIL import Image

    from GaussianMRILib.cinematic import ClipPlane, render_picture
    from Testing.Benchmarks.cinematic import HEAD, head_volume

    if not HEAD.is_file():
        print(f"No picture of the head: {HEAD.name} is not in the shared scans.")
        return
    volume, affine = head_volume()
    middle = (affine @ np.array([*np.array(volume.shape[::-1]) / 2, 1.0]))[:3]
    shown = []
    for look, normal, azimuth, zoom in (("CT bone", None, -30, 1.3), ("CT soft tissue", (0.75, 0.65, 0.1), -40, 1.6)):
        clips = [] if normal is None else [ClipPlane.from_point(middle, np.array(normal) / np.linalg.norm(normal))]
        render = render_picture(
            volume, affine, look=look, modality="CT", clips=clips, body_only=True, samples=144, size=440,
            azimuth=azimuth, elevation=10, zoom=zoom, background=(0.05, 0.05, 0.06),
        )  # fmt: skip
        shown.append(render.image)
    picture = np.rint(np.concatenate(shown, axis=1) * 255).astype(np.uint8)
    Image.fromarray(picture).save(folder / "cinematic.png", optimize=True)


def take_cut(folder: Path) -> None:
    """A cut that no training picture had: path tracer, splats alone, splats behind the cut face."""
    import numpy as np
    from PIL import Image

    from GaussianMRILib.cinematic import load_model
    from GaussianMRILib.cinematic.clip import ClipPlane
    from GaussianMRILib.cinematic.looks import find_look
    from GaussianMRILib.cinematic.tracer import PathTracer
    from Testing.Benchmarks.cinematic import HEAD, head_volume

    if not (HEAD.is_file() and MODEL.is_file()):
        print(f"No picture of the cut: it needs {HEAD.name} and {MODEL.relative_to(ROOT)}.")
        return
    tracer = PathTracer(*head_volume(), find_look("CT soft tissue"))
    camera = tracer.camera(azimuth=20, elevation=45, size=400, zoom=1.9)
    normal = np.array([0.15, 0.35, 1.0]) / np.linalg.norm([0.15, 0.35, 1.0])
    cut = ClipPlane.from_point(tracer.centre + 20 * normal, normal)
    behind = (0.05, 0.05, 0.06)
    shown = [tracer.render(camera, clips=[cut], samples=256, background=behind).image]
    model = load_model(MODEL)
    whole = model.render(camera, cut, background=behind, side=3).image.numpy()
    model.face = None
    shown += [model.render(camera, cut, background=behind).image.numpy(), whole]
    picture = np.rint(np.clip(np.concatenate(shown, axis=1)[100:], 0, 1) * 255).astype(np.uint8)  # above is nothing
    Image.fromarray(picture).save(folder / "cinematic_cut.png", optimize=True)


def take_demo(folder: Path) -> None:
    """The middle plane of `gaussianmri demo`: truth and methods, with their scores."""
    from GaussianMRILib.cli import main as command

    with tempfile.TemporaryDirectory() as scratch:
        command(["demo", scratch, "--quiet"], standalone_mode=False)
        middle_row(Path(scratch) / "comparison.png").save(folder / "demo.png", optimize=True)


def middle_row(comparison: Path) -> Any:
    """The second of the three rows of a comparison, an image of PIL."""
    from PIL import Image

    with Image.open(comparison) as picture:
        height = (picture.height + GAP) // 3
        return picture.crop((0, height, picture.width, 2 * height - GAP))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "Resources" / "Screenshots")
    parser.add_argument(
        "--only", choices=("demo", "pictures", "modules", "cinematic"),
        help="the demo's, path-traced pictures, or those of modules",
    )  # fmt: skip
    options = parser.parse_args()
    if options.only in (None, "demo"):
        take_demo(options.folder)
    if options.only == "demo":
        return
    if options.only in (None, "pictures"):
        take_head(options.folder)
        take_cut(options.folder)
    if options.only == "pictures":
        return
    with tempfile.TemporaryDirectory() as scratch:
        app = Application(Path(scratch))
        try:
            take_cinematic(app, options.folder)
            if options.only == "cinematic":
                return
            take_grading(app, options.folder)
            take(app, options.folder)
        finally:
            app.quit()


if __name__ == "__main__":
    main()
