"""Discs from every source, against discs whose place is known."""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from disc_scenes import LEVELS, disc_mask, grid_around, made_disc, rotation, sagittal_grid, true_frame

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import ImagePlane, transform_points
from GaussianMRILib.grading.disc import DiscGeometry, angle_degrees, disc_frame, level_name
from GaussianMRILib.grading.disc_coordinates import CANAL
from GaussianMRILib.grading.disc_sources import (
    disc_from_coordinates,
    disc_from_plane,
    disc_from_points,
    disc_from_segment,
    read_discs,
    read_vert_dicts,
    write_discs,
)
from GaussianMRILib.phantom import Phantom, Scan, acquire
from GaussianMRILib.stacks import SliceStack


@functools.cache
def phantom(seed: int = 1) -> Phantom:
    return Phantom(seed)


@functools.cache
def sagittal_mask(level: str = "L5/S1", seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A phantom's disc on sagittal voxels, and their matrix."""
    matrix = sagittal_grid(true_frame(phantom(seed), level)[:3, 3])
    return disc_mask(phantom(seed), level, matrix, (15, 88, 96)), matrix


def stack_of(mask: np.ndarray, matrix: np.ndarray, name: str = "sagittal") -> SliceStack:
    return SliceStack.from_array(mask.astype(np.float32), matrix, thickness=4.0, name=name)


# ---- the class ---------------------------------------------------------------------------------------------


def test_a_disc_survives_json() -> None:
    disc = made_disc(facts={"flatness": 0.1})
    again = DiscGeometry.from_dict(json.loads(json.dumps(disc.to_dict())))
    for name in ("frame", "posterior", "anterior"):
        np.testing.assert_array_equal(getattr(again, name), getattr(disc, name))
    assert (again.level, again.sagittal_depth, again.series_depth, again.height) == ("L5/S1", 45, 60, 10)
    assert again.facts == {"flatness": 0.1} and again.provenance == "made"
    bare = DiscGeometry.from_dict(made_disc(series_depth=None, height=None).to_dict())
    assert bare.series_depth is None and bare.height is None


def test_directions_and_tilt() -> None:
    disc = made_disc(tilt=30)
    assert disc.tilt_degrees == pytest.approx(30)
    np.testing.assert_allclose(disc.left, [-1, 0, 0], atol=1e-12)
    assert disc.back[1] < 0 < disc.back[2], "the back of a disc that leans forward is its upper end"
    np.testing.assert_allclose(np.cross(disc.left, disc.back), disc.normal, atol=1e-12)
    np.testing.assert_allclose(
        disc.local(disc.center + 2 * disc.left - 3 * disc.normal), [2, 0, -3], atol=1e-9
    )


@pytest.mark.parametrize("name", ["L5/S1", "L5-S1", "l5_s1", "L5S1", "L5-S", "l5s"])
def test_names_of_levels(name: str) -> None:
    assert level_name(name) == "L5/S1"


def test_what_is_no_disc_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GaussianMRIError, match=r"C2/C3.*not a level"):
        level_name("C2/C3")
    mirrored = made_disc().frame.copy()
    mirrored[:3, :2] *= -1
    with pytest.raises(GaussianMRIError, match="left and right"):
        made_disc(frame=mirrored)
    with pytest.raises(GaussianMRIError, match="rotation"):
        made_disc(frame=made_disc().frame @ np.diag([1, 1, 2, 1]))
    with pytest.raises(GaussianMRIError, match="posterior points"):
        made_disc(posterior=np.full((9, 3), np.nan))
    with pytest.raises(GaussianMRIError, match="as many"):
        made_disc(anterior=np.zeros((2, 3)))
    with pytest.raises(GaussianMRIError, match="lengths"):
        made_disc(sagittal_depth=0.0)
    with pytest.raises(GaussianMRIError, match="horizontal"):
        disc_frame([0, 0, 0], [0, 1, 0.05], [-1, 0, 0])
    with pytest.raises(GaussianMRIError, match="midline"):
        disc_frame([0, 0, 0], [0, 0, 1], [0, 1, 0])
    with pytest.raises(GaussianMRIError, match="incomplete"):
        DiscGeometry.from_dict({"frame": np.eye(4).tolist()})


