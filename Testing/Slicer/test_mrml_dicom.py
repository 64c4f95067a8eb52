"""Volumes from Slicer's DICOM database: slices keep their own poses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import Database, put_under, put_under_warp, rigid, volume_node  # noqa: E402

from GaussianMRILib import GaussianMRIError, ImagePlane, SliceStack, mrml  # noqa: E402
from GaussianMRILib.phantom.dicom import Study, write_series  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "Python"))
from dicom_files import enhanced, save  # noqa: E402

MOVE = rigid([0.2, 1, 0.4], 33, [7.5, -3.25, 11])
MIDDLE = ImagePlane.from_normal((3, -4, 5), (0.3, -0.2, 1), spacing=(0.8, 0.9), shape=(24, 20), thickness=2.5)
GAPS = {
    "regular": [0.0, 3, 6, 9, 12, 15],
    "a slice missing": [0.0, 3, 6, 12, 15, 18],
    "uneven": [0.0, 1.5, 6, 9, 13, 15],
}


def tilted(offsets: Any) -> list[ImagePlane]:
    """Slices shifted against each other as by a tilted gantry."""
    planes = []
    for mm in offsets:
        shift = np.eye(4)
        shift[:3, 3] = 0.3 * mm * MIDDLE.j_axis
        planes.append(MIDDLE.offset(mm).transformed(shift))
    return planes


def fanned(offsets: Any) -> list[ImagePlane]:
    """Slices turned against each other by less than what Slicer takes for another orientation."""
    return [
        MIDDLE.offset(mm).transformed(rigid([1, 0, 0], 0.05 * n, [0, 0, 0])) for n, mm in enumerate(offsets)
    ]


SERIES: dict[str, list[ImagePlane]] = {name: [MIDDLE.offset(mm) for mm in mms] for name, mms in GAPS.items()}
SERIES["tilted"], SERIES["fanned"] = tilted(GAPS["regular"]), fanned(GAPS["regular"][:4])


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A series on the planes named by the parameter; slice k is noise around (k + 1) / 10."""
    planes = SERIES[getattr(request, "param", "uneven")]
    noise = np.random.default_rng(1).uniform(0, 0.05, (len(planes), *MIDDLE.shape))
    images = noise + (np.arange(len(planes))[:, None, None] + 1) / 10
    (tmp_path / "dicom").mkdir()
    write_series(tmp_path / "dicom", Study("test", 1), 3, planes, images, "T2")
    made = Database(tmp_path / "dicom")
    monkeypatch.setattr(slicer, "dicomDatabase", made, raising=False)
    return made


def by_brightness(stack: SliceStack) -> np.ndarray:
    """The corners of every slice in the order they were made."""
    planes = np.array([plane.corners() for plane in stack.planes()])
    return planes[np.argsort(stack.pixels.mean(axis=(1, 2)))]


def corners(planes: list[ImagePlane], matrix: np.ndarray | None = None) -> np.ndarray:
    moved = np.eye(4) if matrix is None else matrix
    return np.array([plane.corners() for plane in planes]) @ moved[:3, :3].T + moved[:3, 3]


@pytest.mark.parametrize("acquisition_transform", [True, False])
@pytest.mark.parametrize("database", list(SERIES), indirect=True)
def test_slices_have_the_poses_of_their_files(
    scene: Any, database: Database, request: pytest.FixtureRequest, acquisition_transform: bool
) -> None:
    series = request.node.callspec.params["database"]
    node = database.load(scene, acquisition_transform)
    irregular = series not in ("regular", "tilted")
    assert (node.GetParentTransformNode() is not None) == (acquisition_transform and irregular)
    if series == "fanned" and not acquisition_transform:
        return  # its last slice is not where the volume has it
    (stack,) = mrml.stacks_from_volume(node, poses="dicom")
    assert np.allclose(by_brightness(stack), corners(SERIES[series]), atol=1e-6)
    assert stack.name == "T2" and set(stack.slice_thickness) == {2.5}
    assert stack.frame_of_reference == Study("test", 1).uid("frame of reference")
    (automatic,) = mrml.stacks_from_volume(node)
    assert np.array_equal(automatic.ijk_to_ras, stack.ijk_to_ras)
    # The pixels are those of the files, in the order of their slices.
    assert stack.source["series_uid"] == Study("test", 1).uid("series T2")
    for pixels, uid in zip(stack.pixels, stack.source["slice_instance_uids"], strict=True):
        stored = pydicom.dcmread(database.fileForInstance(uid)).pixel_array
        assert np.array_equal(pixels, stored)


