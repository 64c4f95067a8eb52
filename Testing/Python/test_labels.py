"""Labels on planes and in volumes."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner

import GaussianMRILib as gm
from GaussianMRILib.cli import main
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.labels import LabelFile, LabelResampler, read_labels, write_labels

VOXEL = (0.8, 0.8, 4.0)  # mm


def affine_of(shape, turn=None, voxel=VOXEL, order=(0, 1, 2)):
    """Voxels about the origin; `order` puts the thick axis elsewhere."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(voxel)[:, list(order)]
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return matrix


def drawn(inside, shape=(14, 60, 60), **how):
    """A label map of what is inside, voxel centre by voxel centre, and its matrix."""
    matrix = affine_of(shape, **how)
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    return inside(np.stack([i, j, k], -1) @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.uint8), matrix


def in_volume(resampler, step=0.5, half=20.0):
    """Labels on an isotropic grid, and the places of its voxels."""
    count = int(2 * half / step)
    planes = [
        ImagePlane.from_axes((0.13, 0.07, z), (1, 0, 0), (0, 1, 0), spacing=(step, step), shape=(count, count))
        for z in (np.arange(count) - (count - 1) / 2) * step
    ]
    return np.stack([resampler.render(p) for p in planes]), np.stack([p.points() for p in planes])


def turned(degrees=25.0):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@pytest.mark.parametrize("offset", [0.0, 1.7])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_sphere_on_thick_slices_keeps_its_volume_and_becomes_rounder(offset, order):
    """12 mm in radius on slices of 4 mm: the volume is right to 4 % and no worse than that of the voxels drawn; the outline
    is nearer to the sphere than that of the nearest voxels."""

    def ball(x):
        return ((x - [0, 0, offset]) ** 2).sum(-1) <= 144

    shape = tuple(np.array((14, 60, 60))[[(2 - axis) for axis in order]][::-1]) if order != (0, 1, 2) else (14, 60, 60)
    labels, matrix = drawn(ball, shape, turn=turned(), order=order)
    painted = labels.sum() * np.prod(VOXEL)
    overlap = {}
    for boundaries in ("smooth", "nearest"):
        found, places = in_volume(LabelResampler(labels, matrix, boundaries=boundaries))
        truth = ball(places)
        volume = (found > 0).sum() * 0.125
        assert volume == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.04), boundaries
        assert volume == pytest.approx(painted, rel=0.03), boundaries
        overlap[boundaries] = 2 * (truth & (found > 0)).sum() / (truth.sum() + (found > 0).sum())
    assert overlap["smooth"] > 0.95 and overlap["smooth"] > overlap["nearest"] + 0.015, overlap


@pytest.mark.parametrize(("width", "share"), [(1, 0.6), (3, 0.9), (10, 0.98)])
def test_a_label_on_one_slice_only_is_as_thick_as_the_slices_are_apart(width, share):
    labels = np.zeros((9, 40, 40), np.uint8)
    labels[4, 15 : 15 + width, 15 : 15 + width] = 7
    matrix = affine_of(labels.shape)
    found, _ = in_volume(LabelResampler(labels, matrix), 0.25, 10.0)
    there = np.flatnonzero((found == 7).any(axis=(1, 2)))
    assert len(there) * 0.25 == pytest.approx(4.0, abs=0.26)
    assert (found == 7).sum() * 0.25**3 > share * width**2 * np.prod(VOXEL)
    assert (found == 7).sum() * 0.25**3 < 1.06 * width**2 * np.prod(VOXEL)


def test_a_lesion_on_one_slice_stays_in_the_organ_that_goes_on():
    labels = np.full((9, 40, 40), 2, np.uint8)
    labels[:, :5] = 0
    labels[4, 15:21, 15:21] = 7
    found, places = in_volume(LabelResampler(labels, affine_of(labels.shape)), 0.25, 10.0)
    assert (found == 7).sum() * 0.25**3 == pytest.approx(36 * np.prod(VOXEL), rel=0.05)
    assert set(np.unique(found)) == {2, 7}  # no gap between them, or above and below
    x, y = places[..., 0], places[..., 1]
    around = (np.abs(x - 0.4 * (2 * 17.5 - 39)) > 3.5) | (np.abs(y - 0.4 * (2 * 17.5 - 39)) > 3.5)
    assert (found[around] == 2).all()


