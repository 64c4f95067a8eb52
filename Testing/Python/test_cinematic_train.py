"""Training: it learns, it can be stopped and goes on, and it says what is wrong."""

from __future__ import annotations

import dataclasses
import math
import signal
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from cinematic_scenes import CENTER, RADIUS, ball_data_set
from test_metrics_lpips import SHAPES

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.cinematic import train as train_module
from GaussianMRILib.cinematic.checkpoint import read_checkpoint, write_checkpoint
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.dataset import CinematicDataset
from GaussianMRILib.cinematic.evaluate import HEADER, ColourLpips, evaluate_model
from GaussianMRILib.cinematic.options import CLIPPINGS, TrainOptions
from GaussianMRILib.cinematic.start import random_splats
from GaussianMRILib.cinematic.train import Trainer, channel_ssim, photometric_loss, train_model
from GaussianMRILib.metrics import Lpips, ssim
from GaussianMRILib.native.planes import reference

QUICK = TrainOptions.of_quality("quick", ssim_weight=0.2, degree=1, width=16, depth=2)


def options(
    method: str = "analytic", densify: str = "mcmc", iterations: int = 40, splats: int = 60
) -> TrainOptions:
    small = dataclasses.replace(QUICK, method=method, densify=densify, start="random").scaled(
        splats=splats, iterations=iterations
    )
    return dataclasses.replace(small, densify_from=0, densify_until=iterations, opacity_reset=iterations + 1)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> CinematicDataset:
    return ball_data_set(tmp_path_factory.mktemp("ball") / "set", train=12, test=3, size=24)


@pytest.mark.parametrize("method", CLIPPINGS)
def test_every_method_learns(data_set: CinematicDataset, method: str) -> None:
    trainer = Trainer(data_set, options=options(method, iterations=150, splats=150))
    before = evaluate_model(trainer.model, data_set.test)
    reports = list(trainer)
    after = evaluate_model(trainer.model, data_set.test)
    assert np.mean(after.psnr) > np.mean(before.psnr) + 2
    assert np.mean(after.psnr) > 15
    assert reports[-1].iteration == 150 and reports[-1].fraction == 1
    assert reports[-1].loss < 0.7 * reports[0].loss
    visibility, adjust = CLIPPINGS[method]
    model = trainer.model
    assert model.visibility == visibility and (model.adjustment is not None) == adjust
    assert model.facts["method"] == method and model.facts["iterations"] == 150
    if adjust:  # the network has learned something in the second step
        weights = model.adjustment.heads["position"][-1].weight
        assert float(weights.abs().max()) > 0
    if visibility == "learned":
        assert float(model.offsets.abs().max()) > 0
    assert reports[0].stage == "splats"
    assert reports[-1].stage == ("splats and adjustment" if adjust else "splats")


@pytest.mark.parametrize(("method", "kept"), [("aam", 54), ("lt", 30)])
def test_splats_that_no_plane_hides_stay_and_are_drawn(data_set: CinematicDataset, method: str, kept: int) -> None:
    o = options(method, "3dgs", iterations=4)
    trainer = Trainer(data_set, options=dataclasses.replace(o, densify_until=1000, first_step=2, second_step=2))
    transparent = torch.arange(60) % 2 == 0
    with torch.no_grad():
        trainer.growing.parameters["logit_opacities"][transparent] = -7.0
    trainer._control.schedule.every, trainer._control.GRADIENT = 1, math.inf
    list(trainer)
    assert len(trainer.growing) == kept
    opacities = torch.sigmoid(trainer.growing.parameters["logit_opacities"].detach())
    assert float(opacities.min()) > 1.1 / 255  # what is less is not drawn, and never learns again
    if method == "aam":
        assert int((opacities < 0.006).sum()) == 24  # these go first when others need their place