@pytest.mark.parametrize("database", ["uneven", "fanned"], indirect=True)
def test_an_acquisition_transform_without_its_files_still_says_where_slices_are(
    scene: Any, database: Database, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    planes = SERIES[request.node.callspec.params["database"]]
    node = database.load(scene)
    monkeypatch.delattr(slicer, "dicomDatabase")
    (stack,) = mrml.stacks_from_volume(node)
    assert np.allclose(by_brightness(stack), corners(planes), atol=1e-6)
    assert stack.source == {}
    put_under(scene, node.GetParentTransformNode(), MOVE)
    assert np.allclose(by_brightness(mrml.stack_from_volume(node)), corners(planes, MOVE), atol=1e-6)


@pytest.mark.parametrize("acquisition_transform", [True, False])
def test_linear_transforms_above_are_applied(
    scene: Any, database: Database, acquisition_transform: bool
) -> None:
    node = database.load(scene, acquisition_transform)
    put_under(scene, node.GetParentTransformNode() or node, MOVE)
    (stack,) = mrml.stacks_from_volume(node, poses="dicom")
    assert np.allclose(by_brightness(stack), corners(SERIES["uneven"], MOVE), atol=1e-6)
    # What is elsewhere now is no longer in the scanner's frame of reference.
    assert stack.frame_of_reference is None and "00200052" not in stack.source["attributes"]
    assert "00100020" in stack.source["attributes"] and stack.thickness == pytest.approx(2.5)


def test_edited_pixels_count(scene: Any, database: Database) -> None:
    node = database.load(scene)
    slicer.util.arrayFromVolume(node)[:] = slicer.util.arrayFromVolume(node) // 2
    (stack,) = mrml.stacks_from_volume(node, poses="dicom")
    (original,) = mrml.stacks_from_series(Study("test", 1).uid("series T2"))
    assert np.array_equal(np.sort(stack.pixels, axis=None), np.sort(original.pixels // 2, axis=None))


def test_a_volume_that_is_no_longer_what_was_loaded_has_its_own_poses(scene: Any, database: Database) -> None:
    hardened = database.load(scene, False, "hardened")
    put_under(scene, hardened, MOVE, harden=True)
    stretched = database.load(scene, False, "stretched")
    stretched.SetSpacing(*np.multiply(stretched.GetSpacing(), [1, 1, 1.1]))
    cropped = database.load(scene, False, "cropped")
    slicer.util.updateVolumeFromArray(cropped, slicer.util.arrayFromVolume(cropped)[1:].copy())
    narrow = database.load(scene, False, "narrow")
    slicer.util.updateVolumeFromArray(narrow, slicer.util.arrayFromVolume(narrow)[:, 1:].copy())
    for node, message in (
        (hardened, "'hardened'.* moved or resampled"),
        (stretched, "'stretched'.* moved or resampled"),
        (cropped, "'cropped'.* no longer what was loaded"),
        (narrow, "'narrow'.* moved or resampled"),
    ):
        (stack,) = mrml.stacks_from_volume(node)
        assert np.array_equal(stack.ijk_to_ras, mrml.stack_from_volume(node).ijk_to_ras)
        assert stack.source == {}
        # Where it was moved to is not in the scanner's frame of reference; a part of it is.
        assert (stack.frame_of_reference is not None) == (node is cropped)
        with pytest.raises(GaussianMRIError, match=message):
            mrml.stacks_from_volume(node, poses="dicom")
    assert mrml.stack_from_volume(cropped).thickness == pytest.approx(mrml.stack_from_volume(cropped).spacing)


def test_what_bends_slices_is_refused(scene: Any, database: Database) -> None:
    bent = database.load(scene, False, "bent")
    put_under_warp(scene, bent)
    above = database.load(scene, True, "above")
    put_under_warp(scene, above.GetParentTransformNode())
    for node in (bent, above):
        for poses in mrml.POSES:
            with pytest.raises(GaussianMRIError, match=r"'warp'.*not linear|moved or resampled"):
                mrml.stacks_from_volume(node, poses=poses)


def test_missing_files_are_named(scene: Any, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    node = database.load(scene, False)
    Path(next(iter(database.headers.values())).filename).unlink()
    assert mrml.stacks_from_volume(node)[0].source == {}
    with pytest.raises(GaussianMRIError, match=r"'T2'.* not in Slicer's database; import them again"):
        mrml.stacks_from_volume(node, poses="dicom")
    with pytest.raises(GaussianMRIError, match=r"no series 9.9"):
        mrml.stacks_from_series("9.9")
    with pytest.raises(GaussianMRIError, match="no poses 'best'; choose one of auto, volume, dicom"):
        mrml.stacks_from_volume(node, poses="best")
    monkeypatch.delattr(slicer, "dicomDatabase")
    with pytest.raises(GaussianMRIError, match="no DICOM database"):
        mrml.stacks_from_series("9.9")


@pytest.mark.parametrize("reverse", [False, True])
def test_frames_of_one_file_keep_their_poses(
    scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reverse: bool
) -> None:
    heights = [0.0, 2, 6, 8]
    pixels = np.random.default_rng(0).integers(0, 900, (4, 6, 5)).astype("u2")
    frames = [{"position": (-10, -20, z)} for z in (heights[::-1] if reverse else heights)]
    (tmp_path / "dicom").mkdir()
    save(enhanced(pixels, frames), tmp_path / "dicom" / "frames.dcm")
    database = Database(tmp_path / "dicom")
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    upwards = pixels[::-1] if reverse else pixels
    affine = np.diag([-0.5, -0.75, 8 / 3, 1.0])  # right-handed, from the first to the last frame
    affine[:3, 3] = 10, 20, 0
    node = volume_node(scene, upwards.copy(), affine, "frames")
    node.SetAttribute("DICOM.instanceUIDs", next(iter(database.headers)))
    (stack,) = mrml.stacks_from_volume(node, poses="dicom")
    assert np.allclose(stack.ijk_to_ras[:, 2, 3], heights)
    assert np.array_equal(stack.pixels, upwards)
    assert stack.source["slice_frame_numbers"] == ([4, 3, 2, 1] if reverse else [1, 2, 3, 4])


def test_a_fit_sees_the_slices_where_they_are(scene: Any, database: Database) -> None:
    node = database.load(scene)
    tiny = {"prior": "spline", "passes": 2, "blend": 0.5}
    field = mrml.field_from_model(mrml.fit([node], **tiny))
    origins = sorted(field.slice_poses[:, :3, 3].tolist())
    assert np.allclose(origins, sorted(plane.origin.tolist() for plane in SERIES["uneven"]), atol=1e-6)
    assert field.frame_of_reference == Study("test", 1).uid("frame of reference")
    node.SetAndObserveTransformNodeID(None)
    by_volume = mrml.field_from_model(mrml.fit([node], poses="volume", **tiny))
    assert np.ptp(np.diff(by_volume.slice_poses[:, 2, 3])) < 1e-9  # a regular grid
    assert np.ptp(np.diff(field.slice_poses[:, 2, 3])) > 1
    third = SERIES["uneven"][2]
    for method in ("voxel", "spline"):
        interpolator = mrml.resampler(node, method=method)
        assert np.nanmean(interpolator.render(third)) == pytest.approx(325, abs=8), method


def test_a_series_that_is_not_in_the_scene_is_fitted(scene: Any, database: Database) -> None:
    stacks = mrml.stacks_from_series(Study("test", 1).uid("series T2"))
    assert [stack.name for stack in stacks] == ["SYNTHETIC T2 T2"]
    node = mrml.fit(stacks, scene=scene, prior="spline", passes=2, blend=0.5)
    assert node.GetName() == "SYNTHETIC T2 T2 field" and node.GetScene() is scene
    assert len(mrml.field_from_model(node).slice_poses) == 6
