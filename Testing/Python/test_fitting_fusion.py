"""Several series in one field: scale, ways to fuse, the choice between them, and what must not go wrong."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fit_scenes import SAGITTAL, intensity, scan

import GaussianMRILib as gm
from GaussianMRILib.fitting import memory
from GaussianMRILib.fitting.fusion import FUSIONS, STEERED, Choice, Fuser, overlay_of, slice_terms
from GaussianMRILib.fitting.lattice import lattice_of_volume
from GaussianMRILib.fitting.left_out import Judge, Verdict, _score, shared_centre
from GaussianMRILib.fitting.parts import Part, in_mean_places, interpolating
from GaussianMRILib.fitting.solver import Regularisation, solve_lattice
from GaussianMRILib.gaussians import PlaneBatch
from GaussianMRILib.volumes import spline_volume

#: The same axes in another order: a sagittal stack of an axial one.


@pytest.fixture(scope="module")
def pair() -> list[gm.SliceStack]:
    """Two stacks across each other; the second one's intensities have another gain and offset."""
    axial, sagittal = scan(slices=11), scan(slices=12, side=(46, 48), axes=SAGITTAL, seed=1)
    return [replace(axial, name="axial"), replace(sagittal, name="sagittal", pixels=0.4 * sagittal.pixels + 70)]


def by_spline(part: Part) -> None:
    for block in part.blocks:
        part.lattices.append(lattice_of_volume(spline_volume(block), part.low, part.high))


@pytest.fixture(scope="module")
def parts(pair: list[gm.SliceStack]) -> list[Part]:
    made = [Part.of(stack) for stack in pair]
    for part in made:
        by_spline(part)
    return made


def plane() -> gm.ImagePlane:
    return gm.ImagePlane.from_normal((1, -1, 0), (0.3, 0.8, 0.5), spacing=(1, 1), shape=(30, 30))


def rms(lattice: gm.gaussians.GaussianLattice, part: Part) -> float:
    """Of the difference to the truth on a plane, in units of the image."""
    image, _ = lattice.render(PlaneBatch.from_planes([plane()]))
    values = image.numpy().reshape(30, 30) * (part.high - part.low) + part.low
    return float(np.sqrt(np.mean((values - intensity(plane().points())) ** 2)))


def test_parts_come_to_one_scale(parts: list[Part]) -> None:
    overlay_of(parts, 0)
    first, second = parts
    assert (first.scale.gain, first.scale.offset) == (1.0, 0.0)
    # What the second one calls 0.4 v + 70 is v for the first one.
    slope = second.scale.gain / (second.high - second.low) * (first.high - first.low)
    assert slope == pytest.approx(2.5, rel=0.06)


def test_series_that_agree_are_better_together(parts: list[Part]) -> None:
    fuser = Fuser(parts, overlay_of(parts, 0))
    alone = [rms(fuser.fuse(Choice("alone", n)), parts[0]) for n in range(2)]
    fused = {method: rms(fuser.fuse(Choice(method)), parts[0]) for method in (*FUSIONS, STEERED)}
    assert fused[STEERED] < 0.85 * min(alone)
    # The layers of this scene are seen by one stack only: the plain mean halves them, and each way loses less.
    assert fused[STEERED] < fused["joint"] < fused["detail"] < fused["half"] < fused["mean"]


def judged(stacks: list[gm.SliceStack]) -> Verdict:
    judge = Judge.of(stacks, by_spline, 0)
    assert judge is not None
    return judge.verdict()


def test_the_choice_is_made_on_left_out_slices(pair: list[gm.SliceStack]) -> None:
    verdict = judged(pair)
    assert verdict.slices >= 6
    assert verdict.choice.part is None
    best_alone = max(value for choice, value in verdict.psnr.items() if choice.part is not None)
    assert verdict.psnr[verdict.choice] > best_alone + 0.5
    # A stack that shows something else helps nobody: one part alone is taken, and that is the other one or itself.
    rng = np.random.default_rng(3)
    noise = replace(pair[1], pixels=rng.normal(200, 60, pair[1].shape).astype(np.float32))
    spoilt = judged([pair[0], noise])
    assert spoilt.psnr[spoilt.choice] >= max(spoilt.psnr.values()) - 0.02