def test_offsets_learn_at_their_rate_and_only_near_the_plane(data_set: CinematicDataset) -> None:
    frame = dataclasses.replace(data_set.train[0], plane=ClipPlane([0, 0, 1], float(CENTER[2])))
    one = dataclasses.replace(data_set, frames=(frame,))
    moved = {}
    for rate, width in ((1e-3, 0.02), (2e-3, 0.02), (1e-3, 1.0)):
        o = dataclasses.replace(options("lt", "none", iterations=1), offsets_rate=rate, truncation_width=width)
        trainer = Trainer(one, options=o)
        depth = (CENTER[2] - trainer.growing.parameters["means"][:, 2].detach().numpy()) / RADIUS
        list(trainer)
        moved[rate, width] = np.abs(trainer.model.offsets.numpy()), depth
    narrow, depth = moved[1e-3, 0.02]
    assert narrow.max() == pytest.approx(1e-3, rel=1e-3)  # a first step of Adam is as long as its rate
    assert moved[2e-3, 0.02][0].max() == pytest.approx(2e-3, rel=1e-3)
    assert not narrow[depth < 0].any()  # what is hidden has no gradient
    deep = depth > 0.85
    assert deep.any() and narrow[deep].max() < 1e-5 and moved[1e-3, 1.0][0][deep].max() > 5e-4


@pytest.mark.parametrize(("method", "densify"), [("analytic", "mcmc"), ("aam+lt", "3dgs")])
def test_a_stopped_training_goes_on_bit_for_bit(
    data_set: CinematicDataset, tmp_path: Path, method: str, densify: str
) -> None:
    o = dataclasses.replace(
        options(method, densify, iterations=260), densify_from=90, first_step=130, second_step=130
    )
    whole = train_model(data_set, options=o)
    path = tmp_path / "ball.ckpt"
    first = train_model(data_set, options=o, checkpoint=path, progress=lambda report: report.iteration < 150)
    assert first.facts["iterations"] == 150 and path.is_file()
    trainer = Trainer(data_set, options=o, checkpoint=path)
    assert trainer.iteration == 150
    for _ in trainer:
        pass
    again = trainer.model
    assert len(again) == len(whole)
    for name, value in whole.splats.tensors().items():
        assert torch.equal(value, again.splats.tensors()[name]), name
    if whole.adjustment is not None:
        other = again.adjustment.state_dict()
        assert all(torch.equal(v, other[k]) for k, v in whole.adjustment.state_dict().items())
    assert Trainer(data_set, options=o, checkpoint=path).iteration == 260  # the end is saved as well
    longer = dataclasses.replace(o, second_step=150)
    assert train_model(data_set, options=longer, checkpoint=path).facts["iterations"] == 280


def test_a_training_of_an_earlier_version_goes_on_as_it_began(data_set: CinematicDataset, tmp_path: Path) -> None:
    """Its splats learned their opacities with a low-pass filter that adds light."""
    o, path = options("analytic", "none", iterations=20), tmp_path / "ball.ckpt"
    assert train_model(data_set, options=o, checkpoint=path).antialiased
    state = read_checkpoint(path)
    del state["antialiased"]
    write_checkpoint(path, state)
    trainer = Trainer(data_set, options=o, checkpoint=path)
    assert not trainer.model.antialiased
    write_checkpoint(path, {**state, "iteration": 19})
    drawn = []
    rasterise = train_module.rasterise

    def noted(*given: Any, **how: Any) -> Any:
        drawn.append(how["antialiased"])
        return rasterise(*given, **how)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train_module, "rasterise", noted)
        again = Trainer(data_set, options=o, checkpoint=path)
        list(again)
    assert drawn == [False] and not again.model.antialiased
    assert Trainer(data_set, options=o, checkpoint=path).antialiased is False


