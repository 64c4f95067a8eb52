"""The image on a plane, kept up to date in a slice view while the plane is moved."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import vtk
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import vtk_to_numpy

from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from .maps import MAP_OUTSIDE, map_image, native_spacing, scan_corners, show_map
from .planes import Spacing, filled_as_before, frame_of, move_plane, outline_only, plane_of
from .resampling import empty_value, images_of
from .scene import PREFIX, all_or_nothing, as_array, as_matrix, hidden_node, in_scene, own_display_nodes
from .views import composite_of, face_plane, facing, give_view_back, keep_view, nodes_of, right_handed
from .volumes import copy_display, volume_from_images

if TYPE_CHECKING:
    from ..gaussians import GaussianField

log = logging.getLogger("GaussianMRI")

#: Most pixels of a preview; where the plane has more, they are made larger.
MOST_PIXELS = 512 * 512
#: mm that the plane moves with one step of the mouse wheel.
WHEEL_MM = 1.0
#: Images that take longer than so many milliseconds have larger pixels while things move, up to so many times as large.
LONGEST_MS, COARSEST = 50.0, 3.0
_VIEWS_BEFORE = PREFIX + "ViewsBefore"


@dataclass(frozen=True)
class PreviewFacts:
    """What there is to say of a preview's image.

    Attributes:
        outside: share of its pixels outside what was scanned, 0 to 1.
        milliseconds: from the plane's change to the volume node's.
        spacing: mm between pixels, along i and j.
        shape: rows, columns.
    """

    outside: float
    milliseconds: float
    spacing: tuple[float, float]
    shape: tuple[int, int]


class Preview:
    """A slice view and a plane node that are one thing, with the image that a renderer has there.

    Where the plane goes the view turns, and where the view goes (mouse wheel, slider, orientation, a jump to a point) the
    plane goes. A plane that is locked stays, and the view turns back to it. The image is a volume node that is neither
    listed nor saved; it is as deep as the scan, so that the view has it until the next one is there, and so that wheel and
    slider, which Slicer keeps within a view's volume, reach all of the scan.

    While the preview runs, the view is seen in 3D views too, does not draw the plane's own markup, and other views
    draw its outline only, whose filling would tint the image; `stop` gives all back as it was. A plane, view or scene
    that goes away stops the preview, and so does another volume that is chosen for the view (`taken`).

    Example:
        >>> preview = Preview(mrml.resampler(fieldNode), planeNode, sliceNode)   # doctest: +SKIP
        >>> planeNode.SetCenter(0, 0, 10)                                        # doctest: +SKIP
        >>> preview.stop()                                                       # doctest: +SKIP

    Args:
        renderer: has `render(ImagePlane)`: a GaussianField, or what `mrml.resampler` returns.
        plane_node: vtkMRMLMarkupsPlaneNode.
        slice_node: vtkMRMLSliceNode to show it in.
        source: volume node whose display settings the image takes; None: automatic.
        spacing: mm between pixels; default: the native in-plane spacing.
        thickness: mm along the plane's normal that the image shows.
        overlay: one of `MAPS` that is shown over the image, or None.
        field: GaussianField for the overlay; default: the renderer.
        opacity: of the overlay, 0 to 1.
        name: of the image in the corner of the view.
        schedule: is given the update as a function when the plane has changed and calls it once the event loop is idle;
            default: at once. Changes in between then cost one update.
        changed: called after every update, and once when the preview stops by itself.
        projection: of the thickness: "mean", "max" or "min".
        settle: is given a function and calls it after a pause of a fraction of a second. With it, images that take longer
            than `LONGEST_MS` have larger pixels until nothing has changed for that long; default: always all pixels.

    Raises:
        GaussianMRIError: the plane is not placed or under a transform that is not linear; a view without a scene.
    """

    def __init__(
        self,
        renderer: Any,
        plane_node: Any,
        slice_node: Any,
        source: Any = None,
        spacing: Spacing = None,
        thickness: float = 0.0,
        overlay: str | None = None,
        field: Any = None,
        opacity: float = 0.5,
        name: str = "Gaussian MRI preview",
        schedule: Callable[[Callable[[], None]], object] | None = None,
        changed: Callable[[], object] | None = None,
        *,
        projection: str = "mean",
        settle: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self.facts: PreviewFacts | None = None
        self.problem: str | None = None
        self.taken = False
        self.volume: Any = None
        self.overlay_volume: Any = None
        self._renderer, self._plane, self._view = renderer, plane_node, slice_node
        self._spacing = native_spacing(renderer) if spacing is None else spacing
        self._thickness, self._overlay, self._opacity = thickness, overlay, opacity
        self._projection = projection
        self._field = renderer if field is None else field
        self._source, self._background = source, empty_value(renderer)
        self._name, self._schedule, self._changed = name, schedule, changed
        self._pending = False
        self._settle = settle
        self._coarser, self._changes = 1.0, 0  # times the pixels' size, updates
        self._sharp_ms: float | None = None  # what an image with all its pixels takes; the first one is slow at any size
        self._size: tuple[float, ...] = ()  # of plane and view, for which the field of view was chosen
        self._made: list[str] = []  # IDs of the volumes
        self._corners = scan_corners(renderer)
        self._facing = self._frame = np.eye(4)  # of the view and of the plane when they last agreed
        self._observed: list[tuple[Any, int]] = []
        self._scene = plane_node.GetScene()
        composite = composite_of(slice_node)
        if self._scene is None or composite is None:
            raise GaussianMRIError("A preview needs a plane and a slice view of the scene.")
        keep_view(slice_node)
        self._hidden: list[Any] = []
        try:
            self._show(self._image_plane())
        except BaseException:
            self.stop()
            raise
        for node, event in (
            (plane_node, vtk.vtkCommand.ModifiedEvent),
            (plane_node, plane_node.PointModifiedEvent),
            (plane_node, plane_node.PointRemovedEvent),
            (plane_node, plane_node.TransformModifiedEvent),
        ):
            self._observe(node, event, self._plane_changed)
        self._hide_markup()
        self._observe(slice_node, vtk.vtkCommand.ModifiedEvent, self._view_changed)
        self._observe(composite, vtk.vtkCommand.ModifiedEvent, self._layers_changed)
        self._observe(self._scene, self._scene.NodeAboutToBeRemovedEvent, self._node_leaves)
        self._observe(self._scene, self._scene.StartImportEvent, lambda *_: self.stop())
        self._observe(self._scene, self._scene.StartCloseEvent, lambda *_: self.stop(restore=False))

    @property
    def running(self) -> bool:
        return bool(self._observed)

    @property
    def slice_node(self) -> Any:
        """The view that it is shown in."""
        return self._view

    def set_opacity(self, opacity: float) -> None:
        """Of the overlay, 0 to 1."""
        self._opacity = opacity
        if self.running and self.overlay_volume is not None:
            composite_of(self._view).SetForegroundOpacity(opacity)

    def exchange(self, renderer: Any, field: Any, name: str) -> None:
        """Show another renderer of the same scan in place: plane, view and zoom stay; arguments as at the beginning."""
        self._renderer, self._field = renderer, renderer if field is None else field
        self._background, self._corners = empty_value(renderer), scan_corners(renderer)
        if self.volume is not None:
            self.volume.SetName(name)
        self.update()

    def update(self) -> None:
        """Render the plane where it now is. A plane that has become impossible leaves the last image and `problem`."""
        self._pending = False
        if not self.running:
            return
        try:
            if self.taken:
                self.stop()
            else:
                self._show_in_time()
                self.problem = None
        except GaussianMRIError as error:
            self.problem = str(error)
        except Exception as error:  # it would come again with every move of the mouse
            self.stop()
            self.problem = f"The preview was ended by an error: {error}"
            log.exception("The preview was ended by an error.")
        if self._changed is not None:
            self._changed()

    def _show_in_time(self) -> None:
        """Show the plane, with larger pixels where it takes too long for a movement, and sharp once that has ended."""
        self._changes += 1
        took = self._sharp_ms or 0.0
        self._coarser = 1.0 if self._settle is None else float(np.clip(np.sqrt(took / LONGEST_MS), 1.0, COARSEST))
        self._show(self._image_plane())
        assert self.facts is not None
        if self._coarser == 1:
            self._sharp_ms = self.facts.milliseconds
        elif self._settle is not None:
            # As if all of it went with the number of pixels: the images then come to take just as long as they may.
            self._sharp_ms = (took + self.facts.milliseconds * self._coarser**2) / 2
            changes = self._changes
            self._settle(lambda: self._sharpen(changes))

    def _sharpen(self, changes: int) -> None:
        """All pixels again, if nothing has changed since there were so many changes."""
        if self.running and changes == self._changes and not self._pending and self._coarser > 1:
            settle, self._settle = self._settle, None
            self.update()
            self._settle = settle

    def stop(self, restore: bool = True) -> None:
        """Remove the image; with `restore` the slice view shows again what it showed before."""
        observed, self._observed = self._observed, []
        for thing, tag in observed:
            thing.RemoveObserver(tag)
        self._show_markup()
        volumes, self.volume, self.overlay_volume = (self.volume, self.overlay_volume), None, None
        composite = composite_of(self._view) if in_scene(self._view) else None
        if restore and composite is not None:
            give_view_back(self._view, [None, *self._made])
        for volume in volumes:
            if in_scene(volume):
                display = volume.GetDisplayNode()
                volume.GetScene().RemoveNode(volume)
                if in_scene(display):
                    display.GetScene().RemoveNode(display)

    def _observe(self, thing: Any, event: Any, call: Callable[..., None]) -> None:
        self._observed.append((thing, thing.AddObserver(event, call)))

    def _plane_changed(self, *_: Any) -> None:
        if self._pending:
            return
        self._pending = True
        if self._schedule is None:
            self.update()
        else:
            self._schedule(self.update)

    def _view_changed(self, *_: Any) -> None:
        if self.taken:  # whoever took the view turns it
            return
        if tuple(self._view.GetDimensions()[:2]) != self._size[2:]:
            self._plane_changed()
        matrix = as_array(self._view.GetSliceToRAS())
        if np.allclose(matrix, self._facing, rtol=0, atol=1e-6):
            return
        try:
            self._follow(matrix)
        except GaussianMRIError as error:
            self.problem = str(error)
        self._plane_changed()

    def _follow(self, matrix: NDArray[np.float64]) -> None:
        """The view has moved to a SliceToRAS (4, 4)."""
        if not self._plane.GetLocked():
            # Where the plane has to be, not how it has to move: linked views tell of one move several times.
            turned = right_handed(matrix) @ np.linalg.inv(right_handed(self._facing))
            self._facing, self._frame = matrix, turned @ self._frame
            motion = self._frame @ np.linalg.inv(frame_of(self._plane))
            if not np.allclose(motion, np.eye(4), rtol=0, atol=1e-6):
                move_plane(self._plane, motion)

    def _layers_changed(self, composite: Any, *_: Any) -> None:
        if self.volume is not None and composite.GetBackgroundVolumeID() != self.volume.GetID():
            self.taken = True
            self._plane_changed()  # not from within the list in which it was chosen

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _node_leaves(self, _scene: Any, _event: Any, node: Any) -> None:
        if node in (self._plane, self._view, self.volume):
            if node is self.volume:
                self.volume = None
            self.stop()
            if self._changed is not None:
                self._changed()

    def _hide_markup(self) -> None:
        """Draw the plane's markup in every view but this one, as an outline; see `outline_only`."""
        for display in own_display_nodes(self._plane):
            if display.GetAttribute(_VIEWS_BEFORE) is None:
                display.SetAttribute(_VIEWS_BEFORE, " ".join(display.GetViewNodeIDs()))
            outline_only(display)
            self._hidden.append(display)
            views = nodes_of(self._scene, "vtkMRMLAbstractViewNode")
            shown = [view.GetID() for view in views if display.IsDisplayableInView(view.GetID())]
            display.SetViewNodeIDs([name for name in shown if name != self._view.GetID()])

    def _show_markup(self) -> None:
        hidden, self._hidden = self._hidden, []
        for display in hidden:
            _draw_as_before(display)

    def _image_plane(self) -> ImagePlane:
        plane = plane_of(self._plane, self._spacing, self._thickness)
        coarser = max(coarsening(plane), self._coarser)
        if coarser > 1:
            plane = plane_of(
                self._plane, (plane.spacing[0] * coarser, plane.spacing[1] * coarser), self._thickness
            )
        return plane

    def _render(self, plane: ImagePlane) -> NDArray[np.float32]:
        return images_of(self._renderer, [plane], self._projection)[0]

    def _frame_now(self) -> NDArray[np.float64]:
        """(4, 4) of what the view is one thing with."""
        return frame_of(self._plane)

    def _show(self, plane: ImagePlane) -> None:
        started = time.perf_counter()
        image = self._render(plane)
        outside = float(np.isnan(image).mean())
        first = self.volume is None
        if first:
            self.volume = self._new_volume(image, plane, self._name, self._background)
            copy_display(self._source, self.volume)
        else:
            self._refill(self.volume, image, plane, self._background)
        if self._overlay is not None:
            cover = map_image(self._field, plane, self._overlay)
            if self.overlay_volume is None:
                self.overlay_volume = self._new_volume(
                    cover, plane, "Gaussian MRI preview overlay", MAP_OUTSIDE
                )
                show_map(self.overlay_volume, self._overlay, highest=highest_value(self._field, self._overlay))
            else:
                self._refill(self.overlay_volume, cover, plane, MAP_OUTSIDE)
        self._turn_view(plane, first)
        self.facts = PreviewFacts(
            outside, 1e3 * (time.perf_counter() - started), plane.spacing, (plane.shape[0], plane.shape[1])
        )

    def _new_volume(self, image: NDArray[Any], plane: ImagePlane, name: str, background: float) -> Any:
        with all_or_nothing(self._scene) as added:
            # The name is the same in every view; nothing looks it up.
            node = hidden_node(self._scene, "vtkMRMLScalarVolumeNode", name, "preview")
            added.append(node)
            volume_from_images([image], [plane], node=node, background=background)
        node.SetIJKToRASMatrix(as_matrix(self._deep(plane)))
        self._made.append(node.GetID())
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetSaveWithScene(False)
        return node

    def _turn_view(self, plane: ImagePlane, first: bool) -> None:
        extent: tuple[float, ...] = (plane.shape[1] * plane.spacing[0], plane.shape[0] * plane.spacing[1])
        if self._coarser > 1:
            extent = self._size[:2]  # larger pixels only round it; the view keeps its zoom
        size = (*extent, *self._view.GetDimensions()[:2])
        fit, self._size = first or not np.allclose(size, self._size, rtol=0.01, atol=0), size
        self._facing, self._frame = facing(plane, self._view), self._frame_now()
        if first:
            # Before the view is turned: another preview that it belonged to must not take that for the user's hand.
            composite = composite_of(self._view)
            composite.SetBackgroundVolumeID(self.volume.GetID())
            composite.SetLabelVolumeID(None)
            over = self.overlay_volume
            composite.SetForegroundVolumeID(over.GetID() if over is not None else None)
            composite.SetForegroundOpacity(self._opacity if over is not None else 0.0)
            self._view.SetSliceVisible(True)
            self._view.SetSliceSpacingModeToPrescribed()
            self._view.SetPrescribedSliceSpacing(WHEEL_MM, WHEEL_MM, WHEEL_MM)
        face_plane(self._view, plane, fit)

    def _refill(self, node: Any, image: NDArray[Any], plane: ImagePlane, background: float) -> None:
        """New pixels and a new place in one event; the node's image data are kept where their size is right."""
        data = node.GetImageData()
        modifying = node.StartModify()
        if data.GetDimensions() != (plane.shape[1], plane.shape[0], 1):
            volume_from_images([image], [plane], node=node, background=background)
        else:
            pixels = vtk_to_numpy(data.GetPointData().GetScalars()).reshape(plane.shape)
            np.copyto(pixels, image)
            pixels[np.isnan(pixels)] = background
            data.GetPointData().GetScalars().Modified()
            data.Modified()
        node.SetIJKToRASMatrix(as_matrix(self._deep(plane)))
        node.EndModify(modifying)

    def _deep(self, plane: ImagePlane) -> NDArray[np.float64]:
        """ijk_to_ras (4, 4) of a volume with the plane's pixels that is as deep as the scan along the normal."""
        matrix: NDArray[np.float64] = plane.ijk_to_ras.copy()
        normal = matrix[:3, 2] * np.sign(np.linalg.det(matrix[:3, :3]))
        here = float(plane.center @ normal)
        along = self._corners @ normal
        low, high = min(here - WHEEL_MM, float(along.min())), max(here + WHEEL_MM, float(along.max()))
        matrix[:3, 2] = (high - low) * normal
        matrix[:3, 3] += ((low + high) / 2 - here) * normal
        return matrix


