"""Splatting in plain torch: the oracle of the rasteriser's tests, and the last resort without kernels.

Elliptical weighted average splatting as in 3DGS (Kerbl et al. 2023; Zwicker et al. 2001), every splat at every
pixel that its box meets, in float32 or float64, on any device, differentiable by autograd.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .arguments import Pictures, SplatScene, camera_part

NEAR = 1.0  # mm: splats nearer to the eye's plane are not drawn
SMALLEST, LARGEST = 1e-6, 1e6  # mm: splats with other scales, or further away, are not drawn
LOW_PASS = 0.3  # square pixels, added to a splat's covariance on the screen, whose opacity falls so that no light is added
ALPHA_MIN, ALPHA_MAX = 1 / 255, 0.99
TRANSMITTANCE_MIN = 1e-4
CUT_SIGMAS = 3.3  # a splat is wholly on one side where all its rays are further than this from the plane
PARALLEL = 1e-6  # |normal . ray| below this counts as this
_TILE = 32

_C0, _C1 = 0.28209479177387814, 0.4886025119029199
_C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
_C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)


def sh_basis(directions: Tensor, count: int) -> Tensor:
    """(N, count) real spherical harmonics of unit vectors (N, 3), 3DGS's order and signs; count 1, 4, 9, 16."""
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, _C0)]
    if count > 1:
        values += [-_C1 * y, _C1 * z, -_C1 * x]
    if count > 4:
        xx, yy, zz = x * x, y * y, z * z
        values += [
            _C2[0] * x * y,
            -_C2[0] * y * z,
            _C2[1] * (2 * zz - xx - yy),
            -_C2[0] * x * z,
            _C2[2] * (xx - yy),
        ]
    if count > 9:
        values += [
            -_C3[0] * y * (3 * xx - yy),
            _C3[1] * x * y * z,
            -_C3[2] * y * (4 * zz - xx - yy),
            _C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
            -_C3[2] * x * (4 * zz - xx - yy),
            _C3[4] * z * (xx - yy),
            -_C3[0] * x * (xx - 3 * yy),
        ]
    return torch.stack(values, dim=-1)


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """(N, 3, 3) rotations of quaternions (N, 4), order w, x, y, z, any norm but zero."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1, eps=1e-30).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(*quaternions.shape[:-1], 3, 3)


@dataclass(frozen=True)
class Projected:
    """The K splats that can be seen, nearest first."""

    index: Tensor  # (K,) among all splats
    centres: Tensor  # (K, 2) pixels
    conics: Tensor  # (K, 3) xx, xy, yy of the inverse covariance on the screen
    half: Tensor  # (K, 2) half extents of the box outside which alpha < ALPHA_MIN
    radii: Tensor  # (K,) pixels, three standard deviations along the longer axis
    depths: Tensor  # (K,) mm along the camera's z
    colours: Tensor  # (K, 3)
    opacities: Tensor  # (K,) where the low-pass filter adds no light, less than the splats' own
    straddles: Tensor  # (K,) bool: cut by the clip plane
    gram: Tensor  # (K, 3, 3) products, in the splat's own metric, of the ray through its centre and of the ray's
    # change per pixel to the right and down
    side: Tensor  # (K,) normal . mean - offset, mm
    slope: Tensor  # (K,) normal . ray through the centre

    def take(self, chosen: Tensor) -> Projected:
        return Projected(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def _eigenvalue(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Larger eigenvalue of [[a, b], [b, c]]."""
    return 0.5 * (a + c) + (0.25 * (a - c) ** 2 + b * b).sqrt()


