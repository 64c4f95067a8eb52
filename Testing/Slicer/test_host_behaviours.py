"""The stand-in does what Slicer, CTK and Qt do where a module once relied on something else; README.md has the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)

import slicer


def selector(kind: str, node_class: str = "vtkMRMLModelNode") -> Any:
    made = getattr(slicer, kind)()
    made.nodeTypes = [node_class]
    made.setMRMLScene(slicer.mrmlScene)
    return made


def test_a_list_of_nodes_must_not_be_touched_while_the_scene_is_filled(app: Any) -> None:
    """qMRMLSceneModel::onMRMLSceneNodeAdded returns while the scene IsBatchProcessing; onMRMLSceneEndBatchProcess
    empties the model and fills it again (qMRMLSceneModel.cxx)."""
    scene = app.scene
    one, several = selector("qMRMLNodeComboBox"), selector("qMRMLCheckableNodeComboBox")
    seen = []
    scene.AddObserver(scene.EndBatchProcessEvent, lambda *_: seen.append(one.nodeCount()))
    for state in (scene.BatchProcessState, scene.ImportState):
        before = one.nodeCount()
        scene.StartState(state)
        node = scene.AddNewNodeByClass("vtkMRMLModelNode", "late")
        assert one.nodeCount() == before
        with pytest.raises(RuntimeError, match="being filled"):
            one.setCurrentNode(node)
        with pytest.raises(RuntimeError, match="being filled"):
            several.setCheckState(node, 2)
        scene.EndState(state)
        assert seen[-1] == before + 1  # the lists are full again when a module hears of it
        one.setCurrentNode(node)
        assert one.currentNode() is node


@pytest.mark.parametrize(
    ("filters", "kind"), [(None, "Open"), ("Dirs", "Folder"), ("Files", "Open"), ("Files Writable", "Save")]
)
def test_a_path_field_opens_the_dialog_of_its_filters(app: Any, filters: str | None, kind: str) -> None:
    """ctkPathLineEdit::browse; its filters are all entries at first."""
    import ctk

    edit = ctk.ctkPathLineEdit()
    edit.nameFilters = ["Models (*.ply)"]
    if filters:
        edit.filters = sum(getattr(ctk.ctkPathLineEdit, name) for name in filters.split())
    app.answers.append("/somewhere/model.ply")
    edit.browse()
    assert app.messages[-1].icon == kind and edit.currentPath == "/somewhere/model.ply"
    assert ("*.ply" in app.messages[-1].detail) == (kind != "Folder")


def test_a_path_field_that_becomes_empty_says_nothing(app: Any) -> None:
    """ctkPathLineEdit::updateHasValidInput emits currentPathChanged for acceptable input only, and its validator's
    expression is ".+" without name filters. The text field within tells of every change."""
    import ctk

    edit = ctk.ctkPathLineEdit()
    paths, valid, texts = [], [], []
    edit.connect("currentPathChanged(QString)", paths.append)
    edit.connect("validInputChanged(bool)", valid.append)
    edit.comboBox().connect("editTextChanged(QString)", texts.append)
    edit.currentPath = "/a"
    edit.currentPath = ""
    assert paths == ["/a"] and valid == [True, False] and texts == ["/a", ""]
    edit.nameFilters = ["Models (*.ply)"]
    edit.currentPath = "/a/b.txt"
    assert paths == ["/a"]


def test_a_table_reaches_the_table_views_that_there_are(app: Any) -> None:
    """vtkMRMLApplicationLogic::PropagateTableSelection goes over the scene's table view nodes; the layout makes them."""
    table = app.scene.AddNewNodeByClass("vtkMRMLTableNode", "facts")
    logic, manager = slicer.app.applicationLogic(), slicer.app.layoutManager()
    logic.GetSelectionNode().SetActiveTableID(table.GetID())
    logic.PropagateTableSelection()
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView)
    view = manager.tableWidget(0).mrmlTableViewNode()
    assert view.GetTableNode() is None
    logic.PropagateTableSelection()
    assert view.GetTableNode() is table


def test_the_wheel_moves_a_slice_within_its_volume_only(app: Any) -> None:
    """vtkMRMLSliceIntersectionWidget::MoveSlice refuses an offset outside GetSliceBounds; the step is that of the volume
    or, where the slice node prescribes one, its own. This is Slicer's own code, of slicer-core."""
    from mrml_scenes import bright_point

    volume = bright_point(app.scene)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    logic = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
    bounds = [0.0] * 6
    logic.GetSliceBounds(bounds)
    before = logic.GetSliceOffset()
    app.view("Red").wheel(1)
    assert abs(logic.GetSliceOffset() - before) == pytest.approx(logic.GetLowestVolumeSliceSpacing()[2])
    app.view("Red").wheel(50)
    assert bounds[4] <= logic.GetSliceOffset() <= bounds[5]
    logic.GetSliceNode().SetSliceSpacingModeToPrescribed()
    logic.GetSliceNode().SetPrescribedSliceSpacing(1, 1, 0.25)
    before = logic.GetSliceOffset()
    app.view("Red").wheel(-2)
    assert abs(logic.GetSliceOffset() - before) == pytest.approx(0.5)


def test_timers_fire_while_events_are_processed_within_a_slot(app: Any) -> None:
    """QCoreApplication::processEvents runs whatever waits, the caller's own slots included."""
    import qt

    calls: list[str] = []

    def outer() -> None:
        calls.append("begins")
        qt.QTimer.singleShot(0, lambda: calls.append("within"))
        slicer.app.processEvents()
        calls.append("ends")

    qt.QTimer.singleShot(0, outer)
    app.wait(1, until=lambda: "ends" in calls)
    assert calls == ["begins", "within", "ends"]


def test_an_enumeration_is_kept_by_name_and_shown_by_label(app: Any) -> None:
    """EnumSerializer (serializers.py) and QComboBoxToEnumConnector (guiConnectors.py) of Slicer's parameterNodeWrapper.
    Setting a text, as for a Choice, is refused."""
    import enum

    import qt
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    class Effort(enum.Enum):
        little = "A little"
        much = "Much"

        def label(self) -> str:
            return str(self.value)

    body = {"__annotations__": {"effort": Effort}, "effort": Effort.little}
    node = app.scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    node.SetParameter("effort", "much")  # as a Choice of version 0.1 wrote it
    wrapped = parameterNodeWrapper(type("Parameters", (), body))(node)
    assert wrapped.effort is Effort.much
    box = qt.QComboBox()
    wrapped.connectParametersToGui({"effort": box})
    assert [box.itemText(n) for n in range(box.count)] == ["A little", "Much"] and box.currentText == "Much"
    box.currentIndex = 0
    assert wrapped.effort is Effort.little and node.GetParameter("effort") == "little"
    with pytest.raises(TypeError):
        wrapped.effort = "much"


def test_a_scene_is_saved_and_loaded_with_its_data(app: Any, tmp_path: Path) -> None:
    """qSlicerSceneBundle writer and reader through slicer.util; every node with data gets a file."""
    from mrml_scenes import bright_point

    bright_point(app.scene, name="kept")
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    app.scene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert slicer.util.arrayFromVolume(slicer.util.getNode("kept")).max() > 0
