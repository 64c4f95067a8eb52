"""Cut faces as pictures in space, for programs that know nothing of the volume: textured rectangles, or flat splats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .camera import Camera
from .clip import ClipPlane, box_planes
from .cut_face import CutFace
from .model import quaternions_of
from .splats import SH_C0, Splats

#: Pixels a side of a face's picture; of a larger face the pixels are larger than half a voxel.
MOST_PIXELS = 2048
#: Splats for all faces of a file together; where that is too little, they are further apart than half a voxel.
MOST_SPLATS = 100_000
#: Distances between a splat and the next that its standard deviation is. Less leaves gaps, more blurs.
SPREAD = 0.6
_AWAY = 50.0  # distance of the camera that takes a picture, in edges of the face


@dataclass(frozen=True)
class FacePicture:
    """The face that one plane cuts, as a picture of a rectangle.

    Attributes:
        centre: (3,) RAS mm, middle of the rectangle.
        right, up: (3,) RAS mm, half its edges; right x up points to the side that was cut away.
        image: (H, W, 4) 0..1, colour as displayed and opacity; the first row is the uppermost.
    """

    centre: NDArray[np.float64]
    right: NDArray[np.float64]
    up: NDArray[np.float64]
    image: NDArray[np.float32]

    @property
    def normal(self) -> NDArray[np.float64]:
        """(3,) unit, RAS, to the side that was cut away."""
        across: NDArray[np.float64] = np.cross(self.right, self.up)
        return across / np.linalg.norm(across)

    def places(self) -> NDArray[np.float64]:
        """(H, W, 3) RAS mm: middles of the pixels."""
        rows, columns = self.image.shape[:2]
        x, y = ((np.arange(n) + 0.5) / n * 2 - 1 for n in (columns, rows))
        return self.centre + x[None, :, None] * self.right - y[:, None, None] * self.up


def face_pictures(face: CutFace, planes: Sequence[ClipPlane], *, step: float | None = None) -> list[FacePicture]:
    """The faces of what planes, a region and the volume's border leave of it; those that show nothing are left out.

    Args:
        planes: of the type "union".
        step: mm from pixel to pixel; default: half a voxel.
    """
    volume = face.volume
    border = np.eye(4)
    border[:3, :3] = volume.ijk_to_ras[:3, :3] * (volume.high - volume.low) / 2
    border[:3, 3] = volume.centre
    everything = (*box_planes(border), *volume.rois, *planes)
    reach = 2 * float(np.linalg.norm(volume.corners() - volume.centre, axis=1).max())
    pictures = []
    for plane in everything:
        u, v = _axes(plane, volume.ijk_to_ras)
        middle = volume.centre - plane.signed_distance(volume.centre) * plane.normal
        corners = middle + reach * np.array([-u - v, u - v, u + v, v - u])
        for other in everything:
            if other is not plane:
                corners = _clipped(corners, other)
        if not len(corners):
            continue
        ends = np.stack([(corners - middle) @ u, (corners - middle) @ v])
        low, size = ends.min(axis=1), np.ptp(ends, axis=1)
        pixel = max(step or volume.spacing / 2, float(size.max()) / MOST_PIXELS)
        columns, rows = (max(1, math.ceil(n / pixel)) for n in size)
        centre = middle + (low[0] + columns * pixel / 2) * u + (low[1] + rows * pixel / 2) * v
        image = _taken(face, planes, centre, np.stack([u, -v, -plane.normal]), pixel, (columns, rows))
        if image[..., 3].any():
            pictures.append(FacePicture(centre, columns * pixel / 2 * u, rows * pixel / 2 * v, image))
    return pictures


def _taken(
    face: CutFace,
    planes: Sequence[ClipPlane],
    centre: NDArray[np.float64],
    axes: NDArray[np.float64],
    pixel: float,
    size: tuple[int, int],
) -> NDArray[np.float32]:
    """(H, W, 4): what a far camera sees of the plane that it looks at at right angles, where perspective changes nothing."""
    columns, rows = size
    distance = _AWAY * pixel * max(size)
    pose = np.eye(4)
    pose[:3, :3] = axes
    pose[:3, 3] = -axes @ (centre - distance * axes[2])
    focal = distance / pixel
    camera = Camera(pose, fx=focal, fy=focal, cx=columns / 2, cy=rows / 2, width=columns, height=rows)
    sizes = ((rows, columns, 3), (rows, columns), (rows, columns))
    tensors = [torch.zeros(size, dtype=torch.float32, device=face.volume.values.device) for size in sizes]
    face.paint(*tensors, camera=camera, plane=planes)
    image, alpha, depth = (x.cpu() for x in tensors)
    alpha[(depth - distance).abs() > max(0.1 * pixel, 1e-5 * distance)] = 0  # another face, beside this one
    colour = image / alpha.clamp_min(1e-6)[..., None]
    return torch.cat([colour * (alpha > 0)[..., None], alpha[..., None]], dim=-1).clamp(0, 1).numpy()


def face_splats(face: CutFace, planes: Sequence[ClipPlane], *, degree: int, most: int = MOST_SPLATS) -> Splats:
    """The faces as flat splats in their planes, half a voxel apart where `most` are enough for that.

    Args:
        degree: of the spherical harmonics, which are 0 but for the first.
    """
    pictures, step = face_pictures(face, planes), face.volume.spacing / 2
    while (count := sum(int((p.image[..., 3] > _LEAST).sum()) for p in pictures)) > most:
        step *= math.sqrt(count / most) * 1.01
        pictures = face_pictures(face, planes, step=step)
    sizes = ((0, 3), (0, 4), (0, 3), (0, (degree + 1) ** 2, 3), (0,))
    empty = Splats(*(torch.zeros(size, dtype=torch.float32) for size in sizes))
    return joined(empty, *(_flat(picture, degree) for picture in pictures))


_LEAST = 1 / 255  # opacity of a pixel that becomes a splat


def _flat(picture: FacePicture, degree: int) -> Splats:
    columns = picture.image.shape[1]
    seen = picture.image[..., 3] > _LEAST
    rgba = torch.from_numpy(picture.image[seen])
    count = len(rgba)
    edges = np.stack([picture.right, picture.up])
    axes = np.concatenate([edges / np.linalg.norm(edges, axis=1, keepdims=True), picture.normal[None]])
    turn = quaternions_of(torch.from_numpy(axes.T.copy())[None]).float()
    sigma = SPREAD * 2 * float(np.linalg.norm(picture.right)) / columns
    # Splats overlap: optical depths add up to 2 pi SPREAD^2 of one splat's on average.
    depth = -torch.log1p(-rgba[:, 3].clamp(max=0.9999)) / (2 * math.pi * SPREAD**2)
    sh = torch.zeros(count, (degree + 1) ** 2, 3, dtype=torch.float32)
    sh[:, 0] = (rgba[:, :3] - 0.5) / SH_C0
    return Splats(
        torch.from_numpy(picture.places()[seen]).float(),
        turn.repeat(count, 1),
        torch.tensor([sigma, sigma, 0.02 * sigma], dtype=torch.float32).log().repeat(count, 1),
        sh,
        torch.logit(-torch.expm1(-depth), eps=1e-4),
    )


def without_hidden(splats: Splats, pictures: Sequence[FacePicture]) -> Splats:
    """Without splats that would reach through an opaque face, which hides all of them but their tails."""
    means = splats.means.double().cpu().numpy()
    covariances = splats.covariances.double().cpu().numpy()
    keep = np.ones(len(means), dtype=bool)
    for picture in pictures:
        rows, columns = picture.image.shape[:2]
        away = means - picture.centre
        x, y = (away @ edge / (edge @ edge) for edge in (picture.right, picture.up))
        column = np.clip(((x + 1) / 2 * columns).astype(int), 0, columns - 1)
        row = np.clip(((1 - y) / 2 * rows).astype(int), 0, rows - 1)
        faced = (np.abs(x) < 1) & (np.abs(y) < 1) & (picture.image[row, column, 3] > 0.5)
        sigma = np.sqrt(np.einsum("a,nab,b->n", picture.normal, covariances, picture.normal))
        keep &= ~(faced & (-(away @ picture.normal) < 2 * sigma))
    return splats.map(lambda tensor: tensor[torch.from_numpy(keep).to(tensor.device)])


def joined(first: Splats, *others: Splats) -> Splats:
    """All of these splats, of one degree, as one."""
    tensors = [splats.tensors() for splats in (first, *others)]
    return Splats(**{name: torch.cat([t[name] for t in tensors]) for name in tensors[0]})


def _axes(plane: ClipPlane, ijk_to_ras: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors of the plane, the first as near to an axis of the volume as any; first x second = normal."""
    ways = (ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)).T
    way = ways[np.argmin(np.abs(ways @ plane.normal))]
    u = way - (way @ plane.normal) * plane.normal
    u /= np.linalg.norm(u)
    return u, np.cross(plane.normal, u)


def _clipped(polygon: NDArray[np.float64], plane: ClipPlane) -> NDArray[np.float64]:
    """(M, 3): what the plane keeps of a convex polygon (N, 3) (Sutherland and Hodgman 1974)."""
    distance = plane.signed_distance(polygon)
    kept = []
    for n, (here, there) in enumerate(zip(distance, np.roll(distance, -1), strict=True)):
        if here < 0:
            kept.append(polygon[n])
        if (here < 0) != (there < 0):
            kept.append(polygon[n] + here / (here - there) * (polygon[(n + 1) % len(polygon)] - polygon[n]))
    return np.array(kept).reshape(-1, 3)
