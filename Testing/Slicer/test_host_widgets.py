"""The host's MRML widgets follow a real scene, as Slicer's do."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="needs PySide6_Essentials", exc_type=ImportError)

import slicer


def add(name: str, kind: str = "vtkMRMLScalarVolumeNode") -> Any:
    return slicer.mrmlScene.AddNewNodeByClass(kind, name)


def names(combo: Any) -> list[str]:
    return [node.GetName() for node in combo.nodes()]


@pytest.fixture
def combo(app: Any) -> Any:
    """A combo box of scalar volumes with its scene."""
    made = slicer.qMRMLNodeComboBox()
    made.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    made.addEnabled = made.removeEnabled = False
    made.setMRMLScene(slicer.mrmlScene)
    return made


def test_nodes_that_come_go_and_change_their_names(combo: Any) -> None:
    first, second = add("first"), add("second")
    add("a plane", "vtkMRMLMarkupsPlaneNode")
    assert names(combo) == ["first", "second"] and combo.nodeCount() == 2
    assert combo.currentNode() is first  # the first node of an empty list without "None" is chosen
    first.SetName("renamed")
    assert names(combo) == ["renamed", "second"]
    slicer.mrmlScene.RemoveNode(first)
    assert names(combo) == ["second"] and combo.currentNode() is second
    slicer.mrmlScene.Clear(False)
    assert names(combo) == [] and combo.currentNode() is None and combo.currentNodeID == ""


def test_none_and_choice(combo: Any) -> None:
    got: list[Any] = []
    combo.noneEnabled = True
    combo.connect("currentNodeChanged(vtkMRMLNode*)", got.append)
    combo.connect("currentNodeChanged(bool)", got.append)
    combo.connect("currentNodeIDChanged(QString)", got.append)
    first = add("first")
    assert combo.currentNode() is None and got == []
    combo.setCurrentNode(first)
    assert got == [first, True, first.GetID()] and combo.currentNodeID == first.GetID()
    combo.setCurrentNode(None)
    assert combo.currentNode() is None and got[3:] == [None, False, ""]
    combo.setCurrentNodeID(first.GetID())
    assert combo.currentNode() is first
    slicer.mrmlScene.RemoveNode(first)
    assert combo.currentNode() is None and got[-3:] == [None, False, ""]


def test_child_classes_and_attributes(combo: Any) -> None:
    labels = add("labels", "vtkMRMLLabelMapVolumeNode")
    assert names(combo) == ["labels"]
    combo.showChildNodeTypes = False
    assert names(combo) == []
    combo.showChildNodeTypes = True
    combo.hideChildNodeTypes = ["vtkMRMLLabelMapVolumeNode"]
    assert names(combo) == []
    combo.hideChildNodeTypes = []
    combo.addAttribute("vtkMRMLScalarVolumeNode", "Kind", "mask")
    assert names(combo) == []
    labels.SetAttribute("Kind", "other")
    assert names(combo) == []
    labels.SetAttribute("Kind", "mask")
    assert names(combo) == ["labels"]


def test_a_list_has_one_attribute_for_each_of_its_types(combo: Any) -> None:
    """qMRMLSortFilterProxyModel: Attributes is a hash by type, and a type that is not listed is refused."""
    volume, model = add("volume"), add("model", "vtkMRMLModelNode")
    combo.addAttribute("vtkMRMLModelNode", "Kind", "field")  # not listed: as if it had not been said
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode", "vtkMRMLModelNode"]
    assert set(names(combo)) == {"volume", "model"}
    combo.addAttribute("vtkMRMLScalarVolumeNode", "Kind", "mask")
    combo.addAttribute("vtkMRMLScalarVolumeNode", "Space")  # takes the other's place; any value will do
    assert names(combo) == ["model"]
    volume.SetAttribute("Space", "")
    assert set(names(combo)) == {"volume", "model"}
    combo.removeAttribute("vtkMRMLScalarVolumeNode", "Kind")
    volume.RemoveAttribute("Space")
    assert names(combo) == ["model"] and model.GetAttribute("Kind") is None
    combo.removeAttribute("vtkMRMLScalarVolumeNode", "Space")
    assert set(names(combo)) == {"volume", "model"}


def test_nodes_made_renamed_and_deleted_by_the_user(app: Any, combo: Any) -> None:
    combo.addEnabled = combo.removeEnabled = combo.renameEnabled = True
    combo.baseName = "Output"
    combo.addAttribute("vtkMRMLScalarVolumeNode", "Kind", "result")
    made: list[Any] = []
    combo.connect("nodeAddedByUser(vtkMRMLNode*)", made.append)
    app.choose(combo, "Create new Volume")
    assert [node.GetName() for node in made] == ["Output"] and combo.currentNode() is made[0]
    assert made[0].GetAttribute("Kind") == "result"
    app.answers.append("Better")
    app.choose(combo, "Rename current Volume")
    assert made[0].GetName() == "Better" and names(combo) == ["Better"]
    app.choose(combo, "Create new Volume")
    assert names(combo) == ["Better", "Output_1"]
    app.choose(combo, "Better")
    assert combo.currentNode() is made[0]
    app.choose(combo, "Delete current Volume")
    assert names(combo) == ["Output_1"] and combo.currentNode() is made[1]
    app.answers.extend(["", "Named"])
    app.choose(combo, "Create new Volume as...")  # given up
    app.choose(combo, "Create new Volume as...")
    assert names(combo) == ["Output_1", "Named"] and combo.currentNode() is made[2] and len(made) == 3
    with pytest.raises(LookupError):
        app.choose(combo, "Create new Model")


def test_a_choice_made_before_the_scene_is_known_is_kept(app: Any) -> None:
    add("first")
    second, combo = add("second"), slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.setCurrentNodeID(second.GetID())
    combo.setMRMLScene(slicer.mrmlScene)
    assert combo.currentNode() is second


def test_misspelt_names_raise(combo: Any) -> None:
    for name in ("nodetypes", "currentnode", "_box", "_scene", "choose"):
        with pytest.raises(AttributeError):
            getattr(combo, name)
    with pytest.raises(AttributeError):
        combo.noneEnable = True
    with pytest.raises(ValueError, match="no signal"):
        combo.connect("currentNodeChanged(vtkMRMLVolumeNode*)", print)


def test_ticked_nodes(app: Any) -> None:
    import qt

    combo, got = slicer.qMRMLCheckableNodeComboBox(), []
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.setMRMLScene(slicer.mrmlScene)
    combo.connect("checkedNodesChanged()", lambda: got.append(combo.checkedNodes()))
    first, second = add("first"), add("second")
    assert combo.noneChecked() and combo.checkedNodes() == ()
    combo.setCheckState(second, qt.Qt.Checked)
    combo.check(first)
    assert got == [(second,), (first, second)] and combo.allChecked()
    assert combo.checkState(first) == qt.Qt.Checked
    slicer.mrmlScene.RemoveNode(first)
    assert combo.checkedNodes() == (second,) and combo.uncheckedNodes() == () and len(got) == 2
    combo.setCheckState(second, qt.Qt.Unchecked)
    assert got[-1] == () and len(got) == 3


def test_segments(app: Any) -> None:
    selector, got = slicer.qMRMLSegmentSelectorWidget(), []
    selector.setMRMLScene(slicer.mrmlScene)
    selector.connect("currentSegmentChanged(QString)", got.append)
    node = add("parts", "vtkMRMLSegmentationNode")
    selector.setCurrentNode(node)
    segment = node.GetSegmentation().AddEmptySegment("disc", "Disc")
    assert selector.currentNode() is node and selector.segmentIDs() == (segment,)
    assert selector.currentSegmentID() == segment and got == [segment]
    node.GetSegmentation().AddEmptySegment("bone", "Bone")
    selector.setCurrentSegmentID("bone")
    assert got == [segment, "bone"]
    node.GetSegmentation().RemoveSegment("bone")
    assert selector.currentSegmentID() == segment
