"""Localisers beside scans: known by their Image Type, or by planes at right angles and the name of their series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_files import image, save, series

from GaussianMRILib.stacks import read_stacks

NOISE = np.random.default_rng(4).integers(1, 200, (6, 5)).astype(np.uint16)


def test_localisers_are_left_out_unless_alone_or_asked_for(tmp_path: Path) -> None:
    series(tmp_path / "scan")
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesInstanceUID": "7.7", "SeriesNumber": 1}
    series(tmp_path / "scout", count=1, **scout)
    assert [s.shape[0] for s in read_stacks(tmp_path)] == [4]
    assert [s.shape[0] for s in read_stacks(tmp_path, localizers=True)] == [1, 4]
    (alone,) = read_stacks(tmp_path / "scout")
    assert alone.shape[0] == 1 and "one slice" in alone.notes


AXIAL, SAGITTAL, CORONAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)


def about_an_axis(count: int) -> list[tuple[float, ...]]:
    """Planes that turn about the long axis, as bile ducts are scanned."""
    return [(np.cos(a), np.sin(a), 0, 0, 0, -1) for a in np.pi * np.arange(count) / count]


def survey(folder: Path, planes, count: int = 1, **tags) -> None:
    """`count` slices of each plane in one series."""
    folder.mkdir(parents=True, exist_ok=True)
    common = {"SeriesInstanceUID": "7.8", "SeriesNumber": 1, "SeriesDescription": "t2", "EchoTime": 5.0} | tags
    for n, plane in enumerate(planes):
        for k in range(count):
            place = np.cross(plane[:3], plane[3:]) * 10 * k
            save(image(NOISE, place, plane, InstanceNumber=count * n + k, **common), folder / f"s{n}{k}.dcm")


@pytest.mark.parametrize(
    ("planes", "count", "tags", "left_out"),
    [
        ([AXIAL, SAGITTAL, CORONAL], 1, {}, True),
        ([SAGITTAL, CORONAL], 1, {"SeriesDescription": "AAHScout"}, True),
        ([SAGITTAL, CORONAL], 1, {"SeriesDescription": "MRCP thick slab"}, False),
        ([AXIAL, SAGITTAL, CORONAL], 3, {"SeriesDescription": "3-plane Localizer"}, True),
        ([AXIAL, SAGITTAL, CORONAL], 3, {}, False),  # slices of three planes may be a scan
        ([AXIAL], 1, {"SeriesDescription": "survey"}, False),
        ([AXIAL], 4, {"SeriesDescription": "survey"}, False),
        ([AXIAL, (1, 0, 0, 0, 0.866, 0.5), (1, 0, 0, 0, 0.5, 0.866)], 1, {}, False),  # about one axis
        (about_an_axis(3), 1, {}, False),
        (about_an_axis(6), 1, {"SeriesDescription": "MRCP survey"}, False),
        ([AXIAL, SAGITTAL, CORONAL], 1, {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, False),
        ([AXIAL, SAGITTAL, SAGITTAL], 1, {}, False),
    ],
)
def test_localisers_whose_image_type_does_not_say_so(tmp_path: Path, planes, count, tags, left_out, caplog) -> None:
    survey(tmp_path / "survey", planes, count, **tags)
    alone = sum(s.shape[0] for s in read_stacks(tmp_path / "survey"))
    assert alone == len(planes) * count  # nothing beside it
    series(tmp_path / "scan")
    caplog.clear()
    found = sum(s.shape[0] for s in read_stacks(tmp_path))
    assert found == (4 if left_out else 4 + alone)
    assert ("localiser" in caplog.text and "`localizers=True`" in caplog.text and "alone" in caplog.text) == left_out
    assert sum(s.shape[0] for s in read_stacks(tmp_path, localizers=True)) == 4 + alone
    named = [tmp_path / "scan", *(tmp_path / "survey").iterdir()]
    assert sum(s.shape[0] for s in read_stacks(named)) == 4 + alone


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        *((name, True) for name in ("t1_loc_3pl", "t2_haste_loc_bh", "3Plane_Loc SSFSE", "3_plane_loc", "3planeloc")),
        *((name, True) for name in ("3-pl T2* FGRE", "loc", "3 plane", "Survey_MST", "BW_Pilot", "Lokalizer")),
        *((name, False) for name in ("T2 3 plane reformat", "t1_mpr_3plane_MPR", "3D_PLANE", "local shim", "block")),
    ],
)
def test_names_of_localisers(tmp_path: Path, name: str, left_out: bool) -> None:
    survey(tmp_path / "survey", [AXIAL, SAGITTAL, CORONAL], 3, SeriesDescription=name)
    series(tmp_path / "scan")
    assert (len(read_stacks(tmp_path)) == 1) == left_out


def test_planes_of_a_localiser_beside_single_slices_are_read(tmp_path: Path) -> None:
    survey(tmp_path / "a", [AXIAL, SAGITTAL, CORONAL])
    survey(tmp_path / "b", [AXIAL], SeriesInstanceUID="7.9", SeriesNumber=2)
    assert len(read_stacks(tmp_path)) == 4
