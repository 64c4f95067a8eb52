"""How far SSIM in float32 may be from its true value: a bound from the data, whatever the data are.

SSIM = a b / (c d) is badly conditioned where a window has little contrast: its variances are differences of second moments,
exx - mx^2, so their rounding is that of the moments, and d has little more than the constant 9e-4 to be compared with. A
single bright pixel is the worst case: its slope is what remains of terms a thousand times as large.
"""

from __future__ import annotations

from torch import Tensor

from GaussianMRILib.native.planes.reference import _window

UNIT = 2.0**-24  # rounding to float32, relative
ROUNDINGS = 8.0
"""Units in the bounds below. Sums of 11 products in two directions and some ten operations could add up to about 40;
they do not all err to one side: 2.4 is the most that 720 images on four instruction sets have shown."""


def ssim_bounds(image: Tensor, target: Tensor) -> tuple[float, Tensor]:
    """Largest error of the mean SSIM of a plane and of its gradient (rows, columns), computed in float32.

    First-order propagation through SSIM = a b / (c d): moments are known to a relative error, hence b and d to an
    absolute one, `moments`. The terms of the gradient are rounded as they are added; and what the errors of b and d do to
    them depends on the distance of a pixel from the mean of each window that it is in, since terms with 1 / d
    otherwise cancel.

    Args:
        image, target: (rows, columns) float64.
    """
    down, across = _window(image.shape[0], image), _window(image.shape[1], image)

    def mean(x: Tensor) -> Tensor:
        return down @ x @ across.T

    def spread(x: Tensor) -> Tensor:
        return down.T @ x @ across

    def from_means(x: Tensor, means: Tensor, weight: Tensor) -> Tensor:
        """At least the sum over windows p of |x - means[p]| weight[p] (Cauchy and Schwarz)."""
        squares = x * x * spread(weight) - 2 * x * spread(weight * means) + spread(weight * means * means)
        return (squares.clamp(min=0) * spread(weight)).sqrt()

    x, y, mx, my = image, target, mean(image), mean(target)
    moments = mean(x * x) + mean(y * y)
    a, b = 2 * mx * my + 0.01**2, 2 * (mean(x * y) - mx * my) + 0.03**2
    c, d = mx * mx + my * my + 0.01**2, moments - mx * mx - my * my + 0.03**2
    value = (a * b / (c * d)).abs()
    of_value = value + (value + a.abs() / c) * moments / d
    by_a, by_b, by_c, by_d = b.abs() / (c * d), a.abs() / (c * d), value / c, value / d
    plain = spread(2 * my.abs() * (by_a + by_b) + 2 * mx.abs() * (by_c + by_d))
    plain += 2 * x.abs() * spread(by_d) + 2 * y.abs() * spread(by_b)
    of_a, of_b = (by_a + 1 / c) * moments / d, by_b * moments / d
    of_c, of_d = (by_c + by_b / c) * moments / d, (by_d + by_b / d) * moments / d
    through = spread(2 * my.abs() * of_a + 2 * mx.abs() * of_c)
    through += 2 * from_means(x, mx, of_d) + 2 * from_means(y, my, of_b)
    return ROUNDINGS * UNIT * float(of_value.mean()), ROUNDINGS * UNIT * (plain + through) / x.numel()
