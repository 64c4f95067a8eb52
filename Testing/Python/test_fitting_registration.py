"""Rigid registration of stacks and blocks: simulated pairs with known motion, real exams, bad input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from fit_scenes import AXES, SAGITTAL, scan
from registration_scenes import acquire, error, middle, pair

import GaussianMRILib as gm
from GaussianMRILib.evaluation.simulate import load_isotropic
from GaussianMRILib.fitting.registration import Reach, register_stacks
from GaussianMRILib.fitting.registration_score import Pair, Score, climb
from GaussianMRILib.fitting.registration_views import BlockVolume, View, blocks_of

LUMBAR, PROSTATE_A, PROSTATE_B = (
    f"mr_multi/{name}.tar.xz" for name in ("lumbar_hitachi", "prostate_a", "prostate_b")
)


@pytest.fixture(scope="module")
def lumbar(shared_data):
    return load_isotropic("lumbar_t2", shared_data)


@pytest.fixture(scope="module")
def brain(shared_data):
    return load_isotropic("brain_t1", shared_data)


def moved_by(stack, shift, turn=0.0, slices=None):
    """The stack (or some of its slices) at a place that it does not have."""
    matrix = np.eye(4)
    angle = np.radians(turn)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = shift
    poses = stack.ijk_to_ras.copy()
    chosen = slice(None) if slices is None else slices
    poses[chosen] = matrix @ poses[chosen]
    return replace(stack, ijk_to_ras=poses)


def crossing(noise=2.0):
    """An axial and a sagittal stack of the analytic scene."""
    axial = scan(slices=12, side=(64, 64), noise=noise)
    sagittal = scan(slices=12, side=(56, 56), axes=SAGITTAL, noise=noise, seed=1)
    return axial, sagittal


def lines(found):
    return [block for stack in found.report["stacks"] for block in stack["blocks"]]


# ---- the measure


def test_slope_and_curvature_are_those_of_the_score():
    axial, sagittal = crossing()
    blocks = blocks_of([axial, moved_by(sagittal, [0.8, -0.5, 0.6])])
    volumes = [BlockVolume(block, 1.25) for block in blocks]
    pairs = [
        Pair(a, b, View(volumes[a], volumes[b], np.eye(4), 2.0, 400, 2.0, np.zeros(3)), np.zeros(3))
        for a, b in ((0, 1), (1, 0))
    ]
    score = Score(pairs, [np.eye(4)] * 2, [1])
    at = np.array([0.3, -0.4, 0.2, -0.3, 0.5, 0.1])
    slope = score.windows(at, slopes=True).slope.sum(axis=0)
    for n in range(6):
        step = 0.15 * np.eye(6)[n]
        above, below = score.windows(at + step), score.windows(at - step)
        both = above.compared & below.compared
        numeric = (above.similarity - below.similarity)[both].sum() / 0.3
        assert slope[n] == pytest.approx(numeric, rel=0.15, abs=0.03 * np.abs(slope).max()), n
    found = climb(score, np.zeros(6), np.full(6, 5.0), np.ones(6, bool))
    assert np.allclose(found.parameters[3:], [-0.8, 0.5, -0.6], atol=0.2)
    assert score.parameters(score.motion(at)) == pytest.approx(at)


def test_gain_and_offset_do_not_matter_and_the_larger_stack_stays():
    axial, sagittal = crossing()
    other = replace(sagittal, pixels=sagittal.pixels * 0.31 + 55)
    first = register_stacks([axial, moved_by(sagittal, [2.0, -1.0, 1.5], 2.0)])
    second = register_stacks([axial, moved_by(other, [2.0, -1.0, 1.5], 2.0)])
    for found in (first, second):
        assert found.stacks[0] is axial and found.report["anchor"] == axial.name
        assert np.linalg.norm(found.stacks[1].plane(6).center - sagittal.plane(6).center) < 0.25
    assert np.allclose(lines(first)[1]["shift_mm_ras"], lines(second)[1]["shift_mm_ras"], atol=0.1)
    json.dumps(first.report)


def test_poses_are_the_old_ones_after_the_reported_motion():
    axial, sagittal = crossing()
    given = moved_by(sagittal, [1.5, 1.5, -1.0])
    found = register_stacks([axial, given])
    assert np.allclose(found.stacks[1].ijk_to_ras, found.motions[1][0] @ given.ijk_to_ras)
    block = lines(found)[1]
    centre = (given.plane(0).center + given.plane(11).center) / 2
    motion = found.motions[1][0]
    assert np.allclose(motion[:3, :3] @ centre + motion[:3, 3] - centre, block["shift_mm_ras"], atol=2e-3)
    assert block["accepted"] and block["ncc_after"] > block["ncc_before"] + 0.01


def test_blocks_of_a_series_are_found_and_placed_alone():
    # Three slabs of four slices at angles, the last of which lies 2 mm from where the others say.
    sagittal = scan(slices=14, side=(64, 56), axes=SAGITTAL, noise=2, seed=1)
    slabs = [
        scan(slices=4, side=(48, 48), axes=AXES @ rotation(angle), noise=2, seed=n)
        for n, angle in enumerate((-8.0, 0.0, 8.0))
    ]
    shifts = [[1.0, 0.0, -13.0], [1.0, 0.0, 0.0], [1.0, 2.0, 13.0]]
    parts = [at_place(slab, shift, n) for n, (slab, shift) in enumerate(zip(slabs, shifts, strict=True))]
    found = register_stacks([sagittal, joined(parts)])
    assert [len(motions) for motions in found.motions] == [1, 3]
    assert [block["slices"] for block in lines(found)[1:]] == [[0, 3], [4, 7], [8, 11]]
    for block, wanted in zip(lines(found)[1:], ([-1, 0, 0], [-1, 0, 0], [-1, -2, 0]), strict=True):
        assert np.allclose(block["shift_mm_ras"], wanted, atol=0.8), block


def test_what_lies_in_the_gaps_of_an_angled_series_belongs_to_it():
    slabs = [
        moved_by(scan(slices=3, side=(24, 24), axes=AXES @ rotation(angle)), 30.0 * n * AXES[:, 2])
        for n, angle in enumerate((-8.0, 0.0, 8.0))
    ]
    ends, between = (
        replace(joined(part), source={"series_uid": "1.2"}) for part in (slabs[::2], slabs[1:2])
    )
    assert len(ends.blocks()) == 2 and len(between.blocks()) == 1
    assert [block.group for block in blocks_of([ends, between])] == [0, 0, 0]
    # The same place once more is another group, and so is another series.
    assert [block.group for block in blocks_of([ends, between, ends])] == [0, 0, 0, 1, 1]
    assert [block.group for block in blocks_of([ends, replace(between, source={})])] == [0, 0, 1]


def joined(parts):
    """One stack of the slices of several."""
    return replace(
        parts[0],
        pixels=np.concatenate([part.pixels for part in parts]),
        ijk_to_ras=np.concatenate([part.ijk_to_ras for part in parts]),
        slice_thickness=np.concatenate([part.slice_thickness for part in parts]),
    )


def rotation(degrees):
    angle = np.radians(degrees)
    return np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])


def at_place(slab, shift, seed):
    """Slices of the analytic scene acquired at a slab's place along the axial normal, with poses that are off in plane."""
    from fit_scenes import intensity

    poses = slab.ijk_to_ras.copy()
    poses[:, :3, 3] += AXES[:, 2] * shift[2]
    pixels = []
    for pose in poses:
        plane = gm.ImagePlane(pose, slab.shape[1:], thickness=4.0)
        offsets = (np.arange(8) + 0.5) / 2 - 2
        pixels.append(np.mean([intensity(plane.offset(o).points()) for o in offsets], axis=0))
    noise = np.random.default_rng(seed).normal(0, 2, slab.shape)
    poses[:, :2, 3] += shift[:2]
    return replace(slab, pixels=(np.array(pixels) + noise).astype(np.float32), ijk_to_ras=poses)


