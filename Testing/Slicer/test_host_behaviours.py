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


def test_a_choice_before_the_scene_comes_is_told_of_once(app: Any) -> None:
    """qMRMLNodeComboBox::setMRMLScene keeps its signals back (SceneSwitchingInProgress) and then chooses the node that was
    asked for. Panels give their widgets the scene before parameters are connected to them."""
    first = app.scene.AddNewNodeByClass("vtkMRMLModelNode", "first")
    second = app.scene.AddNewNodeByClass("vtkMRMLModelNode", "second")
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLModelNode"]
    told: list[Any] = []
    box.connect("currentNodeChanged(vtkMRMLNode*)", told.append)
    box.setCurrentNode(second)
    assert box.currentNode() is None and told == [] and not box.enabled
    box.setMRMLScene(slicer.mrmlScene)
    assert told == [second] and box.currentNode() is second and first.GetScene() is app.scene and box.enabled


def test_a_choice_is_told_of_again_when_its_row_or_name_changes(app: Any) -> None:
    """qMRMLNodeComboBox hears QComboBox's currentTextChanged, which Qt 5 emits whenever the row of the item is another."""
    first = app.scene.AddNewNodeByClass("vtkMRMLModelNode", "first")
    second = app.scene.AddNewNodeByClass("vtkMRMLModelNode", "second")
    box = selector("qMRMLNodeComboBox")
    box.setCurrentNode(second)
    told: list[Any] = []
    box.connect("currentNodeChanged(vtkMRMLNode*)", told.append)
    app.scene.RemoveNode(first)
    second.SetName("renamed")
    assert told == [second, second]


def test_a_list_of_nodes_is_told_of_once_when_the_scene_is_closed(app: Any) -> None:
    """qMRMLSceneModel::onMRMLSceneNodeAboutToBeRemoved returns while the scene IsClosing."""
    box = selector("qMRMLNodeComboBox")
    box.noneEnabled = True
    nodes = [app.scene.AddNewNodeByClass("vtkMRMLModelNode", name) for name in "abc"]
    box.setCurrentNode(nodes[1])
    told: list[Any] = []
    box.connect("currentNodeChanged(vtkMRMLNode*)", told.append)
    app.scene.Clear(0)
    assert told == [None] and box.nodeCount() == 0


def test_long_names_make_a_list_wide_unless_it_is_told_not_to(app: Any) -> None:
    """ctkComboBox::recomputeSizeHint takes the widest item for the least width, but for AdjustToMinimumContentsLength...;
    qMRMLNodeComboBox hands the policy on."""
    import qt

    app.scene.AddNewNodeByClass("vtkMRMLModelNode", "a name of " + 60 * "many ")
    wide, narrow = slicer.qMRMLNodeComboBox(), slicer.qMRMLNodeComboBox()
    narrow.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
    for box in (wide, narrow):
        box.nodeTypes = ["vtkMRMLModelNode"]
        box.setMRMLScene(slicer.mrmlScene)
    assert wide.minimumSizeHint.width() > 1000 and narrow.minimumSizeHint.width() < 200


def test_a_slider_rounds_and_tells_while_it_is_moved_only_without_tracking(app: Any) -> None:
    """ctkSliderWidget::changeValue; its spin box keeps two decimals at first."""
    import ctk

    slider = ctk.ctkSliderWidget()
    changed: list[float] = []
    changing: list[float] = []
    slider.connect("valueChanged(double)", changed.append)
    slider.connect("valueIsChanging(double)", changing.append)
    slider.value = 0.336
    assert slider.value == pytest.approx(0.34) and changed == [pytest.approx(0.34)] and changing == []
    slider.tracking = False
    slider.value = 0.5
    assert changing == [0.5] and changed[1:] == [0.5]


def test_an_error_is_shown_and_raised_again_and_the_cursor_given_back(app: Any) -> None:
    """slicer.util.tryWithErrorDisplay, of slicer-core: a slot ends there, since the error goes on to its caller."""
    import qt

    with (
        pytest.raises(ValueError, match="no plane"),
        slicer.util.tryWithErrorDisplay("Not made.", waitCursor=True),
    ):
        assert qt.QApplication.overrideCursor() is not None
        raise ValueError("there is no plane")
    assert qt.QApplication.overrideCursor() is None
    assert len(app.messages) == 1 and "Not made." in app.messages[0].text and "no plane" in app.messages[0].text


def test_a_scene_is_saved_and_loaded_with_its_data(app: Any, tmp_path: Path) -> None:
    """qSlicerSceneBundle writer and reader through slicer.util; every node with data gets a file."""
    from mrml_scenes import bright_point

    bright_point(app.scene, name="kept")
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    app.scene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert slicer.util.arrayFromVolume(slicer.util.getNode("kept")).max() > 0


def test_a_node_that_is_hidden_stays_in_the_lists_until_its_name_changes(app: Any) -> None:
    """qMRMLSceneModel::updateItemFromNode writes the same data, so nothing is filtered again; the node's new name is other
    data, and qMRMLSortFilterProxyModel::filterAcceptsNode then rejects it. Nobody listens to a node that was hidden when
    it was added (OnlyVisibleNodes), and lists with a filter by attributes filter all at every change (invalidate)."""
    plain, filtered = selector("qMRMLNodeComboBox"), selector("qMRMLNodeComboBox")
    filtered.addAttribute("vtkMRMLModelNode", "Kind", "field")

    def names(combo: Any) -> list[str]:
        return [node.GetName() for node in combo.nodes()]

    first, second = (app.scene.AddNewNodeByClass("vtkMRMLModelNode", name) for name in ("first", "second"))
    late = app.scene.CreateNodeByClass("vtkMRMLModelNode")
    late.UnRegister(None)
    late.SetName("late")
    late.SetHideFromEditors(True)
    app.scene.AddNode(late)
    for node in (first, second):
        node.SetAttribute("Kind", "field")
        node.SetHideFromEditors(True)
    assert names(plain) == ["first", "second"] and names(filtered) == []
    plain.setCurrentNode(first)
    first.SetName("renamed")
    assert names(plain) == ["second"] and plain.currentNode() is second
    late.SetHideFromEditors(False)
    late.SetName("still unknown")
    assert names(plain) == ["second"]


