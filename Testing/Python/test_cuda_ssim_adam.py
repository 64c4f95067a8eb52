"""CUDA SSIM and Adam, run on the host emulation, against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from cuda_support import assert_ssim_agrees, emulated, needs_compiler
from seeds import chosen_seed

from GaussianMRILib.native.planes import reference
from GaussianMRILib.native.planes.arguments import AdamStep

pytestmark = needs_compiler


def random_images(
    seed: int, shapes: list[tuple[int, int]]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Smooth targets in [0, 1], noisy images of them, shapes (P, 2)."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(rows * columns for rows, columns in shapes)
    target = torch.sin(torch.arange(total) * 0.13) * 0.4 + 0.5
    target += 0.05 * torch.randn(total, generator=generator)
    image = target + 0.1 * torch.randn(total, generator=generator)
    return image, target, torch.tensor(shapes, dtype=torch.int32).reshape(-1, 2)


@pytest.mark.parametrize(
    "shapes", [[(23, 37), (16, 16)], [(1, 1), (3, 40), (40, 2)], [(5, 6), (0, 4), (17, 17)], []]
)
def test_ssim_matches_reference(shapes: list[tuple[int, int]]) -> None:
    image, target, table = random_images(chosen_seed(), shapes)
    assert_ssim_agrees(image, target, table, emulated().ssim(image, target, table))


def test_ssim_of_equal_images_is_one_and_flat() -> None:
    image, _, table = random_images(chosen_seed(), [(20, 30)])
    mean, gradient = emulated().ssim(image, image, table)
    assert float(mean) == pytest.approx(1.0, abs=1e-6)
    assert gradient.abs().max() < 1e-5


def test_ssim_does_not_depend_on_order() -> None:
    image, target, table = random_images(chosen_seed(), [(33, 18), (20, 40)])
    expected = emulated().ssim(image, target, table)
    for seed in (3, 4):
        for ours, theirs in zip(emulated(seed=seed).ssim(image, target, table), expected, strict=True):
            assert torch.equal(ours, theirs)


def test_a_nan_pixel_stays_in_its_windows() -> None:
    image, target, table = random_images(chosen_seed(), [(30, 30), (12, 12)])
    expected = emulated().ssim(image, target, table)
    image[15 * 30 + 15] = float("nan")
    mean, gradient = emulated().ssim(image, target, table)
    assert torch.isnan(mean[0]) and mean[1] == expected[0][1]
    touched = torch.isnan(gradient[:900].reshape(30, 30)).nonzero()
    assert touched.amin() == 5 and touched.amax() == 25  # two windows of radius 5


def test_adam_matches_reference() -> None:
    generator = torch.Generator().manual_seed(chosen_seed())
    rows, columns = 5, 301
    modes = torch.tensor([0, 1, 2, 0, 1], dtype=torch.int32)
    rates = torch.tensor([0.02, 0.05, 0.1, 0.0, 0.3])
    parameters = torch.rand(rows, columns, generator=generator) * 0.9 + 0.05
    m, v = torch.zeros(rows, columns), torch.zeros(rows, columns)
    expected = [x.double() for x in (parameters, m, v)]
    for step in range(1, 6):
        grad = torch.randn(rows, columns, generator=generator)
        emulated().adam_(AdamStep(parameters, grad, m, v, rates, modes, step, 0.9, 0.999, 1e-8))
        reference.adam_(AdamStep(
            expected[0], grad.double(), *expected[1:], rates.double(), modes, step, 0.9, 0.999, 1e-8
        ))
    for ours, theirs in zip((parameters, m, v), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=1e-5)


def test_adam_leaves_entries_with_a_bad_gradient() -> None:
    parameters = torch.full((3, 4), 0.5)
    grad = torch.ones(3, 4)
    grad[:, 1], grad[:, 2] = float("nan"), float("inf")
    m, v = torch.zeros(3, 4), torch.zeros(3, 4)
    modes, rates = torch.tensor([0, 1, 2], dtype=torch.int32), torch.full((3,), 0.1)
    emulated().adam_(AdamStep(parameters, grad, m, v, rates, modes, 1, 0.9, 0.999, 1e-8))
    assert torch.equal(parameters[:, 1:3], torch.full((3, 2), 0.5)) and torch.equal(
        m[:, 1:3], torch.zeros(3, 2)
    )
    assert (parameters[:, 0] < 0.5).all() and (v[:, 3] > 0).all()


def test_adam_of_nothing() -> None:
    empty = torch.empty(11, 0)
    modes, rates = torch.zeros(11, dtype=torch.int32), torch.zeros(11)
    emulated().adam_(AdamStep(empty, empty, empty, empty, rates, modes, 1, 0.9, 0.999, 1e-8))
