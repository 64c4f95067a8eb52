"""What is measured at the cut: the band around a plane's face, and light beyond the plane."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from trace_scenes import affine, plain

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.cut_face import CutFace
from GaussianMRILib.cinematic.dataset import Frame, make_dataset
from GaussianMRILib.cinematic.dataset_views import DatasetOptions
from GaussianMRILib.cinematic.evaluate import evaluate_model, face_band, leaked_light
from GaussianMRILib.cinematic.model import CinematicModel, Rendering
from GaussianMRILib.cinematic.tracer import PathTracer
from GaussianMRILib.metrics import psnr, ssim_map

pytestmark = pytest.mark.usefixtures("needs_kernels")

SHAPE = (20, 20, 20)
VOLUME, MATRIX, LOOK = np.ones(SHAPE, np.float32), affine(shape=SHAPE), plain(0.9999, (0.9, 0.4, 0.2))


class Drawn(CinematicModel):
    """A model that draws the pictures it is given, one after the other."""

    def __init__(self, pictures: list[np.ndarray]) -> None:
        self.pictures, self.next, self.facts = pictures, -1, {}
        self.splats = type("Splats", (), {"means": torch.zeros(1, 3), "__len__": lambda _self: 1})()

    def render(self, *_: object, **__: object) -> Rendering:
        picture = self.pictures[max(self.next, 0)]  # the first call warms up
        self.next += 1
        return Rendering(torch.from_numpy(picture), *(torch.zeros(picture.shape[:2]) for _ in range(2)))


def block(size: int = 60) -> tuple[PathTracer, Camera, ClipPlane]:
    """A block, cut in its middle, seen obliquely from the side that is cut away."""
    tracer = PathTracer(VOLUME, MATRIX, LOOK)
    camera = tracer.camera(azimuth=20, elevation=50, size=size)
    return tracer, camera, ClipPlane.from_point(tracer.centre, [0, 0, 1])


def test_the_band_is_the_face_and_what_lies_beside_it() -> None:
    tracer, camera, plane = block()
    frame = Frame(camera, plane, "test", "a", np.zeros((60, 60, 3), np.float32))
    band = face_band(frame, CutFace.of(tracer))
    rays = camera.rays()
    t = -plane.signed_distance(camera.eye) / (rays @ plane.normal)
    ijk = np.linalg.inv(MATRIX)[:3] @ np.concatenate(
        [(camera.eye + t[..., None] * rays).reshape(-1, 3), np.ones((3600, 1))], axis=1
    ).T
    inside = ((ijk[:2] > 0) & (ijk[:2] < 19)).all(axis=0).reshape(60, 60)  # the tracer's box ends at the outermost centres
    rim = np.zeros_like(inside)
    for axis in (0, 1):
        for step in (-1, 1):
            rim |= np.roll(inside, step, axis)
    assert inside.mean() > 0.05
    # 2 % of 60 pixels are one; a ray that grazes an edge of the block meets too little of it to be opaque.
    assert (band ^ (inside | rim)).sum() <= 12 and not (band & ~(inside | rim)).any()
    back = dataclasses.replace(frame, plane=plane.flipped())
    assert face_band(back, CutFace.of(tracer)) is None  # the face looks away
    assert face_band(dataclasses.replace(frame, plane=None), CutFace.of(tracer)) is None
    beyond = ClipPlane.from_point(np.add(tracer.centre, [0, 0, 500]), [0, 0, 1])
    above = dataclasses.replace(frame, plane=beyond)
    assert face_band(above, CutFace.of(tracer)) is None


def test_leak_is_the_part_of_the_removed_light_that_is_still_drawn() -> None:
    uncut, cut = np.zeros((40, 40, 4), np.float32), np.zeros((40, 40, 4), np.float32)
    uncut[5:35, 5:35] = (0.5, 0.4, 0.3, 1)
    cut[20:35, 5:35] = (0.9, 0.4, 0.3, 1)
    camera = block(40)[1]
    whole = Frame(camera, None, "test", "b", uncut)
    frame = Frame(camera, ClipPlane([0, 0, 1], 0.0), "test", "a", cut, uncut=whole)
    assert leaked_light(whole.image(), frame) == pytest.approx(100)
    assert leaked_light(frame.image(), frame) == 0
    one_row = frame.image()
    one_row[19] = whole.image()[19]
    assert leaked_light(one_row, frame) == pytest.approx(100 / 15, rel=1e-5)
    inside = frame.image()
    inside[20:35, 5:35] = 1.0  # what lies in front of what is kept is no leak
    assert leaked_light(inside, frame) == 0
    white = dataclasses.replace(
        frame, background=(1.0, 1.0, 1.0), uncut=dataclasses.replace(whole, background=(1.0, 1.0, 1.0))
    )
    assert leaked_light(white.image(), white) == 0 and leaked_light(white.uncut.image(), white) == pytest.approx(100)
    assert leaked_light(frame.image(), dataclasses.replace(frame, uncut=None)) is None
    nothing_removed = dataclasses.replace(frame, uncut=dataclasses.replace(whole, source=cut))
    assert leaked_light(frame.image(), nothing_removed) is None


def test_scores_at_the_cut_and_on_the_volume() -> None:
    tracer, camera, plane = block()
    pictures = []
    for clips, samples in (([plane], 64), ([], 16)):
        render = tracer.render(camera, clips=clips, samples=samples, seed=1)
        alpha = render.alpha[..., None]
        pictures.append(np.concatenate([render.image / np.maximum(alpha, 1e-6), alpha], axis=2))
    frame = Frame(camera, plane, "test", "a", pictures[0], uncut=Frame(camera, None, "test", "b", pictures[1]))
    face, truth = CutFace.of(tracer), frame.image()
    wrong = truth.copy()
    wrong[truth.max(axis=2) > 0] *= 0.8
    empty = dataclasses.replace(frame, source=np.zeros((60, 60, 4), np.float32))
    score = evaluate_model(Drawn([wrong, truth]), [frame, empty, frame], face=face)
    assert len(score.psnr) == 2  # the empty frame is not counted
    shown = pictures[0][..., 3] >= 0.1
    assert score.covered_psnr[0] == pytest.approx(psnr(wrong[shown], truth[shown], data_range=1.0))
    assert score.covered_psnr[0] < score.psnr[0] - 3
    band = face_band(frame, face)
    expected = np.mean([ssim_map(wrong[..., c], truth[..., c])[band].mean() for c in range(3)])
    assert score.band_ssim[0] == pytest.approx(expected) and score.band_ssim[1] == pytest.approx(1)
    assert score.leak == [0, 0]
    uncut = evaluate_model(Drawn([frame.uncut.image()]), [frame], face=face)
    assert uncut.leak == [pytest.approx(100)] and uncut.band_ssim[0] < 0.8
    assert uncut.to_dict()["leak_mean"] == uncut.leak[0]
    other = dataclasses.replace(frame, uncut=dataclasses.replace(frame.uncut, source=pictures[1][:50]))
    with pytest.raises(GaussianMRIError, match="Picture b is 60 x 50 pixels, its camera has 60 x 60"):
        evaluate_model(Drawn([truth]), [other], face=face)
    bare = evaluate_model(Drawn([truth]), [dataclasses.replace(frame, uncut=None)])
    assert bare.band_ssim == bare.leak == [None] and bare.to_dict()["leak_mean"] is None
    assert bare.row("x").count("not available") == 2 + (bare.lpips is None)


def test_test_frames_come_with_the_uncut_view(tmp_path: Path) -> None:
    options = DatasetOptions(train=1, test=2, size=24, samples=4, test_samples=8, seed=2)
    made = make_dataset(tmp_path, VOLUME, MATRIX, look=LOOK, options=options)
    assert made.train[0].uncut is None
    tracer = PathTracer(VOLUME, MATRIX, LOOK)
    for number, frame in enumerate(made.test):
        assert frame.uncut.plane is None and frame.uncut.camera is frame.camera
        render = tracer.render(frame.camera, samples=4, seed=2 * 7919 + 1 + number)
        assert np.abs(frame.uncut.image() - render.image).max() < 1.5 / 255
        (tmp_path / frame.uncut.name).unlink()
    before = (tmp_path / made.test[0].name).stat().st_mtime_ns
    again = make_dataset(tmp_path, VOLUME, MATRIX, look=LOOK, options=options)  # adds what is missing alone
    assert again.test[1].uncut.alpha().max() > 0.5 and (tmp_path / made.test[0].name).stat().st_mtime_ns == before
