import ctk
import qt
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from GaussianMRIPanelLib.observing import NodesObserver


class Panel(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """A module's panel: its widgets, the events of the scene, and the parameter node that both are connected to.

    A module overrides what is empty here, and calls the rest where it adds to it.
    """

    #: Class of the module's logic.
    LOGIC = None
    #: The label with what has to be said first.
    NOTICE = "researchLabel"
    #: Path fields, the parameter of each, and what it asks for: `Dirs` or `Files`.
    PATHS = ()
    #: Checkable lists of nodes and the parameter of each.
    CHECKED = ()

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._parametersObserver = NodesObserver(self.onParametersChanged, "ModifiedEvent")

    def setup(self):
        """Load the widgets and connect them to the scene; `initializeParameterNode` follows when all is there."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath(f"UI/{self.moduleName}.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        if hasattr(self.ui, "fieldSelector"):
            self.ui.fieldSelector.addAttribute("vtkMRMLModelNode", "GaussianMRI.Kind", "field")
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = self.LOGIC()
        notice = self.logic.kernelNotice()
        if notice:
            label = getattr(self.ui, self.NOTICE)
            label.text = f"{notice}\n{label.text}"
        # Nothing may be chosen in a list of nodes while the scene is being filled: such lists are then half filled.
        for event, slot in (
            (slicer.mrmlScene.StartBatchProcessEvent, self.onSceneStartFilling),
            (slicer.mrmlScene.StartImportEvent, self.onSceneStartImport),
            (slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose),
            (slicer.mrmlScene.EndBatchProcessEvent, self.onSceneFilled),
        ):
            self.addObserver(slicer.mrmlScene, event, slot)
        for name, parameter, kind in self.PATHS:
            edit = getattr(self.ui, name)
            edit.filters = getattr(ctk.ctkPathLineEdit, kind)
            # The field's own signal is not emitted when it becomes empty.
            edit.comboBox().connect("editTextChanged(QString)", self._setter(parameter))
        for name, parameter in self.CHECKED:
            selector = getattr(self.ui, name)
            selector.connect("checkedNodesChanged()", self._checkedSetter(selector, parameter))

    def connectButtons(self, *slots):
        """Pairs of a button and what a click on it calls."""
        for button, slot in slots:
            button.connect("clicked(bool)", slot)

    def cleanup(self):
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self.setParameterNode(None)

    # Scene

    def releaseScene(self):
        """Hold no node, and give the views back: another scene comes, or nodes are added to this one."""

    def forgetScene(self):
        """The scene is being closed: what was said about it is wiped away. Its jobs end by themselves."""

    def onSceneStartFilling(self, caller, event):
        self.setParameterNode(None)

    def onSceneStartImport(self, caller, event):
        self.setParameterNode(None)
        self.releaseScene()

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)
        self.forgetScene()
        self.releaseScene()

    def onSceneFilled(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    # Parameters

    @property
    def parameters(self):
        """The parameter node that the panel is connected to; None where the module is not shown."""
        return self._parameterNode

    def setDefaults(self, parameters):
        """Fill in what the user has not chosen."""

    def initializeParameterNode(self):
        """Take the scene's parameter node, with defaults where the user has chosen nothing."""
        self.setParameterNode(self.logic.getParameterNode())
        self.setDefaults(self._parameterNode)

    def setParameterNode(self, parameterNode):
        self._parametersObserver.observe([])
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
        self._parameterNode = parameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            # The node and not its wrapper: every wrapper that stays alive reads all parameters anew at every change.
            self._parametersObserver.observe([self._parameterNode.parameterNode])
        self.onParametersChanged()

    def onParametersChanged(self, caller=None, event=None):
        """Show the parameters that have no connector of Slicer's, then all that depends on parameters."""
        if self._parameterNode is not None:
            for name, parameter, _kind in self.PATHS:
                edit, path = getattr(self.ui, name), getattr(self._parameterNode, parameter)
                if edit.currentPath != path:
                    edit.currentPath = path
            for name, parameter in self.CHECKED:
                self._check(getattr(self.ui, name), getattr(self._parameterNode, parameter))
        self.showParameters(self._parameterNode)

    def showParameters(self, parameters):
        """Bring buttons, texts and views up to date; None: the panel is connected to no parameter node."""

    def _setter(self, parameter):
        def write(value):
            if self._parameterNode:
                setattr(self._parameterNode, parameter, value)

        return write

    def _checkedSetter(self, selector, parameter):
        write = self._setter(parameter)

        def onChecked():
            write(list(selector.checkedNodes()))

        return onChecked

    @staticmethod
    def _check(selector, nodes):
        """Tick these nodes, and no others, in a checkable list."""
        blocked = selector.blockSignals(True)
        present = [node for node in nodes if node]
        for node in selector.checkedNodes():
            if node not in present:
                selector.setCheckState(node, qt.Qt.Unchecked)
        for node in present:
            selector.setCheckState(node, qt.Qt.Checked)
        selector.blockSignals(blocked)
