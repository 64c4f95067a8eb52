"""Splats that begin in the volume: where they are, what they show before any training, and what is said without points."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from trace_scenes import affine, plain

from GaussianMRILib.cinematic import worker
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.dataset import POINTS, make_dataset
from GaussianMRILib.cinematic.dataset_views import DatasetOptions
from GaussianMRILib.cinematic.looks import looks
from GaussianMRILib.cinematic.model_files import load_model
from GaussianMRILib.cinematic.options import TrainOptions
from GaussianMRILib.cinematic.start import sample_points
from GaussianMRILib.cinematic.tracer import PathTracer
from GaussianMRILib.cinematic.train import Trainer
from GaussianMRILib.cinematic.transfer import TransferFunction
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import transform_points

pytestmark = pytest.mark.usefixtures("needs_kernels")

SHAPE = (40, 44, 48)
MATRIX = affine(shape=SHAPE)
RED, BLUE = (0.9, 0.2, 0.1), (0.1, 0.2, 0.9)
LOOK = dataclasses.replace(
    plain(),
    transfer=TransferFunction(
        [[100, *RED], [200, *RED], [201, *BLUE], [300, *BLUE]], [[50, 0], [100, 0.95]], unit_distance=1.0
    ),
)


def shell() -> np.ndarray:
    """A blue ball of 8 voxels in a red one of 16."""
    k, j, i = np.indices(SHAPE) - (np.array(SHAPE).reshape(3, 1, 1, 1) - 1) / 2
    away = np.sqrt(i**2 + j**2 + k**2)
    return np.where(away < 8, 300.0, np.where(away < 16, 150.0, 0.0)).astype(np.float32)


def test_points_lie_in_what_is_shown_and_have_its_colour() -> None:
    volume = shell()
    tracer = PathTracer(volume, MATRIX, LOOK)
    cloud = sample_points(tracer, 4000, seed=1)
    ijk = transform_points(np.linalg.inv(MATRIX), cloud["points"])
    away = np.linalg.norm(ijk - (np.array(SHAPE[::-1]) - 1) / 2, axis=1)
    assert away.max() < 18
    inner = cloud["colours"][:, 2] > cloud["colours"][:, 0]
    assert np.all(away[inner] < 9.5) and np.all(away[~inner] > 6.5)
    # Half of the points are where the colour changes, so the inner ball has more than its share of the volume.
    assert inner.mean() > 1.3 * (8 / 16) ** 3 and 0.3 < (np.abs(away - 16) < 2).mean() < 0.7
    again = sample_points(tracer, 4000, seed=1)
    assert np.array_equal(cloud["points"], again["points"])
    low = np.array([-100.0, -100, 0]) + tracer.centre * [1, 1, 1]
    half = sample_points(PathTracer(volume, MATRIX, LOOK, roi=(low, tracer.centre + 100)), 500)
    assert half["points"][:, 2].min() > tracer.centre[2] - 2


def test_a_cut_shows_the_inside_before_any_picture_has_shown_it(tmp_path: Path) -> None:
    options = DatasetOptions(train=2, test=1, size=32, samples=2, test_samples=2)
    made = make_dataset(tmp_path / "set", shell(), MATRIX, look=LOOK, options=options)
    quick = TrainOptions.of_quality("quick").scaled(splats=3000, iterations=10)
    trainer = Trainer(made, options=quick)
    tracer = PathTracer(shell(), MATRIX, LOOK)
    camera = tracer.camera(azimuth=0, size=48)
    image = trainer.model.render(camera, ClipPlane.from_point(tracer.centre, (0, 1, 0))).image.numpy()
    assert image[24, 24, 2] > 2 * image[24, 24, 0]  # blue in the middle
    ring = image[24, 24 + round(12 * 48 / 2 / (tracer.radius * np.linalg.norm(MATRIX[:3, 0])))]
    assert ring[0] > 2 * ring[2] > 0
    whole = trainer.model.render(camera).image.numpy()
    assert whole[24, 24, 0] > 2 * whole[24, 24, 2]
    for _ in trainer:
        pass
    assert trainer.model.facts["options"]["start"] == "volume"


def test_a_data_set_without_points_says_what_to_do(tmp_path: Path) -> None:
    options = DatasetOptions(train=2, test=1, size=32, samples=2, test_samples=2)
    made = make_dataset(tmp_path / "set", shell(), MATRIX, look=LOOK, options=options)
    points = made.folder / POINTS
    points.write_bytes(points.read_bytes()[:1000])
    with pytest.raises(GaussianMRIError, match=r"points.npz is not a file of points.*same settings"):
        Trainer(made, options=TrainOptions.of_quality("quick").scaled(splats=100, iterations=10))
    points.unlink()
    made = make_dataset(tmp_path / "set", shell(), MATRIX, look=LOOK, options=options)
    with pytest.raises(GaussianMRIError, match="points for 300000 splats"):
        Trainer(made, options=TrainOptions.of_quality("quick").scaled(splats=300_000, iterations=10))
    with pytest.raises(GaussianMRIError, match="no start 'middle'"):
        TrainOptions(start="middle")


def test_a_job_for_a_device_that_is_not_there_makes_no_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    np.savez(tmp_path / "volume.npz", pixels=shell(), ijk_to_ras=np.eye(4))
    job = {
        "volume": str(tmp_path / "volume.npz"), "look": next(iter(looks().values())).to_dict(),
        "folder": str(tmp_path / "set"), "model": str(tmp_path / "model.ply"), "device": "cuda",
    }  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    assert worker.main([str(tmp_path / "job.json")]) == 1
    assert "CUDA was asked for" in capsys.readouterr().out.splitlines()[-1]
    assert not (tmp_path / "set").exists()


def test_a_job_that_is_called_off_goes_on_and_none_is_in_the_way_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "volume.npz", pixels=shell(), ijk_to_ras=MATRIX)
    folder, model = tmp_path / "made", tmp_path / "model.ply"

    def run(quality: str, iterations: int, until: int | None = None) -> list[int]:
        """Exit status, iterations after which progress was told, and the model's; called off after so many."""
        job = {
            "volume": str(tmp_path / "volume.npz"), "look": LOOK.to_dict(), "folder": str(folder), "model": str(model),
            "frames": 3, "size": 16, "quality": quality, "iterations": iterations, "device": "cpu",
        }  # fmt: skip
        told: list[int] = []

        def report(stage: str, _fraction: float, text: str, **_more: object) -> None:
            if stage == "training":
                told.append(int(text.split("iteration ")[1].split()[0]))
                if told[-1] == until:
                    signal.raise_signal(signal.SIGTERM)

        monkeypatch.setattr(worker, "report", report)
        (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
        return [worker.main([str(tmp_path / "job.json")]), *told]

    def states() -> list[str]:
        return [path.name for path in folder.glob("*.pt")]

    assert run("quick", 30, until=20) == [130, 10, 20]
    assert states() == ["checkpoint-quick-30.pt"] and not model.exists()
    assert run("default", 2) == [0, 2]
    assert states() == ["checkpoint-quick-30.pt"] and load_model(model).facts["iterations"] == 2
    assert run("quick", 30) == [0, 30] and not states()
    assert load_model(model).facts["iterations"] == 30
    assert run("quick", 20) == [0, 10, 20] and not states()
