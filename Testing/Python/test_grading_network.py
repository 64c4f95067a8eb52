"""The network's parts, and the changes of images that it is trained and tested with."""

from __future__ import annotations

import contextlib
import math
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from grading_cases import TINY
from torch import nn

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.device import multiplies_bfloat16
from GaussianMRILib.grading.augment import (
    VIEWS,
    View,
    change,
    draw_changes,
    mirrored,
    resize,
    view_images,
    warp,
)
from GaussianMRILib.grading.network import (
    GradingNetwork,
    StridedPointwise,
    for_inference,
    mixed_precision,
)
from GaussianMRILib.grading.options import AugmentOptions, GradingOptions, NetworkOptions
from GaussianMRILib.tensor_files import without_values


@pytest.fixture(scope="module")
def network() -> GradingNetwork:
    """A small network in evaluation mode whose batch normalisation has seen something."""
    torch.manual_seed(0)
    made = GradingNetwork(TINY)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return made.eval().requires_grad_(False)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_network_is_the_paper_s() -> None:
    with torch.device("meta"):
        made = GradingNetwork()
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in made.named_children()}
    # torchvision's resnet18 has 11,176,512 without its last layer; one channel in place of three: 2 * 64 * 49 less.
    assert sizes["encoder"] == 11_176_512 - 2 * 64 * 49
    layer = 4 * (512 * 512 + 512) + 2 * 512 * 2048 + 2048 + 512 + 4 * 512
    assert sizes["transformer"] == 2 * layer and sizes["head"] == 3 * 513
    assert sum(p.numel() for p in made.parameters()) == 17_481_667
    assert made.positions.shape == (9, 512) and made.cls.shape == (512,)
    assert [block.self_attn.num_heads for block in made.transformer.layers] == [2, 2]
    assert made.encoder.conv1.stride == (2, 2) and made.encoder.layer2[0].downsample[0].bias is None


def test_a_network_without_values_has_shapes_and_costs_nothing(network: GradingNetwork) -> None:
    before = torch.get_rng_state()
    with without_values():
        empty = GradingNetwork(TINY)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(value.device.type == "meta" for value in empty.state_dict().values())
    assert {k: v.shape for k, v in empty.state_dict().items()} == {k: v.shape for k, v in network.state_dict().items()}
    assert not torch.equal(torch.nn.Linear(4, 4).weight, torch.nn.Linear(4, 4).weight)  # initialised as before


def test_slices_that_do_not_exist_change_nothing(network: GradingNetwork) -> None:
    x = images(2, 3, 16, 32)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    before = network(x, mask)
    x[0, 2] = 99.0
    assert torch.equal(network(x, mask), before)
    features = network.encode(x, mask)
    assert not features[0, 2].any()
    features[0, 2] = 99.0  # nor does the transformer look there
    assert torch.equal(network.classify(features, mask), before)
    x[1, 2] = x[1, 2].flip(-1)
    assert not torch.allclose(network(x, mask)[1], before[1], atol=1e-4)
    network.train()  # nor what batch normalisation learns
    means = []
    for filler in (0.0, 5.0):
        copied = GradingNetwork(TINY).train()
        copied.load_state_dict(network.state_dict())
        x[0, 2] = filler
        copied(x, mask)
        means.append(copied.encoder.bn1.running_mean)
    network.eval()
    assert torch.equal(*means) and not torch.equal(means[0], network.encoder.bn1.running_mean)
    assert torch.allclose(network(x[:1], mask[:1]), before[:1], atol=1e-5)  # whatever else is in the batch


def test_the_order_of_slices_matters(network: GradingNetwork) -> None:
    x, mask = images(1, 3, 16, 32), torch.ones(1, 3, dtype=torch.bool)
    features = network.encode(x, mask)
    assert torch.allclose(network.encode(x.flip(1), mask), features.flip(1), atol=1e-6)
    assert torch.allclose(network.encode(x, mask, batch=2), features, atol=1e-6)
    assert not torch.allclose(network(x, mask), network(x.flip(1), mask), atol=1e-5)