def end_saved_previews(scene: Any) -> None:
    """Give back views and markups that a scene was saved with while previews had them; their images are in no file."""
    for view in nodes_of(scene, "vtkMRMLSliceNode"):
        give_view_back(view, [None])
    for display in nodes_of(scene, "vtkMRMLMarkupsDisplayNode"):
        if display.GetAttribute(_VIEWS_BEFORE) is not None:
            _draw_as_before(display)


def _draw_as_before(display: Any) -> None:
    """A markup in the views in which it was drawn before a preview, and filled as it was."""
    before = display.GetAttribute(_VIEWS_BEFORE)
    if before is not None:
        scene = display.GetScene()  # views of a damaged file, in which nothing would be drawn, are none
        display.SetViewNodeIDs([name for name in before.split() if scene.GetNodeByID(name) is not None])
        display.RemoveAttribute(_VIEWS_BEFORE)
    filled_as_before(display)


def coarsening(plane: ImagePlane) -> float:
    """How much larger the pixels of a preview are than a plane's, so that it has no more than `MOST_PIXELS`; 1 or more."""
    return max(1.0, float(np.sqrt(plane.shape[0] * plane.shape[1] / MOST_PIXELS)))


def highest_value(field: GaussianField, overlay: str) -> float:
    """Value with the last colour of an overlay, the same wherever the plane goes: half the largest distance between
    slices in mm, or a support of 1."""
    apart = [stack.get("spacing_mm", 0.0) for stack in field.report.get("stacks", [])]
    return max([*apart, 2.0]) / 2 if overlay == "distance" else 1.0