def test_an_outline_moves_between_slices_where_nearest_voxels_step():
    """A tilted cylinder, 8 mm in radius, that moves by 4 mm from slice to slice: cut along its axis it is a band."""
    axis = np.array([1.0, 0.0, 1.0]) / np.sqrt(2)
    labels, matrix = drawn(lambda x: (x**2).sum(-1) - (x @ axis) ** 2 <= 64)
    plane = ImagePlane.from_axes((0, 0, 0), axis, (-axis[2], 0, axis[0]), spacing=(0.25, 0.25), shape=(120, 80))
    worst = {}
    for boundaries in ("smooth", "nearest"):
        image = LabelResampler(labels, matrix, boundaries=boundaries).render(plane) > 0
        edges = np.array([[np.flatnonzero(column)[0], np.flatnonzero(column)[-1]] for column in image.T]) * 0.25
        worst[boundaries] = np.ptp(edges, axis=0).max()
        assert image.sum() * 0.0625 / 20 == pytest.approx(16, abs=0.7)  # mm wide
    assert worst["smooth"] < 1.3 and worst["nearest"] > 2.4, worst


def test_labels_are_where_they_were_on_an_oblique_plane():
    """Three boxes at known places, on a left-handed oblique map; the middle of each is found to a third of a pixel."""
    turn = turned(-18) @ np.diag([1, 1, -1])
    centers = turn @ np.array([[-10, 4, 8.0], [9, -6, 0], [0, 12, -8]]).T

    def boxes(x):
        values = np.zeros(x.shape[:-1], int)
        for n, center in enumerate(centers.T, 1):
            values[np.all(np.abs((x - center) @ turn) <= [4.1, 3.3, 8.0], axis=-1)] = n  # no voxel on a face
        return values

    labels, matrix = drawn(boxes, turn=turn)
    plane = ImagePlane.from_axes(
        centers.mean(axis=1),
        *np.linalg.qr(np.diff(centers, axis=1))[0].T,
        spacing=(0.4, 0.4),
        shape=(140, 140),
    )
    for boundaries in ("smooth", "nearest"):
        image = LabelResampler(labels, matrix, boundaries=boundaries).render(plane)
        assert image.dtype == labels.dtype and set(np.unique(image)) == {0, 1, 2, 3}
        wanted = boxes(plane.points())
        for n in (1, 2, 3):
            found, truth = plane.points()[image == n], plane.points()[wanted == n]
            assert np.linalg.norm(found.mean(axis=0) - truth.mean(axis=0)) < 0.7
            assert len(found) == pytest.approx(len(truth), rel=0.12)
    assert (LabelResampler(labels, matrix).render(plane.offset(60)) == 0).all()


def test_the_map_itself_is_kept_bit_by_bit():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 4, (5, 12, 14)).astype(np.uint16)
    matrix = affine_of(labels.shape)
    planes = [ImagePlane(pose, (12, 14)) for pose in gm.geometry.slice_poses(matrix, 5)]
    for boundaries in ("smooth", "nearest"):
        resampler = LabelResampler(labels, matrix, boundaries=boundaries)
        assert np.array_equal(np.stack([resampler.render(p) for p in planes]), labels), boundaries


def test_what_is_no_label_map_is_refused():
    for labels, boundaries, message in (
        (np.zeros((2, 3, 4)), "smooth", "whole numbers"),
        (np.zeros((3, 4), int), "smooth", "whole numbers"),
        (np.zeros((2, 3, 4), int), "cubic", "no 'cubic' boundaries; choose one of smooth, nearest"),
    ):
        with pytest.raises(gm.GaussianMRIError, match=message):
            LabelResampler(labels, np.eye(4), boundaries=boundaries)

    def stop(part):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        LabelResampler(np.ones((2, 3, 4), int), np.eye(4), progress=stop)


def test_names_of_segments_may_be_in_latin_1(tmp_path):
    """Text of other programs, which SimpleITK reads and cannot write."""
    voxels = np.zeros((4, 20, 20), np.uint8)
    voxels[1:3, 5:15, 5:15] = 1
    path = write_labels(
        tmp_path / "l.seg.nrrd",
        LabelFile(voxels, affine_of(voxels.shape), segments={1: {"Name": "Wirbelkoerper"}}),
    )
    whole = path.read_bytes()
    for name, coding in (("Wirbelk\u00f6rper", "utf-8"), ("Wirbelk\u00f6rper", "latin-1")):
        path.write_bytes(whole.replace(b"Wirbelkoerper", name.encode(coding)))
        read = read_labels(path)
        assert read.segments[1]["Name"] == name
        assert read_labels(write_labels(tmp_path / "o.seg.nrrd", read)).segments[1]["Name"] == name


