"""Training of networks for grading, and everything that they are used for, on pretended GPUs; see `pretended_gpu.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grading_cases import LEFT, QUICK, SHAPE, card, make_set, spots
from pretended_gpu import pretended_gpus
from test_grading_foreign import card as foreign_card
from test_grading_inputs import ONE, linear_scan, made_disc
from test_grading_predict import random_network

from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.grading import foreign
from GaussianMRILib.grading.checkpoints import load_graders
from GaussianMRILib.grading.crops import CropSet
from GaussianMRILib.grading.evaluation import evaluate
from GaussianMRILib.grading.heatmap import heat_map
from GaussianMRILib.grading.inputs import resampled_input
from GaussianMRILib.grading.model_card import load_grader, save_grader
from GaussianMRILib.grading.predict import grade, grade_cases
from GaussianMRILib.grading.train import GradingTrainer

GPU = "cuda:1"


@pytest.fixture
def gpu() -> Iterator[str]:
    with pretended_gpus():
        yield GPU


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> CropSet:
    return make_set(tmp_path_factory.mktemp("spots") / "set", {"train": 6, "validation": 3, "test": 3})


def trained(crops: CropSet, device: str, folder: Path, precision: str = "float32") -> Path:
    """A checkpoint of two epochs, stopped after the first one."""
    options = replace(QUICK, epochs=2, window=1, precision=precision)
    for part in (0, 1):
        trainer = GradingTrainer(crops, LEFT, options, folder / "state.pt", device)
        for _ in trainer:
            if part == 0:
                break
    assert trainer.device.type == "cpu" or str(next(trainer._network.parameters()).device) == device
    return trainer.export(folder / "left.pt")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training(gpu: str, crops: CropSet, precision: str, tmp_path: Path) -> None:
    model = trained(crops, gpu, tmp_path, precision)
    there, here = load_grader(model, device=gpu), load_grader(model)
    cases = crops.chosen("test")
    assert np.allclose(grade_cases(there, crops, cases, 2), grade_cases(here, crops, cases, 2), atol=2e-2)


def test_what_a_network_is_used_for(gpu: str, crops: CropSet, tmp_path: Path) -> None:
    model = save_grader(tmp_path / "left.pt", random_network(), card())
    (grader,) = load_graders([model], device=gpu)
    assert str(grader.device) == gpu
    assert evaluate({"left": grader}, crops, split="test", views=1, resamples=5)
    plane = ImagePlane.from_axes((0, 0, 0), (-1, 0, 0), (0, -1, 0), spacing=(0.5, 0.5), shape=SHAPE[1:], thickness=4)
    shown: Any = spots(2, 0, np.random.default_rng(0))
    shown = replace(shown, facts={"level": "L5/S1"}, planes=tuple(plane.stack(SHAPE[0], 4.0)))
    (known,) = grade(grader, shown, 2)
    found = heat_map(grader, shown, step=8)
    assert found.grade == known.label and np.isfinite(found.drop).all()


def test_networks_from_elsewhere(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime computes on the processor."""
    monkeypatch.setattr(foreign, "_onnx", lambda model: lambda *given: given[0].cpu().numpy().mean((0, 2, 3))[:3])
    facts = foreign_card()
    network = foreign.ForeignNetwork(b"", "ONNX", foreign.ForeignCard.from_dict(facts), device=gpu)
    images = torch.rand(2, 9, 112, 224).to(gpu)
    logits = network.classify(network.encode(images, images[:, :, 0, 0]), torch.ones(2, 9, dtype=torch.bool, device=gpu))
    assert np.isfinite(torch.softmax(logits.float(), dim=1).cpu().numpy()).all()


def test_gaussians_fitted_around_a_disc(gpu: str, needs_kernels: None) -> None:
    stack = linear_scan(0, count=6, shape=(24, 28))
    fit = {"prior": "spline", "gaussians": 100, "passes": 1}
    made = resampled_input(made_disc(), stack, "R-GS", median=ONE, device=gpu, fit_options=fit)
    assert np.isfinite(made.images).all() and made.images.any()