@pytest.mark.parametrize("stride", [(2, 2), (1, 2), (3, 1)])
def test_strided_pointwise_convolutions_are_convolutions(stride: tuple[int, int]) -> None:
    torch.manual_seed(3)
    plain = nn.Conv2d(5, 7, 1, stride=stride, bias=stride != (2, 2)).double()
    made = StridedPointwise.of(plain)
    assert dict(made.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    assert made.weight is plain.weight and made.bias is plain.bias
    x = images(2, 5, 7, 10).double()
    seen = [x.clone().requires_grad_(True) for _ in range(2)]
    results = [layer(y) for layer, y in zip((plain, made), seen, strict=True)]
    assert results[0].shape == results[1].shape and torch.allclose(*results, rtol=1e-12)
    gradients = [
        torch.autograd.grad(r.square().sum(), [y, plain.weight]) for r, y in zip(results, seen, strict=True)
    ]
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(*gradients, strict=True))


def test_no_strided_pointwise_convolution_is_left_to_one_dnn(network: GradingNetwork) -> None:
    strided = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert [type(m) for m in strided] == [StridedPointwise] * 3 and all(m.stride == (2, 2) for m in strided)


def test_folding_changes_no_output(network: GradingNetwork) -> None:
    x, mask = images(2, 3, 16, 32), torch.tensor([[True] * 3, [False, True, True]])
    folded = for_inference(network)
    assert torch.allclose(folded(x, mask), network(x, mask), atol=1e-5)
    count = Counter(type(module).__name__ for module in folded.modules())
    assert count["BatchNorm2d"] == 0 and count["Conv2d"] == 17 and count["StridedPointwise"] == 3
    assert not any(p.requires_grad for p in folded.parameters())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 20


def test_everything_learns() -> None:
    made = GradingNetwork(TINY)
    x, mask = images(2, 3, 16, 32), torch.tensor([[True, True, False], [True] * 3])
    made(x, mask).logsumexp(1).sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, name


def test_options_that_make_no_network_or_training() -> None:
    for wrong in ({"slices": 0}, {"heads": 3}, {"dropout": 1.0}, {"widen": 0.0}):
        with pytest.raises(GaussianMRIError, match="No network can have"):
            NetworkOptions(**wrong)
    for wrong in ({"scale": 1.0}, {"shift": -1.0}, {"flip_slices": 2.0}):
        with pytest.raises(GaussianMRIError, match="Augmentation"):
            AugmentOptions(**wrong)
    for wrong in (
        {"input_types": ("A", "B")}, {"input_types": ()}, {"levels": ("S1",)}, {"epochs": 0}, {"learning_rate": 0.0},
        {"class_weights": (1.0, 2.0)}, {"precision": "half"}, {"input_size": (8, 8)}, {"warmup": 1.0},
    ):  # fmt: skip
        with pytest.raises(GaussianMRIError):
            GradingOptions(**wrong)


def test_without_monai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(GaussianMRIError, match=r"MONAI.*gaussianmri\[grading\]"):
        GradingNetwork(TINY)


def test_precision() -> None:
    cpu = torch.device("cpu")
    with mixed_precision(cpu, "bfloat16"):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16
    assert isinstance(mixed_precision(cpu, "float32"), contextlib.nullcontext)
    automatic = isinstance(mixed_precision(cpu), contextlib.nullcontext)
    assert automatic != multiplies_bfloat16(cpu)


# ---- changes of images ---------------------------------------------------------------------------------------


def one(value: float) -> torch.Tensor:
    return torch.tensor([value])


def test_warping_by_whole_pixels_and_right_angles() -> None:
    x = images(1, 2, 8, 12)
    moved = warp(x, one(0), one(1), torch.tensor([[[3.0, 0.0], [0.0, -2.0]]]))
    expected = torch.zeros_like(x)
    expected[0, 0, :, 3:] = x[0, 0, :, :-3]  # to larger columns
    expected[0, 1, :-2] = x[0, 1, 2:]  # to smaller rows; every slice on its own
    assert torch.allclose(moved, expected, atol=1e-5)
    square = images(1, 2, 9, 9)
    still = torch.zeros(1, 2, 2)
    turned = warp(square, one(math.pi / 2), one(1), still)
    assert torch.allclose(turned, torch.rot90(square, -1, (2, 3)), atol=1e-5)  # columns to rows
    # The middle of a crop twice as wide as high turns without being stretched.
    wide = torch.zeros(1, 1, 20, 40)
    wide[..., 8:12, 12:28] = 1
    tall = warp(wide, one(math.pi / 2), one(1), still[:, :1])
    assert torch.allclose(tall[0, 0, 2:18, 18:22], torch.ones(16, 4), atol=1e-5)
    assert float(tall.sum()) == pytest.approx(64, abs=1e-3)
    large = warp(wide, one(0), one(1.25), still[:, :1])
    assert float(large.sum()) == pytest.approx(64 * 1.25**2, rel=0.02)
    both = warp(wide, one(0), one(1.25), torch.tensor([[[4.0, 0.0]]]))
    assert torch.allclose(both[..., 4:], large[..., :-4], atol=1e-5)  # shifts are not magnified


