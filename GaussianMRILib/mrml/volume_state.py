"""Whether a volume still is what something was made of: its voxels and their place."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import slicer

from ..errors import GaussianMRIError
from ..geometry import slice_poses, transform_points
from .scene import in_scene
from .volumes import placed

#: mm that a corner of a volume or plane may move and still is where it was: what files round away.
STILL_MM = 0.02
#: What reading a state raises where a volume has no image, or a transform that bends slices.
_UNREADABLE = (GaussianMRIError, AttributeError, ValueError)


def state_of_volume(volume_node: Any) -> dict[str, Any]:
    """Where a volume's voxels are and a checksum of their values: JSON types.

    Voxels count in right-handed order, into which Slicer turns volumes when it loads them.
    """
    pixels = slicer.util.arrayFromVolume(volume_node)
    geometry, to_world = placed(volume_node)
    poses = geometry if geometry.ndim == 3 else slice_poses(geometry, len(pixels))
    poses = to_world @ poses
    step = poses[-1, :3, 3] - poses[0, :3, 3]
    if np.cross(poses[0, :3, 0], poses[0, :3, 1]) @ step < 0:
        pixels, poses = pixels[::-1], poses[::-1]
    rows, columns = pixels.shape[1:3]
    corners = [[0, 0, 0], [columns - 1, 0, 0], [0, rows - 1, 0]]
    shown = [transform_points(poses[k], corners) for k in sorted({0, len(poses) // 2, len(poses) - 1})]
    return {
        "name": volume_node.GetName(),
        "corners": np.concatenate(shown).tolist(),
        "shape": list(pixels.shape),
        "checksum": zlib.crc32(np.ascontiguousarray(pixels).data),
    }


def states_of(nodes: Iterable[Any]) -> list[dict[str, Any] | None]:
    """States of those nodes that are in a scene, None where a state cannot be told, to be taken when work on them begins.

    Of a volume without a state it is not known that it is as it was, so it counts as changed.
    """
    states: list[dict[str, Any] | None] = []
    for node in filter(in_scene, nodes):
        try:
            states.append(state_of_volume(node))
        except _UNREADABLE:
            states.append(None)
    return states


class VolumeStates:
    """States of volumes, worked out anew only where pixels or place may have changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, dict[str, Any]]] = {}

    def __call__(self, volume_node: Any) -> dict[str, Any]:
        image, parent = volume_node.GetImageData(), volume_node.GetParentTransformNode()
        above = None if parent is None else parent.GetTransformToWorldMTime()
        stamp = (id(image), image.GetMTime(), volume_node.GetMTime(), above)
        known = self._known.get(volume_node.GetID())
        if known is None or known[0] != stamp:
            known = self._known[volume_node.GetID()] = (stamp, state_of_volume(volume_node))
        return known[1]


#: VTK's modification times never come twice, so one memory serves every scene.
_state_of = VolumeStates()


def change_of_volume(volume_node: Any, before: Any) -> str:
    """"changed" or "moved" where a volume is no longer in the state that `states_of` gave before, else "".

    "changed" also where a state, which may come from a file, says nothing.
    """
    try:
        now = _state_of(volume_node)
        if now["shape"] != before["shape"] or now["checksum"] != before["checksum"]:
            return "changed"
        return "moved" if apart(now["corners"], before["corners"]) else ""
    except (*_UNREADABLE, ArithmeticError, LookupError, TypeError):
        return "changed"


def apart(a: Any, b: Any) -> bool:
    """Whether two lists of points, in mm, differ by more than `STILL_MM`."""
    one, other = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return one.shape != other.shape or not bool(np.abs(one - other).max() <= STILL_MM)