@pytest.mark.parametrize("value", ["-inf", "1e-320", "one"])
def test_a_segment_whose_label_is_no_number_is_refused_by_name(tmp_path, value):
    path = write_labels(tmp_path / "l.seg.nrrd", LabelFile(np.ones((2, 4, 4), np.uint8), affine_of((2, 4, 4))))
    path.write_bytes(path.read_bytes().replace(b"LabelValue:=1", f"LabelValue:={value}".encode()))
    with pytest.raises(gm.GaussianMRIError, match=r"l\.seg\.nrrd is not a label map"):
        read_labels(path)


SEGMENTS = {
    3: {"ID": "Segment_1", "Name": "L5 vertebra", "Color": "0.1 0.9 0.4", "Tags": "x:y|"},
    8: {"ID": "disc", "Name": "L5-S1", "Color": "1 0 0"},
    9: {"ID": "nothing", "Name": "empty", "Color": "0 0 1"},
}


def test_segments_go_from_file_to_file_with_names_and_colours(tmp_path):
    labels = np.zeros((10, 40, 40), np.uint8)
    labels[2:5, 10:30, 8:30], labels[5, 10:30, 8:30] = 3, 8
    matrix = affine_of(labels.shape, turn=turned())
    source, onto, out = tmp_path / "l.seg.nrrd", tmp_path / "image.nrrd", tmp_path / "o.seg.nrrd"
    write_labels(source, LabelFile(labels, matrix, segments=SEGMENTS))
    again = read_labels(source)
    assert np.array_equal(again.voxels, labels) and np.allclose(again.ijk_to_ras, matrix, atol=1e-9)
    assert {v: {k: entry[k] for k in SEGMENTS[v]} for v, entry in again.segments.items()} == SEGMENTS
    planes = ImagePlane.from_normal((0, 0, 0), (0.2, 0.3, 0.9), spacing=(0.5, 0.5), shape=(70, 80)).stack(3, 1.0)
    gm.write_volume(onto, np.zeros((3, 70, 80)), planes)
    done = CliRunner().invoke(main, ["labels", str(source), "--onto", str(onto), "-o", str(out)])
    assert not done.exit_code and "2 labels on 3 x 70 x 80 voxels" in done.output, done.output
    made = read_labels(out)
    wanted = LabelResampler(labels, matrix)
    assert np.array_equal(made.voxels, np.stack([wanted.render(p) for p in planes]))
    assert np.allclose(made.ijk_to_ras[:3, 3], planes[0].ijk_to_ras[:3, 3], atol=1e-6)
    assert {value: entry["Color"] for value, entry in made.segments.items()} == {
        value: entry["Color"] for value, entry in SEGMENTS.items()
    }
    nearest = tmp_path / "o.nii.gz"
    words = ["labels", str(source), "--onto", str(onto), "-o", str(nearest), "--boundaries", "nearest"]
    done = CliRunner().invoke(main, words)
    assert not done.exit_code and "no place for the segments' names" in done.output, done.output
    stepped = LabelResampler(labels, matrix, boundaries="nearest")
    assert np.array_equal(read_labels(nearest).voxels, np.stack([stepped.render(p) for p in planes]))


def test_what_is_no_file_of_labels_is_refused(tmp_path):
    def write(name, array, **words):
        image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
        for key, text in words.items():
            image.SetMetaData(key, text)
        sitk.WriteImage(image, str(tmp_path / name))

    write("image.nrrd", np.random.default_rng(0).normal(0, 1, (4, 5, 6)))
    write("many.nrrd", np.arange(20 * 20 * 20).reshape(20, 20, 20).astype(np.uint16))
    write("minus.nrrd", np.full((4, 5, 6), -1, np.int16))
    write("layers.seg.nrrd", np.zeros((4, 5, 6), np.uint8), Segment0_Layer="0", Segment1_Layer="1")
    (tmp_path / "text.nrrd").write_text("no")
    for name, message in (
        ("image.nrrd", r"image\.nrrd is an image: labels are whole numbers"),
        ("many.nrrd", r"many\.nrrd is an image: labels are 0 to 65535, and 4096"),
        ("minus.nrrd", r"minus\.nrrd is an image"),
        ("layers.seg.nrrd", r"layers\.seg\.nrrd has segments that overlap"),
        ("text.nrrd", r"text\.nrrd"),
        ("none.nrrd", r"none\.nrrd cannot be read: it does not exist"),
    ):
        with pytest.raises(gm.GaussianMRIError, match=message):
            read_labels(tmp_path / name)
