"""Which pixels are judged, and the scores of methods side by side."""

from __future__ import annotations

import numpy as np
import pytest

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.evaluation import compare, judged, score_image
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.metrics import gaussian_weight_mask, psnr, ssim

#: 20 x 30 pixels of 1 mm at z = 0: column i lies at x = i, row j at y = j.
PLANE = ImagePlane(np.eye(4), (20, 30))


def slab(low: float, high: float) -> np.ndarray:
    """Half-spaces of low <= x <= high."""
    return np.array([[-1, 0, 0, low], [1, 0, 0, -high]], float)


def columns(image: np.ndarray) -> list[int]:
    assert (np.isfinite(image) == np.isfinite(image[:1])).all()
    return np.flatnonzero(np.isfinite(image[0])).tolist()


def test_pixels_count_inside_one_hull_of_every_scan() -> None:
    truth = np.ones(PLANE.shape, np.float32)
    assert columns(judged(truth, PLANE, [])) == list(range(30))
    assert columns(judged(truth, PLANE, [[slab(0, 10)]])) == list(range(2, 9))
    assert columns(judged(truth, PLANE, [[slab(0, 10)]], border=0)) == list(range(11))
    either = judged(truth, PLANE, [[slab(0, 10), slab(8, 20)]], border=3)
    assert columns(either) == [*range(3, 8), *range(11, 18)]
    both = judged(truth, PLANE, [[slab(0, 10)], [slab(4, 20)]])
    assert columns(both) == [6, 7, 8] and both.dtype == np.float32
    missing = truth.copy()
    missing[:, 7] = np.nan
    assert columns(judged(missing, PLANE, [[slab(0, 10)], [slab(4, 20)]])) == [6, 8]


def images(count: int, shape: tuple[int, int] = (20, 30)) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.random(shape).astype(np.float32) for _ in range(count)]


def test_options_of_a_score() -> None:
    truth, image = images(2)
    truth[:4] = np.nan
    weight = gaussian_weight_mask(truth.shape, (12, 15), (4, 6))
    seen = []

    def lpips(*given: np.ndarray, weight: np.ndarray) -> float:
        seen.append((*given, weight))
        return 0.25

    found = score_image(image, truth, weight=weight, lpips=lpips, lpips_from=20)
    masked = np.where(np.isfinite(truth), image, np.nan)
    assert found.psnr == pytest.approx(psnr(masked, truth, weight=weight, data_range=1.0))
    assert found.ssim == pytest.approx(ssim(masked, truth, weight=weight, data_range=1.0))
    assert found.lpips == 0.25 and len(seen) == 1 and seen[0][2] is weight
    assert score_image(image, truth, lpips=lpips, lpips_from=21).lpips is None and len(seen) == 1
    image[10, 10] = np.nan
    with pytest.raises(GaussianMRIError, match=r"^It is empty on 1 of 480 pixels"):
        score_image(image, truth, name="It")
    masked[10, 10] = np.nan
    assert score_image(image, truth, whole=False).psnr == pytest.approx(psnr(masked, truth, data_range=1.0))


def test_methods_are_compared_on_the_same_pixels() -> None:
    truths = [300 * image for image in images(5)]
    truths[1][:] = np.nan
    truths[1][:3, :21] = 7  # 63 pixels
    truths[2][:, :10] = np.nan
    other = images(10)[5:]
    given = {"other units": [40 - 2 * t for t in truths], "noise": [t + 30 * o for t, o in zip(truths, other, strict=True)]}
    given["other units"][1][:] = given["noise"][1][:] = 0
    for method in given.values():
        method[2][:] = np.nan_to_num(method[2], nan=1e6)  # not judged there
    planes = [PLANE.offset(float(n)) for n in range(5)]

    def renderer(name: str):
        return lambda asked: [given[name][next(n for n, p in enumerate(planes) if p is plane)] for plane in asked]

    renderers = {name: renderer(name) for name in given}
    kept, results = compare(renderers, planes, truths, matched=True)
    assert len(kept) == 4 and [r.method for r in results] == list(given)
    scale = np.percentile(np.concatenate([truths[n][np.isfinite(truths[n])] for n in (0, 2, 3, 4)]), 99.9)
    np.testing.assert_allclose(kept[1], truths[2] / scale, rtol=1e-6)
    assert results[0].mean.psnr > 100 and results[0].mean.ssim == pytest.approx(1)
    assert 15 < results[1].mean.psnr < 40 and results[1].mean.lpips is None
    _, plain = compare(renderers, planes, truths)
    expected = [psnr(np.where(np.isfinite(t), i, np.nan) / scale, t / scale, data_range=1.0)
                for n, (i, t) in enumerate(zip(given["noise"], truths, strict=True)) if n != 1]  # fmt: skip
    assert [s.psnr for s in plain[1].scores] == pytest.approx(expected, rel=1e-5)
    assert plain[1].mean.psnr == pytest.approx(np.mean(expected), rel=1e-5) and plain[0].mean.psnr < 0
    two, _ = compare(renderers, planes, truths, most=2)
    for image, truth in zip(two, (truths[0], truths[4]), strict=True):  # the first and the last
        np.testing.assert_allclose(image / image.max(), truth / truth.max(), rtol=1e-5)


def test_lpips_is_given_where_every_image_has_it() -> None:
    truths = [*images(1), *images(1, (40, 40))]
    planes = [PLANE, ImagePlane(np.eye(4), (40, 40))]
    renderers = {"same": lambda asked: [truths[n] for n in range(2)]}
    for smallest, mean in ((20, 0.5), (21, None)):
        _, (result,) = compare(renderers, planes, truths, lpips=lambda image, truth: 0.5, lpips_from=smallest)
        assert result.mean.lpips == mean and result.scores[1].lpips == 0.5


def test_what_cannot_be_compared_is_named() -> None:
    dark, empty = np.zeros(PLANE.shape, np.float32), np.full(PLANE.shape, np.nan, np.float32)
    with pytest.raises(GaussianMRIError, match="no pixels to judge in the series"):
        compare({}, [PLANE], [empty], name="the series")
    with pytest.raises(GaussianMRIError, match="no positive intensity to judge in the true images"):
        compare({}, [PLANE], [dark])
