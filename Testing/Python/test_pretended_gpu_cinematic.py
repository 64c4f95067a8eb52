"""Path tracer, training, models and their export on pretended GPUs, see `pretended_gpu.py`; how long passes take there."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cinematic_scenes import CENTER, ball_data_set
from click.testing import CliRunner
from pretended_gpu import Pretended, pretended_gpus
from trace_scenes import affine, blob, plain

from GaussianMRILib.cinematic import live as live_module
from GaussianMRILib.cinematic import tracer as tracer_module
from GaussianMRILib.cinematic import worker
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.cut_face import CutFace
from GaussianMRILib.cinematic.dataset import CinematicDataset
from GaussianMRILib.cinematic.evaluate import evaluate_model
from GaussianMRILib.cinematic.export import export_splats
from GaussianMRILib.cinematic.live import LivePicture
from GaussianMRILib.cinematic.model import CinematicModel
from GaussianMRILib.cinematic.model_files import load_model, save_model
from GaussianMRILib.cinematic.options import CLIPPINGS, TrainOptions
from GaussianMRILib.cinematic.tracer import PathTracer
from GaussianMRILib.cinematic.train import Trainer
from GaussianMRILib.cli import main
from GaussianMRILib.native.paths import operators as paths_operators
from GaussianMRILib.stacks import SliceStack
from GaussianMRILib.writers import write_volume

GPU = "cuda:1"


@pytest.fixture
def gpu(needs_kernels: None) -> Iterator[str]:
    with pretended_gpus() as used:
        yield GPU
        assert used <= {GPU}


@pytest.fixture(scope="module")
def ball(tmp_path_factory: pytest.TempPathFactory) -> CinematicDataset:
    return ball_data_set(tmp_path_factory.mktemp("ball") / "set", 6, 2, 24)


def ball_tracer(device: str) -> PathTracer:
    """Of a volume where the data set's ball is."""
    away = np.stack(np.meshgrid(*[np.arange(30) - 14.5] * 3, indexing="ij"), -1)
    matrix = np.diag([3.0, 3.0, 3.0, 1.0])
    matrix[:3, 3] = CENTER - 3 * 14.5
    values = (np.linalg.norm(away, axis=-1) < 13).astype(np.float32)
    return PathTracer(values, matrix, plain(0.6, (0.9, 0.5, 0.3)), device=device)


def options(method: str = "analytic", densify: str = "mcmc") -> TrainOptions:
    chosen = TrainOptions.of_quality("quick", ssim_weight=0.2, degree=1, width=16, depth=2)
    chosen = dataclasses.replace(chosen, method=method, densify=densify, start="random", patience=2, check_every=4)
    short = chosen.scaled(splats=40, iterations=9)
    return dataclasses.replace(short, densify_from=0, densify_until=9, opacity_reset=4)


def trained(ball: CinematicDataset, device: str, chosen: TrainOptions, checkpoint: Path | None = None) -> CinematicModel:
    """To the end; with a checkpoint it is interrupted once."""
    for part in range(1 if checkpoint is None else 2):
        trainer = Trainer(ball, options=chosen, checkpoint=checkpoint, device=device)
        trainer.REPORT = trainer._control.schedule.every = 3
        for _ in trainer:
            if checkpoint is not None and part == 0:
                break
    return trainer.model


def test_pictures_of_a_volume(gpu: str) -> None:
    values, matrix, look = blob(), affine(shape=blob().shape), plain(0.6, (0.9, 0.5, 0.3))
    there, here = PathTracer(values, matrix, look, device=gpu), PathTracer(values, matrix, look)
    cut = ClipPlane.from_point(there.centre, (0, 0.4, 1))
    ours, theirs = (t.render(t.camera(azimuth=30, size=20), clips=[cut], samples=5).image for t in (here, there))
    assert np.array_equal(ours, theirs)


def test_cut_faces(gpu: str, tmp_path: Path) -> None:
    tracer = ball_tracer(gpu)
    CutFace.of(tracer).save(tmp_path / "face.npz")
    face, camera = CutFace.load(tmp_path / "face.npz", device=gpu), tracer.camera(azimuth=30, size=16)
    image, alpha, depth = (torch.zeros(16, 16, *more, device=gpu) for more in ((3,), (), ()))
    face.paint(image, alpha, depth, camera=camera, plane=ClipPlane.from_point(tracer.centre, (0.2, 1, 0.3)))
    assert float(alpha.sum()) > 0


@pytest.mark.parametrize("method", CLIPPINGS)
def test_training_and_what_it_makes(gpu: str, ball: CinematicDataset, method: str, tmp_path: Path) -> None:
    model = trained(ball, gpu, options(method), tmp_path / "state.pt")
    assert {str(t.device) for t in vars(model.splats).values()} == {gpu}
    assert np.isfinite(evaluate_model(model, ball.test).psnr).all()
    save_model(tmp_path / "model.ply", model)
    camera, plane = ball.test[0].camera, ball.test[0].plane
    loaded = load_model(tmp_path / "model.ply", device=gpu)
    assert str(loaded.render(camera, plane).image.device) == gpu
    assert str(model.to("cpu").to(gpu).render(camera, plane).image.device) == gpu


@pytest.mark.parametrize("densify", ["mcmc", "3dgs"])
def test_ways_to_densify(gpu: str, ball: CinematicDataset, densify: str) -> None:
    assert len(trained(ball, gpu, options(densify=densify)))