def test_a_training_that_is_called_off_loses_nothing(
    data_set: CinematicDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, o = tmp_path / "ball.ckpt", options(iterations=40)
    for report in Trainer(data_set, options=o, checkpoint=path):
        if report.iteration == 10:
            break
    trainer = Trainer(data_set, options=o, checkpoint=path)
    assert trainer.iteration == 10
    loss = train_module.photometric_loss

    def interrupted(*arguments: Any) -> torch.Tensor:
        if trainer.iteration == 17:
            signal.raise_signal(signal.SIGINT)  # in the middle of a step
        return loss(*arguments)

    monkeypatch.setattr(train_module, "photometric_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        for _ in trainer:
            pass
    monkeypatch.undo()
    again = Trainer(data_set, options=o, checkpoint=path)
    assert again.iteration == 17
    for _ in again:
        pass
    assert torch.equal(again.model.splats.means, train_model(data_set, options=o).splats.means)


def test_a_killed_training_loses_what_came_after_its_last_checkpoint(
    data_set: CinematicDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "SAVE", -1.0)  # at every report
    path, o = tmp_path / "ball.ckpt", options(iterations=40)
    trainer = Trainer(data_set, options=o, checkpoint=path)
    next(iter(trainer))
    for _ in range(7):
        trainer._iterate()
    again = Trainer(data_set, options=o, checkpoint=path)
    assert trainer.iteration == 17 and again.iteration == 10
    for _ in again:
        pass
    assert torch.equal(again.model.splats.means, train_model(data_set, options=o).splats.means)


def test_a_full_disk_leaves_the_checkpoint_before(
    data_set: CinematicDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ball.ckpt"
    train_model(data_set, options=options(iterations=10), checkpoint=path)
    whole = path.read_bytes()

    def full(_state: object, file: IO[bytes]) -> None:
        file.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(GaussianMRIError, match=r"ball\.ckpt cannot be written.*write failed.*free space"):
        Trainer(data_set, options=options(iterations=10), checkpoint=path).save()
    with pytest.raises(GaussianMRIError, match="free space"):  # nor does a stop pass for one that can go on
        train_model(
            data_set, options=options(iterations=20), checkpoint=tmp_path / "other.ckpt", progress=lambda _: False
        )
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_of_something_else_is_refused(data_set: CinematicDataset, tmp_path: Path) -> None:
    path = tmp_path / "ball.ckpt"
    train_model(data_set, options=options(iterations=10), checkpoint=path)
    with pytest.raises(GaussianMRIError, match=r"other options \(method\)"):
        Trainer(data_set, options=dataclasses.replace(options(iterations=10), method="lt"), checkpoint=path)
    patient = dataclasses.replace(options(iterations=10), patience=3)
    with pytest.raises(GaussianMRIError, match=r"other options \(patience\)"):
        Trainer(data_set, options=patient, checkpoint=path)
    waiting = tmp_path / "ball.ckpt2"
    train_model(data_set, options=patient, checkpoint=waiting)
    assert Trainer(data_set, options=dataclasses.replace(patient, patience=5), checkpoint=waiting).iteration == 10
    with pytest.raises(GaussianMRIError, match=r"other options \(patience\)"):
        Trainer(data_set, options=options(iterations=10), checkpoint=waiting)
    waiting.unlink()
    other = ball_data_set(tmp_path / "other", train=4, test=1, size=16)
    with pytest.raises(GaussianMRIError, match="belongs to another data set"):
        Trainer(other, options=options(iterations=10), checkpoint=path)
    whole = path.read_bytes()
    for part in (0, 100, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:part])
        with pytest.raises(GaussianMRIError, match="truncated"):
            Trainer(data_set, options=options(iterations=10), checkpoint=path)
    torch.save({"a": 1}, path)
    with pytest.raises(GaussianMRIError, match="another kind of file"):
        read_checkpoint(path)
    write_checkpoint(path, {"version": 99})
    with pytest.raises(GaussianMRIError, match="newer version"):
        read_checkpoint(path)
    with pytest.raises(GaussianMRIError, match="does not exist"):
        read_checkpoint(tmp_path / "none")
    write_checkpoint(path, {"a": torch.ones(2)})
    with pytest.raises(GaussianMRIError, match="cannot be written"):
        write_checkpoint(tmp_path / "missing" / "a.ckpt", {})
    assert read_checkpoint(path)["a"].tolist() == [1, 1]
    assert {file.name for file in tmp_path.iterdir()} <= {"ball.ckpt", "other"}  # nothing half-written


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"format": "GaussianMRI cinematic training", "x": Trap()}, tmp_path / "a.ckpt")
    with pytest.raises(GaussianMRIError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "a.ckpt")
    assert not (tmp_path / "sprung").exists()


