"""Pictures of splats: differentiable, with an exact cut by a plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import GaussianMRIError
from ..native.splats import reference
from ..native.splats.arguments import CAMERA_SIZE, SplatScene
from .splats import Splats

if TYPE_CHECKING:
    from .camera import Camera
    from .clip import ClipPlane


@dataclass
class ScreenStatistics:
    """What densification wants to know of a picture; `rasterise` fills it.

    Attributes:
        radii: (N,) pixels, three standard deviations along the longer axis on the screen; 0: not drawn.
        offsets: (N, 2) zeros; its `.grad` after a backward pass is that of the splats' places on the screen.
        size: width and height of the picture, pixels.
    """

    radii: Tensor | None = None
    offsets: Tensor | None = None
    size: tuple[int, int] = (0, 0)

    @property
    def gradient_norms(self) -> Tensor:
        """(N,) norm of the gradient with respect to the place on a screen of -1 to 1, as 3DGS thresholds it.

        Raises:
            GaussianMRIError: no backward pass has been made.
        """
        if self.offsets is None or self.offsets.grad is None:
            raise GaussianMRIError("Screen statistics have gradients only after the loss's backward pass.")
        return (self.offsets.grad * self.offsets.grad.new_tensor(self.size) / 2).norm(dim=1)


def rasterise(
    splats: Splats,
    camera: Camera,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    weights: Tensor | None = None,
    clip: ClipPlane | None = None,
    statistics: ScreenStatistics | None = None,
    *,
    antialiased: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw splats: elliptical weighted average splatting as 3DGS does it (Kerbl et al. 2023).

    A splat's covariance on the screen gets 0.3 square pixels more (low-pass filter), and its opacity falls with that, so
    that its light is spread and none is added, at any distance (Mip-Splatting, Yu et al. 2024). Where its opacity is
    below 1/255 it is skipped, and it is 0.99 at most. A pixel is finished before the splat that would leave less than
    1e-4 of the light behind. Splats nearer than 1 mm to the eye's plane, and splats with a value that is not finite or
    a scale that is not within 1e-6 and 1e6 mm, are not drawn.

    Args:
        splats: N splats. Float32 for the kernels; float64 is drawn by the reference in plain torch.
        camera: pinhole camera.
        background: colour behind everything.
        weights: (N,) factors 0 to 1 on the opacities: masks of hard or learnable truncation (ClipGS). Splats with
            less than 1/255 in all are not drawn and get no gradient.
        clip: cut by a plane, analytically: at each pixel a splat's opacity is multiplied by the fraction of its
            mass along the pixel's ray that lies on the kept side, Phi((d - n.m) / s), m and s the mean and the
            standard deviation of the splat along the ray (exact to 5e-4). Splats that the plane does not
            touch cost nothing more.
        statistics: filled for densification.
        antialiased: False: opacities do not fall, as in 3DGS; small splats are the thicker the further away they are.

    Returns:
        image (H, W, 3), not clamped at 1; alpha (H, W); depth (H, W), the mean over the splats' centres, mm along
        the camera's z, 0 where alpha is 0. All are differentiable with respect to the splats' tensors and weights.

    Raises:
        GaussianMRIError: an argument has a wrong shape or value.
    """
    opacities = splats.opacities
    if weights is not None:
        if weights.shape != opacities.shape:
            raise GaussianMRIError(
                f"Weights have shape {tuple(weights.shape)}; for {len(splats)} splats it must be ({len(splats)},)."
            )
        opacities = opacities * weights
    size = (int(camera.width), int(camera.height))
    screen = torch.zeros_like(splats.means[:, :2], requires_grad=statistics is not None)
    packed = pack_camera(camera, clip, background, antialiased=antialiased)
    values = (splats.means, splats.quaternions, splats.scales, splats.sh, opacities, screen)
    if splats.means.dtype == torch.float32:
        from ..native.splats import operators

        image, alpha, depth, radii = operators.rasterise(*values, packed.float(), *size)
    else:
        image, alpha, depth, radii = reference.rasterise(SplatScene(*values, packed.to(splats.means), *size))
    if statistics is not None:
        statistics.radii, statistics.offsets, statistics.size = radii, screen, size
    return image, alpha, depth


def pack_camera(
    camera: Camera,
    clip: ClipPlane | None = None,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    *,
    antialiased: bool = True,
) -> Tensor:
    """The camera, plane, background and filter as the kernels take them (see `native.splats.arguments.CAMERA`): float64
    on the CPU.

    Raises:
        GaussianMRIError: a value is not finite, or the picture has no pixels.
    """
    pose = np.asarray(camera.world_to_camera, dtype=np.float64)
    rotation, normal, offset = pose[:3, :3], np.zeros(3), 0.0
    if clip is not None:
        normal, offset = np.asarray(clip.normal, dtype=np.float64), float(clip.offset)
    intrinsics = (camera.fx, camera.fy, camera.cx, camera.cy)
    values = np.concatenate(
        [
            rotation.reshape(-1),
            -rotation.T @ pose[:3, 3],
            np.asarray(intrinsics, dtype=np.float64),
            rotation @ normal,
            normal,
            [offset],
            np.asarray(background, dtype=np.float64),
            [clip is not None, antialiased],
        ]
    )
    if values.shape != (CAMERA_SIZE,) or not np.isfinite(values).all():
        raise GaussianMRIError(
            "The camera, the clip plane or the background has a value that is not finite, or a wrong shape."
        )
    if camera.width < 1 or camera.height < 1 or camera.fx <= 0 or camera.fy <= 0:
        raise GaussianMRIError("The camera needs at least one pixel and positive focal lengths.")
    return torch.from_numpy(values)
