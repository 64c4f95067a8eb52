"""Markups and segmentations that go along into the straight space of a curve, and back to the patient."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import Curve, transform_points
from ..interruption import checkpoint
from .curves import CURVE_ROLE, ROUND_TRIP_MM, curve_from_node, moved, there_and_back
from .jobs import Job
from .labels import fill_segments, oriented, segments_without_images
from .scene import (
    all_or_nothing,
    as_list,
    described,
    ijk_to_ras,
    in_scene,
    is_node,
    numbers,
    own_display_nodes,
    place_beside,
    stored,
)
from .segments import LabelLayer, label_layers
from .views import nodes_of
from .volumes import STRAIGHT_SPACE

#: What can be taken along, by its points.
_POINTS = ("Fiducial", "Line", "Angle", "Curve")
#: How far what goes along may be folded, see `Curve.tightest`: from 1 on places are shown twice.
_UNFOLDED = 0.95
#: mm between the places at which a line or curve is looked at.
_STEP_MM = 1.0
#: Points that VTK moves in one call, in which no other thread of Python runs.
_AT_ONCE = 20_000


class AlongJob(Job):
    """Copies of markups and segmentations at their places in a straight space or back, computed in a thread of its own;
    `nodes` puts them into the scene.

    What is copied is as it is when the job is made. For arguments and errors see `take_along`.
    """

    def __init__(self, nodes: Any, space: Any, *, back: bool = False, view: Any = None, **options: Any) -> None:
        super().__init__(AlongJob._move, "copying")
        self._way, given = _Way(*_space_of(space, **options), space.GetName(), back), as_list(nodes)
        if not given:
            raise GaussianMRIError("There is nothing to take along; choose markups or segmentations.")
        self._view, self._scene = view, space.GetScene() if in_scene(space) else given[0].GetScene()
        #: Of each node itself, a copy that is in no scene yet, and a remark or ""; there is no copy of segmentations so far.
        self._copies: list[tuple[Any, Any, str]] = []
        self._layers: dict[int, list[LabelLayer]] = {}
        self._segments: dict[int, dict[str, Any]] = {}
        for number, node in enumerate(given):
            copy, remark = None, ""
            try:
                if is_node(node, "vtkMRMLSegmentationNode"):
                    self._layers[number], self._segments[number] = label_layers(node), segments_without_images(node)
                else:
                    copy, remark = _markup(node, self._way)
            except GaussianMRIError as error:
                remark = str(error)
            self._copies.append((node, copy, remark))
        if not self._layers and not any(copy for _, copy, _ in self._copies):
            raise GaussianMRIError("\n".join(remark for *_, remark in self._copies))

    def _move(self) -> dict[int, list[_Moved]]:
        count, moved = sum(map(len, self._layers.values())), dict[int, list[_Moved]]()
        for number, layers in self._layers.items():
            moved[number] = []
            for layer in layers:
                done = sum(map(len, moved.values()))
                tell = lambda part, done=done: self.report((done + part) / count, "copying")  # noqa: E731
                moved[number].append(_layer(layer, self._way, tell))
        return moved

    def nodes(self) -> tuple[list[Any], list[str]]:
        """The copies and the sentences of `take_along`, once `poll` says that the work has ended.

        Raises:
            GaussianMRIError: the work was cancelled, or nothing could be copied.
        """
        moved: dict[int, list[_Moved]] = self.result()
        remarks = []
        with all_or_nothing(self._scene, undo=True) as added:
            for number, (node, made, remark) in enumerate(self._copies):
                if number in moved:
                    made, remark = _segmentation(node, moved[number], self._way)
                    if made is not None:
                        images = [oriented(part.labels, part.affine) for part in moved[number]]
                        fill_segments(made, self._segments[number], self._layers[number], images)
                remarks += [remark] if remark else []
                if made is None:
                    continue
                end = "in the patient" if self._way.back else "straightened"
                made.SetName(self._scene.GenerateUniqueName(f"{node.GetName()} {end}"))
                made = self._scene.AddNode(made)
                added.append(made)
                made.CreateDefaultDisplayNodes()
                for display in own_display_nodes(node)[:1]:
                    made.GetDisplayNode().CopyContent(display)
                made.GetDisplayNode().SetViewNodeIDs([] if self._view is None else [self._view.GetID()])
                place_beside(made, node)
            if not added:
                raise GaussianMRIError("\n".join(remarks))
        return list(added), remarks


def take_along(
    nodes: Any,
    space: Any,
    *,
    back: bool = False,
    view: Any = None,
    progress: Callable[[float], object] | None = None,
    **options: Any,
) -> tuple[list[Any], list[str]]:
    """Copies of markups and segmentations at their places in the straight space of a curve, or back at the patient's.

    The copies lie where they are without any transform; the originals stay. What reaches out of the straight space, which is
    `width` wide (or what of it is free of folds) and ends with the curve, has no place there: voxels and points of point
    lists are left out, and other markups are not copied; all of it is told. `AlongJob` is the same beside an event loop.

    Args:
        nodes: one or several: point lists, lines, angles, curves, segmentations; their transforms are applied.
        space: the curve, as it is now; or a straightened volume or image, whose curve may have changed since.
        back: from the straight space to the patient.
        view: the one slice view in which the copies are drawn; default: all views.
        progress: called with the fraction that is done; when it returns False the work ends.
        options: width (mm), across, fixed, turn, as of `straightening_transform`; a straightened volume has its own.

    Returns:
        The copies, and a sentence about each thing that is not all there.

    Raises:
        GaussianMRIError: there is no way back from this straight space, its volume was moved, nothing could be copied, or
            cancelled; the scene is then as it was.

    Example:
        >>> copies, remarks = mrml.take_along([nerveNode], curveNode, width=40)            # doctest: +SKIP
        >>> mrml.take_along(pointsDrawnThere, straightenedVolume, back=True)               # doctest: +SKIP
    """
    job = AlongJob(nodes, space, back=back, view=view, **options)
    job.run(progress)
    return job.nodes()


def straightened_before(curve_node: Any, **options: Any) -> list[Any]:
    """Straightened volumes of a curve in another straight space than it now has with these options, as of `take_along`."""
    now, width = _space_of(curve_node, **options)
    found = []
    for volume in nodes_of(curve_node.GetScene(), "vtkMRMLScalarVolumeNode"):
        then = stored(volume, STRAIGHT_SPACE, _stored_space, None)
        if then is None or volume.GetNodeReference(CURVE_ROLE) is not curve_node:
            continue
        local = np.array([[u, 0.0, s] for s in np.linspace(0, then[0].length, 50) for u in (0.0, width / 2)])
        places = transform_points(then[0].straight_to_ras, local)
        apart = np.linalg.norm(now.to_curved(places) - then[0].to_curved(places), axis=1)
        if apart.max() > ROUND_TRIP_MM or abs(now.length - then[0].length) > ROUND_TRIP_MM:
            found.append(volume)
    return found


def _space_of(node: Any, width: float = 60.0, **options: Any) -> tuple[Curve, float]:
    """The curve and the width (mm) of a straight space; see `take_along`."""
    if is_node(node, "vtkMRMLMarkupsCurveNode"):
        return curve_from_node(node, **options), width
    found = stored(node, STRAIGHT_SPACE, _stored_space, None) if is_node(node) else None
    if found is None:
        raise GaussianMRIError(
            f"{described(node)} is no curve, and no straightened volume that says along which curve; make it again, or "
            "choose the curve."
        )
    if node.GetImageData() is None:
        raise GaussianMRIError(f"{described(node)} has no voxels; make it again, or choose the curve.")
    if node.GetParentTransformNode() is not None or not _lies_there(node, found[0]):
        raise GaussianMRIError(
            f"{described(node)} was moved since it was made, so that places on it are no longer places along its curve. "
            "Take it out of its transform, make it again, or choose the curve."
        )
    return found


def _lies_there(volume: Any, curve: Curve) -> bool:
    """Whether the middle and the directions of a straightened volume are those of its straight space."""
    local = np.linalg.inv(curve.straight_to_ras) @ ijk_to_ras(volume)
    middle = (local @ [*(np.array(volume.GetImageData().GetDimensions()) - 1) / 2, 1.0])[:3] - [0, 0, curve.length / 2]
    spacing = np.linalg.norm(local[:3, :3], axis=0)
    turned = np.abs(local[:3, :3] / spacing).max(axis=0) < 1 - 1e-4
    return bool(np.linalg.norm(middle) < 0.1 * spacing.min() + ROUND_TRIP_MM) and not turned.any()


def _stored_space(text: str) -> tuple[Curve, float]:
    content = json.loads(text)
    return Curve(**content["curve"]), numbers([content["width"]], 1)[0]


class _Way:
    """From the patient to the straight space of a curve, or back: points (N, 3) to points, and which of them are within."""

    def __init__(self, curve: Curve, width: float, name: str, back: bool) -> None:
        folded, _ = curve.tightest(width / 2, aside=width / 2)
        self.curve, self.name, self.back = curve, name, back
        self.width = width * min(1.0, _UNFOLDED / max(folded, 1e-9))
        self._to_patient = there_and_back(curve, self.width, name)

    def __call__(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return self._move(points, self.back)

    def reversed(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return self._move(points, not self.back)

    def _move(self, points: NDArray[np.float64], back: bool) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        parts = []
        for start in range(0, max(len(points), 1), _AT_ONCE):
            checkpoint()
            parts.append(self._move_some(points[start : start + _AT_ONCE], back))
        places, within = zip(*parts, strict=True)
        return np.concatenate(places), np.concatenate(within)

    def _move_some(self, points: NDArray[np.float64], back: bool) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        result = moved(self._to_patient if back else self._to_patient.GetInverse(), points)
        straight, patient = (points, result) if back else (result, points)
        local = transform_points(np.linalg.inv(self.curve.straight_to_ras), straight)
        within = np.abs(local[:, :2]).max(axis=1, initial=0) <= self.width / 2 + ROUND_TRIP_MM
        within &= np.abs(local[:, 2] - self.curve.length / 2) <= self.curve.length / 2 + ROUND_TRIP_MM
        if not back:  # far away the inverse leads anywhere
            again = moved(self._to_patient, straight[within])
            within[within] = np.linalg.norm(again - patient[within], axis=1) < ROUND_TRIP_MM
        return result, within

    @property
    def outside(self) -> str:
        """End of a sentence about something."""
        size = f"{self.width:.0f} mm wide and {self.curve.length:.0f} mm long"
        return f"lies outside the straight space of '{self.name}', which is {size}"


def _markup(node: Any, way: _Way) -> tuple[Any, str]:
    """A copy, which is in no scene yet, and a remark or ""."""
    if not any(is_node(node, f"vtkMRMLMarkups{kind}Node") for kind in _POINTS):
        kinds = "Point lists, lines, angles, curves and segmentations"
        raise GaussianMRIError(f"{kinds} are taken along, got {described(node)}.")
    count = node.GetNumberOfControlPoints()
    placed = [n for n in range(count) if node.GetNthControlPointPositionStatus(n) == node.PositionDefined]
    if not placed:
        raise GaussianMRIError(f"{described(node)} has no points; place them first.")
    moved_points, within = way(np.array([node.GetNthControlPointPositionWorld(n) for n in placed], np.float64))
    remark, alone = "", is_node(node, "vtkMRMLMarkupsFiducialNode")
    if not alone:
        if len(placed) < 2:
            raise GaussianMRIError(f"{described(node)} has one point only; place the others first.")
        line, all_within = way(_line(node))
        within &= all_within.all()
    if not within.any():
        some = "" if alone else "a part of "
        raise GaussianMRIError(f"{described(node)} is not taken along: {some}it {way.outside}.")
    if not within.all():
        remark = f"{np.sum(~within)} of {len(within)} points of {described(node)} are left out: each {way.outside}."
    copy = node.NewInstance()
    copy.CopyContent(node)
    copy.SetFixedNumberOfControlPoints(False)
    there = {n: point for n, point, kept in zip(placed, moved_points, within, strict=True) if kept}
    for number in reversed(range(count)):
        if number in there:
            copy.SetNthControlPointPosition(number, *there[number])
        else:
            copy.RemoveNthControlPoint(number)
    copy.SetFixedNumberOfControlPoints(node.GetFixedNumberOfControlPoints())
    if not alone:
        own = _line(copy)
        apart = max(float(np.linalg.norm(own - place, axis=1).min()) for place in line)
        if apart > _STEP_MM:
            remark = f"Between its points the copy of {described(node)} lies up to {apart:.1f} mm beside the right place."
    return copy, remark


def _line(node: Any) -> NDArray[np.float64]:
    """Places (N, 3) in the world along a line or curve as it is drawn, at most `_STEP_MM` apart."""
    drawn = node.GetCurvePointsWorld()
    corners = np.array([drawn.GetPoint(n) for n in range(drawn.GetNumberOfPoints())], np.float64)
    lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    s = np.r_[0.0, np.cumsum(lengths)]
    at = np.unique(np.r_[s, np.linspace(0, s[-1], int(s[-1] / _STEP_MM) + 2)])
    return np.stack([np.interp(at, s, axis) for axis in corners.T], axis=1)


class _Moved(NamedTuple):
    """A layer at the end of the way: labels (K, J, I), their ijk_to_ras, and how many voxels lie within, of how many."""

    labels: NDArray[Any]
    affine: NDArray[np.float64]
    inside: int
    whole: int


def _segmentation(node: Any, moved: list[_Moved], way: _Way) -> tuple[Any, str]:
    """A node for the copy, empty and in no scene yet, or None, and a remark or ""."""
    if not in_scene(node):
        return None, f"{described(node)} was removed while it was copied."
    share = 1 - sum(part.inside for part in moved) / sum(part.whole for part in moved)
    if share == 1:
        return None, f"{described(node)} is not taken along: it {way.outside}."
    return node.NewInstance(), f"{share:.0%} of {described(node)} is left out: it {way.outside}." if share > 0.005 else ""


def _layer(layer: LabelLayer, way: _Way, tell: Callable[[float], object]) -> _Moved:
    from ..gaussians.volume import check_voxels

    count = int(np.count_nonzero(layer.labels))
    inside = []
    for k, slice_ in enumerate(layer.labels):
        j, i = np.nonzero(slice_)
        places, within = way(transform_points(layer.ijk_to_ras, np.stack([i, j, np.full_like(i, k)], axis=1)))
        inside.append(places[within])
        tell((k + 1) / len(layer.labels) / 2)
    places = np.concatenate(inside)
    if not len(places):
        return _Moved(np.zeros((1, 1, 1), layer.labels.dtype), np.eye(4), 0, count)
    spacing = float(np.linalg.norm(layer.ijk_to_ras[:3, :3], axis=0).min())
    axes = np.eye(4) if way.back else way.curve.straight_to_ras
    local = transform_points(np.linalg.inv(axes), places)
    low, high = local.min(axis=0) - 2 * spacing, local.max(axis=0) + 2 * spacing  # off the curve voxels spread
    size = np.ceil((high - low) / spacing).astype(int) + 1
    check_voxels(size, spacing, "a segmentation with larger voxels")
    affine = axes.copy()
    affine[:3, 3] = transform_points(axes, low)
    affine[:3, :3] *= spacing
    labels = np.zeros(size[::-1], layer.labels.dtype)
    to_voxels, largest = np.linalg.inv(layer.ijk_to_ras), np.array(layer.labels.shape[::-1]) - 1
    for k, row in enumerate(labels):
        j, i = np.indices(row.shape)
        grid = np.stack([i.ravel(), j.ravel(), np.full(i.size, k)], axis=1)
        found, known = way.reversed(transform_points(affine, grid))
        at = np.rint(transform_points(to_voxels, found))
        known &= ((at >= 0) & (at <= largest)).all(axis=1)
        x, y, z = at[known].astype(int).T
        row.reshape(-1)[known] = layer.labels[z, y, x]
        tell(0.5 + (k + 1) / len(labels) / 2)
    return _Moved(labels, affine, len(places), count)
