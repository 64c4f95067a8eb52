"""A trained cinematic model: splats, and what a clip plane does to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import GaussianMRIError
from .adjustment import Adjustment
from .camera import Camera
from .clip import ClipPlane, Cutting, convex_planes, is_hollow
from .cut_face import CutFace
from .rasterise import rasterise
from .splats import Splats
from .visibility import VISIBILITIES, hard_truncation, kept_depth, learnable_truncation

FACING = 0.75
"""Exponent of the kept mass in the opacity of a baked cut splat: 1 is right for a view along the plane's normal, less for
one across it, where the kept part is as opaque as before but thinner. 0.75 is best over random views."""


class Rendering(NamedTuple):
    """An image (H, W, 3) in 0..1 as displayed, its alpha (H, W), and the depth (H, W) in mm along the camera's z."""

    image: Tensor
    alpha: Tensor
    depth: Tensor


class Cut(NamedTuple):
    """What the rasteriser gets for one plane.

    Attributes:
        splats: those that the plane leaves, M of N.
        weights: (M,) factors of the opacities, or None for 1.
        clip: the plane, where the rasteriser is to cut the splats.
        kept: (M,) their numbers among the N, or None where M = N.
    """

    splats: Splats
    weights: Tensor | None
    clip: ClipPlane | None
    kept: Tensor | None


@dataclass
class CinematicModel:
    """Splats that a plane can cut open ("ClipGS", MICCAI 2025, and an analytic cut).

    Attributes:
        splats: N Gaussians, RAS mm.
        center: (3,) float64 RAS mm, middle of the scene's cube.
        unit: mm, half its edge.
        visibility: one of `visibility.VISIBILITIES`.
        offsets: (N,) learned offsets of the truncation in units of `unit`; for "learned" only.
        adjustment: the network that adapts the splats to the plane, or None.
        background: colour behind the splats, 0..1.
        antialiased: as for `rasterise`; False for models of earlier versions and for PLY files of other programs.
        facts: provenance for people: data set, settings, figures of the training.
        face: the volume's own cut faces, shown in front of the splats; with the analytic cut only.
    """

    splats: Splats
    center: np.ndarray
    unit: float
    _: KW_ONLY
    visibility: str = "analytic"
    offsets: Tensor | None = None
    adjustment: Adjustment | None = None
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    antialiased: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    face: CutFace | None = None

    def __post_init__(self) -> None:
        self.center = np.asarray(self.center, dtype=np.float64)
        if self.visibility not in VISIBILITIES:
            raise GaussianMRIError(
                f"There is no visibility '{self.visibility}'; choose one of {', '.join(VISIBILITIES)}."
            )
        if (self.offsets is not None) != (self.visibility == "learned"):
            raise GaussianMRIError(
                "A model has learned offsets if, and only if, its visibility is 'learned'."
            )
        if self.face is not None and self.visibility != "analytic":
            raise GaussianMRIError("Cut faces of the volume belong to models with the analytic cut.")
        if self.offsets is not None and tuple(self.offsets.shape) != (len(self.splats),):
            raise GaussianMRIError(
                f"{len(self.splats)} splats need as many learned offsets, got {tuple(self.offsets.shape)}."
            )

    def __len__(self) -> int:
        return len(self.splats)

    def cut(self, plane: ClipPlane | None, *, splats: Splats | None = None, width: float = 1.0) -> Cut:
        """What is left under `plane`, differentiable in the splats, offsets and network.

        Splats that a truncation hides have no gradient, so they are left out and neither adjusted nor drawn.

        Args:
            plane: None for the whole model.
            splats: others than the model's own, one for one (fewer spherical harmonics, say).
            width: of the sigmoid that the offsets learn by, in units of `unit`; what is left does not depend on it.
        """
        chosen = self.splats if splats is None else splats
        if plane is None:
            return Cut(chosen, None, None, None)
        weights = index = None
        if self.visibility == "hard":
            index = torch.nonzero(hard_truncation(chosen.means.detach(), plane))[:, 0]
        elif self.visibility == "learned":
            assert self.offsets is not None
            weights = learnable_truncation(chosen.means, self.offsets, plane, self.unit, width=width)
            index = torch.nonzero(weights.detach())[:, 0]
            weights = weights[index]
        if index is not None:
            chosen = chosen.map(lambda tensor: tensor[index])
        if self.adjustment is not None:
            chosen = self.adjustment(chosen, plane)
        return Cut(chosen, weights, plane if self.visibility == "analytic" else None, index)

    def takes(self, planes: Sequence[ClipPlane]) -> bool:
        """Whether it can be cut by all of them: several only by the analytic cut, and if what they leave is convex."""
        exact = self.visibility == "analytic" and self.adjustment is None
        return not is_hollow(planes) and (len(planes) <= 1 or exact)

    def _cut(self, plane: Cutting) -> Cut:
        """`cut`, also by several planes: by the first as ever, after what the others leave has become Gaussians."""
        planes = convex_planes(plane)
        if not self.takes(planes):
            raise GaussianMRIError(
                "Only models with the analytic cut are cut by several planes; this one has learned one plane at a time."
            )
        splats = self.splats
        for other in planes[1:]:
            splats = _kept_parts(splats, other)
        return self.cut(planes[0] if planes else None, splats=splats)

    @torch.no_grad()
    def render(
        self,
        camera: Camera,
        plane: Cutting = None,
        *,
        background: tuple[float, float, float] | None = None,
        side: int = 1,
    ) -> Rendering:
        """The picture a camera takes of the model as `plane` cuts it; without a plane, of the whole model.

        Args:
            plane: one, or several of the type "union". The volume's cut faces are exact under all of them, the splats' own
                cut by the first.
            background: colour 0..1; default: the model's own.
            side: side^2 rays for each pixel of the volume's cut faces: 1 while a plane moves, 3 for a film.

        Raises:
            GaussianMRIError: planes of the type "intersection", or several that this model does not take.
        """
        splats, weights, clip, _ = self._cut(plane)
        behind = self.background if background is None else background
        image, alpha, depth = rasterise(
            splats, camera, behind, weights=weights, clip=clip, antialiased=self.antialiased
        )
        if self.face is not None:
            self.face.paint(image, alpha, depth, camera=camera, plane=plane, side=side)
        return Rendering(image, alpha, depth)

    @torch.no_grad()
    def bake(self, plane: Cutting) -> Splats:
        """Splats that show the model under one plane, or several (see `render`), in any viewer, without the plane.

        Truncation and adjustment are exact. The analytic cut becomes approximate: splats beyond the plane go, and those
        that straddle it become the Gaussian with mean and covariance of the kept part.
        """
        splats, _, clip, _ = self._cut(plane)
        if clip is None:
            return splats.map(lambda tensor: tensor.clone())
        return _kept_parts(splats, clip)

    def to(self, device: torch.device | str) -> CinematicModel:
        """The same model on another device."""
        return replace(
            self,
            splats=self.splats.to(device),
            offsets=None if self.offsets is None else self.offsets.to(device),
            adjustment=None if self.adjustment is None else self.adjustment.to(device),
            face=None if self.face is None else self.face.to(device),
        )


