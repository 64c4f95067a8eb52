"""What a plane cuts a volume open to, as the path tracer shows it, without tracing.

What planes leave of a volume is convex, unless their type is "intersection", which has no faces here. So nothing lies
between a cut face and the lights: its light is in closed form, and so is its opacity (csrc/paths/face_math.h,
`gm_trace_face`). In front of splats, it shows every voxel of the planes that the user moves, whatever pictures the splats
were learned from.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import GaussianMRIError
from ..files import atomic_write, finite, number, read_arrays, reading
from ..geometry import check_affine
from ..geometry.affine import LARGEST_POSITION_MM
from ..native.paths import operators  # noqa: F401  registers them
from ..native.paths.arguments import SCENE
from .camera import Camera
from .clip import ClipPlane, Cutting, convex_planes
from .looks import Look
from .tracer_volume import LEVELS, TracerVolume

if TYPE_CHECKING:
    from .tracer import PathTracer

FORMAT = "GaussianMRI cut faces"
VERSION = 1
#: Voxels that are kept; of a larger volume every second, third, ... along all axes.
MOST_VOXELS = 128_000_000
_BYTE = 257  # a byte's step in the tracer's 16 bits


@dataclass(frozen=True, eq=False)
class CutFace:
    """Cut faces of one volume in one look.

    Attributes:
        volume: without majorants and skips; its values are multiples of 257, as its file has bytes.
        look: in the volume's own values.

    Example:
        >>> model.face = CutFace.of(tracer)                        # doctest: +SKIP
        >>> model.render(camera, plane).image                      # doctest: +SKIP
    """

    volume: TracerVolume
    look: Look

    @classmethod
    def of(cls, tracer: PathTracer) -> CutFace:
        """The faces of what a path tracer shows."""
        v = tracer._volume
        stride = math.ceil((v.values.numel() / MOST_VOXELS) ** (1 / 3))
        values, gradients = (
            x.cpu().numpy()[::stride, ::stride, ::stride] if x.numel() else x.cpu().numpy()
            for x in (v.values, v.gradients)
        )  # fmt: skip
        voxels = ((values.astype(np.uint32) + _BYTE // 2) // _BYTE).astype(np.uint8)
        matrix = v.ijk_to_ras.copy()
        matrix[:3, :3] *= stride
        box = np.minimum(np.stack([v.low, v.high]) / stride, np.array(values.shape[::-1]) - 1.0)
        volume = _volume(voxels, gradients, v.table.cpu().numpy(), matrix, box, v.radius, v.step, v.rois)
        return cls(volume, tracer.look).to(tracer.device)

    def to(self, device: torch.device | str) -> CutFace:
        """The same on another device."""
        tensors = ("values", "gradients", "majorants", "skips", "table")
        moved = {name: getattr(self.volume, name).to(device) for name in tensors}
        return CutFace(replace(self.volume, **moved), self.look)

    @torch.no_grad()
    def paint(
        self,
        image: Tensor,
        alpha: Tensor,
        depth: Tensor,
        *,
        camera: Camera,
        plane: Cutting,
        side: int = 1,
    ) -> None:
        """Put the faces in front of a picture, in place. The volume's own border and that of its region have faces too.

        Args:
            image: (H, W, 3) float32 as displayed. alpha: (H, W). depth: (H, W) mm along the camera's z.
            plane: one, or several of the type "union".
            side: side^2 rays for each pixel.

        Raises:
            GaussianMRIError: planes of the type "intersection", or too many.
        """
        volume = self.volume
        scene = volume.scene(camera, convex_planes(plane), self.look)
        dome = torch.from_numpy(_dome(np.frombuffer(scene.numpy().tobytes(), SCENE)[0])).to(image)
        torch.ops.gaussianmri.trace_faces_(
            image, alpha, depth, scene, volume.values, volume.gradients, volume.table, dome, self.look.exposure, side
        )  # fmt: skip

    # ---- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as a .npz file.

        Raises:
            GaussianMRIError: the file cannot be written.
        """
        v = self.volume
        header = {
            "format": FORMAT,
            "version": VERSION,
            "preset": self.look.to_dict(),
            "radius": v.radius,
            "step": v.step,
            "rois": [plane.to_dict() for plane in v.rois],
        }
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.savez_compressed(
                file,
                header=np.array(json.dumps(header)),
                voxels=(v.values.cpu().numpy() // _BYTE).astype(np.uint8),
                gradients=v.gradients.cpu().numpy(),
                table=v.table.cpu().numpy(),
                ijk_to_ras=v.ijk_to_ras,
                box=np.stack([v.low, v.high]),
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> CutFace:
        """Read what `save` wrote.

        Raises:
            GaussianMRIError: the file is missing, damaged, of another kind or of a newer version.
        """
        with reading(path, "a file of cut faces", missing="It has the cut faces of the model beside it."):
            content = read_arrays(path)
            header = json.loads(str(content["header"]))
            if not isinstance(header, dict) or header["format"] != FORMAT:
                raise ValueError("it is another kind of file")
            if number(header["version"], "version") > VERSION:
                raise GaussianMRIError(f"{path} was written by a newer version; update GaussianMRI.")
            face = cls(_stored_volume(content, header), Look.from_dict(header["preset"])).to(device)
        return face


def _stored_volume(content: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> TracerVolume:
    """The volume of a file, after a check that it is one."""
    voxels, gradients, table = (content[name] for name in ("voxels", "gradients", "table"))
    if voxels.dtype != np.uint8 or voxels.ndim != 3 or not 2 <= min(voxels.shape) <= max(voxels.shape) <= 32768:
        raise GaussianMRIError(f"Voxels {voxels.dtype} {voxels.shape} are no volume of bytes.")
    if gradients.dtype != np.uint8 or (gradients.size and gradients.shape != voxels.shape):
        raise GaussianMRIError(f"Gradients {gradients.dtype} {gradients.shape} are not those of the volume.")
    if table.dtype != np.float32:
        raise GaussianMRIError(f"The table has {table.dtype}, not numbers of 32 bits.")
    if finite(table, (4 * LEVELS + 256,), "table of colours").min() < 0:
        raise GaussianMRIError("The table of colours has negative numbers.")
    matrix = check_affine(finite(content["ijk_to_ras"], (4, 4), "ijk_to_ras", LARGEST_POSITION_MM))
    if not 1e-9 < abs(np.linalg.det(matrix)) < 1e9:
        raise GaussianMRIError("The ijk_to_ras is no matrix that a volume can have.")
    low, high = finite(content["box"], (2, 3), "box of what can be seen")
    if not (np.all(low >= 0) and np.all(low < high) and np.all(high <= voxels.shape[::-1])):
        raise GaussianMRIError("The box of what can be seen is not in the volume.")
    rois = tuple(ClipPlane.from_dict(plane) for plane in header["rois"])
    if len(rois) > 6:
        raise GaussianMRIError(f"A region has six planes, not {len(rois)}.")
    radius, step = (number(header[name], name, 1e-12, 1e12) for name in ("radius", "step"))
    return _volume(voxels, gradients, table, matrix, np.stack([low, high]), radius, step, rois)


def _volume(
    voxels: NDArray[np.uint8],
    gradients: NDArray[np.uint8],
    table: NDArray[np.float32],
    ijk_to_ras: NDArray[np.float64],
    box: NDArray[np.float64],
    radius: float,
    step: float,
    rois: tuple[ClipPlane, ...],
) -> TracerVolume:
    values = torch.from_numpy(voxels.astype(np.uint16) * np.uint16(_BYTE))
    nothing, given = torch.zeros(1, 1, 1, dtype=torch.float32), torch.from_numpy(np.ascontiguousarray(gradients))
    return TracerVolume(
        values,
        given,
        nothing,
        nothing,
        torch.from_numpy(table),
        ijk_to_ras,
        box[0],
        box[1],
        radius,
        step,
        rois,
    )


@functools.cache
def _directions(count: int = 2048) -> NDArray[np.float64]:
    """Unit vectors (count, 3) spread evenly over the sphere."""
    n = np.arange(count) + 0.5
    z, turn = 1 - 2 * n / count, math.pi * (1 + math.sqrt(5)) * n
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)


def _dome(scene: Any) -> NDArray[np.float64]:
    """Irradiance (P, 3) of a scene's dome on each of its planes."""
    directions = _directions()
    height = (directions @ scene["up"])[:, None]
    end = np.where(height > 0, scene["zenith"], scene["nadir"])
    light = scene["horizon"] + np.abs(height) * (end - scene["horizon"])
    normals = scene["normal"][: int(scene["planes"])]
    irradiance: NDArray[np.float64] = (
        np.maximum(normals @ directions.T, 0) @ light * (4 * math.pi / len(directions))
    )
    return irradiance