def test_a_fit_of_two_series_says_what_it_did(pair: list[gm.SliceStack]) -> None:
    told: list[float | None] = []
    field = gm.fit(pair, seed=1, progress=lambda step: told.append(step.held_out_psnr))
    fusion = field.report["fusion"]
    # All the way the figure is that of both together, never that of the trial fit of one.
    assert told[0] is None and set(told) == {None, fusion["psnr_db"][fusion["method"]]}
    assert field.report["held_out"]["stack"] in ("axial", "sagittal")
    assert field.report["fusion"]["method"] in (*FUSIONS, STEERED, "alone")
    assert "axial alone" in field.report["fusion"]["note"] and "dB" in field.report["fusion"]["note"]
    moves = [block for stack in field.report["registration"]["stacks"] for block in stack["blocks"]]
    assert all(np.linalg.norm(block["shift_mm_ras"]) < 0.5 for block in moves)
    assert len(field.report["motions"]) == 2 and field.report["memory_gb"] > 0
    values = field.render(plane())
    low, high = pair[0].pixels.min(), pair[0].pixels.max()
    margin = 0.1 * (high - low)
    assert np.nanmin(values) > low - margin and np.nanmax(values) < high + margin  # nothing outside the sources' range
    assert np.sqrt(np.nanmean((values - intensity(plane().points())) ** 2)) < 40
    again = gm.fit(pair, seed=1)
    assert field.lattice is not None and again.lattice is not None
    assert torch.equal(field.lattice.nodes, again.lattice.nodes)


def test_series_that_do_not_meet(pair: list[gm.SliceStack]) -> None:
    away = np.eye(4)
    away[0, 3] = 200.0
    far = replace(pair[1], ijk_to_ras=away @ pair[1].ijk_to_ras)
    assert shared_centre([pair[0], far]) is None
    field = gm.fit([pair[0], far], blend=0.0)
    assert "nothing says whether that helps" in field.report["fusion"]["note"]
    assert np.isfinite(field.render(far.plane(5))).mean() > 0.9 and np.isfinite(field.render(pair[0].plane(5))).all()


def test_a_slice_that_stands_alone_far_from_the_others(pair: list[gm.SliceStack]) -> None:
    """One slice of another angle, 100 mm away, makes no block, and nothing lies between it and the others."""
    poses = pair[0].ijk_to_ras.copy()
    turn = np.eye(4)
    turn[:2, :2] = [[0.9, -0.436], [0.436, 0.9]]
    turn[2, 3] = 100.0
    poses[-1] = turn @ poses[-1]
    part = Part.of(replace(pair[0], ijk_to_ras=poses))
    assert len(part.groups) == 2 and len(part.blocks) == 1
    by_spline(part)
    other = Part.of(pair[1])
    by_spline(other)
    overlay = overlay_of([part, other], 0)
    assert torch.isfinite(overlay.mean()).all() and float(overlay.says[0].max()) == 1.0


def test_what_was_decided_on_intensities_is_reported(pair: list[gm.SliceStack]) -> None:
    report = gm.fit(pair, blend=0.0, prior="spline", fusion="mean", register=False).report
    assert report["shading"]["corrected"] is False
    assert set(report["shading"]["psnr_db"]) == {"one gain", "smooth gain"}


def test_a_way_that_loses_on_one_parts_slices_is_not_taken() -> None:
    mean, half, detail, alone = Choice("mean"), Choice("half"), Choice("detail"), Choice("alone", 0)
    scores = {mean: [18.0, 18.0], half: [18.2, 18.2], detail: [17.5, 19.5], alone: [10.0, 10.0]}
    assert Verdict.of(scores, 4).choice == half
    assert Verdict.of({**scores, half: [18.1, 18.1]}, 4).choice == mean
    assert Verdict.of({**scores, alone: [19.0, 19.0]}, 4).choice == alone
    nan = [np.nan, 18.0]
    assert Verdict.of({mean: nan, half: nan, detail: nan, alone: [10.0, 10.0]}, 4).choice == mean


def test_left_out_slices_without_contrast_say_nothing(pair: list[gm.SliceStack]) -> None:
    """Empty slices, as at the ends of a series that the scanner filled up, here all that would be left out."""
    pixels = pair[1].pixels.copy()
    pixels[1::2] = 0
    judge = Judge.of([pair[0], replace(pair[1], pixels=pixels)], by_spline, 0)
    assert judge is not None and [test.number for test in judge.tests] == [0]
    pixels[3] = pair[1].pixels[3]
    judge = Judge.of([pair[0], replace(pair[1], pixels=pixels)], by_spline, 0)
    assert judge is not None and [(test.number, len(test.views)) for test in judge.tests] == [(0, 5), (1, 1)]
    verdict = judge.verdict(("mean",))
    assert all(np.isfinite(values).all() for values in verdict.by_part.values())