def _kept_parts(splats: Splats, plane: ClipPlane) -> Splats:
    """Moments of Gaussians truncated to the kept half-space; those with less than 1 % of their mass there are left out.

    With z = (d - n . mu) / sigma and h = phi(z) / Phi(z), the coordinate along n has mean -h sigma and variance
    sigma^2 (1 - z h - h^2) (truncated normal distribution); the rest follows by conditioning on it.
    """
    normal = torch.tensor(plane.normal.tolist(), dtype=torch.float64, device=splats.means.device)
    whole = splats.to(torch.float64)
    covariance = whole.covariances
    along = covariance @ normal
    sigma = (along @ normal).clamp_min(1e-30).sqrt()
    z = kept_depth(whole.means, plane, 1.0) / sigma
    mass = torch.special.ndtr(z)
    keep = mass > 0.01
    straddles = (keep & (mass < 0.999))[keep]
    whole = whole.map(lambda tensor: tensor[keep].clone())
    covariance, along, sigma, z, mass = (t[keep][straddles] for t in (covariance, along, sigma, z, mass))
    if not len(mass):
        return whole.to(splats.means.dtype)
    hazard = torch.exp(-0.5 * z**2) / (mass * (2 * np.pi) ** 0.5)
    direction = along / sigma[:, None]
    shrink = (z * hazard + hazard**2).clamp(0, 1 - 1e-6)
    covariance = covariance - shrink[:, None, None] * direction[:, :, None] * direction[:, None, :]
    values, vectors = torch.linalg.eigh(covariance)
    vectors = vectors * torch.linalg.det(vectors).sign()[:, None, None]
    whole.means[straddles] -= hazard[:, None] * direction
    whole.log_scales[straddles] = 0.5 * values.clamp_min(1e-12).log()
    whole.quaternions[straddles] = quaternions_of(vectors)
    opacities = (whole.opacities[straddles] * mass**FACING).clamp(1e-6, 1 - 1e-6)
    whole.logit_opacities[straddles] = torch.logit(opacities)
    return whole.to(splats.means.dtype)


def quaternions_of(rotations: Tensor) -> Tensor:
    """(N, 4) unit quaternions w, x, y, z of rotation matrices (N, 3, 3)."""
    from scipy.spatial.transform import Rotation

    if not len(rotations):  # which not every version of scipy takes
        return rotations.new_zeros(0, 4)
    xyzw = Rotation.from_matrix(rotations.detach().cpu().numpy()).as_quat()
    return torch.from_numpy(xyzw).roll(1, dims=1).to(rotations)
