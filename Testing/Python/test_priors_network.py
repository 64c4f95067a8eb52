"""The prior network: its two layouts, how it is applied in tiles, and its training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from GaussianMRILib import SliceStack
from GaussianMRILib.priors import network_prior as application
from GaussianMRILib.priors import patches, training
from GaussianMRILib.priors.factorisation import factorised
from GaussianMRILib.priors.network import (
    FactorisedNetwork,
    PriorNetwork,
    SliceNetwork,
    basis_matrix,
    condition_vector,
    load_network,
    save_weights,
    sub_slice_phases,
)
from GaussianMRILib.priors.synthetic import dead_leaves
from GaussianMRILib.volumes import enforce, upsample


def small_full(seed: int = 0) -> SliceNetwork:
    torch.manual_seed(seed)
    network = SliceNetwork(channels=8, blocks=2)
    for layer in [*network.second, network.exit]:
        torch.nn.init.normal_(layer.weight, std=0.05)
    return network.eval()


def random_slices(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def batches(count: int = 2, ratios: tuple[int, ...] = (4,)) -> list[patches.Batch]:
    volumes = [dead_leaves(n) for n in range(2)]
    return [patches.make_batch(volumes, [], np.random.default_rng(n), 2, ratios) for n in range(count)]


@pytest.fixture
def fresh_cache():
    load_network.cache_clear()
    yield
    load_network.cache_clear()


@pytest.mark.parametrize(
    "network", [SliceNetwork(8, 2, 4), FactorisedNetwork(8, 4, 8, 16, 16, 8)], ids=["slices", "factorised"]
)
def test_weights_come_back_in_their_own_layout(network, tmp_path: Path, fresh_cache) -> None:
    network.ratio_range = (4.0, 25.0)
    save_weights(network, tmp_path / "weights.npz", steps=3)
    back = load_network(tmp_path / "weights.npz")
    assert type(back) is type(network) and back.layout == network.layout and back.ratio_range == (4.0, 25.0)
    slices, told = random_slices((1, 1, 5, 12, 14)), torch.tensor([condition_vector(6, 0.9, 0.01)])
    with torch.inference_mode():
        np.testing.assert_allclose(back(slices, told), network(slices, told), atol=2e-3)


def test_weights_of_version_0_1_load_and_are_told_no_more_than_they_know(tmp_path: Path, fresh_cache) -> None:
    network = small_full()
    arrays = {name: value.numpy().astype(np.float16) for name, value in network.state_dict().items()}
    np.savez_compressed(tmp_path / "old.npz", layout=np.array([8, 2, 8]), facts=np.array("{}"), **arrays)
    back = load_network(tmp_path / "old.npz")
    assert isinstance(back, SliceNetwork) and back.ratio_range == (3.0, 10.0)


def test_factors_of_full_rank_are_the_full_network() -> None:
    full, seen = small_full(), batches()
    same = factorised(full, seen, (24,) * 4)
    slices, told = random_slices((2, 1, 6, 15, 18), 1), torch.tensor([condition_vector(5, 1, 0.01)] * 2)
    with torch.inference_mode():
        expected = full(slices, told)
        np.testing.assert_allclose(same(slices, told), expected, atol=1e-4 * float(expected.abs().max()))
        # Lower ranks keep what matters at the inputs that occur, and are nearer the more they keep.
        apart = [
            float((factorised(full, seen, (rank,) * 4)(slices, told) - expected).square().mean())
            for rank in (4, 8, 16)
        ]
    assert apart[0] > apart[1] > apart[2]
    assert apart[2] < 0.02 * float(expected.square().mean())


def test_a_gradient_step_and_inference_see_the_same_network() -> None:
    network = FactorisedNetwork(8, 4, 8, 8, 8, 8)
    slices, told = random_slices((1, 1, 4, 8, 8)), torch.zeros(1, 3)
    trained = network(slices, told)
    trained.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    with torch.inference_mode():  # works in place
        np.testing.assert_allclose(network(slices, told), trained.detach(), atol=1e-6)


@pytest.mark.parametrize("spacing, factor", [(4.0, 4), (15.0, 10), (35.0, 10)])
def test_tiles_make_no_difference_and_ratios_are_clipped(monkeypatch, spacing: float, factor: int) -> None:
    network = FactorisedNetwork(8, 8, 8, 8, 8, 8).eval()
    network.ratio_range = (3.0, 12.0)
    told: list[float] = []
    forward = FactorisedNetwork.forward

    def spy(self: PriorNetwork, slices: torch.Tensor, condition: torch.Tensor, step: object) -> torch.Tensor:
        told.append(float(condition[0, 0]))
        return forward(self, slices, condition, step)

    monkeypatch.setattr(FactorisedNetwork, "forward", spy)
    pixels = random_slices((6, 40, 37)).numpy()
    stack = SliceStack.from_array(pixels, np.diag([1, 1, spacing, 1]), thickness=4)
    whole = application.network_prior(stack, network=network)
    assert whole.pixels.shape == (6 * factor, 40, 37)
    monkeypatch.setattr(application, "LARGEST_LAYER", 8 * 10 * 36 * 34)
    tiled = application.network_prior(stack, network=network)
    assert len(told) > 3 and told[0] == pytest.approx(condition_vector(min(spacing, 12), 1, 0.01)[0])
    np.testing.assert_allclose(tiled.pixels, whole.pixels, atol=2e-3)


@pytest.mark.parametrize("kind", [SliceNetwork, FactorisedNetwork])
def test_a_cancel_is_heard_within_a_tile(kind: type[PriorNetwork]) -> None:
    network = kind(8, 4, 8).eval() if kind is SliceNetwork else kind(8, 8, *(8,) * 8).eval()
    stack = SliceStack.from_array(random_slices((6, 40, 37)).numpy(), np.diag([1, 1, 4, 1]), thickness=4)
    heard: list[float] = []

    def cancel(share: float) -> None:
        heard.append(share)
        if len(heard) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        application.network_prior(stack, network=network, progress=cancel)
    assert heard == pytest.approx([0.2, 0.4])  # of the only tile


def test_residual_is_the_basis_at_each_sub_slice() -> None:
    """Against the plain formula, without tiles and slice by slice products."""
    network = FactorisedNetwork(8, 8, 8, 8, 8, 8).eval()
    pixels = random_slices((5, 20, 24)).numpy()
    stack = SliceStack.from_array(pixels, np.diag([1, 1, 4, 1]), thickness=4)
    base = upsample(stack, factor=4)
    slices = np.pad(pixels[None, None], ((0, 0), (0, 0), (2, 2), (8, 8), (8, 8)), mode="edge")
    noise = float(np.clip(application.noise_level(pixels), 0.003, 0.03))
    with torch.inference_mode():
        told = torch.tensor([condition_vector(4, 1, noise)])
        coefficients = network(torch.from_numpy(slices), told)[0, :, 2:-2, 8:-8, 8:-8]
    residual = torch.einsum("pb,bkyx->kpyx", basis_matrix(sub_slice_phases(4), 8), coefficients)
    expected = enforce(replace(base, pixels=base.pixels + residual.flatten(0, 1).numpy()), stack)
    result = application.network_prior(stack, network=network, range_=(0.0, 1.0))
    np.testing.assert_allclose(result.pixels, expected.pixels, atol=5e-3)


def test_volumes_of_any_shape_and_the_cube_as_it_was() -> None:
    cube = dead_leaves(3, (40, 40, 40))
    assert cube.shape == (40, 40, 40) and torch.equal(cube, dead_leaves(3, (40, 40, 40)))
    long = dead_leaves(3, (120, 24, 24), largest_scale=2.0)
    assert long.shape == (120, 24, 24) and 0.02 < float(long.std()) and float(long.max()) < 1.201


def test_ratios_are_mostly_common_ones() -> None:
    weights = patches.ratio_weights(patches.RATIOS)
    ratios = np.array(patches.RATIOS)
    assert ratios.min() == 3 and ratios.max() == 40 and weights.sum() == pytest.approx(1)
    assert weights[ratios > patches.COMMON_RATIO].sum() == pytest.approx(patches.RARE_SHARE)
    assert weights[0] == pytest.approx(2 * weights[3])  # 3 and 6: even in the logarithm


@pytest.mark.parametrize("ratio", [11, 12, 40])
def test_large_ratios_come_from_long_volumes(ratio: int) -> None:
    cube, long = torch.zeros(88, 88, 88), torch.ones(patches.LONG_VOLUME)
    batch = patches.make_batch([cube], [long], np.random.default_rng(0), 1, (ratio,))
    assert batch.truth.shape == (1, 8 * ratio, 40, 40) and batch.slices.shape == (1, 1, 8, 40, 40)
    # One volume is 0 everywhere and the other 1: the truth (perhaps inverted and scaled) tells which it came from.
    assert float(batch.truth.max() - batch.truth.min()) == 0 and torch.isfinite(batch.base).all()
    assert (float(batch.truth.min()) > 0) == (8 * ratio > patches.VOLUME)


def test_a_perfect_pupil_has_no_loss() -> None:
    batch = batches(1)[0]
    network = FactorisedNetwork(8, 8, 8, 8, 8, 8)
    with torch.no_grad():
        coefficients, residual = training.predict(network, batch)
    taught = replace(batch, taught=coefficients)
    assert float(training.loss_of(taught, coefficients, residual, 1.0)[0]) == 0
    perfect, error = training.loss_of(batch, coefficients, batch.truth - batch.base, 0.0)
    assert float(perfect) < 1e-6 and float(error.abs().max()) < 1e-6


def test_training_goes_on_where_it_was_stopped(tmp_path: Path, fresh_cache) -> None:
    """One command: a teacher is given, its kernels are factorised, and a second call ends the course."""
    teacher = tmp_path / "teacher.npz"
    save_weights(small_full(), teacher)
    for index in range(2):
        for long in (False, True):
            patches.write_volume(str(tmp_path), index, long)
    start = factorised(small_full(), batches(1), (8,) * 4)
    course = training.Course(4, 1, 1, 0, 1e-3, ratios=(3,))
    monitored: list[int] = []

    def run(steps_seen: list[int]) -> None:
        training.train(
            str(tmp_path / "w.npz"),
            course,
            str(tmp_path),
            1,
            str(teacher),
            start,
            lambda n, _: steps_seen.append(n),
        )

    run(monitored)
    assert monitored == [4] and (tmp_path / "w.npz").is_file() and (tmp_path / "w.state").is_file()
    run(monitored)  # nothing is left to do
    assert monitored == [4]
    load_network.cache_clear()
    assert isinstance(load_network(tmp_path / "w.npz"), FactorisedNetwork)
    other = training.Course(5, 1, 1, 0, 1e-3, ratios=(3,))
    with pytest.raises(SystemExit, match="another training"):
        training.train(str(tmp_path / "w.npz"), other, str(tmp_path), 1, str(teacher), start)