def test_files_of_discs(tmp_path: Path) -> None:
    path = write_discs(tmp_path / "discs.json", {"L5-S1": made_disc(), "L4/L5": made_disc(10, level="L4/L5")})
    discs = read_discs(path)
    assert sorted(discs) == ["L4/L5", "L5/S1"]
    assert discs["L4/L5"].tilt_degrees == pytest.approx(10)
    for content, message in (("[]", "no file of discs"), ('{"L5/S1": {}}', "incomplete"), ("{", "not JSON")):
        path.write_text(content)
        with pytest.raises(GaussianMRIError, match=message) as error:
            read_discs(path)
        assert "discs.json" in str(error.value)
    with pytest.raises(GaussianMRIError, match="cannot be read"):
        read_discs(tmp_path / "nothing.json")


# ---- segments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["L5/S1", "L4/L5"])
def test_disc_of_a_sagittal_segment(level: str) -> None:
    mask, matrix = sagittal_mask(level)
    disc, truth = disc_from_segment(mask, matrix, level), true_frame(phantom(), level)
    build = phantom().build.disc(LEVELS[level])
    assert angle_degrees(disc.normal, truth[:3, 2]) < 0.5
    np.testing.assert_allclose(disc.left, [-1, 0, 0], atol=0.1)
    np.testing.assert_allclose(disc.local(truth[:3, 3]), [0, 0, 0], atol=0.6)
    # The mask is 0.8 mm wider than the disc to each side; slices are 4.4 mm apart.
    assert abs(disc.sagittal_depth - 2 * (build.half_width + 0.8)) <= 4.4
    assert len(disc.posterior) * 4.4 == pytest.approx(disc.sagittal_depth, abs=0.2)
    middle = np.argmin(np.abs(disc.local(disc.posterior)[:, 0]))
    border = phantom().frame.to_ras(0, -17 + 1.6 - 0.6, build.s)  # flat towards the canal by 1.6 mm
    np.testing.assert_allclose(disc.posterior[middle] @ disc.back, border @ disc.back, atol=0.7)
    assert (disc.local(disc.posterior)[:, 1] > disc.local(disc.anterior)[:, 1]).all()
    assert disc.facts["flatness"] < 0.2 and "warning" not in disc.facts
    assert json.loads(json.dumps(disc.to_dict())) == disc.to_dict()
    assert disc.height == pytest.approx(build.height + 0.6, abs=0.5)


def test_segment_on_axial_voxels_and_a_sagittal_series() -> None:
    truth = true_frame(phantom(), "L5/S1")
    steps = np.array([-0.8, 0, 0]), np.array([0, -0.8, 0]), np.array([0, 0, 3.0])
    shape = (17, 64, 80)
    matrix = grid_around(truth[:3, 3], *steps, shape)
    mask = disc_mask(phantom(), "L5/S1", matrix, shape)
    series = stack_of(*sagittal_mask())
    disc = disc_from_segment(mask, matrix, "L5/S1", sagittal=series)
    assert angle_degrees(disc.normal, truth[:3, 2]) < 1.5, "tilted by 30 degrees on slices 3 mm apart"
    # Intersections lie in sagittal slices, and their depth counts in these slices' spacing.
    away = np.abs(disc.posterior[:, None, 0] - series.ijk_to_ras[None, :, 0, 3]).min(axis=1)
    assert away.max() < 1e-6
    assert disc.sagittal_depth == pytest.approx(4.4 * len(disc.posterior), abs=1e-6)
    assert disc.series_depth == pytest.approx(15 * 4.4)


def test_a_disc_turns_with_its_segment() -> None:
    mask, matrix = sagittal_mask()
    plain = disc_from_segment(mask, matrix, "L5/S1")
    turn = np.eye(4)
    turn[:3, :3] = rotation(np.array([0.3, 1.0, -0.4]), 14)
    turn[:3, 3] = 20, -30, 40
    turned = disc_from_segment(mask, turn @ matrix, "L5/S1")
    np.testing.assert_allclose(turned.frame, turn @ plain.frame, atol=1e-3)
    np.testing.assert_allclose(turned.posterior, transform_points(turn, plain.posterior), atol=0.3)


def test_end_plates_correct_the_flat_axis() -> None:
    """A disc with a piece at one corner: the axis of smallest variance follows the piece, the end plates do not."""
    k, j, i = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in (30, 60, 72)], indexing="ij")
    body = (np.abs(i / 25) ** 2.3 + np.abs(j / 17) ** 2.3 < 1) & (np.abs(k) < 5)
    spur = (np.abs(j - 15) < 3) & (np.abs(i) < 20) & (k > 0) & (k < 13)
    matrix = grid_around(np.zeros(3), *np.array([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]]), body.shape)
    disc = disc_from_segment(body | spur, matrix, "L5/S1")
    assert disc.facts["refined_degrees"] > 3
    assert disc.tilt_degrees < 1.0
    assert disc.height == pytest.approx(10, abs=0.5)