@pytest.mark.parametrize("suffix", [".ply", ".spz", ".glb"])
def test_export_with_faces(gpu: str, ball: CinematicDataset, suffix: str, tmp_path: Path) -> None:
    model = dataclasses.replace(trained(ball, gpu, options()), face=CutFace.of(ball_tracer(gpu)))
    frame = ball.test[0]
    assert np.isfinite(evaluate_model(model, ball.test).psnr).all()
    assert export_splats(tmp_path / f"model{suffix}", model, plane=frame.plane).is_file()


@pytest.mark.parametrize("denoised", [False])
def test_live_pictures(gpu: str, ball: CinematicDataset, denoised: bool) -> None:
    model = trained(ball, gpu, options())
    tracer = ball_tracer(gpu)
    for splats in (None, model):
        values = np.asarray(tracer._volume.values.cpu()).astype(np.float32)
        live = LivePicture(values, tracer._volume.ijk_to_ras, tracer.look, samples=4, denoised=denoised, device=gpu)
        live.model = splats
        live.look(live.camera(size=24), clips=[ClipPlane.from_point(live.centre, (0, 0, 1))])
        live._moved = -math.inf
        while live.refine(patience=0.0):
            pass
        assert live.picture() is not None


def write(path: Path) -> Path:
    stack = SliceStack.from_array((blob() * 1000).astype(np.float32), affine(shape=blob().shape))
    write_volume(path, stack.pixels, stack.planes())
    return path


def test_commands_use_the_gpu_that_was_asked_for(tmp_path: Path, needs_kernels: None) -> None:
    volume = write(tmp_path / "volume.nrrd")
    size = ("--size", "16", "--samples", "2", "--device", GPU)
    with pretended_gpus() as used:
        commands = [
            ("picture", volume, "-o", tmp_path / "a.png", "--look", "MR soft tissue", "--size", 16, 16, *size[2:]),
            ("dataset", volume, "-o", tmp_path / "set", "--train", 2, "--test", 1, "--test-samples", 2, *size),
            ("train", tmp_path / "set", "-o", tmp_path / "a.ply", "--splats", 20, "--iterations", 3, "-q", "--device", GPU),
        ]
        for command in commands:
            used.clear()
            done = CliRunner().invoke(main, ["cinematic", *map(str, command)], catch_exceptions=False)
            assert done.exit_code == 0, done.output
            assert used == {GPU}, command[0]


def test_the_panels_job_uses_the_gpu_that_was_asked_for(tmp_path: Path, needs_kernels: None) -> None:
    np.savez(tmp_path / "volume.npz", pixels=blob() * 1000, ijk_to_ras=affine(shape=blob().shape))
    job: dict[str, Any] = {
        "folder": str(tmp_path), "model": str(tmp_path / "a.ply"), "volume": str(tmp_path / "volume.npz"),
        "look": plain(0.6, (0.9, 0.5, 0.3)).to_dict(), "frames": 3, "size": 16, "iterations": 3, "device": GPU,
    }  # fmt: skip
    with pretended_gpus() as used:
        worker.run(job)
        assert used == {GPU} and (tmp_path / "a.ply").is_file()


# ---- time


class Clock:
    """Of a program beside a GPU that traces so many paths a second: launches return at once, and what asks waits.

    Attributes:
        launches: seconds of each.
    """

    def __init__(self, rate: float) -> None:
        self.rate, self.now, self.busy = rate, 0.0, 0.0
        self.launches: list[float] = []

    def __call__(self) -> float:
        return self.now

    def trace_(self, sums: Pretended, scene: Any) -> None:
        height, width = scene.picture_size
        self.launches.append(height * width * scene.count / self.rate + 5.0 * (not self.launches))  # loading the kernel
        self.busy = max(self.busy, self.now) + self.launches[-1]
        self.now += 3e-5
        sums.held.add_(scene.count)

    def wait(self, *_: Any) -> None:
        self.now = max(self.now, self.busy)


@pytest.fixture
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock(request.param)
    with pretended_gpus():
        monkeypatch.setattr(torch.cuda, "synchronize", clock.wait)
        monkeypatch.setattr(paths_operators, "_implementation", lambda device: clock)
        fake = SimpleNamespace(monotonic=clock, perf_counter=clock, sleep=time.sleep)
        for module in (tracer_module, live_module):
            monkeypatch.setattr(module, "time", fake)
        yield clock


@pytest.mark.parametrize("clock", [2e6, 2e7, 1e9], indirect=True)
def test_a_pass_on_a_gpu_is_short_and_not_shorter_than_it_need_be(clock: Clock) -> None:
    """Displays end what runs for two seconds, and a launch that returns at once says nothing of how long it takes."""
    tracer = PathTracer(blob(), affine(shape=blob().shape), plain(0.6, (0.9, 0.5, 0.3)), device="cuda")
    tracer.render(tracer.camera(size=256), samples=20000 if clock.rate > 1e8 else 2000)
    passes = clock.launches[1:-1]
    assert max(passes) <= 1.2 * tracer_module._GPU_PASS_SECONDS
    assert max(passes) > 0.5 * tracer_module._GPU_PASS_SECONDS  # although the first one loaded the kernel


@pytest.mark.parametrize("clock", [1e6], indirect=True)
def test_a_live_picture_measures_the_gpu(clock: Clock) -> None:
    tracer = PathTracer(blob(), affine(shape=blob().shape), plain(0.6, (0.9, 0.5, 0.3)), device="cuda")
    live = LivePicture(blob(), affine(shape=blob().shape), tracer.look, samples=256, denoised=False, device="cuda")
    live.look(live.camera(size=256))
    while not live.finished:
        live._add_band()
    assert max(clock.launches[10:]) < 3 * live_module.BAND