def test_sixteen_views() -> None:
    assert len(VIEWS) == len(set(VIEWS)) == 16 and VIEWS[0] == View()
    assert sum(view.flip for view in VIEWS) == 1
    assert sorted(view.shift for view in VIEWS if view.shift != (0, 0)) == [(-4, 0), (0, -4), (0, 4), (4, 0)]
    assert sorted(view.rotation for view in VIEWS if view.rotation) == [-10, -5, 5, 10]
    assert sorted(view.scale for view in VIEWS if view.scale != 1) == [0.95, 1.05]
    assert sorted(view.brightness for view in VIEWS if view.brightness) == [-0.02, 0.02]
    assert sorted(view.contrast for view in VIEWS if view.contrast != 1) == [0.98, 1.02]
    x, mask = images(3, 28, 56), torch.tensor([True, True, False])
    shown = view_images(x, mask, VIEWS)
    assert shown.shape == (16, 3, 28, 56) and torch.equal(shown[0], x) and torch.equal(shown[1], x)
    moved = shown[VIEWS.index(View(shift=(4.0, 0.0)))]
    assert torch.allclose(moved[..., 1:], x[..., :-1], atol=1e-5)  # 4 pixels of 224 are 1 of 56
    assert torch.allclose(shown[VIEWS.index(View(brightness=0.02))], x + 0.02)
    strong = shown[VIEWS.index(View(contrast=1.02))]
    assert float(strong[mask].mean()) == pytest.approx(float(x[mask].mean()), abs=1e-6)
    assert float(strong[mask].std()) == pytest.approx(1.02 * float(x[mask].std()), rel=1e-4)
    assert torch.equal(view_images(x, mask, VIEWS[5:6])[0], shown[5])


def test_random_changes_stay_in_their_ranges() -> None:
    options = AugmentOptions()
    drawn = draw_changes(4000, 9, options, torch.Generator().manual_seed(0))
    assert float(drawn.angle.abs().max()) == pytest.approx(math.radians(15), rel=0.01)
    assert float(drawn.scale.min()) == pytest.approx(0.9, abs=1e-3) and float(drawn.scale.max()) < 1.1
    assert 9.5 < float(drawn.shift.abs().max()) <= 10  # 8 together and 2 each
    alone = drawn.shift - drawn.shift.mean(dim=1, keepdim=True)
    assert 0.9 * 2 / math.sqrt(3) < float(alone.std()) < 2 / math.sqrt(3)
    assert float(drawn.offset.abs().max()) == pytest.approx(0.1, rel=0.01)
    assert float(drawn.flip.float().mean()) == pytest.approx(0.5, abs=0.03)
    again = draw_changes(4000, 9, options, torch.Generator().manual_seed(0))
    assert torch.equal(again.angle, drawn.angle) and torch.equal(drawn[2:9:3].shift, drawn.shift[2:9:3])


def test_changes_reach_images_and_masks() -> None:
    x, mask = images(2, 3, 8, 224), torch.tensor([[True, True, False]] * 2)
    still = AugmentOptions(rotation=0, scale=0, shift=0, slice_shift=0, offset=0, flip_slices=0)
    drawn = draw_changes(2, 3, replace(still, offset=0.1), torch.Generator().manual_seed(1))
    drawn.flip[1] = True
    drawn.shift[0, 1, 0] = 5
    changed, masks = change(x, mask, drawn)
    assert masks.tolist() == [[True, True, False], [False, True, True]]
    assert torch.allclose(changed[1], x[1].flip(0) + drawn.offset[1], atol=1e-4)
    assert torch.allclose(changed[0, 0], x[0, 0] + drawn.offset[0], atol=1e-4)
    assert torch.allclose(changed[0, 1, :, 5:], x[0, 1, :, :-5] + drawn.offset[0], atol=1e-4)
    half = resize(x, (4, 112))
    assert torch.allclose(half[0, 0, 0, 0], x[0, 0, :2, :2].mean()) and half.shape == (2, 3, 4, 112)
    assert resize(x, (8, 224)) is x


def test_mirroring_exchanges_the_sides() -> None:
    x = torch.zeros(1, 3, 8, 16)
    x[..., 12] = 1  # on the patient's left
    assert np.flatnonzero(mirrored(x)[0, 0, 0].numpy()).tolist() == [3]