def test_training_stops_when_nothing_is_gained(data_set: CinematicDataset) -> None:
    o = dataclasses.replace(
        options(iterations=60), patience=2, check_every=5, first_step=10, second_step=1000
    )
    trainer = Trainer(data_set, options=o)
    trainer.growing.optimiser.step = lambda: None  # nothing can be gained
    trainer._control = None
    reports = list(trainer)
    assert trainer.stopped_early and reports[-1].iteration == 15
    assert reports[-1].held_out_psnr == pytest.approx(reports[0].held_out_psnr)
    assert reports[-1].stage == "stopped: no more gain"
    assert len(trainer._frames) == 11


@pytest.mark.parametrize(
    ("method", "densify"), [("analytic", "3dgs"), ("aam+lt", "mcmc"), ("aam+ht", "3dgs")]
)
def test_frames_without_anything_and_without_a_plane_are_frames(
    data_set: CinematicDataset, method: str, densify: str
) -> None:
    frame = data_set.train[0]
    nothing = dataclasses.replace(
        frame, plane=ClipPlane(frame.plane.normal, -1e4), source=np.zeros((24, 24, 3), np.float32)
    )
    whole = dataclasses.replace(frame, plane=None)
    odd = dataclasses.replace(data_set, frames=(nothing, whole))
    model = train_model(odd, options=options(method, densify, iterations=12))
    assert all(bool(torch.isfinite(value).all()) for value in model.splats.tensors().values())
    assert float(model.render(nothing.camera, nothing.plane).image.max()) == 0


def test_seed_decides(data_set: CinematicDataset) -> None:
    one, same, other = (
        train_model(data_set, options=dataclasses.replace(options(iterations=5), seed=seed)).splats.means
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_random_splats_fill_the_cube() -> None:
    splats = random_splats(5000, CENTER, RADIUS, 2, torch.Generator().manual_seed(0))
    offset = (splats.means - torch.from_numpy(CENTER).float()) / RADIUS
    assert float(offset.abs().max()) <= 1 and torch.allclose(
        offset.std(dim=0), torch.tensor(3**-0.5), atol=0.02
    )
    assert torch.allclose(splats.opacities, torch.tensor(0.1)) and splats.degree == 2
    distances = torch.cdist(splats.means[:50].double(), splats.means.double()).sort(dim=1).values[:, 1:4]
    assert torch.allclose(splats.scales[:50, 0].double(), (distances**2).mean(dim=1).sqrt(), rtol=1e-4)


def test_loss_is_l1_and_the_mean_ssim_of_the_channels() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random((20, 30, 3)).astype(np.float32) for _ in range(2))
    b = 0.5 * a + 0.5 * b
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    similarity = np.mean([ssim(a[..., c], b[..., c], data_range=1.0) for c in range(3)])
    assert float(channel_ssim(x, y)) == pytest.approx(similarity, abs=1e-5)
    assert float(photometric_loss(x, y, 0.2)) == pytest.approx(
        0.8 * np.abs(a - b).mean() + 0.2 * (1 - similarity), abs=1e-5
    )
    x.requires_grad_()
    channel_ssim(x, y).backward()
    step = torch.from_numpy(rng.normal(size=x.shape).astype(np.float32)) * 1e-3
    moved = [float(channel_ssim(x.detach() + sign * step, y)) for sign in (1, -1)]
    assert float((x.grad * step).sum()) == pytest.approx((moved[0] - moved[1]) / 2, rel=0.02)
    assert float(photometric_loss(x.detach(), y, 0.0)) == pytest.approx(np.abs(a - b).mean(), abs=1e-6)