def test_the_bar_over_a_slice_view_writes_into_it_what_its_list_falls_back_to(app: Any) -> None:
    """qMRMLSliceControllerWidget: the list follows the composite node with its signals blocked, and writes its own choice
    there, also where the chosen entry was only filtered away."""
    shown, other = (app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in ("shown", "other"))
    widget = slicer.app.layoutManager().sliceWidget("Red")
    background, composite = widget.sliceController().BackgroundComboBox, widget.mrmlSliceCompositeNode()
    composite.SetBackgroundVolumeID(shown.GetID())
    assert background.currentNode() is shown
    app.choose(background, "other")
    assert composite.GetBackgroundVolumeID() == other.GetID()
    composite.SetBackgroundVolumeID(shown.GetID())
    shown.SetHideFromEditors(True)
    assert composite.GetBackgroundVolumeID() == shown.GetID()
    shown.SetName("renamed")
    assert composite.GetBackgroundVolumeID() == other.GetID()
    # What was hidden from the beginning is in no list, and may be shown and renamed.
    hidden = app.scene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
    hidden.UnRegister(None)
    hidden.SetHideFromEditors(True)
    app.scene.AddNode(hidden)
    composite.SetBackgroundVolumeID(hidden.GetID())
    hidden.SetName("renamed, too")
    app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "third")
    app.scene.RemoveNode(other)
    assert background.currentNode() is None and composite.GetBackgroundVolumeID() == hidden.GetID()


def test_a_single_shot_lives_with_what_it_calls_until_the_application_ends(app: Any) -> None:
    """slicerqt.py puts a function of its own in place of qt.QTimer.singleShot: its timers are the module manager's
    children, and nobody deletes them."""
    import gc
    import weakref

    import qt

    class Thing:
        done = False

        def work(self) -> None:
            self.done = True

    thing = Thing()
    before, left = len(slicer.app.moduleManager().children()), weakref.ref(thing)
    qt.QTimer.singleShot(0, thing.work)
    app.wait(0.2)
    assert thing.done
    del thing
    gc.collect()
    assert left() is not None and len(slicer.app.moduleManager().children()) == before + 1


def test_what_was_observed_once_is_kept_until_all_observers_go(app: Any) -> None:
    """slicer.util.VTKObservationMixin has what it observes as keys of a dictionary, which only removeObservers empties."""
    import weakref

    import vtk

    class Wrapper:
        def __init__(self, node: Any) -> None:
            self.AddObserver, self.RemoveObserver = node.AddObserver, node.RemoveObserver

    mixin = slicer.util.VTKObservationMixin()
    wrapper = Wrapper(app.scene.AddNewNodeByClass("vtkMRMLModelNode", "model"))
    left = weakref.ref(wrapper)
    mixin.addObserver(wrapper, vtk.vtkCommand.ModifiedEvent, print)
    mixin.removeObserver(wrapper, vtk.vtkCommand.ModifiedEvent, print)
    del wrapper
    assert left() is not None
    mixin.removeObservers()
    assert left() is None


def test_views_of_other_layouts_stay_and_have_no_order(app: Any) -> None:
    """qMRMLLayoutViewFactory keeps its views by pointers in a QHash, whose order means nothing, and unmaps those that the
    layout does not show."""
    manager, layouts = slicer.app.layoutManager(), slicer.vtkMRMLLayoutNode
    manager.setLayout(layouts.SlicerLayoutDual3DView)
    manager.setLayout(layouts.SlicerLayoutFourUpView)
    views = [manager.threeDWidget(n).mrmlViewNode() for n in range(manager.threeDViewCount)]
    assert [view.GetLayoutName() for view in views] == ["2", "1"]
    assert [bool(view.IsMappedInLayout()) for view in views] == [False, True]
    assert manager.viewWidget(views[1]).mrmlViewNode() is views[1]


def test_a_question_under_the_busy_cursor_raises(app: Any) -> None:
    """tryWithErrorDisplay(waitCursor=True) sets the application's cursor, which dialogs within show, too."""
    app.answers.append("Ok")
    with (
        pytest.raises(AssertionError, match="busy cursor"),
        slicer.util.tryWithErrorDisplay("Not made.", waitCursor=True),
    ):
        slicer.util.confirmOkCancelDisplay("Install?")
    assert slicer.util.confirmOkCancelDisplay("Install?")


def test_start_up_is_told_of_once_and_no_module_is_loaded_before_all_are_made(app: Any) -> None:
    """qSlicerApplicationHelper::postInitializeApplication: instantiateModules, then loadModule for each, then the window,
    whose first showEvent emits startupCompleted."""
    told: list[int] = []
    slicer.app.connect("startupCompleted()", lambda: told.append(1))
    assert not slicer.app.moduleManager().modulesNames()
    app.start()
    assert told == [1] and "Markups" in slicer.app.moduleManager().modulesNames()
    with pytest.raises(RuntimeError, match="already"):
        app.start()
