import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import slicer
from GaussianMRIPanelLib.jobController import finished
from GaussianMRIPanelLib.logic import Menu, PanelLogic
from slicer import (
    vtkMRMLClipNode,
    vtkMRMLMarkupsPlaneNode,
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSliceNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

#: Stand for the look that fits the volume's modality, and for that of the volume in the Volume Rendering module.
AUTOMATIC, FROM_DISPLAY = "By modality", "Volume Rendering"


class Quality(Menu):
    quick = _("Quick (enough for a processor)")
    default = _("Full (for a graphics card)")
    seed = _("As published")


class Cuts(Menu):
    any = _("In any direction")
    axial = _("Along the body only, as published")


class ClipType(Menu):
    """In the words of Slicer's clip node, which are about what is cut away."""

    union = _("Union: what any plane cuts away")
    intersection = _("Intersection: what all planes cut away")


@parameterNodeWrapper
class GaussianMRICinematicParameterNode:
    """What the user chose in the panel; saved with the scene, the path of the model included."""

    inputVolume: vtkMRMLScalarVolumeNode
    look: str = AUTOMATIC
    region: vtkMRMLMarkupsROINode
    bodyOnly: bool = False
    quality: Quality = Quality.quick
    frames: Annotated[int, WithinRange(10, 10000)] = 330
    size: Annotated[int, WithinRange(64, 2048)] = 256
    planes: Cuts = Cuts.any
    folder: str = ""

    modelPath: str = ""
    show: bool = True
    samples: Annotated[int, WithinRange(1, 4096)] = 64
    plane: vtkMRMLMarkupsPlaneNode
    sliceView: vtkMRMLSliceNode
    flip: bool = False
    morePlanes: list[vtkMRMLMarkupsPlaneNode]
    clipType: ClipType = ClipType.union
    clipNode: vtkMRMLClipNode
    pixels: Annotated[int, WithinRange(64, 4096)] = 512


class GaussianMRICinematicLogic(PanelLogic):
    """Cinematic pictures and models of volumes, without a panel.

    Example::

      logic = slicer.modules.gaussianmricinematic.widgetRepresentation().self().logic
      view = logic.showPicture(live=logic.livePicture(volumeNode))
      path = logic.makeModel(volumeNode, "CT bone", "/path/to/folder")
      view = logic.showModel(path, planeNode)
    """

    TITLE = _("Gaussian MRI Cinematic")
    PARAMETERS = GaussianMRICinematicParameterNode
    MODEL, JOB, LOG = "model.ply", "job.json", "log.txt"

    def lookNames(self):
        """Names of looks: by modality, that of Volume Rendering, and those of files."""
        from GaussianMRILib.cinematic.looks import looks

        return [AUTOMATIC, FROM_DISPLAY, *sorted(looks())]

    def lookOf(self, volumeNode, name):
        """A look by its name as `GaussianMRILib.cinematic.looks.Look`."""
        from GaussianMRILib.cinematic.looks import find_look
        from GaussianMRILib.mrml.cinematic import look_of_display
        from GaussianMRILib.mrml.cinematic_live import look_of_volume, rendering_display

        if name == AUTOMATIC:
            return look_of_volume(volumeNode)
        if name != FROM_DISPLAY:
            return find_look(name)
        display = rendering_display(volumeNode)
        if display is None:
            raise ValueError(
                _(
                    "'{name}' has no look in the Volume Rendering module yet; show it there first, or choose a look by name."
                ).format(name=volumeNode.GetName())
            )
        return look_of_display(display)

    def makeModel(self, volumeNode, look, folder, **options):
        """Make a model and wait for it; the application stays responsive meanwhile.

        :return: path of the model.
        """
        return finished(self.modelJob(volumeNode, look, folder, **options)).result()

    def modelJob(
        self,
        volumeNode,
        look,
        folder,
        region=None,
        quality="quick",
        frames=330,
        size=256,
        planes="any",
        iterations=None,
        bodyOnly=False,
    ):
        """A process that renders pictures of a volume and learns a model from them: its files are there, it is not started.

        In a folder with an unfinished job of the same settings, that job continues.

        :param look: name of a look, see `lookNames`.
        :param folder: made if need be; gets pictures, checkpoint, log and at last `model.ply`.
        :param region: markups ROI node, or None.
        :param quality: "quick", "default" or "seed", see `GaussianMRILib.cinematic.options`.
        :param frames: pictures in all, a tenth of them for measuring.
        :param size: side of the pictures, pixels.
        :param planes: "any" or "axial".
        :param iterations: of the training, with all schedules in proportion; default: of the quality.
        :param bodyOnly: without table, headrest and cables.
        :return: `GaussianMRILib.mrml.process.ProcessJob`, whose result is the path of the model in this folder.
        """
        import numpy as np

        import GaussianMRILib
        from GaussianMRILib.mrml.cinematic_live import voxels_of
        from GaussianMRILib.mrml.fitting import roi_to_world
        from GaussianMRILib.mrml.process import ProcessJob

        if not folder:
            raise ValueError(_("Choose a folder for the pictures and the model."))
        found = self.lookOf(volumeNode, look)
        box = None if region is None else roi_to_world(region).tolist()
        pixels, affine = voxels_of(volumeNode, body_only=bodyOnly)
        folder = os.path.abspath(folder)
        os.makedirs(folder, exist_ok=True)
        volume = os.path.join(folder, "volume.npz")
        np.savez(volume, pixels=pixels, ijk_to_ras=affine)
        path = os.path.join(folder, self.JOB)
        with open(path, "w", encoding="utf-8") as file:
            settings = {
                "volume": volume,
                "look": found.to_dict(),
                "roi": box,
                "quality": quality,
                "frames": frames,
                "size": size,
                "planes": planes,
                "iterations": iterations,
                "folder": folder,
                "model": os.path.join(folder, self.MODEL),
            }
            json.dump(settings, file, indent=1)
        python = shutil.which("PythonSlicer") or sys.executable
        library = os.path.dirname(os.path.dirname(os.path.abspath(GaussianMRILib.__file__)))
        paths = os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH", "")]))
        command = [python, "-m", "GaussianMRILib.cinematic.worker", "--attached", path]
        return ProcessJob(
            command, Path(folder, self.LOG), Path(folder, self.MODEL), environment={"PYTHONPATH": paths}
        )

    def lookWarning(self, volumeNode, name):
        """A sentence where a look, by its name, is made for another modality than the volume's, else ""."""
        from GaussianMRILib.mrml.cinematic_live import look_warning

        return look_warning(volumeNode, self.lookOf(volumeNode, name))

    def livePicture(self, volumeNode, look=AUTOMATIC, region=None, samples=64, model=None, bodyOnly=False):
        """A volume as a path-traced picture that is there at once and becomes finer while nothing moves.

        :param look: name of a look, see `lookNames`; a model with the volume's cut faces has its own.
        :param region: markups ROI node outside which nothing is shown, or None.
        :param samples: paths per pixel of the finished picture.
        :param model: `GaussianMRILib.cinematic.CinematicModel` of this volume, shown while something moves.
        :param bodyOnly: without table, headrest and cables.
        :return: `GaussianMRILib.cinematic.LivePicture` for `showPicture`.
        """
        from GaussianMRILib.mrml.cinematic_live import live_picture

        found = model.face.look if model is not None and model.face else self.lookOf(volumeNode, look)
        return live_picture(volumeNode, found, region, model=model, samples=samples, body_only=bodyOnly)

    def pictureState(self, volumeNode, look=AUTOMATIC, region=None):
        """What differs once `livePicture` of the same arguments would show something else."""
        from GaussianMRILib.mrml.cinematic_live import rendering_display, state_of

        display = rendering_display(volumeNode) if look == FROM_DISPLAY else None
        return (look, *state_of(volumeNode, region, display))

    def showModel(self, path, planeNode=None, flipped=False, mostPixels=512, changed=None, view=None):
        """Show a model in a 3D view, cut by a markups plane or slice view; see `showPicture`."""
        from GaussianMRILib.cinematic import load_model

        return self.showPicture(load_model(path), None, planeNode, flipped, mostPixels, changed, view)

    def showPicture(
        self,
        model=None,
        live=None,
        planeNode=None,
        flipped=False,
        mostPixels=512,
        changed=None,
        view=None,
        morePlanes=(),
        clipType="union",
        clipNode=None,
    ):
        """Show a model or a volume in a 3D view, cut by a markups plane or slice view.

        :param live: what `livePicture` returned, or None; a timer has to call the view's `advance`.
        :param mostPixels: side of the square that has as many pixels as are drawn at most.
        :param view: what `threeDView` returned; None: the first 3D view of the layout.
        :param morePlanes: markups planes that cut as well.
        :param clipType: "union": what any plane cuts away is cut away; "intersection": only what all of them cut away.
        :param clipNode: vtkMRMLClipNode that cuts away more, or None.
        :return: `GaussianMRILib.mrml.cinematic.CinematicView`; keep it, and `stop()` it.
        """
        from GaussianMRILib.mrml.cinematic import CinematicView

        view = self.threeDView() if view is None else view
        return CinematicView(
            self.renderer(view),
            model,
            planeNode,
            flipped,
            mostPixels**2,
            view.scheduleRender,
            changed,
            live,
            morePlanes,
            clipType,
            clipNode,
        )

    @staticmethod
    def threeDView(number=0):
        """A 3D view that the layout shows, by its number among these in the scene's order.

        Slicer also keeps the views of other layouts, all of them in no order.
        """
        manager = slicer.app.layoutManager()
        nodes = slicer.util.getNodesByClass("vtkMRMLViewNode")
        shown = [node for node in nodes if node.IsMappedInLayout()] if manager is not None else []
        if number >= len(shown):
            raise ValueError(_("There is no 3D view to show it in; choose a layout that has one."))
        return manager.viewWidget(shown[number]).threeDView()

    @staticmethod
    def renderer(view):
        """The vtkRenderer of a 3D view, which `threeDView` returned."""
        return view.renderWindow().GetRenderers().GetFirstRenderer()

    def addPlane(self, center, side):
        """A markups plane with handles to drag.

        :param center: RAS, mm.
        :param side: mm.
        """
        from GaussianMRILib.geometry import ImagePlane
        from GaussianMRILib.mrml import plane_to_node

        spacing = (float(side) / 100, float(side) / 100)
        plane = ImagePlane.from_axes(center, [-1, 0, 0], [0, 0, -1], spacing=spacing, shape=(100, 100))
        node = plane_to_node(plane, scene=slicer.mrmlScene, name=_("Cut"))
        self.showCut(node)
        return node

    @staticmethod
    def showCut(planeNode):
        """Let a plane that cuts be dragged; other modules do not offer it as theirs."""
        from GaussianMRILib.mrml.planes import show_handles

        planeNode.SetAttribute("GaussianMRI.Kind", "cut")
        show_handles(planeNode, fill=0.0)
