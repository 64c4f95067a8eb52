"""A field along a curve, shown as if the curve were straight."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner
from curve_scenes import LENGTH, RADIUS, arc, beside_arc, bright_points, middle_of

import GaussianMRILib as gm
from GaussianMRILib.cli import main
from GaussianMRILib.gaussians import volume
from GaussianMRILib.geometry import transform_points

#: mm along the arc, to the back, to the right.
PLACES = np.array([[12.3, 0, 0], [30.0, 8.4, -6.2], [31.0, -13.0, 4.6], [52.4, 0, 0], [60.2, 5.1, 9.7]])


@functools.cache
def field() -> gm.GaussianField:
    return bright_points(beside_arc(*PLACES.T))


def straight(**options: Any) -> gm.StraightField:
    return gm.straighten(field(), arc(), **{"width": 36, "spacing": 0.5, **options})


def test_points_are_found_where_they_are_in_the_straightened_volume() -> None:
    made = straight()
    voxels, matrix = made.volume()
    assert voxels.shape == (round(LENGTH / 0.5), 72, 72)
    assert np.allclose(np.linalg.norm(matrix[:3, :3], axis=0), 0.5) and np.linalg.det(matrix[:3, :3]) > 0
    local = np.linalg.inv(made.curve.straight_to_ras) @ matrix
    for s, back, right in PLACES:
        wanted = np.linalg.solve(local, [back, right, s, 1])[:3]
        found = middle_of(voxels, wanted[::-1])[::-1]
        assert 0.5 * np.linalg.norm(found - wanted) < 0.1, (s, back, right)


def test_values_are_those_of_the_field_at_the_places_of_the_formula() -> None:
    made = straight()
    voxels, matrix = made.volume()
    rng = np.random.default_rng(3)
    index = np.stack([rng.integers(0, n, 300) for n in voxels.shape], axis=1)
    local = np.linalg.inv(made.curve.straight_to_ras) @ matrix
    back, right, s = transform_points(local, index[:, ::-1]).T
    places = beside_arc(s, back, right)
    expected = [field().render(gm.ImagePlane.from_axes(p, (1, 0, 0), (0, 1, 0), shape=(1, 1)))[0, 0] for p in places]
    got = voxels[tuple(index.T)]
    assert np.array_equal(np.isnan(got), np.isnan(expected)) and 0 < np.isnan(got).sum() < 100
    assert np.nanmax(np.abs(got - expected)) < 0.5


def test_lengths_along_the_curve_are_kept_and_the_image_hangs_as_usual() -> None:
    """Two points on the curve: head up, and the one to the back of it on the right."""
    made = straight(width=40)
    image = made.image()
    assert image.shape == made.plane.shape == (round(LENGTH / 0.5), 80)
    assert np.allclose(made.plane.j_axis, [0, 0, -1], atol=1e-3) and np.allclose(made.plane.i_axis, [0, -1, 0], atol=1e-3)
    rows = [image.shape[0] / 2 - 0.5 - (s - LENGTH / 2) / 0.5 for s in (12.3, 52.4)]
    found = [middle_of(image, np.array([row, 39.5])) for row in rows]
    assert abs((found[0][0] - found[1][0]) * 0.5 - (52.4 - 12.3)) < 0.1
    assert abs(found[0][1] - 39.5) * 0.5 < 0.1
    back = beside_arc(np.array([20.0, 20.0]), np.array([0.0, 12.0]), np.array([0.0, 0.0]))
    across = made.curve.to_straight(back) @ made.plane.i_axis
    assert abs(across[1] - across[0] - 12) < 1e-2


@pytest.mark.parametrize("slab", [0.0, 5.0])
def test_a_straight_curve_gives_the_image_of_its_plane(slab: float) -> None:
    middle, half = beside_arc(*PLACES[1]), np.array([-5.0, 9, 29])
    begin, end = middle - half, middle + half
    made = gm.straighten(field(), [begin, middle, end], width=30, spacing=0.5)
    plane = gm.ImagePlane(made.plane.ijk_to_ras, made.plane.shape, thickness=slab)
    image, expected = made.image(slab=slab), field().render(plane)
    assert np.array_equal(np.isnan(image), np.isnan(expected)) and np.nanmax(expected) > 100
    assert np.nanmax(np.abs(image - expected)) < 0.02  # of 300; places are rounded to micrometres
    assert np.allclose(plane.center, middle) and abs(plane.normal @ (end - begin)) < 1e-9
    voxels, matrix = made.volume()
    across = gm.ImagePlane(matrix @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 40], [0, 0, 0, 1]], voxels.shape[1:])
    expected = field().render(across)
    assert np.nanmax(np.abs(voxels[40] - expected)) < 0.02


def test_a_slab_shows_its_largest_its_smallest_or_its_mean_value(monkeypatch: pytest.MonkeyPatch) -> None:
    made = straight(width=20)
    stack = np.stack([
        made.render(made.plane.offset(mm)) for mm in np.linspace(-7, 7, 57)
    ])  # fmt: skip
    largest, smallest = made.image(slab=14, projection="max"), made.image(slab=14, projection="min")
    inside = np.isfinite(largest) & np.isfinite(stack).all(axis=0)
    assert inside.mean() > 0.5
    assert np.abs(largest - stack.max(axis=0))[inside].max() < 2
    assert np.abs(smallest - stack.min(axis=0))[inside].max() < 2
    thick = made.image(slab=14)
    assert np.abs(thick - stack.mean(axis=0))[inside].max() < 4  # the profile's edges are soft
    assert largest[inside].max() > thick[inside].max() + 50
    with pytest.raises(gm.GaussianMRIError, match="'max' is of a slab, and the plane is thin"):
        made.image(slab=0, projection="max")
    monkeypatch.setattr(volume, "SLAB_PIXELS", 5000)  # in parts, as of a large image
    assert np.array_equal(made.image(slab=14, projection="max"), largest, equal_nan=True)


def test_slabs_leave_out_what_was_not_scanned() -> None:
    """The box ends 22 mm beside the arc: a slab that reaches beyond it has the values that there are."""
    made = straight(width=20)
    edge = made.plane.offset(20.0)
    image = made.render(gm.ImagePlane(edge.ijk_to_ras, edge.shape, thickness=10.0), projection="min")
    assert np.isfinite(image).mean() > 0.5 and np.nanmin(image) >= 19
    beyond = made.plane.offset(25.0)
    assert np.isnan(made.render(gm.ImagePlane(beyond.ijk_to_ras, beyond.shape, thickness=10.0), projection="max")).all()


def test_an_image_may_lie_in_either_direction_along_the_curve() -> None:
    made = straight()
    image, plane = made.image(), made.plane
    matrix = plane.ijk_to_ras[:, [1, 0, 2, 3]]
    turned = made.render(gm.ImagePlane(matrix, plane.shape[::-1]))
    assert np.array_equal(turned, image.T, equal_nan=True)
    oblique = gm.ImagePlane.from_axes(plane.center, plane.i_axis + plane.j_axis, plane.i_axis - plane.j_axis)
    with pytest.raises(gm.GaussianMRIError, match="along it and across it"):
        made.render(oblique)
    with pytest.raises(gm.GaussianMRIError, match="no projection 'median'"):
        made.render(plane, projection="median")  # type: ignore[arg-type]
    several = made.render_many([plane, plane.offset(1.5)])
    assert np.array_equal(several[0], image, equal_nan=True) and not np.array_equal(several[1], image, equal_nan=True)


def test_plain_gaussians_give_the_same_image() -> None:
    made = straight(width=20)
    plain = gm.straighten(field().explicit(), made.curve, width=20, spacing=0.5)
    difference = np.abs(plain.image(slab=3.0) - made.image(slab=3.0))
    assert np.nanmax(difference) < 6  # 1 % of the contrast by the other cut, and three samples in a slab


def test_planes_across_the_curve_are_a_step_apart_and_perpendicular_to_it() -> None:
    made = straight()
    found = made.planes(10.0)
    assert len(found) == int(LENGTH / 10) + 1
    s = np.array([at for at, _ in found])
    assert np.allclose(np.diff(s), 10) and abs(s[0] + s[-1] - LENGTH) < 1e-3
    for at, plane in found:
        angle = at / RADIUS - 0.6
        assert np.abs(plane.center - beside_arc(at, 0, 0)).max() < 2e-3
        assert abs(abs(plane.normal @ [0, -np.sin(angle), np.cos(angle)]) - 1) < 1e-5
        assert plane.shape == (72, 72) and plane.j_axis[1] < -0.8  # the front is up


def test_a_field_without_another_spacing_has_its_own() -> None:
    made = gm.straighten(field(), arc(), width=20)
    assert np.allclose(made.plane.spacing, 0.7) and np.allclose(made.grid.ijk_to_ras[:3, 0] @ [0, -1, 0], 0.7, atol=1e-3)
    assert made.plane.shape == (round(LENGTH / 0.7), round(20 / 0.7))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width across a curve"),
        ({"spacing": -1}, "spacing of the pixels along a curve"),
        ({"width": 900, "spacing": 0.01}, "too large; use a larger spacing than 0.01 mm, or a smaller width"),
    ],
)
def test_sizes_that_make_no_image_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(gm.GaussianMRIError, match=message):
        straight(**options)
    with pytest.raises(gm.GaussianMRIError, match="step between planes"):
        straight().planes(0)


def test_a_curve_that_is_made_is_not_turned_again() -> None:
    with pytest.raises(gm.GaussianMRIError, match="is said when it is made"):
        gm.straighten(field(), gm.Curve(arc()), turn=10)
    assert "too tightly for a width of 90 x 90 mm" in gm.straighten(field(), gm.Curve(arc(), turn=45), width=90).folding
    assert straight().folding == ""


# ---- the command


def markup(points: Any = None) -> str:
    listed = [{"position": list(map(float, p * [-1, -1, 1]))} for p in (arc(9) if points is None else points)]
    return json.dumps({"markups": [{"type": "Curve", "coordinateSystem": "LPS", "controlPoints": listed}]})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a field and a curve."""
    monkeypatch.chdir(tmp_path)
    field().save("field.npz")
    Path("canal.mrk.json").write_text(markup())
    return tmp_path


