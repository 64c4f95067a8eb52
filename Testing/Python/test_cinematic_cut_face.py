"""Cut faces of the volume in front of splats: the path tracer's own, without tracing."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cuda_support import scalar_against_emulation
from trace_scenes import affine, blob, plain

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.cut_face import CutFace, _dome
from GaussianMRILib.cinematic.dataset import FACE, make_dataset
from GaussianMRILib.cinematic.dataset_views import DatasetOptions
from GaussianMRILib.cinematic.looks import Light
from GaussianMRILib.cinematic.model import CinematicModel
from GaussianMRILib.cinematic.model_files import load_model, model_bytes, save_model
from GaussianMRILib.cinematic.options import TrainOptions
from GaussianMRILib.cinematic.tracer import PathTracer
from GaussianMRILib.cinematic.train import Trainer
from GaussianMRILib.native.paths import reference
from GaussianMRILib.native.paths.arguments import SCENE, FaceScene

LIGHTS = (Light(30, 40, colour=(1, 0.9, 0.8)), Light(-90, 10, size=2.0, intensity=0.6, colour=(0.7, 0.8, 1)))
DOME = {"zenith": (0.5, 0.6, 0.7), "horizon": (0.4, 0.4, 0.3), "nadir": (0.1, 0.2, 0.2)}


def tracer_of(gradient_opacity: object = (), roi: object = None, **changes: object) -> PathTracer:
    look = plain(0.9999, (0.9, 0.5, 0.3), lights=LIGHTS, **{**DOME, **changes})
    transfer = dataclasses.replace(look.transfer, gradient_opacity=gradient_opacity)
    volume = 0.5 + 0.5 * blob()
    return PathTracer(
        volume, affine((1.0, 1.2, 2.0), volume.shape), dataclasses.replace(look, transfer=transfer), roi=roi
    )


def painted(
    face: CutFace, camera: object, plane: ClipPlane | None, side: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    size = camera.height, camera.width
    out = torch.zeros(*size, 3), torch.zeros(size), torch.zeros(size)
    face.paint(*out, camera=camera, plane=plane, side=side)
    return out


def empty(tracer: PathTracer) -> CinematicModel:
    from GaussianMRILib.cinematic.splats import Splats

    unseen = Splats(
        torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.zeros(1, 3), torch.zeros(1, 1, 3), torch.full((1,), -30.0)
    )  # fmt: skip
    return CinematicModel(unseen, tracer.centre, tracer.radius, face=CutFace.of(tracer))


@pytest.mark.parametrize("normal", [(0.3, 1, 0.2), (-1, 0.2, 0.4), (0.1, 0.3, -1)])
def test_a_face_is_the_path_tracers(normal: tuple[float, float, float]) -> None:
    """Opaque tissue: nothing of what lies behind the face is in the picture, so the whole face has to agree."""
    tracer = tracer_of()
    plane = ClipPlane.from_point(tracer.centre, normal)
    n = plane.normal
    azimuth, elevation = np.degrees(np.arctan2(-n[0], n[1])), np.degrees(np.arcsin(n[2]))
    camera = tracer.camera(azimuth=azimuth + 20, elevation=elevation * 0.8, size=40)
    truth = tracer.render(camera, clips=[plane], samples=512)
    image, alpha, depth = painted(CutFace.of(tracer), camera, plane, side=4)
    rays = camera.rays()
    places = camera.eye + rays * (depth.numpy() / (rays @ camera.world_to_camera[2, :3]))[..., None]
    inside = (alpha.numpy() > 0.99) & (np.abs(plane.signed_distance(places)) < 0.05)
    assert inside.sum() > 150
    off = image.numpy()[inside] / alpha.numpy()[inside, None] - truth.image[inside]
    assert np.abs(off).max() < 0.06 and np.abs(off.mean(axis=0)).max() < 0.005
    deeper = truth.depth[inside] - depth.numpy()[inside]  # a few collisions lie behind the face's depth
    assert np.abs(deeper).max() < 0.5 and abs(deeper.mean()) < 0.03


def test_without_a_plane_only_the_border_has_faces() -> None:
    tracer = tracer_of()
    camera = tracer.camera(azimuth=30, elevation=20, size=32)
    face = CutFace.of(tracer)
    whole, cut = (
        painted(face, camera, None)[1],
        painted(face, camera, ClipPlane.from_point(tracer.centre, (0, 1, 0)))[1],
    )
    assert float(whole.max()) > 0.5  # the volume ends amid tissue
    assert float((whole - cut).abs().max()) > 0.5
    gone = painted(face, camera, ClipPlane.from_point(tracer.centre, (0, 1, 0)).flipped())[1]
    assert float((gone - cut).abs().max()) > 0.5
    nothing = ClipPlane.from_point(tracer.centre - [0, 0, 500], (0, 0, 1))
    assert float(painted(face, camera, nothing)[1].max()) == 0


def test_a_region_has_faces_where_it_ends() -> None:
    free = tracer_of()
    low, high = free.centre - 6, free.centre + 6
    tracer = tracer_of(roi=(low, high))
    camera = tracer.camera(azimuth=0, elevation=0, size=32)
    depth = painted(CutFace.of(tracer), camera, None)[2]
    distance = camera.eye[1] - high[1]  # seen from the front, the region's anterior side is nearest
    assert float(depth[16, 16]) == pytest.approx(distance, abs=0.01)


@pytest.mark.parametrize("gradients", [(), [[0, 0.2], [0.1, 1]]], ids=["plain", "gradients"])
@pytest.mark.parametrize("side", [1, 3])
def test_kernel_and_reference_agree(
    gradients: object, side: int, threads: Callable[[int], None], needs_kernels: None
) -> None:
    tracer = tracer_of(gradients)
    plane, camera = (
        ClipPlane.from_point(tracer.centre, (0.3, 1, 0.2)),
        tracer.camera(azimuth=25, elevation=15, size=(37, 21)),
    )
    torch.manual_seed(1)
    before = torch.rand(21, 37, 3), torch.rand(21, 37), torch.rand(21, 37) * 100
    ours, theirs = ([x.clone() for x in before] for _ in range(2))
    face = CutFace.of(tracer)
    face.paint(*ours, camera=camera, plane=plane, side=side)
    v = face.volume
    scene = v.scene(camera, [plane], face.look)
    dome = torch.from_numpy(_dome(np.frombuffer(scene.numpy().tobytes(), SCENE)[0])).float()
    reference.trace_faces_(
        *theirs, FaceScene(scene, v.values, v.gradients, v.table, dome, face.look.exposure, side)
    )
    assert float((ours[1] - before[1]).abs().max()) > 0.1
    for a, b in zip(ours, theirs, strict=True):
        off = (a - b).abs() > 1e-4 * (1 + b.abs())
        assert float(off.float().mean()) < 0.01  # rays along an edge, by rounding
    again = [x.clone() for x in before]
    threads(3)
    face.paint(*again, camera=camera, plane=plane, side=side)
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))


def test_emulated_cuda_kernel_equals_the_processors() -> None:
    tracer = tracer_of([[0, 0.2], [0.1, 1]])
    plane, camera = (
        ClipPlane.from_point(tracer.centre, (0.3, 1, 0.2)),
        tracer.camera(azimuth=25, elevation=15, size=(37, 21)),
    )
    face = CutFace.of(tracer)
    theirs = torch.zeros(21, 37, 3), torch.zeros(21, 37), torch.zeros(21, 37)
    v = face.volume
    scene = v.scene(camera, [plane], face.look)
    dome = torch.from_numpy(_dome(np.frombuffer(scene.numpy().tobytes(), SCENE)[0])).float()
    with scalar_against_emulation() as paths:
        ours = painted(face, camera, plane, 2)
        paths.trace_faces_(
            *theirs, FaceScene(scene, v.values, v.gradients, v.table, dome, face.look.exposure, 2)
        )
    assert paths.launcher.launched == ["gm_trace_faces"] and float(ours[1].max()) > 0.5
    for a, b in zip(ours, theirs, strict=True):
        assert float(((a - b).abs() > 1e-4 * (1 + b.abs())).float().mean()) < 0.01


def test_a_gpu_paints_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    tracer = tracer_of()
    plane, camera = ClipPlane.from_point(tracer.centre, (0.3, 1, 0.2)), tracer.camera(azimuth=25, elevation=15, size=64)
    ours = painted(CutFace.of(tracer), camera, plane)
    theirs = [x.cuda() for x in (torch.zeros(64, 64, 3), torch.zeros(64, 64), torch.zeros(64, 64))]
    CutFace.of(tracer).to("cuda").paint(*theirs, camera=camera, plane=plane)
    for a, b in zip(ours, theirs, strict=True):
        assert float(((a - b.cpu()).abs() > 1e-3 * (1 + a.abs())).float().mean()) < 0.01


def test_the_operator_refuses_what_does_not_fit() -> None:
    tracer = tracer_of()
    face, camera = CutFace.of(tracer), tracer.camera(azimuth=0, elevation=0, size=16)
    with pytest.raises(ValueError, match="image"):
        face.paint(torch.zeros(8, 16, 3), torch.zeros(16, 16), torch.zeros(16, 16), camera=camera, plane=None)
    with pytest.raises(ValueError, match="side"):
        painted(face, camera, None, side=17)
    with pytest.raises(ValueError, match="contiguous"):
        face.paint(
            torch.zeros(3, 16, 16).permute(1, 2, 0), torch.zeros(16, 16), torch.zeros(16, 16), camera=camera, plane=None
        )


def test_saved_faces_are_the_same(tmp_path: Path) -> None:
    tracer = tracer_of([[0, 0.2], [0.1, 1]], roi=((-4, -12, -3), (15, 6, 20)))
    face, camera = CutFace.of(tracer), tracer.camera(azimuth=25, elevation=15, size=24)
    plane = ClipPlane.from_point(tracer.centre, (0.3, 1, 0.2))
    face.save(tmp_path / "x.npz")
    again = CutFace.load(tmp_path / "x.npz")
    for a, b in zip(painted(face, camera, plane), painted(again, camera, plane), strict=True):
        assert torch.equal(a, b)
    whole = (tmp_path / "x.npz").read_bytes()
    for part in (0, 100, len(whole) // 2, len(whole) - 30):
        (tmp_path / "x.npz").write_bytes(whole[:part])
        with pytest.raises(GaussianMRIError, match=r"x\.npz is not a file of cut faces, or it is damaged"):
            CutFace.load(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", header=np.array(json.dumps({"format": "other"})))
    with pytest.raises(GaussianMRIError, match="another kind"):
        CutFace.load(tmp_path / "y.npz")


def test_a_large_volume_is_thinned_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = tracer_of()
    camera, plane = tracer.camera(azimuth=0, elevation=0, size=24), ClipPlane.from_point(tracer.centre, (0, 1, 0))
    full = painted(CutFace.of(tracer), camera, plane)
    monkeypatch.setattr("GaussianMRILib.cinematic.cut_face.MOST_VOXELS", 2000)
    thin = CutFace.of(tracer)
    assert thin.volume.values.numel() <= 2000
    image, alpha, depth = painted(thin, camera, plane)
    both = (alpha > 0.5) & (full[1] > 0.5)
    assert float(both.float().sum()) > 100 and float((depth - full[2])[both].abs().max()) < 1e-3
    assert float((image - full[0])[both].abs().mean()) < 0.05


def test_a_model_carries_its_faces(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracer = tracer_of()
    model, camera = empty(tracer), tracer.camera(azimuth=0, elevation=0, size=24)
    plane = ClipPlane.from_point(tracer.centre, (0, 1, 0))
    shown = model.render(camera, plane, background=(0, 0, 1))
    assert float(shown.alpha.max()) > 0.9
    rest = 1 - shown.alpha
    assert torch.allclose(shown.image[..., 2] - rest, model.render(camera, plane).image[..., 2], atol=1e-5)
    save_model(tmp_path / "m.ply", model)
    again = load_model(tmp_path / "m.json")
    assert torch.equal(again.render(camera, plane).image, model.render(camera, plane).image)
    with_face = model_bytes(tmp_path / "m.ply")
    (tmp_path / "m.face.npz").rename(tmp_path / "elsewhere.npz")
    with caplog.at_level(logging.WARNING):
        assert load_model(tmp_path / "m.ply").face is None
    assert "m.face.npz is missing" in caplog.text
    (tmp_path / "elsewhere.npz").rename(tmp_path / "m.face.npz")
    model.face = None
    save_model(tmp_path / "m.ply", model)  # leaves no face of the model before
    assert not (tmp_path / "m.face.npz").exists() and model_bytes(tmp_path / "m.ply") < with_face
    with pytest.raises(GaussianMRIError, match="analytic"):
        CinematicModel(model.splats, model.center, model.unit, visibility="hard", face=CutFace.of(tracer))


def test_trainings_of_the_analytic_cut_get_the_faces(tmp_path: Path) -> None:
    volume = 0.5 + 0.5 * blob()
    made = make_dataset(
        tmp_path, volume, affine((1.0, 1.2, 2.0), volume.shape), look=tracer_of().look,
        options=DatasetOptions(train=3, test=1, size=32, samples=4, test_samples=4),
    )  # fmt: skip
    options = TrainOptions.of_quality("quick").scaled(splats=200, iterations=10)
    assert Trainer(made, options=options).model.face is not None
    assert Trainer(made, options=dataclasses.replace(options, method="lt")).model.face is None
    (tmp_path / FACE).unlink()  # a data set of an earlier version
    assert Trainer(made, options=options).model.face is None
    frame = made.test[0]
    again = make_dataset(
        tmp_path, volume, affine((1.0, 1.2, 2.0), volume.shape), look=tracer_of().look,
        options=DatasetOptions(train=3, test=1, size=32, samples=4, test_samples=4),
    )  # fmt: skip
    model = Trainer(again, options=options).model
    assert float(model.render(frame.camera, frame.plane).image.max()) > 0.1
