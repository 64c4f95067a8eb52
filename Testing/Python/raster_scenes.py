"""Random splats, cameras and planes for the tests of the rasteriser."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.rasterise import pack_camera
from GaussianMRILib.native.splats import reference
from GaussianMRILib.native.splats.arguments import Pictures, SplatScene

NAMES = ("means", "quaternions", "scales", "sh", "opacities", "screen")


@dataclass
class RasterScene:
    """Arguments of the rasteriser, float32, and gradients of its pictures."""

    splats: tuple[Tensor, ...]
    camera: Tensor
    width: int
    height: int
    gradients: tuple[Tensor, Tensor, Tensor]

    @property
    def screen(self) -> Tensor:
        return torch.zeros(len(self.splats[0]), 2)

    def reference(self) -> tuple[Tensor, ...]:
        """What the float64 reference draws."""
        return reference.rasterise(SplatScene(*self._double(), self.camera.double(), self.width, self.height))

    def reference_gradients(self) -> tuple[Tensor, ...]:
        scene = SplatScene(*self._double(), self.camera.double(), self.width, self.height)
        pictures = Pictures(*reference.rasterise(scene)[:3])
        return reference.rasterise_backward(pictures, Pictures(*(g.double() for g in self.gradients)), scene)

    def _double(self) -> list[Tensor]:
        return [t.double() for t in (*self.splats, self.screen)]

    def clear_pixels(self) -> Tensor:
        """(H, W): no splat is so near to a limit (1/255, 0.99, 1e-4) that float32 may decide otherwise."""
        camera = self.camera.double()
        splats = reference.project(SplatScene(*self._double(), camera, self.width, self.height))
        y, x = torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing="ij")
        points = torch.stack([x.reshape(-1), y.reshape(-1)], dim=1).double() + 0.5
        alpha = reference.alphas(splats, points, camera)
        near = ((alpha - reference.ALPHA_MIN).abs() < 1e-6) | ((alpha - reference.ALPHA_MAX).abs() < 1e-5)
        drawn = torch.where(alpha >= reference.ALPHA_MIN, alpha.clamp_max(reference.ALPHA_MAX), 0.0)
        after = torch.cumprod(1 - drawn, dim=1)
        near |= (after / reference.TRANSMITTANCE_MIN - 1).abs() < 1e-4
        return ~near.any(dim=1).reshape(self.height, self.width)


def raster_scene(
    seed: int, count: int = 300, degree: int = 3, size: tuple[int, int] = (75, 61), cut: bool = False,
    antialiased: bool = True,
) -> RasterScene:  # fmt: skip
    """A cloud of splats of 1 to 8 mm seen from 200 mm, some behind the eye, some beside the picture."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    splats = (
        normal(count, 3) * 35,
        normal(count, 4) * 3,
        (0.5 * normal(count, 3) + 1).exp(),
        0.3 * normal(count, (degree + 1) ** 2, 3),
        torch.sigmoid(2 * normal(count)),
    )
    width, height = size
    camera = Camera.look_at(
        normal(3) * 5 + torch.tensor([60.0, 120.0, 40.0]).double(), [0, 5, 0], fov_degrees=35, size=size
    )
    clip = ClipPlane.from_point(3 * normal(3), normal(3)) if cut else None
    packed = pack_camera(camera, clip, (0.2, 0.4, 0.6), antialiased=antialiased).float()
    scene = RasterScene(
        tuple(t.float() for t in splats), packed, width, height,
        (normal(height, width, 3).float(), normal(height, width).float(), 0.01 * normal(height, width).float()),
    )  # fmt: skip
    clear = scene.clear_pixels()
    assert clear.float().mean() > 0.9
    image, alpha, depth = scene.gradients
    scene.gradients = (image * clear[..., None], alpha * clear, depth * clear)
    return scene


def assert_pictures_agree(scene: RasterScene, pictures: tuple[Tensor, ...]) -> None:
    """Image and alpha to 1e-5, depth to 1e-3 mm, radii to 1e-4 of themselves."""
    clear = scene.clear_pixels()
    expected = scene.reference()
    for ours, theirs, tolerance in zip(pictures[:3], expected[:3], (1e-5, 1e-5, 1e-3), strict=True):
        assert ours.dtype == torch.float32 and ours.shape == theirs.shape
        assert float((ours.double() - theirs)[clear].abs().max()) < tolerance
    assert expected[1].max() > 0.5
    assert torch.equal(pictures[3] > 0, expected[3] > 0)
    torch.testing.assert_close(pictures[3].double(), expected[3], rtol=1e-4, atol=0)


def assert_gradients_agree(
    scene: RasterScene, gradients: tuple[Tensor, ...], tolerance: float = 1e-5
) -> None:
    """To `tolerance` of the norm of each kind of gradient, and 3 times that of the largest entry."""
    for name, ours, theirs in zip(NAMES, gradients, scene.reference_gradients(), strict=True):
        assert ours.shape == theirs.shape and torch.isfinite(ours).all() and theirs.abs().max() > 0, name
        error = ours.double() - theirs
        assert float(error.norm() / theirs.norm()) < tolerance, name
        assert float(error.abs().max() / theirs.abs().max()) < 3 * tolerance, name
