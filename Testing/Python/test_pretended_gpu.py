"""The whole product on GPUs that are pretended: nothing is left on another device, see `pretended_gpu.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fit_scenes import SAGITTAL, scan
from pretended_gpu import pretended_gpus
from test_baselines import blocks

import GaussianMRILib as gm
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.fitting import intensities, left_out, several
from GaussianMRILib.fitting.first_guess import first_guess
from GaussianMRILib.fitting.fusion import FUSIONS, STEERED
from GaussianMRILib.fitting.memory import check_memory
from GaussianMRILib.fitting.parts import Part, covering_lattice
from GaussianMRILib.fitting.problem import Problem

#: Not the first one: what asks for "cuda" where it should ask for its own device is found as well.
GPU = "cuda:1"
LITTLE: dict[str, Any] = {"prior": "spline", "gaussians": 100, "passes": 1}


@pytest.fixture
def gpu(needs_kernels: None) -> Iterator[str]:
    with pretended_gpus():
        yield GPU


def stacks(count: int, slices: int = 4, side: tuple[int, int] = (12, 14)) -> list[Any]:
    made = [scan(slices=slices, side=side), scan(slices=slices, side=side, axes=SAGITTAL, seed=1)]
    return made[:count]


def use(field: gm.GaussianField, folder: Path) -> None:
    """Everything that a field can do."""
    assert {str(tensor.device) for tensor in (field.parameters, field.to("cpu").to(GPU).parameters)} == {GPU}
    plane = stacks(1)[0].plane(1)
    images = [field.render(plane), field.render(dataclasses.replace(plane, thickness=3.0)), field.support(plane)]
    images += [field.render(dataclasses.replace(plane, thickness=3.0), projection="max"), field.distance_to_slices(plane)]
    images += [field.render_matrices(np.stack([plane.ijk_to_ras] * 2), plane.shape)]
    images += [field.volume(spacing=3.0)[0], field.explicit().render(plane)]
    assert all(np.isfinite(image).any() for image in images)
    field.save(folder / "field.npz")
    assert np.array_equal(
        gm.GaussianField.load(folder / "field.npz", device=GPU).render(plane), images[0], equal_nan=True
    )
    assert np.array_equal(field.to("cpu").render(plane), images[0], equal_nan=True)


def test_pretended_gpus_refuse_what_torch_refuses(gpu: str) -> None:
    there, other, here = torch.ones(2, 3, device=gpu), torch.ones(2, 3, device="cuda"), torch.ones(2, 3)
    for wrong in (lambda: there + here, lambda: there + other, lambda: torch.cat([here, there]), lambda: here.add_(there)):
        with pytest.raises(RuntimeError, match="same device"):
            wrong()
    with pytest.raises(RuntimeError, match="same device"):
        there[here > 0] = here[0]
    with pytest.raises(TypeError, match="numpy"):
        np.asarray(there)
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device=gpu, generator=torch.Generator())
    with pytest.raises(RuntimeError, match="ordinal"):
        here.to("cuda:2")
    assert (there + 1.0)[:, here[0] > 0].device == there.device and float(there.sum()) == 6


def test_pretended_gpus_pass_gradients_on(gpu: str) -> None:
    layer = torch.nn.Linear(3, 2).to(gpu)
    start = torch.ones(4, 3, requires_grad=True)
    layer(start.to(gpu)).square().sum().cpu().backward()
    assert layer.weight.grad.device == torch.device(gpu) and start.grad.device.type == "cpu" and start.grad.any()


@pytest.mark.parametrize("count", [1, 2])
def test_a_fit_of_one_and_of_several_series(gpu: str, count: int, tmp_path: Path) -> None:
    use(gm.fit(stacks(count), device=gpu, **LITTLE), tmp_path)


@pytest.mark.parametrize("fusion", [*FUSIONS, STEERED])
def test_every_way_to_fuse(gpu: str, fusion: str) -> None:
    field = gm.fit(stacks(2), device=gpu, register=False, fusion=fusion, pitch=3.0, **LITTLE)
    assert str(field.lattice.nodes.device) == gpu


def test_ways_to_fuse_are_compared_where_the_lattices_are(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With intensities that differ, and slices that are left out although they are small."""
    monkeypatch.setattr(left_out, "FEWEST_PIXELS", 100)
    monkeypatch.setattr(several, "SHADING_GAIN_DB", -100)
    monkeypatch.setattr(intensities, "FEWEST_BRICKS", 2)
    first, second = stacks(2, 8, (20, 24))
    shade = np.linspace(0.6, 1.6, second.pixels.shape[1], dtype=np.float32)[None, :, None]
    second = dataclasses.replace(second, pixels=second.pixels * shade + 50)
    field = gm.fit([first, second], device=gpu, pitch=3.0, **LITTLE)
    assert field.report["fusion"]["left_out_slices"] > 0 and field.report["shading"]["corrected"] and field.views
    field.render(second.plane(3))


def test_a_fit_of_angled_blocks_and_what_lies_between_them(gpu: str) -> None:
    series = blocks(20.0)
    assert len(series.blocks()) > 1
    gm.fit(series, device=gpu, pitch=3.0, **LITTLE)
    part = Part.of(series, 0.0, 1.0)
    lattice = covering_lattice([part]).to(gpu)
    values, say = torch.zeros_like(lattice.nodes), torch.zeros_like(lattice.nodes)
    part._fill_wedges(lattice, values, say)
    assert float(say.max()) > 0 and float(values.abs().max()) > 0


def test_a_refined_fit(gpu: str, tmp_path: Path) -> None:
    use(gm.fit(stacks(2), device=gpu, refine=True, pitch=3.0, **LITTLE), tmp_path)


def test_the_first_look_is_on_the_processor(gpu: str) -> None:
    for count in (1, 2):
        field = first_guess(Problem.pose(stacks(count), "fast", 0, gpu, None))
        assert field is not None and field.lattice is not None
        assert {field.parameters.device.type, field.lattice.nodes.device.type} == {"cpu"}


def test_a_fit_of_the_paper(gpu: str, tmp_path: Path) -> None:
    use(gm.fit(stacks(1), preset="paper", device=gpu, gaussians=200, epochs=5, densify_from=2, densify_every=2), tmp_path)


def test_a_field_on_two_devices_is_refused(gpu: str) -> None:
    field = gm.fit(stacks(1), blend=0.0, prior="spline")
    with pytest.raises(GaussianMRIError, match=r"A field must be on one device, .* cpu and cuda:1"):
        dataclasses.replace(field, lattice=field.lattice.to(gpu))
    with pytest.raises(GaussianMRIError, match="A lattice must be on one device"):
        dataclasses.replace(field.lattice, nodes=field.lattice.nodes.to(gpu))


def test_too_little_memory_of_the_gpu_is_said_before_the_fit(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (200_000_000 if str(device) == gpu else 10**12, 10**12))
    series = stacks(1, 40, (100, 100))
    with pytest.raises(GaussianMRIError, match=r"GB of the GPU's memory, and 0\.2 GB are free.*--device cpu"):
        gm.fit(series, device=gpu)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 10**10)  # torch uses again what it keeps
    check_memory(series, device=torch.device(gpu))
    check_memory(series, device=torch.device("cuda:0"))