def project(scene: SplatScene) -> Projected:
    """Place splats on the screen."""
    camera, width, height = scene.camera, scene.width, scene.height
    means, quaternions, scales, sh, opacities = scene.splats
    world_to_camera, eye = camera_part(camera, "rotation").reshape(3, 3), camera_part(camera, "eye")
    fx, fy, cx, cy = (camera_part(camera, name) for name in ("fx", "fy", "cx", "cy"))
    normal = camera_part(camera, "normal")
    with torch.no_grad():
        finite = torch.isfinite(
            torch.cat([means, quaternions, scales, sh.flatten(1), opacities[:, None]], dim=1)
        )
        position = (means - eye) @ world_to_camera.T
        z = position[:, 2]
        drawable = (
            finite.all(dim=1)
            & (z > NEAR)
            & ((scales > SMALLEST) & (scales < LARGEST)).all(dim=1)
            & (opacities >= ALPHA_MIN)
        )
        drawable &= (quaternions != 0).any(dim=1) & (position.abs() < LARGEST).all(dim=1)
        index = torch.nonzero(drawable).reshape(-1)
        index = index[torch.sort(z[index], stable=True).indices]
    means, quaternions, scales, sh = means[index], quaternions[index], scales[index], sh[index]
    opacities, screen = opacities[index].clamp_max(1), scene.screen[index]
    relative = means - eye
    x, y, z = (relative @ world_to_camera.T).unbind(-1)
    centres = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1) + screen

    # The affine approximation of the projection is taken no further outside than 3DGS does: 30 % of the view's half
    # angle's tangent.
    tx = (x / z).clamp(-cx / fx - 0.15 * width / fx, (width - cx) / fx + 0.15 * width / fx) * z
    ty = (y / z).clamp(-cy / fy - 0.15 * height / fy, (height - cy) / fy + 0.15 * height / fy) * z
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * tx / z**2, zero, fy / z, -fy * ty / z**2], dim=-1).reshape(
        -1, 2, 3
    )
    axes = world_to_camera @ rotation_matrices(quaternions)  # columns: principal axes in camera axes
    half = jacobian @ (axes * scales[:, None, :])
    covariance = half @ half.mT
    a, b, c = covariance[:, 0, 0] + LOW_PASS, covariance[:, 0, 1], covariance[:, 1, 1] + LOW_PASS
    conics = torch.stack([c, -b, a], dim=-1) / (a * c - b * b)[:, None]
    if camera_part(camera, "antialiased") > 0:
        flat = torch.linalg.cross(half[:, 0], half[:, 1]).square().sum(dim=-1).clamp_min(1e-30)
        opacities = opacities * (flat / (flat + LOW_PASS * (a + c) - LOW_PASS**2)).sqrt()

    # Along the ray eye + t r the splat is a Gaussian of t with precision r^T P r.
    ray = torch.stack([x / z, y / z, torch.ones_like(z)], dim=-1)
    right = torch.stack([1 / fx, 0 * fx, 0 * fx]).expand_as(ray)
    down = torch.stack([0 * fy, 1 / fy, 0 * fy]).expand_as(ray)
    whitened = (torch.stack([ray, right, down], dim=1) @ axes) / scales[:, None, :]
    gram = whitened @ whitened.mT
    side, slope = means @ camera_part(camera, "plane") - camera_part(camera, "offset"), ray @ normal

    with torch.no_grad():
        q_max = 2 * (opacities / ALPHA_MIN).log().clamp_min(0)
        box = torch.stack([(q_max * a).sqrt(), (q_max * c).sqrt()], dim=-1)
        size = torch.stack([camera.new_tensor(width), camera.new_tensor(height)])
        seen = opacities >= ALPHA_MIN
        seen &= ((centres + box > 0) & (centres - box < size)).all(dim=1)
        # How far the plane is from all of the splat's rays: the mean along the ray moves by g per pixel.
        g = z[:, None] * (normal[:2] / torch.stack([fx, fy]) - slope[:, None] * gram[:, 0, 1:] / gram[:, :1, 0])
        spread = a * g[:, 0] ** 2 + 2 * b * g[:, 0] * g[:, 1] + c * g[:, 1] ** 2
        margin = (q_max * spread).clamp_min(0).sqrt() + CUT_SIGMAS * slope.abs() / gram[:, 0, 0].sqrt()
        clipped = camera_part(camera, "clipped") > 0
        seen &= ~(clipped & (side > margin))
        straddles = clipped & (side.abs() <= margin)
        radii = 3 * _eigenvalue(a, b, c).sqrt()
        chosen = torch.nonzero(seen).reshape(-1)
    directions = torch.nn.functional.normalize(relative, dim=-1)
    colours = ((sh_basis(directions, sh.shape[1])[:, :, None] * sh).sum(dim=1) + 0.5).clamp_min(0)
    everything = Projected(
        index, centres, conics, box, radii, z, colours, opacities, straddles, gram, side, slope
    )
    return everything.take(chosen)


def kept_fraction(splats: Projected, dx: Tensor, dy: Tensor, camera: Tensor) -> Tensor:
    """Fraction (P, K) of each splat's mass along each pixel's ray on the kept side of the clip plane.

    dx, dy (P, K): pixel minus centre. csrc/splats/cut_math.h derives it.
    """
    gram, z = splats.gram, splats.depths
    normal = camera_part(camera, "normal")
    change = normal[0] / camera_part(camera, "fx") * dx + normal[1] / camera_part(camera, "fy") * dy
    across = splats.slope + change
    b = gram[:, 0, 1] * dx + gram[:, 0, 2] * dy
    c = gram[:, 1, 1] * dx * dx + 2 * gram[:, 1, 2] * dx * dy + gram[:, 2, 2] * dy * dy
    precision = gram[:, 0, 0] + 2 * b + c
    distance = splats.side + z * (change - across * (b + c) / precision)
    return torch.special.ndtr(-distance * precision.sqrt() / across.abs().clamp_min(PARALLEL))