# ---- bad input


def test_nothing_to_compare():
    axial, sagittal = crossing()
    alone = register_stacks([axial])
    assert alone.stacks == [axial] and "nothing to compare" in lines(alone)[0]["note"]
    assert register_stacks([]).stacks == []
    far = moved_by(sagittal, [500.0, 0, 0])
    empty = replace(sagittal, pixels=np.zeros_like(sagittal.pixels))
    noise = np.random.default_rng(0).normal(100, 10, sagittal.shape).astype(np.float32)
    for other in (far, empty, replace(sagittal, pixels=noise), sagittal.subset([5])):
        found = register_stacks([axial, other])
        assert np.isfinite(found.stacks[1].ijk_to_ras).all()
        if len(other.pixels) > 1:
            assert found.stacks[1] is other and not lines(found)[1]["accepted"], lines(found)[1]
    assert "nothing to compare" in lines(register_stacks([axial, far]))[1]["note"]
    assert "nothing to compare" in lines(register_stacks([axial, empty]))[1]["note"]


def test_what_lies_beyond_the_range_is_refused():
    axial, sagittal = crossing()
    found = register_stacks(
        [axial, moved_by(sagittal, [0.0, 5.0, 0.0])], reach=Reach(3.0, 3.0, 5.0, 3.0), blocks=None
    )
    assert found.stacks[1].ijk_to_ras[0, 1, 3] == pytest.approx(sagittal.ijk_to_ras[0, 1, 3] + 5.0)
    assert not lines(found)[1]["accepted"] and "border" in lines(found)[1]["note"]


def test_progress_rises_and_can_cancel():
    axial, sagittal = crossing()
    seen = []
    register_stacks([axial, sagittal], progress=seen.append)
    assert seen[0] == 0 and seen[-1] == 1 and seen == sorted(seen) and len(seen) > 4

    def cancel(share):
        if share > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        register_stacks([axial, sagittal], progress=cancel)


def test_frames_of_reference_must_agree():
    axial, sagittal = crossing()
    with pytest.raises(gm.GaussianMRIError, match="frames of reference"):
        register_stacks(
            [replace(axial, frame_of_reference="1.2"), replace(sagittal, frame_of_reference="1.3")]
        )


