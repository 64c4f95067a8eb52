"""Warnings on volumes that are about to be fitted together."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import Database, put_under, rigid, volume_node  # noqa: E402

from GaussianMRILib import mrml  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "Python"))
from dicom_files import series  # noqa: E402
from test_stacks_volumes import nifti  # noqa: E402

B = {"SeriesDescription": "B", "SeriesInstanceUID": "5.5"}


def loaded(scene: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, **tags: dict[str, Any]) -> list[Any]:
    """A volume node for each series, named by the keyword, in the database."""
    nodes = []
    for name, attributes in tags.items():
        paths = series(folder / name, **attributes)
        nodes.append((name, paths))
    database = Database(folder)
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    of_file = {str(header.filename): uid for uid, header in database.headers.items()}
    made = []
    for name, paths in nodes:
        node = volume_node(scene, np.zeros((4, 6, 5), np.int16), np.diag([-0.5, -0.75, 4, 1.0]), name)
        node.SetAttribute("DICOM.instanceUIDs", " ".join(of_file[str(path)] for path in paths))
        made.append(node)
    return made


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ({"EchoTime": 20}, "EchoTime 90 and 20 ms"),
        ({"PatientID": "OTHER"}, "another patient"),
        ({"FrameOfReferenceUID": "7.8"}, "another frame of reference"),
    ],
)
def test_volumes_that_do_not_belong_together_are_named(
    scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tags: dict[str, Any], text: str
) -> None:
    common = {"EchoTime": 90}
    nodes = loaded(scene, tmp_path, monkeypatch, axial=common, sagittal=common | B, other=common | B | tags)
    assert mrml.input_warnings(nodes[:2]) == [] and mrml.input_warnings(nodes[2:]) == []
    said = mrml.input_warnings([nodes[0], nodes[2]])
    assert len(said) == 1 and "axial and other do not belong together" in said[0] and text in said[0]
    assert "OTHER" not in said[0]
    if "Frame" in str(tags):  # who moved it knows where it belongs
        put_under(scene, nodes[2], rigid([0, 0, 1], 5, [1, 2, 3]))
        put_under(scene, nodes[0], rigid([0, 0, 1], 5, [1, 2, 3]))
        assert mrml.input_warnings([nodes[0], nodes[2]]) == []


def test_volumes_without_headers_agree(scene: Any) -> None:
    nodes = [volume_node(scene, np.zeros((4, 6, 5), np.int16), np.eye(4), name) for name in "ab"]
    assert mrml.input_warnings(nodes) == []


def test_a_nifti_file_without_orientation_is_named(scene: Any, tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    nifti(path, pixdim=(1, 1, 4), shape=(4, 6, 5))
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    assert storage.ReadData(node)
    node.SetAndObserveStorageNodeID(storage.GetID())
    (said,) = mrml.input_warnings([node])
    assert said.startswith("scan: no orientation")
    assert "no orientation" in mrml.stack_from_volume(node).notes[0] and mrml.stack_from_volume(node).source == {}
    (tmp_path / "scan.json").write_text('{"EchoTime": 0.095}')  # of dcm2niix, by which a fit knows contrasts apart
    assert mrml.stack_from_volume(node).source["contrast"]["echo_time"] == 95


def test_the_panel_says_so(app: Any, panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = loaded(app.scene, tmp_path, monkeypatch, t1={"EchoTime": 9}, t2={"EchoTime": 90} | B)
    panel._parameterNode.inputVolumes = nodes
    assert "t1 and t2 do not belong together: EchoTime 9 and 90 ms" in panel.ui.inputWarningLabel.text
    panel._parameterNode.inputVolumes = nodes[:1]
    assert panel.ui.inputWarningLabel.text == ""