def test_an_image_without_contrast_is_judged_as_its_mean() -> None:
    truth = np.array([0.0, 0.0, 4.0, 4.0])
    view = SimpleNamespace(pixels=truth, valid=np.ones(4, bool))
    assert _score([np.full(4, 9.0)], [view]) == pytest.approx(10 * np.log10(4**2 / 2**2))


@pytest.mark.parametrize("pitch", [0, -1.0, np.nan])
def test_a_pitch_that_is_none_is_refused(pair: list[gm.SliceStack], pitch: float) -> None:
    with pytest.raises(gm.GaussianMRIError, match="pitch of the Gaussians"):
        gm.Fitter(pair, pitch=pitch)


def test_too_little_memory_is_said_before_the_fit(
    pair: list[gm.SliceStack], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1_000_000)
    with pytest.raises(gm.GaussianMRIError, match=r"GB of memory.*--roi.*, or .*--pitch"):
        gm.fit(pair)
    with pytest.raises(gm.GaussianMRIError, match=r"GB of memory.*--roi\)\.$"):  # a single series has no pitch to choose
        gm.fit(pair[0])


def test_options_of_several_series_that_one_has_no_use_for(pair: list[gm.SliceStack]) -> None:
    report = gm.fit(pair[0], blend=0.0, prior="spline", refine=True, pitch=2.0).report
    refine, pitch = report["warnings"]
    assert refine.startswith("refine: one stack") and "nothing was moved" in refine
    assert pitch == "pitch: it is unused, since a series alone keeps the lattice of its own pixels"
    assert "warnings" not in gm.fit(pair[0], blend=0.0, prior="spline").report


def test_cancel_is_heard_while_series_are_compared(pair: list[gm.SliceStack]) -> None:
    fitter = gm.Fitter(pair)
    with pytest.raises(gm.GaussianMRIError, match="cancelled"):
        for progress in fitter:
            if progress.stage.startswith("comparing"):
                fitter.cancel()


def test_the_solver_agrees_with_slices(parts: list[Part]) -> None:
    """Of a start that is wrong by a smooth field, agreement takes it away; without slices it stays."""
    overlay = overlay_of(parts, 0)
    truth = interpolating(overlay.lattice, overlay.mean())
    wrong = truth.with_nodes(truth.nodes + 0.2)
    terms = slice_terms(parts[:1], wrong)
    solved = solve_lattice(wrong, terms, Regularisation(0.0, 0.0, 0.01, False), 1, 10)
    image, _ = solved.render(terms[0].batch)
    assert float((image - terms[0].target).abs().mean()) < 0.02
    assert torch.allclose(solve_lattice(wrong, [], Regularisation(0.0), 1, 3).nodes, wrong.nodes, atol=1e-5)


def test_mean_places_of_moved_slices() -> None:
    stack = scan(slices=9)
    rng = np.random.default_rng(5)
    poses = stack.ijk_to_ras.copy()
    poses[:, :3, 3] += rng.normal(0, 0.8, (9, 3))
    mean = in_mean_places(replace(stack, ijk_to_ras=poses))
    assert len(mean.blocks()) == 1
    off = np.linalg.norm(mean.ijk_to_ras[:, :3, 3] - stack.ijk_to_ras[:, :3, 3], axis=1)
    assert off.max() < 1.2


def test_series_that_disagree_show_themselves_on_their_own_planes(pair: list[gm.SliceStack]) -> None:
    """The second one lies 1.5 mm away and is not moved: no body fits both."""
    away = np.eye(4)
    away[:3, 3] = 0.8, -1.0, 0.8
    stacks = [pair[0], replace(pair[1], ijk_to_ras=away @ pair[1].ijk_to_ras)]
    field = gm.fit(stacks, blend=0.0, prior="spline", register=False)
    # Each predicts its own slices best; the better one is taken as the body.
    assert field.report["fusion"]["part"] == "sagittal" and field.report["fusion"]["own_share"]["axial"] > 0.3
    assert len(field.views) == 1 and "show that series by itself: axial" in field.report["fusion"]["note"]
    planes = stacks[0].planes()[2:9]
    truth = np.concatenate([pixels.reshape(-1) for pixels in stacks[0].pixels[2:9]])

    def unlike(views: bool) -> float:
        image = np.concatenate([image.reshape(-1) for image in field.render_many(planes, views=views)])
        return 1 - float(np.corrcoef(image, truth)[0, 1])

    assert unlike(views=True) < 0.5 * unlike(views=False)
