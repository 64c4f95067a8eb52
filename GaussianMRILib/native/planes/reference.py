"""The operators of planes in plain torch: the oracle of the tests, and the last resort without a compiled library.

It follows the definition point by point - q(x) = |M (x - m)|^2 at every pixel, no projection - in float32 or
float64, on any device. Tiles of pixels bound the memory; within a tile only Gaussians whose box meets the
tile's box are taken.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .arguments import AdamStep, PlaneScene

_TILE = 32  # pixels along each side
_PAIRS = 1 << 22  # pixel-Gaussian pairs evaluated at once
_RADIUS, _SIGMA = 5, 1.5  # of the SSIM window


def _matrices(parameters: Tensor) -> Tensor:
    """Upper-triangular M of each Gaussian, (N, 3, 3)."""
    zero = torch.zeros_like(parameters[3])
    rows = [
        parameters[3],
        parameters[4],
        parameters[5],
        zero,
        parameters[6],
        parameters[7],
        zero,
        zero,
        parameters[8],
    ]
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)


def _drawable(parameters: Tensor) -> Tensor:
    """Gaussians that are drawn: all values finite, M regular, amplitude positive. (N,) bool."""
    regular = (parameters[3] != 0) & (parameters[6] != 0) & (parameters[8] != 0)
    return torch.isfinite(parameters).all(dim=0) & regular & (parameters[10] > 0)


def _half_boxes(parameters: Tensor, cut: float) -> Tensor:
    """Half extents of the boxes around q < cut, (N, 3): sqrt(cut Sigma_kk), with a little to spare."""
    identity = torch.eye(3, dtype=parameters.dtype, device=parameters.device).expand(
        parameters.shape[1], 3, 3
    )
    inverse = torch.linalg.solve_triangular(_matrices(parameters), identity, upper=True)
    return (cut * inverse.square().sum(dim=2)).sqrt() * 1.001 + 1e-3


def _tiles(frame: Tensor, rows: int, columns: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(pixel indices (K,), RAS points (K, 3)) tile by tile."""
    for r in range(0, rows, _TILE):
        for c in range(0, columns, _TILE):
            row = torch.arange(r, min(r + _TILE, rows), device=frame.device)
            column = torch.arange(c, min(c + _TILE, columns), device=frame.device)
            index = (row[:, None] * columns + column).reshape(-1)
            points = (
                frame[0:3]
                + (index % columns).to(frame.dtype)[:, None] * frame[3:6]
                + (index // columns).to(frame.dtype)[:, None] * frame[6:9]
            )
            yield index, points


def _near(points: Tensor, means: Tensor, half: Tensor, drawable: Tensor) -> Tensor:
    """Indices of the drawable Gaussians whose box meets the points' box."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    return torch.nonzero(((means + half >= low) & (means - half <= high)).all(dim=1) & drawable).reshape(-1)


def _sums(points: Tensor, parameters: Tensor, cut: float) -> tuple[Tensor, Tensor]:
    """sum w c and sum w at each of the points, differentiable with respect to the parameters (11, n)."""
    numerator = torch.zeros(len(points), dtype=parameters.dtype, device=parameters.device)
    density = torch.zeros_like(numerator)
    step = max(1, _PAIRS // max(1, len(points)))
    for start in range(0, parameters.shape[1], step):
        part = parameters[:, start : start + step]
        difference = points[:, None, :] - part[0:3].T  # (K, n, 3)
        x, y, z = difference.unbind(dim=2)
        q = (
            (part[3] * x + part[4] * y + part[5] * z) ** 2
            + (part[6] * y + part[7] * z) ** 2
            + (part[8] * z) ** 2
        )
        weight = torch.where(q < cut, part[10] * torch.exp(-0.5 * q), 0.0)
        numerator = numerator + weight @ part[9]
        density = density + weight.sum(dim=1)
    return numerator, density


def _planes(scene: PlaneScene, parameters: Tensor) -> Iterator[tuple[int, int, Tensor, Tensor, Tensor]]:
    """(plane, sample, pixel indices in the concatenated image, points, Gaussians near) for every tile."""
    fixed = parameters.detach()
    drawable = _drawable(fixed)
    safe = torch.where(drawable, fixed, torch.ones_like(fixed))
    half, means = _half_boxes(safe, scene.cut), safe[0:3].T
    first = 0
    for p, (rows, columns) in enumerate(scene.shapes.tolist()):
        frame = scene.frames[p].to(parameters.dtype)
        for index, points in _tiles(frame, rows, columns):
            for s, offset in enumerate(scene.offsets[p].to(parameters.dtype)):
                moved = points + offset * frame[9:12]
                yield p, s, first + index, moved, _near(moved, means, half, drawable)
        first += rows * columns


def render_planes(scene: PlaneScene) -> tuple[Tensor, Tensor, Tensor]:
    """Image (total), samples (Q, total) and density (Q, total); see `GaussianMRILib.native.render_planes`.

    Differentiable by autograd with respect to `parameters` when they require a gradient (memory grows with
    the number of pixel-Gaussian pairs then; `render_planes_backward` is the bounded way).
    """
    parameters, weights, background = scene.parameters, scene.weights, scene.background
    total = scene.total
    shape = (scene.offsets.shape[1], total)
    samples = torch.zeros(shape, dtype=parameters.dtype, device=parameters.device)
    density = torch.full(shape, background, dtype=parameters.dtype, device=parameters.device)
    image = torch.zeros(total, dtype=parameters.dtype, device=parameters.device)
    for p, s, index, points, near in _planes(scene, parameters):
        numerator, weight = _sums(points, parameters[:, near], scene.cut)
        den = weight + background
        value = torch.where(den > 0, numerator / torch.where(den > 0, den, 1.0), 0.0)
        image = image.index_add(0, index, weights[p, s].to(value.dtype) * value)
        with torch.no_grad():
            samples[s, index], density[s, index] = value.detach(), den.detach()
    return image, samples, density


def render_planes_backward(
    grad_image: Tensor, samples: Tensor, density: Tensor, scene: PlaneScene
) -> Tensor:
    """Gradient (11, N) of sum(grad_image * image), by autograd tile by tile."""
    gradient = torch.zeros_like(scene.parameters)
    fixed = scene.parameters.detach()
    for p, s, index, points, near in _planes(scene, fixed):
        if len(near) == 0:
            continue
        den = density[s, index]
        scale = scene.weights[p, s].to(den.dtype) * grad_image[index] / torch.where(den > 0, den, 1.0)
        scale = torch.where(den > 0, scale, 0.0)
        step = max(1, _PAIRS // max(1, len(points)))
        for part in near.split(step):
            with torch.enable_grad():
                leaf = fixed[:, part].requires_grad_(True)
                numerator, weight = _sums(points, leaf, scene.cut)
                # dI = (d numerator - I d density) / density
                loss = (scale * (numerator - samples[s, index] * weight)).sum()
                (local,) = torch.autograd.grad(loss, leaf)
            gradient.index_add_(1, part, local)
    return gradient


def _window(size: int, like: Tensor) -> Tensor:
    """Renormalised Gaussian window as a matrix (size, size): row i averages around pixel i."""
    position = torch.arange(size, dtype=torch.float64, device=like.device)
    distance = position[:, None] - position
    weight = torch.exp(-0.5 * (distance / _SIGMA) ** 2) * (distance.abs() <= _RADIUS)
    return (weight / weight.sum(dim=1, keepdim=True)).to(like.dtype)


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """SSIM at every pixel of one plane (rows, columns), data range 1 (Wang et al. 2004); differentiable."""
    down, across = _window(image.shape[0], image), _window(image.shape[1], image)

    def mean(x: Tensor) -> Tensor:
        return down @ x @ across.T

    mx, my = mean(image), mean(target)
    vx, vy, covariance = (
        mean(image * image) - mx * mx,
        mean(target * target) - my * my,
        mean(image * target) - mx * my,
    )
    c1, c2 = 0.01**2, 0.03**2
    return (2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def ssim_gradient(image: Tensor, target: Tensor) -> Tensor:
    """Gradient of the mean of `ssim_map` by the image, written out: within an operator there is no autograd."""
    down, across = _window(image.shape[0], image), _window(image.shape[1], image)

    def mean(x: Tensor) -> Tensor:
        return down @ x @ across.T

    def spread(x: Tensor) -> Tensor:
        return down.T @ x @ across

    mx, my = mean(image), mean(target)
    a, b = 2 * mx * my + 0.01**2, 2 * (mean(image * target) - mx * my) + 0.03**2
    c = mx * mx + my * my + 0.01**2
    d = mean(image * image) - mx * mx + mean(target * target) - my * my + 0.03**2
    value = a * b / (c * d)
    by_a, by_b, by_c, by_d = b / (c * d), a / (c * d), -value / c, -value / d
    total = spread(2 * my * (by_a - by_b) + 2 * mx * (by_c - by_d))
    total += 2 * image * spread(by_d) + 2 * target * spread(by_b)
    return total / image.numel()


def ssim(image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM of each plane (P) and its gradient with respect to the image (total)."""
    means = torch.full((len(shapes),), float("nan"), dtype=image.dtype, device=image.device)
    gradient = torch.zeros_like(image)
    first = 0
    for p, (rows, columns) in enumerate(shapes.tolist()):
        part = slice(first, first + rows * columns)
        first += rows * columns
        if rows * columns == 0:
            continue
        x, y = (whole[part].detach().reshape(rows, columns) for whole in (image, target))
        local, mean = ssim_gradient(x, y), ssim_map(x, y).mean()
        means[p] = mean
        gradient[part] = local.reshape(-1)
    return means, gradient


def adam_(step: AdamStep) -> None:
    """One Adam step in place; modes per row: 0 plain, 1 logarithm of a positive value, 2 logit of a value in
    (0, 1)."""
    parameters, m, v, count = step.parameters, step.m, step.v, step.step
    beta1, beta2 = step.beta1, step.beta2
    with torch.no_grad():
        for row, mode in enumerate(step.modes.tolist()):
            x = parameters[row]
            g = step.grad[row] * (1.0 if mode == 0 else x if mode == 1 else x * (1 - x))
            m1 = beta1 * m[row] + (1 - beta1) * g
            v1 = beta2 * v[row] + (1 - beta2) * g * g
            change = step.rates[row] * (m1 / (1 - beta1**count)) / ((v1 / (1 - beta2**count)).sqrt() + step.eps)
            if mode == 0:
                y = x - change
            elif mode == 1:
                y = (x * torch.exp(-change.clamp(-87, 87))).clamp(1e-30, 1e30)
            else:
                y = (x / (x + (1 - x) * torch.exp(change.clamp(-87, 87)))).clamp(1e-6, 0.999999)
            finite = torch.isfinite(g + change + v1 + y)
            parameters[row] = torch.where(finite, y, x)
            m[row] = torch.where(finite, m1, m[row])
            v[row] = torch.where(finite, v1, v[row])
