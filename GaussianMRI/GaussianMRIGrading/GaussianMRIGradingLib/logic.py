import os
from typing import Annotated

import slicer
from GaussianMRIPanelLib.jobController import finished
from GaussianMRIPanelLib.logic import Device, Menu, PanelLogic
from slicer import (
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLMarkupsLineNode,
    vtkMRMLMarkupsPlaneNode,
    vtkMRMLModelNode,
    vtkMRMLScalarVolumeNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper


class DiscSource(Menu):
    segment = _("A segment")
    points = _("Two to four points")
    line = _("A line from front to back")
    plane = _("A plane")


InputType = Menu(
    "InputType",
    {
        "acquired": _("Slices as they were acquired"),
        "R-GS": _("Planes along the disc, by Gaussians"),
        "R-VI": _("Planes along the disc, by voxel interpolation"),
    },
)


@parameterNodeWrapper
class GaussianMRIGradingParameterNode:
    """What the user chose in the panel; saved with the scene, the path of the checkpoints included."""

    inputVolumes: list[vtkMRMLScalarVolumeNode]
    sagittalVolume: vtkMRMLScalarVolumeNode
    level: Annotated[str, Choice(["L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"])] = "L5/S1"
    discSource: DiscSource = DiscSource.points
    points: vtkMRMLMarkupsFiducialNode
    line: vtkMRMLMarkupsLineNode
    discPlane: vtkMRMLMarkupsPlaneNode

    inputType: InputType = InputType.acquired
    field: vtkMRMLModelNode
    device: Device = Device.auto
    checkpoints: str = ""

    gradedPlane: vtkMRMLMarkupsPlaneNode


class GaussianMRIGradingLogic(PanelLogic):
    """Grades of discs, without a panel.

    Example::

      logic = slicer.modules.gaussianmrigrading.widgetRepresentation().self().logic
      disc = logic.discFromPoints(pointsNode, "L5/S1")      # or discFromSegment, discFromPlane
      plane = logic.grade([axialNode], disc, "/path/to/checkpoints", "R-GS")
      print(logic.describe(plane))                          # labels, and all that has to stand beside them
      print(plane.GetAttribute("GaussianMRI.Grades"))       # the same as JSON
      logic.exportReport(plane, "/path/to/report.dcm")      # DICOM SR, for volumes that came from DICOM
      logic.gradeStudy(segmentationNode, [axialNode, t1Node, t2Node], "/path/to/checkpoints")  # table: level x condition
      logic.measureCanal(segmentationNode, [sagittalNode])  # table: canal area (mm²) and diameter (mm) at every disc

    Everything here is also in `GaussianMRILib.mrml`: `grade_disc`, `show_grades`, `staleness`, ...
    """

    TITLE = _("Gaussian MRI Grading")
    PARAMETERS = GaussianMRIGradingParameterNode
    PACKAGES = ("monai>=1.3",)
    #: What writes DICOM Structured Reports (part of Slicer 5.12).
    REPORTS = "highdicom>=0.22"
    GRADES = "GaussianMRI.Grades"
    #: Role from planes to the node that their disc was found on, and attribute with the rest of what they were made for.
    ORIGIN = "GaussianMRI.GradeOrigin"
    PICTURE = "GaussianMRIGrading.png"

    # Discs

    @staticmethod
    def _stack(volumeNode):
        from GaussianMRILib.mrml import stacks_from_volume

        return None if volumeNode is None else stacks_from_volume(volumeNode)[0]

    def discFromSegment(self, segmentationNode, segmentId, level, sagittalNode=None):
        """The disc that a segment shows; see `GaussianMRILib.mrml.disc_from_segment_node`."""
        from GaussianMRILib import mrml

        return mrml.disc_from_segment_node(segmentationNode, segmentId, level, sagittal=self._stack(sagittalNode))

    def discFromPoints(self, pointsNodes, level):
        """The disc between its front and back, optionally its left and right border."""
        from GaussianMRILib import mrml

        return mrml.disc_from_points_node(pointsNodes, level)

    def discFromPlane(self, planeNode, level):
        """The disc on a markups plane."""
        from GaussianMRILib import mrml

        return mrml.disc_from_plane_node(planeNode, level)

    # Canal

    @staticmethod
    def canalJob(segmentationNodes, volumeNodes=()):
        """Measures of the canal that are not taken yet; see `GaussianMRILib.mrml.canal.CanalJob`."""
        from GaussianMRILib.mrml.canal import CanalJob

        return CanalJob(segmentationNodes, volumeNodes)

    def measureCanal(self, segmentationNodes, volumeNodes=()):
        """Measure the canal at every disc of segmentations and wait for the table; the application stays responsive."""
        return finished(self.canalJob(segmentationNodes, volumeNodes)).node(slicer.mrmlScene)

    @staticmethod
    def describeMeasures(tableNode):
        """What was measured, and what has to stand beside it."""
        from GaussianMRILib.mrml.canal import describe_measures

        return describe_measures(tableNode)

    # Study

    @staticmethod
    def studyJob(segmentationNodes, volumeNodes, checkpoints, inputType=None, device="cpu"):
        """Grades of all discs that are not made yet; see `GaussianMRILib.mrml.grading_study.StudyGradingJob`."""
        from GaussianMRILib.mrml.grading_study import StudyGradingJob

        return StudyGradingJob(segmentationNodes, volumeNodes, checkpoints, kind=inputType, device=device)

    def gradeStudy(self, segmentationNodes, volumeNodes, checkpoints, inputType=None):
        """Grade all discs of a segmentation and wait for the table; the application stays responsive."""
        job = self.studyJob(segmentationNodes, volumeNodes, checkpoints, inputType)
        return finished(job).node(slicer.mrmlScene)

    @staticmethod
    def describeStudy(tableNode):
        """What was graded, and what has to stand beside it."""
        from GaussianMRILib.mrml.grading_study import describe_study

        return describe_study(tableNode)

    # Grades

    def request(self, volumeNodes, disc, checkpoints="", inputType="acquired", **options):
        """A grading that has not begun; see `GaussianMRILib.mrml.grading_request`.

        :param checkpoints: file or folder; empty to look at the region only.
        """
        from GaussianMRILib import mrml

        return mrml.grading_request(
            list(volumeNodes), disc, checkpoints=[checkpoints] if checkpoints else [], input_type=inputType, **options
        )

    @staticmethod
    def gradingJob(request):
        """A grading that is not carried out yet; see `GaussianMRILib.mrml.grading.GradingJob`."""
        from GaussianMRILib.mrml.grading import GradingJob

        return GradingJob(request)

    def show(self, result, volumeNodes, planeNode=None, origin=None):
        """Put grades on a plane; the grades of the same disc and input, from the same origin, are replaced.

        :param origin: the node that the disc was found on, and a text that tells disc and input apart from others of it.
        """
        from GaussianMRILib import mrml

        before = [] if planeNode or not origin else self._planesOf(*origin)
        plane = mrml.show_grades(result, list(volumeNodes), plane_node=planeNode, scene=slicer.mrmlScene)
        if origin and planeNode is None and origin[0].GetScene():
            # A reference, since a node that is added from another scene gets an ID of its own.
            plane.SetNodeReferenceID(self.ORIGIN, origin[0].GetID())
            plane.SetAttribute(self.ORIGIN, origin[1])
        for node in before:
            self.remove(node)
        return plane

    def _planesOf(self, discNode, text):
        return [
            node
            for node in slicer.util.getNodesByClass("vtkMRMLMarkupsPlaneNode")
            if node.GetNodeReference(self.ORIGIN) is discNode and node.GetAttribute(self.ORIGIN) == text
        ]

    def grade(self, volumeNodes, disc, checkpoints, inputType="acquired", planeNode=None, **options):
        """Grade and wait for the plane with the labels; the application stays responsive."""
        from GaussianMRILib.grading.checkpoints import NO_CHECKPOINT

        if not checkpoints:
            raise ValueError(NO_CHECKPOINT)
        request = self.request(volumeNodes, disc, checkpoints, inputType, plane_node=planeNode, **options)
        return self.show(finished(self.gradingJob(request)).result(), volumeNodes, planeNode)

    @staticmethod
    def describe(planeNode):
        """The grades on a plane, with everything that has to be shown beside them; "" where it has none."""
        from GaussianMRILib.mrml.grading_results import describe_grades

        return describe_grades(planeNode)

    @staticmethod
    def describeCheckpoints(path):
        """Names of the checkpoints at a path, or where one comes from."""
        from GaussianMRILib import GaussianMRIError
        from GaussianMRILib.grading.checkpoints import find_checkpoints

        try:
            names = [file.name for file in find_checkpoints(path)]
        except GaussianMRIError as error:
            return str(error), False
        return _("Checkpoints: {names}").format(names=", ".join(names)), True

    @staticmethod
    def describeInput(result):
        """One line about the slices that were cut out."""
        from GaussianMRILib.mrml.grading import kinds_of_input

        inputs = result.inputs
        return _("{kind} ({name}), {count} slices, {outside:.0%} of the crop outside the scan").format(
            kind=kinds_of_input()[inputs.input_type],
            name=inputs.input_type,
            count=int(inputs.mask.sum()),
            outside=inputs.outside,
        )

    def remove(self, planeNode):
        """Take a graded plane out of the scene, with its rows and crops."""
        from GaussianMRILib.mrml.grading_results import forget_grades

        forget_grades(planeNode)
        slicer.mrmlScene.RemoveNode(planeNode)

    def savePicture(self, result):
        """Write the overlay as a PNG file for the panel; returns its path."""
        from PIL import Image

        path = os.path.join(slicer.app.temporaryPath, self.PICTURE)
        Image.fromarray(result.picture).save(path)
        return path

    @staticmethod
    def table():
        """The scene's table of grades, or None."""
        from GaussianMRILib.mrml.grading_results import grades_table

        return grades_table(slicer.mrmlScene)

    @staticmethod
    def showCrops(planeNode):
        """Show the slices that the networks saw, in the slice views."""
        crops = planeNode.GetNodeReference("GaussianMRI.Crops")
        if crops is None:
            raise ValueError(_("The crops of this plane are gone; grade it again."))
        views = slicer.app.layoutManager() is not None  # else there is no main window
        slicer.util.setSliceViewerLayers(background=crops, foreground=None, fit=views, rotateToVolumePlane=views)
        return crops

    def exportReport(self, planeNode, path):
        """Write the grades on a plane as DICOM SR; see `GaussianMRILib.mrml.export_structured_report`."""
        from GaussianMRILib import mrml

        return mrml.export_structured_report(planeNode, path)
