from typing import Annotated

import slicer
from slicer import (
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLMarkupsPlaneNode,
    vtkMRMLMarkupsROINode,
    vtkMRMLModelNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSliceNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic


@parameterNodeWrapper
class GaussianMRIResamplingParameterNode:
    """What the user chose in the panel; saved with the scene."""

    inputVolumes: list[vtkMRMLScalarVolumeNode]
    region: vtkMRMLMarkupsROINode
    preset: Annotated[str, Choice(["fast", "paper"])] = "fast"
    device: Annotated[str, Choice(["auto", "cpu", "cuda"])] = "auto"
    poses: Annotated[str, Choice(["auto", "volume", "dicom"])] = "auto"
    refine: bool = False
    field: vtkMRMLModelNode

    plane: vtkMRMLMarkupsPlaneNode
    points: vtkMRMLMarkupsFiducialNode
    spacing: Annotated[float, WithinRange(0, 20)] = 0.0  # mm, 0: native
    thickness: Annotated[float, WithinRange(0, 100)] = 0.0  # mm
    count: Annotated[int, WithinRange(1, 999)] = 1
    step: Annotated[float, WithinRange(0.05, 100)] = 2.0  # mm

    preview: bool = True
    previewView: vtkMRMLSliceNode
    method: Annotated[str, Choice(["gaussians", "spline", "voxel"])] = "gaussians"
    compare: bool = False
    overlay: Annotated[str, Choice(["none", "distance", "support"])] = "none"
    overlayOpacity: Annotated[float, WithinRange(0, 1)] = 0.4

    outputPlanes: list[vtkMRMLMarkupsPlaneNode]
    gaussians: bool = True
    spline: bool = False
    voxel: bool = False
    distance: bool = False
    support: bool = False
    sideBySide: bool = False
    reference: vtkMRMLScalarVolumeNode


class GaussianMRIResamplingLogic(ScriptedLoadableModuleLogic):
    """Fits, planes and resampled volumes of the scene, without a panel.

    Example::

      logic = slicer.modules.gaussianmriresampling.widgetRepresentation().self().logic
      field = logic.fit([axialNode, sagittalNode])
      plane = logic.addPlaneFromPoints(pointsNode)
      volumes = logic.resample(field, [plane], ["gaussians", "spline"])
    """

    METHODS = ("gaussians", "spline", "voxel", "distance", "support")

    def getParameterNode(self):
        return GaussianMRIResamplingParameterNode(super().getParameterNode())

    def ensurePackages(self, cuda=False):
        """Install what Slicer does not bring, after asking. See `GaussianMRILib.mrml.dependencies`."""
        from GaussianMRILib.mrml.dependencies import ensure_packages

        ensure_packages(_("Gaussian MRI Resampling"), cuda=cuda)

    def fitter(self, volumeNodes, **options):
        """A fit that has not begun; see `GaussianMRILib.mrml.fitter_from_nodes`."""
        from GaussianMRILib import mrml

        return mrml.fitter_from_nodes(list(volumeNodes), **options)

    @staticmethod
    def inputWarnings(volumeNodes):
        """Lines that name volumes which do not belong together, or whose files leave open where they lie; often empty.

        Without the packages that read headers, which Apply installs, nothing is known.
        """
        from GaussianMRILib import mrml

        try:
            return "\n".join(mrml.input_warnings(volumeNodes))
        except ImportError:
            return ""

    def fit(self, volumeNodes, **options):
        """Fit volumes and wait for the field's model node; the application stays responsive."""
        from GaussianMRILib import mrml
        from GaussianMRILib.mrml.jobs import FitJob

        volumeNodes = list(volumeNodes)
        job = FitJob(self.fitter(volumeNodes, **options))
        job.start()
        while not job.poll():
            slicer.app.processEvents()
        return mrml.field_to_model(job.field(), volumes=volumeNodes, name=f"{volumeNodes[0].GetName()} field")

    # Planes

    def addPlane(self, plane, name):
        """A markups plane node, with handles to drag, where a `GaussianMRILib.ImagePlane` is."""
        from GaussianMRILib import mrml

        node = mrml.plane_to_node(plane, slicer.mrmlScene, name)
        self.showHandles(node)
        return node

    @staticmethod
    def showHandles(planeNode):
        """Let the plane be dragged and turned in every view."""
        from GaussianMRILib.mrml.planes import show_handles

        show_handles(planeNode)

    def addDefaultPlane(self, field):
        """A plane through the middle of what was scanned, tilted against its slices."""
        from GaussianMRILib.mrml.sample import tilted_plane

        return self.addPlane(tilted_plane(field), _("Plane"))

    def addPlaneFromView(self, sliceNode):
        from GaussianMRILib import mrml

        return self.addPlane(mrml.plane_from_slice_node(sliceNode), f"{sliceNode.GetName()} plane")

    def addPlaneFromPoints(self, pointsNode):
        """The plane through the first three points of a point list."""
        from GaussianMRILib import mrml

        if pointsNode.GetNumberOfDefinedControlPoints() < 3:
            raise ValueError(_("'{name}' has fewer than three points.").format(name=pointsNode.GetName()))
        points = [pointsNode.GetNthControlPointPositionWorld(n) for n in range(3)]
        return self.addPlane(mrml.plane_from_points(points), f"{pointsNode.GetName()} plane")

    def addPlaneFromSegment(self, segmentationNode, segmentId):
        from GaussianMRILib import mrml

        name = segmentationNode.GetSegmentation().GetSegment(segmentId).GetName()
        return self.addPlane(mrml.plane_from_segment(segmentationNode, segmentId), f"{name} plane")

    def savePlanes(self, path, planeNodes=None):
        """Write planes, by default all of the scene, to one markups file."""
        from GaussianMRILib import mrml

        if planeNodes is None:
            planeNodes = slicer.util.getNodesByClass("vtkMRMLMarkupsPlaneNode")
        mrml.save_planes(path, [node for node in planeNodes if node.GetIsPlaneValid()])

    def loadPlanes(self, path):
        """Add the planes of a markups file to the scene; returns their nodes."""
        from GaussianMRILib import mrml

        planes = mrml.load_planes(path, slicer.mrmlScene)
        for node in planes:
            self.showHandles(node)
        return planes

    # Results

    def resample(self, fieldNode, planeNodes, methods=("gaussians",), **options):
        """Volume nodes for each plane and method, in this order; see `GaussianMRILib.mrml.resample`."""
        from GaussianMRILib import mrml

        return mrml.resample(fieldNode, list(planeNodes), method=list(methods), **options)

    @staticmethod
    def describe(volumeNodes):
        """One line per volume: its name and the share of it that lies outside the scan."""
        lines = []
        for node in volumeNodes:
            outside = float(node.GetAttribute("GaussianMRI.OutsideFraction") or 0)
            lines.append(
                _("{name}: {outside:.0%} outside the scan").format(name=node.GetName(), outside=outside)
            )
        return "\n".join(lines)

    def report(self, fieldNode, nodes=(), referenceNode=None):
        """A table node about a field and the volumes made from it; see `GaussianMRILib.mrml.report`."""
        from GaussianMRILib import mrml

        return mrml.report(fieldNode, list(nodes), reference=referenceNode, scene=slicer.mrmlScene)

    @staticmethod
    def showTable(tableNode):
        """Show a table in the Tables module's place in the layout."""
        selection = slicer.app.applicationLogic().GetSelectionNode()
        selection.SetActiveTableID(tableNode.GetID())
        slicer.app.applicationLogic().PropagateTableSelection()
        manager = slicer.app.layoutManager()
        if manager is not None:
            manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView)

    def exportDicom(self, volumeNodes, folder):
        """Write each volume as a derived DICOM series in a folder of its own; returns the folders."""
        from GaussianMRILib import mrml

        return mrml.export_dicom(list(volumeNodes), folder)