def test_a_segment_that_is_not_flat_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    k, j, i = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in (36, 44, 52)], indexing="ij")
    ball = (i / 20) ** 2 + (j / 16) ** 2 + (k / 11) ** 2 < 1
    matrix = grid_around(np.zeros(3), *np.array([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]]), ball.shape)
    with caplog.at_level(logging.WARNING, logger="GaussianMRI"):
        disc = disc_from_segment(ball, matrix, "L5/S1")
    assert disc.facts["flatness"] == pytest.approx((11 / 16) ** 2, abs=0.02)
    assert "not flat" in caplog.text and "WARNING" in disc.provenance and "not flat" in disc.facts["warning"]


def test_labels_and_pieces() -> None:
    mask, matrix = sagittal_mask()
    labels = np.where(mask, 100, 0).astype(np.int16)
    labels[:, :4] = 95  # another disc
    plain, found = disc_from_segment(mask, matrix, "L5/S1"), disc_from_segment(labels, matrix, "L5/S1")
    np.testing.assert_allclose(found.frame, plain.frame)
    assert found.facts["label"] == 100
    with pytest.raises(GaussianMRIError, match=r"it has \[1\]. Name the label"):  # whose disc, nobody knows
        disc_from_segment(mask.astype(np.uint8), matrix, "L5/S1")
    other = disc_from_segment(np.where(mask, 7, 0), matrix, "L4/L5", label=7)
    np.testing.assert_allclose(other.frame, plain.frame)
    with pytest.raises(GaussianMRIError, match=r"no 93 for L2/L3; it has \[95, 100\]"):
        disc_from_segment(labels, matrix, "L2/L3")
    pieces = mask.copy()
    pieces[7, 2:5, 2:5] = True
    found = disc_from_segment(pieces, matrix, "L5/S1")
    np.testing.assert_allclose(found.frame, plain.frame)
    assert found.facts["dropped_share"] == pytest.approx(9 / pieces.sum(), abs=1e-4)
    for bad, message in (
        (np.zeros_like(mask), "empty"),
        (mask & (np.arange(15) == 7)[:, None, None], "too few"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            disc_from_segment(bad, matrix, "L5/S1")
    with pytest.raises(GaussianMRIError, match="not sagittal"):
        disc_from_segment(mask, matrix, "L5/S1", sagittal=stack_of(mask, matrix[:, [2, 0, 1, 3]]))
    away = matrix.copy()
    away[0, 3] += 200
    with pytest.raises(GaussianMRIError, match="of one study"):
        disc_from_segment(mask, matrix, "L5/S1", sagittal=stack_of(mask, away))


# ---- points and planes -------------------------------------------------------------------------------------


def test_disc_of_points() -> None:
    truth = made_disc(tilt=25)
    a, p = truth.center - 17 * truth.back, truth.center + 17 * truth.back
    left, right = truth.center + 25 * truth.left, truth.center - 25 * truth.left
    disc = disc_from_points(a, p, left, right, "L5-S1")
    np.testing.assert_allclose(disc.frame, truth.frame, atol=1e-9)
    assert disc.sagittal_depth == pytest.approx(50)
    np.testing.assert_array_equal(disc.posterior, [p])
    np.testing.assert_array_equal(disc.anterior, [a])
    lift = np.array([0.0, 0.0, 6.0])
    lower = disc_from_points(a, p, left - lift, right + lift)  # the left is lower
    np.testing.assert_allclose(lower.normal @ (left - right - 2 * lift), 0, atol=1e-9)
    assert lower.normal[0] < -0.1
    line = disc_from_points(a, p, half_width=22)
    np.testing.assert_allclose(line.frame, truth.frame, atol=1e-9)
    assert line.sagittal_depth == 44
    for points, message in (
        ((p, a), "anterior point lies behind"),
        ((a, p, right, left), "left point lies on the patient's right"),
        ((a, p, left), "both"),
        ((a, [1, 2]), "three finite"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            disc_from_points(*points)


def test_disc_of_a_plane() -> None:
    truth = true_frame(phantom(), "L5/S1")
    for flip in (1, -1):  # a plane has no up and down of its own
        plane = ImagePlane.from_normal(truth[:3, 3], flip * truth[:3, 2])
        disc = disc_from_plane(plane, "L5/S1")
        np.testing.assert_allclose(disc.normal, truth[:3, 2], atol=1e-9)
        np.testing.assert_allclose(disc.center, truth[:3, 3], atol=1e-9)
        assert disc.left[0] < -0.9
        assert np.linalg.norm(disc.posterior - disc.anterior) == pytest.approx(34)
    with pytest.raises(GaussianMRIError, match="across the body"):
        disc_from_plane(ImagePlane.from_normal((0, 0, 0), (0, 1, 0)), "L5/S1")


# ---- SpineNet ----------------------------------------------------------------------------------------------


def detections(series: SliceStack, order: np.ndarray, hung: bool = False) -> list[dict]:
    """Vertebrae L5 and S1 around `made_disc(28)`, leaning to the left, in the slices as SpineNet counts them.

    `order[n]` is the slice of the series that is SpineNet's n-th.
    """
    frame = leaning()
    corners = {"L5": (5.5, 30.0), "S1": (-28.0, -5.5)}  # lower and upper face along the normal
    result = []
    for name, (low, high) in corners.items():
        slices, polygons = [], []
        for n, k in enumerate(order):
            lateral = (series.ijk_to_ras[k, 0, 3] - frame[0, 3]) / frame[0, 0]
            if abs(lateral) > 23:
                continue
            local = [
                (-17, high),
                (-17, low),
                (17, low),
                (17, high),
            ]  # front top, front bottom, back bottom, back top
            lt, lb, rb, rt = (
                transform_points(
                    frame, [lateral, b, c * (1.15 if b < 0 else 0.85) if abs(c) < 6 else c]
                )  # a wedge
                for b, c in local
            )
            pixel = [transform_points(np.linalg.inv(series.ijk_to_ras[k]), c)[:2] for c in (rt, rb, lb, lt)]
            slices.append(n)
            polygons.append(np.array(pixel)[[3, 2, 1, 0]] if hung else np.array(pixel))
        result.append({"predicted_label": name, "slice_nos": slices, "polys": polygons})
    return result


def leaning() -> np.ndarray:
    """Frame of a disc whose left is lower by 6 degrees, so that slices in the wrong order show."""
    turn = rotation(np.array([0, 1.0, 0]), -6) @ rotation(np.array([1.0, 0, 0]), -28)
    return disc_frame([2.0, -8.0, 15.0], turn @ [0, 0, 1.0], [-1, 0, 0])


def empty_series() -> SliceStack:
    return stack_of(np.zeros((13, 120, 120)), sagittal_grid(np.array([2.0, -8.0, 15.0]), (13, 120, 120)))


def write_csv(path: Path, rows: list[dict]) -> Path:
    import csv

    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["polys", "average_polygon", "slice_nos", "predicted_label"])
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "average_polygon": np.mean(row["polys"], axis=0)})
    return path


@pytest.mark.parametrize("upwards", [True, False])
def test_spinenet_counts_slices_by_instance_number(tmp_path: Path, upwards: bool) -> None:
    series, truth = empty_series(), leaning()
    numbers = np.arange(1, 14) if upwards else np.arange(13, 0, -1)
    path = write_csv(tmp_path / "verts.csv", detections(series, np.argsort(numbers)))
    disc = read_vert_dicts(path, series, numbers)["L5/S1"]
    assert angle_degrees(disc.normal, truth[:3, 2]) < 0.2
    np.testing.assert_allclose(disc.center, truth[:3, 3], atol=0.5)
    assert len(disc.posterior) == 11 and disc.sagittal_depth == pytest.approx(11 * 4.4)
    np.testing.assert_allclose(disc.local(disc.posterior)[:, 1], 17, atol=0.1)
    np.testing.assert_allclose(disc.local(disc.anterior)[:, 1], -17, atol=0.1)
    assert disc.height == pytest.approx(11, abs=0.1) and disc.facts["wedge_degrees"] > 2
    wrong = read_vert_dicts(path, series, numbers[::-1])["L5/S1"]
    assert angle_degrees(wrong.normal, truth[:3, 2]) > 9, "the other order would lean to the other side"


def test_spinenet_json_and_images_that_hang_the_other_way(tmp_path: Path) -> None:
    series = empty_series()
    source = SliceStack(
        series.pixels,
        series.ijk_to_ras,
        series.slice_thickness,
        source={"slice_instance_numbers": list(range(13))},
    )
    rows = [{**row, "polys": np.array(row["polys"]).tolist()} for row in detections(series, np.arange(13))]
    path = tmp_path / "verts.json"
    path.write_text(json.dumps(rows))
    plain = read_vert_dicts(path, source)["L5/S1"]
    assert angle_degrees(plain.normal, leaning()[:3, 2]) < 0.2
    named = [
        {**row, "polys": [dict(zip(("rt", "rb", "lb", "lt"), p, strict=True)) for p in row["polys"]]}
        for row in rows
    ]
    path.write_text(json.dumps({row.pop("predicted_label"): row for row in named}))
    np.testing.assert_allclose(read_vert_dicts(path, source)["L5/S1"].frame, plain.frame, atol=1e-9)
    rows = [
        {**r, "polys": np.array(r["polys"]).tolist()} for r in detections(series, np.arange(13), hung=True)
    ]
    path.write_text(json.dumps(rows))
    np.testing.assert_allclose(read_vert_dicts(path, source)["L5/S1"].frame, plain.frame, atol=1e-9)


def test_what_spinenet_did_not_write_is_refused(tmp_path: Path) -> None:
    series, numbers = empty_series(), np.arange(1, 14)
    rows = [{**r, "polys": np.array(r["polys"]).tolist()} for r in detections(series, np.arange(13))]
    path = tmp_path / "verts.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(GaussianMRIError, match="InstanceNumber, which is not known"):
        read_vert_dicts(path, series)
    with pytest.raises(GaussianMRIError, match="made from another series"):
        read_vert_dicts(path, series.subset(range(5)), numbers[:5])
    for content, message in (
        ([{"predicted_label": "L5"}], "not an export"),
        ([{**rows[0], "slice_nos": [1]}], "polygons for 1 slices"),
        ([{**rows[0], "polys": [p[:3] for p in rows[0]["polys"]]}], "corners rt, rb, lb, lt"),
        ([{**rows[0], "polys": [[p[1], p[0], p[3], p[2]] for p in rows[0]["polys"]]}], "upper corners below"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(GaussianMRIError, match=message) as caught:
            read_vert_dicts(path, series, numbers)
        assert str(path) in str(caught.value)
    path.write_text(json.dumps(rows[:1]))
    assert read_vert_dicts(path, series, numbers) == {}, "one vertebra makes no disc"
    with pytest.raises(GaussianMRIError, match="cannot be read"):
        read_vert_dicts(tmp_path / "nothing.csv", series, numbers)


# ---- label coordinates -------------------------------------------------------------------------------------


def marks(noise: float = 0.0, draw: int = 0) -> dict[tuple[str, str], np.ndarray]:
    """Points as the data set's readers would place them on a phantom."""
    generator = np.random.default_rng(draw)
    found = {}
    for level, name in LEVELS.items():
        s = phantom().build.disc(name).s
        places = {CANAL: (0, -24.5)}
        for side, sign in (("left", -1), ("right", 1)):
            places[f"{side}_subarticular_stenosis"] = (sign * 10, -22)
            places[f"{side}_neural_foraminal_narrowing"] = (sign * 19, -20)
        for condition, (u, v) in places.items():
            found[condition, level] = phantom().frame.to_ras(u, v, s) + generator.normal(0, noise, 3)
    return found


@functools.cache
def sagittal_scan() -> SliceStack:
    """Five sagittal slices around the phantom's L5/S1 and L4/L5 discs."""
    middle = phantom().frame.to_ras(0, -4, 12)
    planes = ImagePlane.from_axes(
        middle, [0, -1, 0], [0, 0, -1], spacing=(1.0, 1.0), shape=(118, 84), thickness=4.0
    ).stack(5, 4.4)
    pixels = acquire(phantom(), Scan("sagittal", tuple(planes), noise=0.02, samples=3))
    return SliceStack.from_array(pixels, np.stack([p.ijk_to_ras for p in planes]), thickness=4.0, name="sagittal")


@pytest.mark.parametrize(("level", "canal", "refined"), [("L5/S1", 10.0, 2.0), ("L4/L5", 5.0, 2.5)])
def test_label_coordinates(level: str, canal: float, refined: float) -> None:
    truth = true_frame(phantom(), level)
    for draw in range(3):
        points = marks(noise=1.0, draw=draw)
        coarse = disc_from_coordinates(points, sagittal_scan(), level, refine=False)
        fine = disc_from_coordinates(points, [sagittal_scan()], level)
        assert angle_degrees(coarse.normal, truth[:3, 2]) < canal, draw
        assert angle_degrees(fine.normal, truth[:3, 2]) < refined, draw
        assert abs(fine.local(truth[:3, 3])[2]) < 0.7, "between the end plates"
        # From marrow to marrow: the plates are hollow by some 1.5 mm and each 0.9 mm thick.
        assert fine.height == pytest.approx(phantom().build.disc(LEVELS[level]).height + 3.0, abs=1.0)
    assert "end plates" in fine.provenance and "end plates" not in coarse.provenance
    back = disc_from_coordinates(marks(), sagittal_scan(), level).posterior[0]
    border = phantom().frame.to_ras(0, -16, phantom().build.disc(LEVELS[level]).s)
    assert np.linalg.norm(back - border) < 3.0


def test_a_bright_nucleus_is_not_taken_for_marrow(shared_data: Path) -> None:
    """A real scan, L2/L3: nucleus three times as bright as marrow. End plates read off the image by hand."""
    from GaussianMRILib import read_stacks

    volume = read_stacks(shared_data / "mr_spine" / "sct_lumbar_t2_1mm.nii.gz")[0]
    matrix = volume.grid()
    assert matrix is not None

    def place(j: float, row_from_top: float) -> np.ndarray:
        return transform_points(matrix, [27, j, 200 - row_from_top])

    turned = np.eye(4)
    turned[:3, :3] = np.stack([-matrix[:3, 1], -matrix[:3, 2], matrix[:3, 0]], axis=1)
    turned[:3, 3] = transform_points(matrix, [0, 256, 200])
    pixels = np.transpose(volume.pixels, (2, 0, 1))[:, ::-1, ::-1]
    sagittal = SliceStack.from_array(pixels, turned, thickness=1.0, name="sagittal")
    canal = {"L1/L2": (80, 99.5), "L2/L3": (86, 131.5), "L3/L4": (92.5, 164)}
    by_hand = {
        "L1/L2": ((462, 388), (357, 400)),
        "L2/L3": ((488, 519), (381, 531)),
        "L3/L4": ((512, 654), (402, 660)),
    }
    points = {(CANAL, level): place(*where) for level, where in canal.items()}
    for level, ends in by_hand.items():
        hand = disc_from_points(*(place(x / 4, y / 4) for x, y in ends), level=level)
        disc = disc_from_coordinates(points, sagittal, level)
        assert angle_degrees(disc.normal, hand.normal) < 4.5, level
        assert abs(disc.local(hand.center)[2]) < 2.0, level
        assert 7 < (disc.height or 0) < 12, level


def test_label_coordinates_that_cannot_be() -> None:
    points = marks()
    with pytest.raises(GaussianMRIError, match="at least one other"):
        disc_from_coordinates({k: v for k, v in points.items() if k[1] == "L5/S1"}, [], "L5/S1")
    with pytest.raises(GaussianMRIError, match="at least one other"):
        disc_from_coordinates({k: v for k, v in points.items() if k[1] != "L5/S1"}, [], "L5/S1")
    names = ("left_subarticular_stenosis", "L5/S1"), ("right_subarticular_stenosis", "L5/S1")
    swapped = points | {names[0]: points[names[1]], names[1]: points[names[0]]}
    with pytest.raises(GaussianMRIError, match="exchanged"):
        disc_from_coordinates(swapped, [], "L5/S1")


def test_label_coordinates_without_an_image(caplog: pytest.LogCaptureFixture) -> None:
    points, truth = marks(), true_frame(phantom(), "L5/S1")
    with caplog.at_level(logging.WARNING, logger="GaussianMRI"):
        disc = disc_from_coordinates(points, [], "L5/S1")
    assert "no end plates" in caplog.text and "no end plates" in disc.facts["warning"]
    assert angle_degrees(disc.left, truth[:3, 0]) < 0.5, "the left-right line alone"
    only = {k: v for k, v in points.items() if k[0] == CANAL or k[1] != "L5/S1"}
    np.testing.assert_allclose(disc_from_coordinates(only, [], "L5/S1").left[1], 0, atol=0.05)
    twice = points | {(CANAL, "L5/S1"): np.stack([points[CANAL, "L5/S1"]] * 2)}
    np.testing.assert_allclose(disc_from_coordinates(twice, [], "L5/S1").frame, disc.frame)
