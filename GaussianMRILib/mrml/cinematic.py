"""Cinematic pictures in 3D views: behind all else that the view draws, with its camera, cut by a plane of the scene."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..errors import GaussianMRIError
from ..files import file_name
from .cinematic_clips import clip_of_node, clips_of_clip_node
from .jobs import Job
from .planes import filled_as_before, outline_only
from .scene import all_or_nothing, described, in_scene, is_node, own_display_nodes, scene_of

if TYPE_CHECKING:
    from ..cinematic.camera import Camera
    from ..cinematic.clip import ClipPlane
    from ..cinematic.live import LivePicture
    from ..cinematic.looks import Look
    from ..cinematic.model import CinematicModel

#: Pixels that are drawn at most; a larger view gets the image enlarged.
MOST_PIXELS = 512 * 512


def camera_of_view(renderer: Any, most_pixels: int = MOST_PIXELS) -> Camera:
    """The camera of a 3D view's vtkRenderer, with as many pixels as the view has, up to a number.

    Raises:
        GaussianMRIError: the view's camera has a parallel projection, or is clipped to nothing.
    """
    from ..cinematic.camera import Camera

    active = renderer.GetActiveCamera()
    if active.GetParallelProjection():
        raise GaussianMRIError(
            "The 3D view has a parallel projection; cinematic models need perspective (the view's eye menu)."
        )
    width, height = (max(pixels, 1) for pixels in renderer.GetSize())
    shrink = min(1.0, math.sqrt(most_pixels / (width * height)))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    angle = active.GetViewAngle()
    if active.GetUseHorizontalViewAngle():
        angle = math.degrees(2 * math.atan(math.tan(math.radians(angle) / 2) * height / width))
    return Camera.look_at(
        active.GetPosition(),
        active.GetFocalPoint(),
        up=active.GetViewUp(),
        fov_degrees=float(np.clip(angle, 0.1, 170.0)),
        size=size,
    )


def look_of_display(display_node: Any) -> Look:
    """The look that a volume has in Slicer's Volume Rendering: its transfer functions and highlights.

    Args:
        display_node: vtkMRMLVolumeRenderingDisplayNode.

    Raises:
        GaussianMRIError: no such node, or one without transfer functions or without opacity.
    """
    from ..cinematic.looks import from_volume_property

    if not is_node(display_node, "vtkMRMLVolumeRenderingDisplayNode"):
        raise GaussianMRIError(f"A volume rendering display node is needed, got {described(display_node)}.")
    node = display_node.GetVolumePropertyNode()
    if node is None:
        raise GaussianMRIError(f"{described(display_node)} has no transfer functions; choose a preset there.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{file_name(node.GetName() or '', 'look')}.vp.json")
        storage = slicer.vtkMRMLVolumePropertyJsonStorageNode()
        storage.SetFileName(str(path))
        if not storage.WriteData(node):
            raise GaussianMRIError(
                f"Slicer cannot write the transfer functions of {described(display_node)}."
            )
        return from_volume_property(path)


class CinematicView:
    """A cinematic model, or a volume by path tracing, in a 3D view; drawn anew when the view is and something has changed.

    The picture is the view's background: markups and other actors of the scene are drawn over it, markups planes that cut
    as outlines. A path-traced picture
    (`live`) is coarse at first; a thread refines it while nothing moves, and a timer that calls `advance` shows that.

    Example:
        >>> renderer = threeDView.renderWindow().GetRenderers().GetFirstRenderer()   # doctest: +SKIP
        >>> view = CinematicView(renderer, model, planeNode)                         # doctest: +SKIP

    Args:
        renderer: vtkRenderer of the view.
        model: what `GaussianMRILib.cinematic.load_model` returned; None with `live`.
        plane_node: markups plane or slice node that cuts, or None.
        live: what `live_picture` returned, with or without a model of its own.
        flipped: cut away the other side of `plane_node`.
        more_planes: markups planes that cut as well.
        clip_type: how these planes cut together (`cinematic.clip.combined`). Splats know "union" only: under "intersection"
            the path tracer draws while something moves, too.
        clip_node: vtkMRMLClipNode that cuts away more, in the way that it says.
        most_pixels: drawn at most; the picture is enlarged to the view.
        schedule: has the view drawn soon (its `scheduleRender`); default: at once.
        changed: called after every new picture.

    Attributes:
        milliseconds: that the last picture took.
        problem: why there is no new picture, or None.
    """

    def __init__(
        self,
        renderer: Any,
        model: CinematicModel | None,
        plane_node: Any = None,
        flipped: bool = False,
        most_pixels: int = MOST_PIXELS,
        schedule: Callable[[], object] | None = None,
        changed: Callable[[], object] | None = None,
        live: LivePicture | None = None,
        more_planes: Sequence[Any] = (),
        clip_type: str = "union",
        clip_node: Any = None,
    ) -> None:
        self.clip_type, self.clip_node = clip_type, clip_node
        self.more_planes: list[Any] = []
        self.live: LivePicture | None = None
        self._job: Job | None = None
        self._failed: str | None = None
        self._version = 0
        self.model, self.plane_node, self.flipped = model, plane_node, flipped
        self.most_pixels = most_pixels
        self.milliseconds: float | None = None
        self.problem: str | None = None
        self._renderer, self._changed = renderer, changed
        self._schedule = schedule or self._render_now
        self._drawn: Any = None
        self._observed: list[tuple[Any, int]] = []
        self._outlined: list[Any] = []
        self._image = vtk.vtkImageData()
        self._texture = vtk.vtkTexture()
        self._texture.SetInputData(self._image)
        self._texture.InterpolateOn()
        self._before = renderer.GetBackgroundTexture(), renderer.GetTexturedBackground()
        self._refine(live)
        self.refresh()
        renderer.SetBackgroundTexture(self._texture)
        renderer.SetTexturedBackground(True)
        self._observe(renderer, vtk.vtkCommand.StartEvent, lambda *_: self.refresh())
        self.follow(plane_node, more_planes=more_planes, clip_type=clip_type, clip_node=clip_node)

    @property
    def running(self) -> bool:
        return bool(self._observed)

    def follow(
        self,
        plane_node: Any,
        flipped: bool | None = None,
        more_planes: Sequence[Any] = (),
        clip_type: str = "union",
        clip_node: Any = None,
    ) -> None:
        """Be cut by another plane (None: by none), and by these further ones."""
        old, new = [self.plane_node, self.clip_node, *self.more_planes], [plane_node, clip_node, *more_planes]
        before = [node for node in old if node is not None]
        for thing, tag in self._observed:
            if thing in before:
                thing.RemoveObserver(tag)
        self._observed = [(thing, tag) for thing, tag in self._observed if thing not in before]
        self.plane_node, self.more_planes = plane_node, list(more_planes)
        self.clip_type, self.clip_node = clip_type, clip_node
        self.flipped = self.flipped if flipped is None else flipped
        outlined: list[Any] = []
        for node in dict.fromkeys(node for node in new if node is not None):
            # A slice view that moves does not make 3D views render where it is not shown in them.
            self._observe(node, vtk.vtkCommand.ModifiedEvent, lambda *_: self.render())
            if is_node(node, "vtkMRMLMarkupsPlaneNode"):
                outlined += own_display_nodes(node)
            for kind, event in (("vtkMRMLMarkupsNode", "PointModifiedEvent"), ("vtkMRMLClipNode", "ClipNodeModifiedEvent")):
                if is_node(node, kind):
                    self._observe(node, getattr(node, event), lambda *_: self.render())
        self._outline(outlined)
        self.render()

    def _outline(self, displays: list[Any]) -> None:
        """Draw these display nodes of planes as outlines, and no others."""
        for display in self._outlined:
            if display not in displays:
                filled_as_before(display)
        for display in displays:
            outline_only(display)
        self._outlined = displays

    def _clips(self) -> list[ClipPlane]:
        from ..cinematic.clip import combined, is_hollow

        first = [clip_of_node(self.plane_node, self.flipped)] if in_scene(self.plane_node) else []
        others = (node for node in self.more_planes if in_scene(node) and node is not self.plane_node)
        clips = combined([*first, *map(clip_of_node, others)], self.clip_type)
        more = clips_of_clip_node(self.clip_node) if in_scene(self.clip_node) else ()
        if is_hollow(clips) and is_hollow(more):
            raise GaussianMRIError(
                f"The planes and '{self.clip_node.GetName()}' both leave what is not convex; choose Union for one of them."
            )
        return [*clips, *more]

    def show(self, live: LivePicture | None) -> None:
        """Show another volume, or the same one in another look."""
        self._refine(live)
        self.refresh()
        self.render()

    def advance(self) -> None:
        """Give the thread that refines the picture a moment, and show what it has made; for a timer.

        A thread of Python gets no time while Slicer's event loop runs.
        """
        job, live = self._job, self.live
        if job is None or live is None:
            return
        if job.poll(0.01):
            self._job = None
            try:
                job.result()
            except GaussianMRIError as error:
                self.problem = self._failed = str(error)
            self._tell()
        elif live.version != self._version:
            picture = live.picture()
            if picture is not None:
                self._fill(picture)
                self.render()
                self._tell()

    def _refine(self, live: LivePicture | None) -> None:
        """Work on this picture from now on, and on no other."""
        if self._job is not None:
            self._job.cancel()
        self.live, self._job, self._failed, self._drawn = live, None, None, None
        if live is not None:

            def work(job: Job) -> None:
                while not job.cancelled:
                    live.refine()

            self._job = Job(work, "picture")
            self._job.start()

    def render(self) -> None:
        """Have the view drawn."""
        if self.running:
            self._schedule()

    def _render_now(self) -> None:
        window = self._renderer.GetRenderWindow()
        if window is not None:
            window.Render()

    def refresh(self) -> None:
        """Make a new picture if camera, size, plane or model have changed since the last."""
        try:
            camera = camera_of_view(self._renderer, self.most_pixels)
            clips = self._clips()
        except GaussianMRIError as error:
            self.problem = str(error)
            return
        self.problem = self._failed
        state = (
            camera.world_to_camera.tobytes(), camera.fx, camera.width, camera.height, id(self.model), id(self.live),
            *((clip.normal.tobytes(), clip.offset, clip.joint) for clip in clips),
        )  # fmt: skip
        if state == self._drawn:
            return
        started = time.perf_counter()
        try:
            if self.live is not None:
                self._fill(self.live.look(camera, clips=clips))
            elif self.model is not None:
                self._fill(self.model.render(camera, clips).image.cpu().numpy())
        except GaussianMRIError as error:  # as of too many planes
            self.problem = str(error)
        self._drawn = state
        self.milliseconds = 1e3 * (time.perf_counter() - started)
        self._tell()

    def _fill(self, picture: NDArray[Any]) -> None:
        if self.live is not None:
            self._version = self.live.version
        _fill(self._image, picture)
        self._texture.Modified()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed()

    def picture(self) -> NDArray[np.uint8]:
        """The picture as it is shown, (rows, columns, 3), top row first."""
        columns, rows, _ = self._image.GetDimensions()
        stored = vtk_to_numpy(self._image.GetPointData().GetScalars())
        return np.array(stored.reshape(rows, columns, 3)[::-1])

    def stop(self) -> None:
        """Give the view its own background back, and end the thread."""
        self._refine(None)
        observed, self._observed = self._observed, []
        for thing, tag in observed:
            thing.RemoveObserver(tag)
        self._outline([])
        self._renderer.SetBackgroundTexture(self._before[0])
        self._renderer.SetTexturedBackground(self._before[1])
        self._schedule()

    def _observe(self, thing: Any, event: Any, call: Callable[..., None]) -> None:
        self._observed.append((thing, thing.AddObserver(event, call)))


def snapshot(picture: NDArray[np.uint8], scene: Any = None, name: str = "Cinematic snapshot") -> Any:
    """A picture (rows, columns, 3) as a new vector volume node, one pixel a mm."""
    scene = scene_of(scene=scene)
    image = vtk.vtkImageData()
    _fill(image, picture[::-1])
    with all_or_nothing(scene, undo=True) as added:
        node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", scene.GenerateUniqueName(name))
        added.append(node)
        matrix = vtk.vtkMatrix4x4()
        # Seen as an axial slice, the top row is anterior and the left column right.
        matrix.DeepCopy([-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1])
        node.SetIJKToRASMatrix(matrix)
        node.SetAndObserveImageData(image)
        node.CreateDefaultDisplayNodes()
    return node


def _fill(image: Any, picture: NDArray[Any]) -> None:
    """Put a picture (rows, columns, 3), float 0..1 or uint8, top row first, into vtkImageData, whose rows go upwards."""
    if picture.dtype != np.uint8:
        picture = (np.clip(picture, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    rows, columns, _ = picture.shape
    flipped = np.ascontiguousarray(picture[::-1]).reshape(-1, 3)
    if image.GetDimensions()[:2] != (columns, rows):
        image.SetDimensions(columns, rows, 1)
        image.GetPointData().SetScalars(numpy_to_vtk(flipped, deep=1))
    else:
        vtk_to_numpy(image.GetPointData().GetScalars())[:] = flipped
        image.GetPointData().GetScalars().Modified()
    image.Modified()
