from typing import Annotated

import slicer
from GaussianMRIPanelLib.jobController import finished
from GaussianMRIPanelLib.logic import Device, Menu, PanelLogic
from slicer import (
    vtkMRMLDisplayableNode,
    vtkMRMLMarkupsCurveNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLMarkupsPlaneNode,
    vtkMRMLMarkupsROINode,
    vtkMRMLModelNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLSliceNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


class Preset(Menu):
    fast = _("Fast (recommended)")
    paper = _("As published (minutes to hours)")


class Poses(Menu):
    auto = _("Automatic")
    volume = _("From the volume")
    dicom = _("From the DICOM files")


class Method(Menu):
    gaussians = _("Gaussians")
    spline = _("Cubic spline, for comparison")
    voxel = _("Voxel interpolation, for comparison")


class Overlay(Menu):
    none = _("None")
    distance = _("Distance to the nearest slice")
    support = _("Support by the slices")


class Projection(Menu):
    mean = _("Mean")
    max = _("Maximum (brightest)")
    min = _("Minimum (darkest)")


class PlaneSet(Menu):
    along = _("Planes across a line, every few mm")
    radial = _("Planes through a line, turned about it")
    parallel = _("Planes parallel to a plane or view")
    orthogonal = _("The two planes perpendicular to a plane or view")
    fit = _("Best-fit plane of a model, curve or points")


class Axes(Menu):
    first = _("Along the first slice")
    ras = _("Along the patient")


class Boundaries(Menu):
    smooth = _("Smooth")
    nearest = _("Nearest")


class Across(Menu):
    automatic = _("Automatic")
    back = _("Front to back (sagittal)")
    left = _("Right to left (coronal)")
    feet = _("Head to feet")


@parameterNodeWrapper
class GaussianMRIResamplingParameterNode:
    """What the user chose in the panel; saved with the scene."""

    inputVolumes: list[vtkMRMLScalarVolumeNode]
    region: vtkMRMLMarkupsROINode
    preset: Preset = Preset.fast
    device: Device = Device.auto
    poses: Poses = Poses.auto
    refine: bool = False
    field: vtkMRMLModelNode

    plane: vtkMRMLMarkupsPlaneNode
    points: vtkMRMLMarkupsFiducialNode
    spacing: Annotated[float, WithinRange(0, 20)] = 0.0  # mm, 0: native
    thickness: Annotated[float, WithinRange(0, 100)] = 0.0  # mm
    projection: Projection = Projection.mean
    count: Annotated[int, WithinRange(1, 999)] = 1
    step: Annotated[float, WithinRange(0.05, 100)] = 2.0  # mm

    setKind: PlaneSet = PlaneSet.along
    setCount: Annotated[int, WithinRange(1, 999)] = 12
    setStep: Annotated[float, WithinRange(0.05, 100)] = 5.0  # mm
    setSize: Annotated[float, WithinRange(1, 1000)] = 112.0  # mm

    isotropicSpacing: Annotated[float, WithinRange(0, 20)] = 0.0  # mm, 0: the field's own
    isotropicAxes: Axes = Axes.first
    isotropicRegion: vtkMRMLMarkupsROINode
    isotropicOutput: vtkMRMLScalarVolumeNode

    segmentation: vtkMRMLSegmentationNode
    labelsOnto: vtkMRMLScalarVolumeNode
    boundaries: Boundaries = Boundaries.smooth

    preview: bool = True
    previewView: vtkMRMLSliceNode
    method: Method = Method.gaussians
    compare: bool = False
    overlay: Overlay = Overlay.none
    overlayOpacity: Annotated[float, WithinRange(0, 1)] = 0.4

    curve: vtkMRMLMarkupsCurveNode
    curveWidth: Annotated[float, WithinRange(1, 1000)] = 60.0  # mm
    curveSpacing: Annotated[float, WithinRange(0, 20)] = 0.0  # mm, 0: native
    curveSlab: Annotated[float, WithinRange(0, 100)] = 0.0  # mm
    curveProjection: Projection = Projection.mean
    curveAcross: Across = Across.automatic
    curveKeepAcross: bool = False
    curveTurn: Annotated[float, WithinRange(-180, 180)] = 0.0  # degrees
    curvePreview: bool = True
    curveView: vtkMRMLSliceNode
    curveStep: Annotated[float, WithinRange(0.5, 500)] = 10.0  # mm
    curveOutput: vtkMRMLScalarVolumeNode
    curveAlong: list[vtkMRMLDisplayableNode]
    curveSpace: vtkMRMLScalarVolumeNode

    outputPlanes: list[vtkMRMLMarkupsPlaneNode]
    gaussians: bool = True
    spline: bool = False
    voxel: bool = False
    distance: bool = False
    support: bool = False
    sideBySide: bool = False
    output: vtkMRMLScalarVolumeNode
    reference: vtkMRMLScalarVolumeNode


class GaussianMRIResamplingLogic(PanelLogic):
    """Fits, planes and resampled volumes of the scene, without a panel.

    Example::

      logic = slicer.modules.gaussianmriresampling.widgetRepresentation().self().logic
      field = logic.fit([axialNode, sagittalNode])
      plane = logic.addPlaneFromPoints(pointsNode)
      volumes = logic.resample(field, [plane], ["gaussians", "spline"])
    """

    TITLE = _("Gaussian MRI Resampling")
    PARAMETERS = GaussianMRIResamplingParameterNode
    IMAGES = ("gaussians", "spline", "voxel", "distance", "support")

    @staticmethod
    def fieldOf(volumeNodes, fieldNode):
        """The chosen field where it is one of just these volumes: another fit of them replaces it. Else None."""
        from GaussianMRILib.mrml.fields import volumes_of

        same = fieldNode is not None and volumes_of(fieldNode) == list(volumeNodes)
        return fieldNode if same else None

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
        from GaussianMRILib.mrml.volume_state import states_of

        volumeNodes = list(volumeNodes)
        job, states = FitJob(self.fitter(volumeNodes, **options)), states_of(volumeNodes)
        field, name = finished(job).field(), f"{volumeNodes[0].GetName()} field"
        return mrml.field_to_model(field, volumes=volumeNodes, states=states, name=name)

    # Planes

    def addPlane(self, plane, name):
        """A markups plane node, with handles to drag, where a `GaussianMRILib.ImagePlane` is."""
        from GaussianMRILib import mrml

        node = mrml.plane_to_node(plane, scene=slicer.mrmlScene, name=name)
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

    @staticmethod
    def defaultPlane():
        """The plane to offer first; None without any."""
        from GaussianMRILib.mrml.panels import default_plane

        return default_plane(slicer.mrmlScene)

    def addPlaneFromView(self, sliceNode):
        from GaussianMRILib import mrml

        return self.addPlane(mrml.plane_from_slice_node(sliceNode), f"{sliceNode.GetName()} plane")

    def addPlaneFromPoints(self, pointsNode):
        """The plane through the first three points of a point list that are placed."""
        from GaussianMRILib import mrml
        from GaussianMRILib.mrml.plane_series import control_points

        points = control_points(pointsNode)
        if len(points) < 3:
            raise ValueError(_("'{name}' has fewer than three points.").format(name=pointsNode.GetName()))
        return self.addPlane(mrml.plane_from_points(points[:3]), f"{pointsNode.GetName()} plane")

    def addPlaneFromSegment(self, segmentationNode, segmentId):
        from GaussianMRILib import mrml

        name = segmentationNode.GetSegmentation().GetSegment(segmentId).GetName()
        return self.addPlane(mrml.plane_from_segment(segmentationNode, segmentId), f"{name} plane")

    def addPlanesFrom(self, node, kind, **options):
        """Planes of a line, plane, view, curve or model; see `GaussianMRILib.mrml.planes_from`. Several are outlines."""
        from GaussianMRILib import mrml

        named = mrml.planes_from(node, kind, **options)
        nodes = mrml.planes_to_nodes(
            [plane for _name, plane in named], [name for name, _plane in named], scene=slicer.mrmlScene
        )
        for plane in nodes:
            self.showHandles(plane)
            if plane is not nodes[0]:  # the views would be full of handles
                plane.GetDisplayNode().SetHandlesInteractive(False)
                plane.GetDisplayNode().SetFillVisibility(False)
        return nodes

    @staticmethod
    def movePlane(planeNode, axis, position):
        """Put a plane's middle at a position (mm) along an axis: 0 right, 1 anterior, 2 superior."""
        import numpy as np

        from GaussianMRILib.mrml.planes import frame_of, move_plane

        motion = np.eye(4)
        motion[axis, 3] = position - frame_of(planeNode)[axis, 3]
        if np.isfinite(motion).all():
            move_plane(planeNode, motion)

    def showPlane(self, planeNode, previewView=None):
        """Handles for a plane, and its middle in all slice views but the one that follows planes."""
        from GaussianMRILib.mrml.planes import rectangle

        self.showHandles(planeNode)
        center = [float(value) for value in rectangle(planeNode)[0]]
        mode = slicer.vtkMRMLSliceNode.OffsetJumpSlice
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *center, mode, -1, previewView)

    @staticmethod
    def removePlanes(planeNodes):
        """Take planes out of the scene; one undo brings them back."""
        from GaussianMRILib.mrml.planes import remove_planes

        remove_planes(slicer.mrmlScene, planeNodes)

    def savePlanes(self, path, planeNodes=None):
        """Write planes, by default all of the scene, to one markups file."""
        from GaussianMRILib import mrml

        if planeNodes is None:
            planeNodes = slicer.util.getNodesByClass("vtkMRMLMarkupsPlaneNode")
        mrml.save_planes(path, [node for node in planeNodes if node.GetIsPlaneValid()])

    def loadPlanes(self, path):
        """Add the planes of a markups file to the scene; returns their nodes."""
        from GaussianMRILib import mrml

        planes = mrml.load_planes(path, scene=slicer.mrmlScene)
        for node in planes:
            self.showHandles(node)
        return planes

    # Volumes and labels

    @staticmethod
    def isotropicJob(fieldNode, **options):
        """An isotropic volume that is not computed yet; see `GaussianMRILib.mrml.isotropic.IsotropicJob`."""
        from GaussianMRILib.mrml.isotropic import IsotropicJob

        return IsotropicJob(fieldNode, **options)

    def isotropicVolume(self, fieldNode, spacing=None, roi=None, axes="first", node=None):
        """An isotropic volume of a field as a scalar volume node; the application stays responsive meanwhile.

        :param spacing: mm; None: the field's finest detail.
        """
        job = finished(self.isotropicJob(fieldNode, spacing=spacing, roi=roi, axes=axes))
        return job.node(node)

    @staticmethod
    def labelsJob(segmentationNode, onto, boundaries="smooth", spacing=None, field=None):
        """Labels that are not computed yet; see `GaussianMRILib.mrml.labels.LabelsJob`.

        :param field: whose pixels a plane has where there is no spacing.
        """
        from GaussianMRILib.mrml.labels import LabelsJob
        from GaussianMRILib.mrml.maps import native_spacing

        if spacing is None and field is not None:
            spacing = native_spacing(field)
        return LabelsJob(segmentationNode, onto, boundaries=boundaries, spacing=spacing)

    def resampleSegmentation(self, segmentationNode, onto, boundaries="smooth", spacing=None):
        """A segmentation at the voxels of a volume, or on a plane; the application stays responsive meanwhile."""
        return finished(self.labelsJob(segmentationNode, onto, boundaries, spacing)).node()

    @staticmethod
    def emptySegments(segmentationNode):
        """Names of the segments in which there is no voxel."""
        from GaussianMRILib.mrml.segments import empty_segments

        return empty_segments(segmentationNode)

    # Results

    def resample(self, fieldNode, planeNodes, methods=("gaussians",), **options):
        """Volume nodes for each plane and method, in this order; see `GaussianMRILib.mrml.resample`."""
        from GaussianMRILib import mrml

        return mrml.resample(fieldNode, list(planeNodes), method=list(methods), **options)

    @staticmethod
    def changesSinceFit(fieldNode, methods):
        """A sentence where interpolations show volumes as they are now, and the Gaussians as they were; else empty."""
        from GaussianMRILib.mrml.fields import changes_since_fit

        changes = changes_since_fit(fieldNode) if {"spline", "voxel"} & set(methods) else []
        if not changes:
            return ""
        text = _("{changes} since the fit began: interpolations show what is there now, Gaussians what was there then.")
        return text.format(changes=", ".join(changes))

    @staticmethod
    def describe(volumeNodes):
        """One line per volume: its name and the share of it that lies outside the scan, where that is known."""
        from GaussianMRILib.mrml.scene import numbers, stored

        lines = []
        for node in volumeNodes:
            known = stored(node, "GaussianMRI.OutsideFraction", lambda text: numbers([text], 1), [])
            text = _("{name}: {outside:.0%} outside the scan") if known else "{name}"
            lines.append(text.format(name=node.GetName(), outside=sum(known)))
        return "\n".join(lines)

    # Along a curve

    def addPlanesAlongCurve(self, curveNode, step, **options):
        """Planes across a curve, as outlines; see `GaussianMRILib.mrml.planes_along_curve`."""
        from GaussianMRILib import mrml

        planes = mrml.planes_along_curve(curveNode, step, **options)
        for node in planes:
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().SetFillVisibility(False)
            node.GetDisplayNode().SetPropertiesLabelVisibility(False)
        return planes

    def straighteningTransform(self, curveNode, **options):
        """The transform to a curve's straight space; see `GaussianMRILib.mrml.straightening_transform`."""
        from GaussianMRILib import mrml

        return mrml.straightening_transform(curveNode, **options)

    @staticmethod
    def alongJob(nodes, space, back=False, view=None, **options):
        """Copies in the straight space of a curve or straightened volume, or back; see `GaussianMRILib.mrml.take_along`."""
        from GaussianMRILib.mrml.along import AlongJob

        return AlongJob(list(nodes), space, back=back, view=view, **options)

    @staticmethod
    def changedSince(curveNode, **options):
        """Names of the straightened volumes of a curve in whose straight space it no longer is."""
        from GaussianMRILib.mrml.along import straightened_before

        return [node.GetName() for node in straightened_before(curveNode, **options)]

    def report(self, fieldNode, nodes=(), referenceNode=None):
        """A table node about a field and the volumes made from it; see `GaussianMRILib.mrml.report`."""
        from GaussianMRILib import mrml

        return mrml.report(fieldNode, list(nodes), reference=referenceNode, scene=slicer.mrmlScene)

    @staticmethod
    def exportable(volumeNodes):
        """Those of some volumes that are images, which `exportDicom` writes; maps are none."""
        if not volumeNodes:  # nothing of the library is needed before its packages are there
            return []
        from GaussianMRILib.mrml.export import is_image

        return [node for node in volumeNodes if is_image(node)]

    def exportDicom(self, volumeNodes, folder):
        """Write each volume as a derived DICOM series in a folder of its own; returns the folders."""
        from GaussianMRILib import mrml

        return mrml.export_dicom(list(volumeNodes), folder)