def test_the_reference_s_gradient_of_ssim_is_autograd_s() -> None:
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(13, 17, dtype=torch.float64, generator=rng, requires_grad=True)
    target = 0.5 * torch.rand(13, 17, dtype=torch.float64, generator=rng) + 0.5 * image.detach()
    reference.ssim_map(image, target).mean().backward()
    assert torch.allclose(image.grad, reference.ssim_gradient(image.detach(), target), atol=1e-12)


def test_scores_are_of_the_test_frames(data_set: CinematicDataset) -> None:
    model = train_model(data_set, options=options(iterations=20))
    score = evaluate_model(model, data_set.test, storage=2_500_000)
    for frame, value, similarity in zip(data_set.test, score.psnr, score.ssim, strict=True):
        image = model.render(frame.camera, frame.plane).image.clamp(0, 1).numpy()
        assert value == pytest.approx(-10 * math.log10(((image - frame.image()) ** 2).mean()), abs=1e-3)
        assert similarity == pytest.approx(
            float(channel_ssim(torch.from_numpy(image), torch.from_numpy(frame.image())))
        )
    row = dict(zip(HEADER, score.row("ball"), strict=True))
    assert row["method"] == "ball" and row["storage"] == "2.5 MB"
    assert row["PSNR, dB"] == f"{np.mean(score.psnr):.2f} ± {np.std(score.psnr, ddof=1):.2f}"
    assert float(row["FPS"]) == pytest.approx(1 / sorted(score.seconds)[1], rel=0.05)
    blank = dataclasses.replace(data_set.test[0], source=np.zeros((24, 24, 3), np.float32))
    assert evaluate_model(model, [blank, *data_set.test]).psnr == pytest.approx(score.psnr)
    with pytest.raises(GaussianMRIError, match="No test frame shows the volume in 2% of its pixels"):
        evaluate_model(model, [blank])
    with pytest.raises(GaussianMRIError, match="no frames"):
        evaluate_model(model, [])


def test_colour_lpips_of_grey_images_is_lpips(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    weights = {}
    for layer, shape in SHAPES.items():
        weights[f"features.{layer}.weight"] = (
            torch.randn(shape, generator=generator) / math.prod(shape[1:]) ** 0.5
        )
        weights[f"features.{layer}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    torch.save(weights, tmp_path / "trunk.pth")
    colour, grey = (kind(trunk=tmp_path / "trunk.pth", verify=False) for kind in (ColourLpips, Lpips))
    if not colour.available:
        pytest.skip(colour.reason)
    rng = np.random.default_rng(0)
    truth = rng.random((64, 71))
    image = np.clip(truth + 0.1 * rng.normal(size=truth.shape), 0, 1)
    three = [np.repeat(x[..., None], 3, axis=2) for x in (image, truth)]
    assert colour(*three) == pytest.approx(grey(image, truth), rel=1e-5)
    three[0][..., 0] = truth
    assert colour(*three) != pytest.approx(grey(image, truth), rel=1e-2)
    assert colour(*(x[:30] for x in three)) is None


def test_qualities_and_wrong_options() -> None:
    seed = TrainOptions.of_quality("seed")
    assert (seed.first_step, seed.second_step, seed.splats, seed.densify) == (7000, 33000, 100_000, "3dgs")
    assert (seed.method, seed.ssim_weight, seed.width, seed.depth) == ("aam+lt", 0.2, 128, 4)
    assert TrainOptions().iterations == 40_000 and TrainOptions().method == "analytic"
    half = TrainOptions().scaled(iterations=20_000)
    assert (half.first_step, half.second_step, half.densify_until) == (3500, 16500, 7500)
    for wrong, message in (
        ({"method": "x"}, "no method"),
        ({"densify": "x"}, "no densification"),
        ({"cap": 10}, "cap"),
        ({"degree": 4}, "Degree"),
        ({"speed": 1}, "speed"),
        ({"patience": 0}, "patience"),
        ({"truncation_width": 0.0}, "truncation_width"),
        ({"adjustment_rate": float("nan")}, "adjustment_rate"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            TrainOptions.of_quality("default", **wrong)
    with pytest.raises(GaussianMRIError, match="no quality"):
        TrainOptions.of_quality("slow")
