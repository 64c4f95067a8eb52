"""LPIPS against its formula written out, with a random trunk; and what happens without a trunk."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.metrics import Lpips, lpips

SHAPES = {
    0: (64, 3, 11, 11),
    3: (192, 64, 5, 5),
    6: (384, 192, 3, 3),
    8: (256, 384, 3, 3),
    10: (256, 256, 3, 3),
}


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = torch.Generator().manual_seed(3)
    weights = {}
    for layer, shape in SHAPES.items():
        fan = np.prod(shape[1:])
        weights[f"features.{layer}.weight"] = torch.randn(shape, generator=generator) / fan**0.5
        weights[f"features.{layer}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    path = tmp_path_factory.mktemp("trunk") / "alexnet.pth"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def metric(trunk: Path) -> Lpips:
    result = Lpips(trunk=trunk, verify=False)
    if "not installed" in result.reason:
        pytest.skip(result.reason)
    assert result.available, result.reason
    return result


def pair(shape: tuple[int, int] = (71, 64)) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    truth = generator.random(shape)
    return np.clip(truth + 0.1 * generator.normal(size=shape), 0, 1), truth


def written_out(image: np.ndarray, truth: np.ndarray, trunk: Path) -> float:
    """Zhang et al. 2018, eq. 1, on torchvision's AlexNet: normalised features, squared, weighted."""
    import lpips as reference

    weights = torch.load(trunk, weights_only=True)
    file = Path(reference.__file__).parent / "weights" / "v0.1" / "alex.pth"
    linear = torch.load(file, map_location="cpu", weights_only=True)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])

    def features(array: np.ndarray) -> list[torch.Tensor]:
        x = torch.from_numpy(array).float()[None, None].expand(1, 3, *array.shape) * 2 - 1
        x = (x - shift[:, None, None]) / scale[:, None, None]
        outputs = []
        for layer, (stride, padding) in zip(SHAPES, [(4, 2), (1, 2), (1, 1), (1, 1), (1, 1)], strict=True):
            if layer in (3, 6):
                x = F.max_pool2d(x, 3, 2)
            weight, bias = weights[f"features.{layer}.weight"], weights[f"features.{layer}.bias"]
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            outputs.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return outputs

    total = 0.0
    for n, (a, b) in enumerate(zip(features(image), features(truth), strict=True)):
        total += float((linear[f"lin{n}.model.1.weight"] * (a - b) ** 2).sum(1).mean())
    return total


def test_lpips_equals_its_formula(metric: Lpips, trunk: Path) -> None:
    image, truth = pair()
    assert metric(image, truth) == pytest.approx(written_out(image, truth, trunk), rel=1e-4)
    assert metric(truth, truth) == 0.0
    assert metric(255 * image, 255 * truth, data_range=255) == pytest.approx(metric(image, truth), rel=1e-3)


def test_weighted_lpips_looks_where_the_weight_is(metric: Lpips) -> None:
    image, truth = pair((96, 96))
    image[:, 48:] = truth[:, 48:]
    left, right = np.zeros(truth.shape), np.zeros(truth.shape)
    left[:, :32], right[:, 80:] = 1, 1
    assert metric(image, truth, left) > 5 * metric(image, truth, right)
    assert metric(image, truth, np.ones(truth.shape)) == pytest.approx(metric(image, truth), rel=0.05)


def test_nan_pixels_do_not_count(metric: Lpips) -> None:
    image, truth = pair()
    truth[:8] = np.nan
    other = image.copy()
    other[:8] = 0.7
    value = metric(image, truth)
    assert value is not None and value > 0 and metric(other, truth) == value


def test_a_lent_torchvision_is_taken_back(metric: Lpips) -> None:
    installed = importlib.util.find_spec("torchvision") is not None
    assert "lpips" in sys.modules and ("torchvision" in sys.modules) == installed


def test_without_the_right_weights_there_is_a_reason_and_no_number(
    trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAUSSIANMRI_LPIPS_TRUNK", "")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    image, truth = pair()
    cases = [(None, "not on this computer"), (tmp_path / "absent.pth", "not a file"), (trunk, "checksum")]
    for chosen, message in cases:
        result = Lpips(trunk=chosen)
        assert not result.available and message in result.reason
        assert result(image, truth) is None and lpips(image, truth, trunk=chosen) is None
    broken = tmp_path / "broken.pth"
    torch.save({"features.0.weight": torch.zeros(3)}, broken)
    assert not Lpips(trunk=broken, verify=False).available


def test_images_that_alexnet_cannot_take_are_refused(metric: Lpips) -> None:
    image, truth = pair((20, 64))
    with pytest.raises(GaussianMRIError, match="at least 31"):
        metric(image, truth)
