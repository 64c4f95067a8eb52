"""Something to begin with: a plane for a new field, and a synthetic study for a new scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..geometry import ImagePlane
from .planes import plane_to_node
from .scene import PREFIX, all_or_nothing, scene_of
from .volumes import volume_from_images

if TYPE_CHECKING:
    from ..gaussians import GaussianField

TILT_DEGREES = 30.0


def tilted_plane(field: GaussianField) -> ImagePlane:
    """A plane through the middle of the first scan behind a field, as large as a slice, tilted against the slices."""
    poses = field.slice_poses
    normals = np.cross(poses[:, :3, 0], poses[:, :3, 1])
    parallel = normals @ normals[0] > 0.99 * np.linalg.norm(normals, axis=1) * np.linalg.norm(normals[0])
    first, (rows, columns) = poses[0], field.slice_shapes[0]
    i_step, j_step = first[:3, 0], first[:3, 1]
    middle = poses[parallel, :3, 3].mean(axis=0) + i_step * (columns - 1) / 2 + j_step * (rows - 1) / 2
    normal = normals[0] / np.linalg.norm(normals[0])
    spacing = float(np.linalg.norm(i_step)), float(np.linalg.norm(j_step))
    angle = np.deg2rad(TILT_DEGREES)
    j_axis = np.cos(angle) * j_step / spacing[1] + np.sin(angle) * normal
    return ImagePlane.from_axes(middle, i_step / spacing[0], j_axis, spacing=spacing, shape=(int(rows), int(columns)))


def load_lumbar_phantom(scene: Any = None, seed: int = 0) -> list[Any]:
    """The synthetic lumbar spine as nodes: no file, no network.

    Args:
        scene: default: Slicer's.
        seed: of the individual and of the noise.

    Returns:
        volume nodes "Phantom axial" (22 slices, 4 mm thick, 4.5 mm apart), "Phantom sagittal" (13, 4 mm, 4.4 mm) and
        "Phantom truth" (nine thin planes around the L5-S1 disc, 2 mm apart), and the markups plane "L5-S1".
    """
    from ..phantom import Phantom
    from ..phantom.scanner import acquire
    from ..phantom.write import lumbar_scans

    scene = scene_of(scene=scene)
    phantom = Phantom(seed)
    with all_or_nothing(scene) as added:
        for number, scan in enumerate(lumbar_scans(phantom), 1):
            images = acquire(phantom, scan, seed=number)
            node = volume_from_images(
                [1000 * image for image in images], scan.planes, scene=scene, name=f"Phantom {scan.name}"
            )
            added.append(node)
            node.SetAttribute(PREFIX + "FrameOfReference", f"2.25.{seed + 1}")
            node.CreateDefaultDisplayNodes()
            display = node.GetDisplayNode()
            display.SetAutoWindowLevel(False)
            display.SetWindowLevelMinMax(0, 1200)
        added.append(plane_to_node(phantom.disc_plane("L5-S1"), scene=scene, name="L5-S1"))
    return added