def resample(*words: object, ok: bool = True) -> str:
    arguments = ["resample", "field.npz", *map(str, words)]
    result = CliRunner().invoke(main, arguments, standalone_mode=False)
    if ok:
        assert result.exception is None, (result.output, result.exception)
        return result.output
    assert result.exception is not None
    return result.output + str(result.exception)


def test_the_command_writes_volume_image_and_picture(folder: Path) -> None:
    said = resample("--curve", "canal.mrk.json", "--width", 30, "--spacing", 0.5, "-o", "v.nii.gz", "--png", "v.png")
    made = gm.straighten(field(), gm.Curve.from_markups("canal.mrk.json"), width=30, spacing=0.5)
    voxels, matrix = made.volume()
    image = sitk.ReadImage("v.nii.gz")
    assert np.allclose(sitk.GetArrayFromImage(image), np.nan_to_num(voxels), atol=1e-3)
    assert np.allclose(image.GetSpacing(), 0.5, atol=1e-6)
    place = np.array(image.TransformIndexToPhysicalPoint((3, 5, 40))) * [-1, -1, 1]
    assert np.allclose(place, transform_points(matrix, [3, 5, 40]), atol=1e-3)
    assert f"The curve is {made.curve.length:.1f} mm long." in said and "60 x 60 voxels of 0.5 mm" in said
    assert f"{made.plane.shape[0]} x 60 pixels written to v.png" in said and Path("v.png").stat().st_size > 500

    options = ("--across", "left", "--keep-across", "--turn", 20, "--slab", 6, "--projection", "max")
    resample("--curve", "canal.mrk.json", "--width", 30, "--spacing", 0.5, *options, "-o", "i.nrrd")
    curve = gm.Curve.from_markups("canal.mrk.json", across="left", fixed=True, turn=20)
    turned = gm.straighten(field(), curve, width=30, spacing=0.5)
    pixels = sitk.GetArrayFromImage(sitk.ReadImage("i.nrrd"))
    assert pixels.shape[0] == 1
    assert np.allclose(pixels[0], np.nan_to_num(turned.image(slab=6, projection="max"), nan=0.0), atol=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--curve canal.mrk.json --isotropic -o v.nrrd", "leave the options of planes, --isotropic and --dicom out"),
        ("--curve canal.mrk.json --thickness 3 -o v.nrrd", "leave the options of planes"),
        ("--curve canal.mrk.json --dicom d --source s", "leave the options of planes"),
        ("--curve canal.mrk.json", "Nothing to write"),
        ("--curve canal.mrk.json -o canal.mrk.json.nrrd --projection max", "--projection needs --slab"),
        ("--center 0 0 0 --normal 0 0 1 --width 30 -o v.nrrd", "are those of a --curve"),
        ("--curve none.mrk.json -o v.nrrd", "none.mrk.json"),
        ("--curve field.npz -o v.nrrd", "field.npz"),
        ("--curve outside.mrk.json -o v.nrrd", "outside.mrk.json: the curve lies outside the scanned region"),
        ("--curve canal.mrk.json --width 30 --spacing 0.001 -o v.nrrd", "too large; use a larger spacing"),
    ],
)
def test_the_command_refuses_with_a_sentence_and_writes_nothing(folder: Path, words: str, message: str) -> None:
    (folder / "outside.mrk.json").write_text(markup(np.add(arc(9), [0, 300, 0])))
    before = sorted(folder.iterdir())
    assert message in resample(*words.split(), ok=False)
    assert sorted(folder.iterdir()) == before


def test_the_command_says_where_the_curve_is_bent_too_tightly(folder: Path) -> None:
    assert "too tightly" not in resample("--curve", "canal.mrk.json", "--width", 30, "-o", "v.nrrd")
    said = resample("--curve", "canal.mrk.json", "--width", 150, "--spacing", 2, "-o", "v.nrrd")
    assert "canal.mrk.json: " in said and "too tightly for a width of 150 x 150 mm" in said