def alphas(splats: Projected, points: Tensor, camera: Tensor) -> Tensor:
    """Opacity (P, K) of each splat at each of the points (P, 2), before the limits."""
    dx = points[:, :1] - splats.centres[:, 0]
    dy = points[:, 1:] - splats.centres[:, 1]
    a, b, c = splats.conics.unbind(-1)
    alpha = splats.opacities * torch.exp(-0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy))
    cut = torch.nonzero(splats.straddles).reshape(-1)
    if len(cut):
        part = splats.take(cut)
        alpha = alpha.index_copy(1, cut, alpha[:, cut] * kept_fraction(part, dx[:, cut], dy[:, cut], camera))
    return alpha


def _tile(splats: Projected, points: Tensor, camera: Tensor) -> Tensor:
    """(P, 5) at the points (P, 2): red, green, blue, depth, all weighted with what arrives, and alpha."""
    alpha = alphas(splats, points, camera)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha.clamp_max(ALPHA_MAX), 0.0)
    after = torch.cumprod(1 - alpha, dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    weight = torch.where(after >= TRANSMITTANCE_MIN, alpha * before, 0.0)
    values = torch.cat(
        [splats.colours, splats.depths[:, None], torch.ones_like(splats.depths[:, None])], dim=1
    )
    return weight @ values


def rasterise(scene: SplatScene) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image (H, W, 3), alpha (H, W), depth (H, W) and radii (N), in the dtype of the scene's tensors.

    Values as `GaussianMRILib.cinematic.rasterise` explains them; `screen` moves the splats' centres by pixels (zeros:
    its gradient is what densification asks for).
    """
    means, camera, width, height = scene.means, scene.camera, scene.width, scene.height
    splats = project(scene)
    radii = torch.zeros_like(scene.opacities, requires_grad=False)
    radii[splats.index] = splats.radii
    rows = []
    for top in range(0, height, _TILE):
        row = []
        for left in range(0, width, _TILE):
            bottom, right = min(top + _TILE, height), min(left + _TILE, width)
            low, high = splats.centres - splats.half, splats.centres + splats.half
            near = (high[:, 0] > left) & (low[:, 0] < right) & (high[:, 1] > top) & (low[:, 1] < bottom)
            y, x = torch.meshgrid(
                torch.arange(top, bottom, device=means.device), torch.arange(left, right, device=means.device),
                indexing="ij",
            )  # fmt: skip
            points = torch.stack([x.reshape(-1), y.reshape(-1)], dim=-1).to(means.dtype) + 0.5
            part = _tile(splats.take(torch.nonzero(near).reshape(-1)), points, camera)
            row.append(part.reshape(bottom - top, right - left, 5))
        rows.append(torch.cat(row, dim=1) if row else means.new_zeros(min(_TILE, height - top), 0, 5))
    pixels = torch.cat(rows) if rows else means.new_zeros(0, width, 5)
    alpha = pixels[..., 4]
    image = pixels[..., :3] + (1 - alpha)[..., None] * camera_part(camera, "background")
    depth = torch.where(alpha > 0, pixels[..., 3] / torch.where(alpha > 0, alpha, 1.0), 0.0)
    return image, alpha, depth, radii


def rasterise_backward(drawn: Pictures, gradients: Pictures, scene: SplatScene) -> tuple[Tensor, ...]:
    """Gradients of sum(grad . output) with respect to means, quaternions, scales, sh, opacities, screen; what was drawn is
    drawn again."""
    with torch.enable_grad():
        leaves = tuple(t.detach().requires_grad_(True) for t in (*scene.splats, scene.screen))
        means, quaternions, scales, sh, opacities, screen = leaves
        splats = (means, quaternions, scales, sh, opacities, screen)
        outputs = rasterise(SplatScene(*splats, scene.camera, scene.width, scene.height))
        total = torch.stack([(g * x).sum() for g, x in zip(gradients.tensors, outputs[:3], strict=True)]).sum()
        if not total.requires_grad:
            return tuple(torch.zeros_like(leaf) for leaf in leaves)
        found = torch.autograd.grad(total, leaves, allow_unused=True)
    return tuple(torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True))
