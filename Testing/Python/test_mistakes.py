"""Usual mistakes of callers: each is one sentence that says what to give, never an error from inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import GaussianMRILib as gm
from GaussianMRILib.cli import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("inspect", ""), "An argument is empty"),
        (("inspect", "a", ""), "An argument is empty"),
        (("fit", "a", "-o", ""), "--output is empty"),
        (("fit", "a", "--output="), "--output is empty"),
        (("resample", "f.npz", "--plane", ""), "--plane is empty"),
        (("grade", "measure", "a", "-o", ""), "--output is empty"),
        (("cinematic", "picture", ""), "An argument is empty"),
    ],
)
def test_a_path_that_is_empty_is_not_the_current_folder(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and said in result.output and "variable" in result.output


def test_texts_may_be_empty(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["cohort", str(tmp_path / "no"), "-o", str(tmp_path / "o"), "--series", ""])
    assert "is empty: give a path" not in result.output


STACK = gm.SliceStack.from_array(np.random.default_rng(0).uniform(0, 900, (6, 12, 12)), np.diag([1, 1, 3, 1.0]))
PLANE = gm.ImagePlane.from_axes((5, 5, 8), (1, 0, 0), (0, 1, 0), shape=(8, 8))
AXES = ((0, 0, 0), (1, 0, 0), (0, 1, 0))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: gm.fit("dicom/"), r"no stacks of slices but str\. read_stacks\(path\)"),
        (lambda: gm.fit(["dicom/"]), "no stacks of slices but str"),
        (lambda: gm.fit(STACK.pixels), "no stacks of slices but ndarray"),
        (lambda: gm.fit(None), "no stacks of slices but NoneType"),
        (lambda: gm.fit(STACK, steps=3), "has no option 'steps'; it has prior, "),
        (lambda: gm.fit(STACK, preset="paper", pitch=1.0), "has no option 'pitch'; it has gaussians, "),
        (lambda: gm.fit(STACK, pitch="a"), "must be numbers, got 'a'"),
        (lambda: gm.fit(STACK, seed=None), "seed must be a whole number"),
        (lambda: gm.check_same_frame(["a"]), "no stacks of slices"),
        (lambda: gm.linear_interpolation(None, PLANE), "no stacks of slices"),
        (lambda: gm.linear_interpolation(STACK, [PLANE, PLANE]), "on an ImagePlane, got list.*render_many"),
        (lambda: gm.superresolution(STACK, "L5.mrk.json"), r"on an ImagePlane, got str\. ImagePlane\.from_markups"),
        (lambda: gm.read_stacks(None), "A path is text or a Path, got NoneType"),
        (lambda: gm.read_stacks([["a"]]), "A path is text or a Path, got list"),
        (lambda: gm.read_stacks(b"/tmp"), "A path is text or a Path, got bytes"),
        (lambda: gm.ImagePlane.from_axes(*AXES, spacing=0.5), r"pixel spacing.* must be two numbers, got 0\.5"),
        (lambda: gm.ImagePlane.from_axes(*AXES, shape=64), "shape .rows, columns. must be two numbers, got 64"),
        (lambda: gm.ImagePlane.from_axes(*AXES, shape=(64, 64, 1)), "two numbers, got 3 numbers"),
        (lambda: gm.ImagePlane.from_axes(*AXES, shape=(64.5, 64)), "rows must be a whole number"),
        (lambda: gm.ImagePlane.from_axes(*AXES, thickness="a"), "thickness must be numbers, got 'a'"),
        (lambda: gm.ImagePlane.from_axes(None, *AXES[1:]), "center must be numbers, got None"),
        (lambda: gm.ImagePlane(np.eye(4), 8), "must be two numbers, got 8"),
        (lambda: PLANE.offset(None), "distance along the normal must be numbers"),
        (lambda: PLANE.stack(2.5, 1), "number of planes must be a whole number"),
        (lambda: PLANE.transformed(np.eye(3)), r"matrix \(4, 4\)"),
        (lambda: gm.SliceStack.from_array(STACK.pixels, np.eye(4), thickness=[3] * 5), "one thickness, or one each"),
        (lambda: gm.SliceStack.from_array(STACK.pixels, np.eye(4), thickness="3"), "must be numbers, got '3'"),
        (lambda: gm.SliceStack.from_array(STACK.pixels, "x"), "ijk_to_ras must be numbers, got 'x'"),
        (lambda: gm.SliceStack.from_array(np.ma.masked_less(STACK.pixels, 400), np.eye(4)), r"masked.*filled\(0\)"),
        (lambda: gm.Curve("x.json"), r"Curve\.from_markups\('x\.json'\) reads a file"),
        (lambda: gm.Curve(None), "points of a curve must be numbers, got None"),
        (lambda: gm.write_png("x.png", np.zeros((4, 4)), window=5), "window .* must be two numbers, got 5"),
        (lambda: gm.write_volume(None, np.zeros((8, 8)), PLANE), "A path is text or a Path, got NoneType"),
        (lambda: gm.write_volume("x.nrrd", np.zeros((8, 8)), "p"), "on an ImagePlane, got str"),
    ],
)
def test_mistakes_in_python(call: Callable[[], object], said: str) -> None:
    with pytest.raises(gm.GaussianMRIError, match=said):
        call()


def test_mistakes_with_a_field() -> None:
    field = gm.fit(STACK, passes=1)
    for call in (field.render, field.support, field.distance_to_slices, field.inside_plane):
        with pytest.raises(gm.GaussianMRIError, match="on an ImagePlane, got str"):
            call("L5.mrk.json")
    with pytest.raises(gm.GaussianMRIError, match=r"got list.*render_many"):
        field.render([PLANE, PLANE])
    with pytest.raises(gm.GaussianMRIError, match="must be numbers, got '1'"):
        field.volume(spacing="1")
    with pytest.raises(gm.GaussianMRIError, match="on an ImagePlane, got str"):
        gm.straighten(field, [(5, 5, 1), (5, 5, 14)], width=5).render("x")


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int16])
def test_tensors_are_taken_as_arrays_are(kind: torch.dtype) -> None:
    pixels = torch.from_numpy(STACK.pixels.round()).to(kind)
    if kind.is_floating_point:
        pixels.requires_grad_()
    stack = gm.SliceStack.from_array(pixels, torch.eye(4, dtype=torch.float64), thickness=torch.tensor(2.0))
    np.testing.assert_array_equal(stack.pixels, pixels.detach().to(torch.float32).numpy())
    assert stack.thickness == 2.0


def test_a_stack_does_not_change_with_the_array_that_it_was_made_of() -> None:
    pixels = STACK.pixels.copy()
    stack = gm.SliceStack.from_array(pixels, np.eye(4))
    shared = gm.SliceStack.from_array(pixels, np.eye(4), copy=False)
    pixels *= 2
    np.testing.assert_array_equal(stack.pixels, STACK.pixels)
    assert np.shares_memory(shared.pixels, pixels)
    gm.SliceStack.from_array(np.ma.masked_less(STACK.pixels, -1), np.eye(4))  # nothing is masked
