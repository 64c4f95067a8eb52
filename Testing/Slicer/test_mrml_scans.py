"""Real scans from the scene to volumes, to a file and back."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import (  # noqa: E402
    Database,
    assert_same_field,
    plane_node,
    put_under,
    rigid,
    rotation,
    volume_node,
)

from GaussianMRILib import mrml, read_stacks  # noqa: E402

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not (SHARED_DATA / "README.md").is_file(), reason="needs the shared scans in ../shared/data"
    ),
]
MOVE = rigid([0.2, 1, 0.4], 12, [7.5, -3.25, 11])


def read_by_slicer(scene: Any, path: Path) -> Any:
    """A volume node as File > Add Data makes it."""
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", path.name.split(".")[0])
    assert storage.ReadData(node)
    scene.RemoveNode(storage)
    node.CreateDefaultDisplayNodes()
    return node


def cervical(scene: Any) -> Any:
    """Axial slices, 5 mm, as they were acquired."""
    return read_by_slicer(scene, SHARED_DATA / "mr_spine" / "sct019_axial_mt0_5mm.nii.gz")


def lumbar(scene: Any) -> Any:
    """Axial slices of 4 mm, the mean of four slices of a real isotropic scan."""
    fine = read_by_slicer(scene, SHARED_DATA / "mr_spine" / "sct_lumbar_t2_1mm.nii.gz")
    affine = mrml.stack_from_volume(fine).grid()
    pixels = slicer.util.arrayFromVolume(fine).astype("f4")
    count = len(pixels) // 4
    thick = affine @ np.diag([1.0, 1, 4, 1])
    thick[:3, 3] += 1.5 * affine[:3, 2]
    scene.RemoveNode(fine)
    return volume_node(
        scene, pixels[: 4 * count].reshape(count, 4, *pixels.shape[1:]).mean(axis=1), thick, "lumbar"
    )


def test_slicer_and_this_library_read_a_file_alike(scene: Any) -> None:
    for name in ("sct019_axial_mt0_5mm", "sct_ms_axial_t2_7p5mm", "sct_lumbar_t2_1mm"):
        path = SHARED_DATA / "mr_spine" / f"{name}.nii.gz"
        ours, theirs = read_stacks(path)[0], mrml.stack_from_volume(read_by_slicer(scene, path))
        # Slicer turns the order of slices round where that makes the voxels right-handed.
        way = slice(None, None, 1 if ours.normal @ theirs.normal > 0 else -1)
        assert np.array_equal(theirs.pixels[way], ours.pixels)
        corners = [np.array([plane.corners() for plane in stack.planes()]) for stack in (theirs, ours)]
        assert np.allclose(corners[0][way], corners[1], atol=1e-3)


@pytest.mark.parametrize("scan", [cervical, lumbar])
@pytest.mark.parametrize("moved", [False, True])
def test_from_scan_to_volumes_to_file_and_back(
    host: Any, tmp_path: Path, scan: Callable[[Any], Any], moved: bool
) -> None:
    scene = host.scene
    volume = scan(scene)
    middle = mrml.stack_from_volume(volume).plane(len(slicer.util.arrayFromVolume(volume)) // 2)
    center = middle.center
    if moved:
        put_under(scene, volume, MOVE)
        center = MOVE[:3, :3] @ center + MOVE[:3, 3]
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    roi.SetCenter(*center)
    roi.SetSize(50, 50, 50)
    field_node = mrml.fit([volume], roi=roi, passes=2, blend=0.5)
    turn = rotation([2, -1, 0.5], 25)
    oblique = plane_node(scene, center, turn @ [1, 0, 0], turn @ [0, 1, 0], (40, 30))
    disc = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "disc")
    disc.SetPlaneType(disc.PlaneType3Points)
    if moved:
        put_under(scene, disc, MOVE)
    for point in ([0, 14, 3], [1, -12, 8], [-13, 3, 5]):
        disc.AddControlPointWorld(*(center + point))
    images = mrml.resample(field_node, [oblique, disc], count=3, step=1.0)
    others = [
        mrml.resample(field_node, oblique, method=method, count=3, step=2.0)
        for method in ("voxel", "spline", "distance")
    ]
    field = mrml.field_from_model(field_node)
    names = {node.GetName(): slicer.util.arrayFromVolume(node).copy() for node in [*images, *others]}
    assert len(names) == 5
    affines = {
        node.GetName(): np.array(mrml.stack_from_volume(node).ijk_to_ras) for node in [*images, *others]
    }
    # The images are of the patient, not empty or flat.
    for name, pixels in names.items():
        assert np.std(pixels) > (0.1 if "distance" in name else 20), name
    previews = [field.render(mrml.plane_from_node(node, spacing=0.8)) for node in (oblique, disc)]

    host.save(tmp_path / "scene.mrb")
    host.close()
    assert scene.GetFirstNodeByName("oblique") is None
    host.load(tmp_path / "scene.mrb")

    find = scene.GetFirstNodeByName
    again = find(field_node_name(volume_name=scan.__name__))
    assert_same_field(mrml.field_from_model(again), field)
    for name, pixels in names.items():
        node = find(name)
        assert np.array_equal(slicer.util.arrayFromVolume(node), pixels), name
        assert np.allclose(mrml.stack_from_volume(node).ijk_to_ras, affines[name], atol=1e-9), name
        assert node.GetNodeReference("GaussianMRI.Field") is again
        assert node.GetNodeReference("GaussianMRI.Source") is again.GetNodeReference("GaussianMRI.Volume")
    assert find("oblique distance").GetDisplayNode().GetColorNodeID() == "vtkMRMLColorTableNodeWarm1"
    assert find("oblique distance").GetVoxelValueUnits().GetCodeValue() == "mm"
    renderer = mrml.resampler(again)
    for name, image in zip(("oblique", "disc"), previews, strict=True):
        seen = renderer.render(mrml.plane_from_node(find(name), spacing=0.8))
        assert seen.shape == image.shape
        both = np.isfinite(seen) & np.isfinite(image)
        assert both.sum() > 0.99 * np.isfinite(image).sum() > 300
        assert np.abs(seen[both] - image[both]).max() < 1e-3 * np.ptp(image[both])
    source = again.GetNodeReference("GaussianMRI.Volume")
    assert (source.GetParentTransformNode() is not None) == moved
    redone = mrml.resample(source, find("oblique"), method="spline", count=3, step=2.0)
    assert np.abs(slicer.util.arrayFromVolume(redone) - names["oblique spline"]).max() < 1


def field_node_name(volume_name: str) -> str:
    return {"cervical": "sct019_axial_mt0_5mm field", "lumbar": "lumbar field"}[volume_name]


@pytest.mark.parametrize(
    "archive, folder",
    [
        ("mr_dicom/adi_ax_fse_t2_2p5mm", "adi_ax_fse_t2_2p5mm"),  # a slice is missing
        ("dicom_quirks/ge_ct_head_tilt_variable_spacing", "ge_ct_tilt_varspacing"),
    ],
)
@pytest.mark.parametrize("acquisition_transform", [True, False])
def test_irregular_series_keep_their_poses(
    scene: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    archive: str,
    folder: str,
    acquisition_transform: bool,
) -> None:
    with tarfile.open(SHARED_DATA / f"{archive}.tar.xz") as content:
        content.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    database = Database(tmp_path / folder)
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    (expected,) = read_stacks(tmp_path / folder, localizers=True)
    node = database.load(scene, acquisition_transform)
    assert (node.GetParentTransformNode() is not None) == acquisition_transform
    (stack,) = mrml.stacks_from_volume(node, poses="dicom")
    way = slice(None) if stack.normal @ expected.normal > 0 else slice(None, None, -1)
    poses = stack.ijk_to_ras[way].copy()
    poses[:, :3, 2] = expected.ijk_to_ras[:, :3, 2]
    assert np.allclose(poses, expected.ijk_to_ras, atol=1e-9)
    # The volume has the padding around a CT as it is stored, the reader gives it the lowest value of all others.
    assert np.array_equal(np.maximum(stack.pixels[way], expected.pixels.min()), expected.pixels)
    if acquisition_transform:
        monkeypatch.delattr(slicer, "dicomDatabase")
        (by_transform,) = mrml.stacks_from_volume(node)
        assert np.allclose(by_transform.ijk_to_ras, stack.ijk_to_ras, atol=1e-4)