# ---- simulated pairs of real scans


@pytest.mark.data
@pytest.mark.parametrize("axes", [(2, 0), (0, 1), (2, 2)])
def test_simulated_pairs(lumbar, axes):
    still, moved = [], []
    for seed in range(3):
        stacks, motion = pair(lumbar, axes, seed, moved=False)
        still.append(error(register_stacks(stacks), motion, middle(lumbar)))
        stacks, motion = pair(lumbar, axes, seed)
        moved.append(error(register_stacks(stacks), motion, middle(lumbar)))
    assert np.max(still, axis=0)[0] < 0.25 and np.max(still, axis=0)[1] < 0.3
    assert np.max(moved, axis=0)[0] < 0.5 and np.max(moved, axis=0)[1] < 0.7


@pytest.mark.data
def test_three_stacks_of_a_brain(brain):
    rng = np.random.default_rng(4)
    shifts = np.array([[0, 0, 0], [2.0, -1.5, 1.0], [-1.0, 3.0, 0.5]])
    stacks = []
    for axis, shift in zip((2, 0, 1), shifts, strict=True):
        motion = np.eye(4)
        motion[:3, 3] = shift
        stacks.append(
            acquire(brain, axis, motion, rng, gain=rng.uniform(0.5, 2), shading=0.3, thickness=5, spacing=6)
        )
    found = register_stacks(stacks)
    anchor = found.report["anchor_stack"]
    for n in range(3):
        left = found.motions[n][0][:3, 3] + shifts[n] - shifts[anchor]
        assert np.linalg.norm(left) < 0.3, n


# ---- real exams


def of(stacks, *starts):
    return [stack for stack in stacks if stack.name.startswith(starts)]


@pytest.mark.data
@pytest.mark.parametrize("contrast", ["T2", "T1"])
def test_lumbar_blocks_lie_to_the_left(extracted, contrast):
    """A phantom offset between the series: README says 1.5 to 2 mm along L in all five blocks, in T1 as in T2."""
    stacks = of(gm.read_stacks(extracted(LUMBAR)), contrast)
    found = register_stacks(stacks)
    assert len(stacks) == 2 and found.report["anchor"] == f"{contrast} SAG"
    blocks = next(stack["blocks"] for stack in found.report["stacks"] if stack["name"] == f"{contrast} AX")
    assert len(blocks) == 5
    for block in blocks:
        assert block["accepted"] and block["ncc_after"] > block["ncc_before"] + 0.03
        # Stack 2 is sampled at L -1.75, that is R +1.75, so it has to move by R -1.75.
        assert block["shift_mm_ras"][0] == pytest.approx(-1.75, abs=0.5)


@pytest.mark.data
def test_prostate_in_place(extracted):
    """The gland lies within 1 mm or so; fat round about is displaced by up to 4 mm and must not count."""
    found = register_stacks(gm.read_stacks(extracted(PROSTATE_A)))
    by_name = {stack["name"]: stack["blocks"][0] for stack in found.report["stacks"]}
    assert by_name["t2_tse_tra"]["note"].startswith("anchor")
    assert np.linalg.norm(by_name["t2_tse_cor"]["shift_mm_ras"]) < 0.5
    # Both other stacks want the sagittal one a millimetre further back, and the gland's NCC says so clearly.
    sagittal = by_name["t2_tse_sag"]
    assert np.linalg.norm(sagittal["shift_mm_ras"]) < 1.4
    assert sagittal["ncc_after"] > sagittal["ncc_before"] + 0.05


@pytest.mark.data
def test_prostate_that_moved(extracted):
    stacks = {stack.name: stack for stack in gm.read_stacks(extracted(PROSTATE_B))}
    axial, again = stacks["t2_tse_tra"], stacks["t2_tse_tra (2)"]
    found = register_stacks([axial, again])
    block = lines(found)[1]
    # README: (L +1.5, P +2, S -1) is where the repetition is sampled; it moves by the opposite.
    assert np.linalg.norm(np.subtract(block["shift_mm_ras"], [1.5, 2.0, 1.0])) < 1.0
    assert block["ncc_after"] > block["ncc_before"] + 0.3

    # README: sampled at (L -3, P -.5, S +2). That is what all windows want; the gland itself lies 2 mm from there.
    everywhere = lines(register_stacks([axial, stacks["t2_tse_sag"]], middle=False))[1]
    assert np.linalg.norm(np.subtract(everywhere["shift_mm_ras"], [-3.0, -0.5, -2.0])) < 1.0
    assert everywhere["ncc_after"] > everywhere["ncc_before"] + 0.2
    gland = lines(register_stacks([axial, stacks["t2_tse_sag"]]))[1]
    assert np.linalg.norm(np.subtract(gland["shift_around_mm_ras"], [-3.0, -0.5, -2.0])) < 1.0
    assert 1.5 < np.linalg.norm(gland["shift_mm_ras"]) < 3.5 and gland["ncc_after"] > 0.55
