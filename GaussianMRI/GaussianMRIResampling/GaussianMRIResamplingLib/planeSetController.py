import qt
import slicer
import vtk
from GaussianMRIPanelLib.observing import NodesObserver
from GaussianMRIPanelLib.timing import Later
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

#: Which numbers each kind of planes needs.
NUMBERS = {
    "along": ("step", "size"),
    "radial": ("count", "size"),
    "parallel": ("count", "step"),
    "orthogonal": (),
    "fit": (),
}
POSITION = 4  # the first column of the position


class PlaneSetController(VTKObservationMixin):
    """The sections that make planes of other things, and that list all planes of the scene in a table.

    :param panel: the module's widget.
    """

    running = False

    def __init__(self, panel):
        VTKObservationMixin.__init__(self)
        self._panel = panel
        self._planes = []  # in the table's rows
        events = ("ModifiedEvent", "PointModifiedEvent", "PointPositionDefinedEvent", "TransformModifiedEvent")
        self._planesObserver = NodesObserver(self._schedule, *events)
        self._later = Later()
        self._scheduled = False
        self._kind = None
        ui, table = panel.ui, panel.ui.planesTable
        titles = (_("Name"), _("Axial °"), _("Sagittal °"), _("Coronal °"), _("R mm"), _("A mm"), _("S mm"))
        table.setColumnCount(len(titles))
        table.setHorizontalHeaderLabels(list(titles))
        table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        table.setMinimumHeight(140)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.verticalHeader().hide()
        table.connect("cellChanged(int,int)", self.onCellChanged)
        table.connect("itemSelectionChanged()", self._updateTableButtons)
        ui.setSourceSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onSource)
        for button, slot in (
            (ui.makeSetButton, self.onMake),
            (ui.showPlaneButton, self.onShow),
            (ui.deletePlanesButton, self.onDelete),
        ):
            button.connect("clicked(bool)", slot)
        for event in (slicer.vtkMRMLScene.NodeAddedEvent, slicer.vtkMRMLScene.NodeRemovedEvent):
            self.addObserver(slicer.mrmlScene, event, self._onSceneNode)

    # Planes of other things

    def update(self, parameters):
        """Show what the chosen kind of planes needs; called when anything in the panel has changed."""
        from GaussianMRILib.mrml.plane_series import SERIES

        ui, kind = self._panel.ui, parameters.setKind.name
        if kind != self._kind:
            self._kind = kind
            ui.setSourceSelector.nodeTypes = list(SERIES[kind])
        ui.setCountSpinBox.enabled = "count" in NUMBERS[kind]
        ui.setStepSpinBox.enabled = "step" in NUMBERS[kind]
        ui.setSizeSpinBox.enabled = "size" in NUMBERS[kind]
        chosen = ui.setSourceSelector.currentNode() is not None
        ui.makeSetButton.enabled = chosen
        ui.makeSetButton.toolTip = (
            _("Add the planes to the scene and check them for Resample.")
            if chosen
            else _("Choose what the planes are made of.")
        )
        self._schedule()

    def _onSource(self, node):
        if self._panel.parameters:
            self.update(self._panel.parameters)

    def onMake(self, checked=False):
        parameters = self._panel.parameters
        with slicer.util.tryWithErrorDisplay(_("No planes were made."), waitCursor=True):
            planes = self._panel.logic.addPlanesFrom(
                self._panel.ui.setSourceSelector.currentNode(),
                parameters.setKind.name,
                count=parameters.setCount,
                step=parameters.setStep,
                size=(parameters.setSize, parameters.setSize),
            )
            with slicer.util.NodeModify(parameters):
                parameters.plane = planes[0]
                parameters.outputPlanes = planes

    # Table

    def forget(self):
        """The scene is being closed."""
        self._observe([])

    def end(self):
        self.removeObservers()
        self._later.cancel()
        self._observe([])

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onSceneNode(self, caller, event, node):
        if node is not None and node.IsA("vtkMRMLMarkupsPlaneNode"):
            self._schedule()

    def _schedule(self, caller=None, event=None):
        """Fill the table once the event loop is idle: a plane that is dragged tells of every move."""
        if not self._scheduled:
            self._scheduled = True
            self._later.start(0, self._fill)

    def _observe(self, planes):
        self._planes = planes
        self._planesObserver.observe(planes)

    def _fill(self):
        self._scheduled = False
        if self._panel.parameters is None or slicer.mrmlScene.IsBatchProcessing():
            return  # the panel comes back to it when it is shown, or the scene is filled
        from GaussianMRILib import mrml

        planes = [
            node for node in slicer.util.getNodesByClass("vtkMRMLMarkupsPlaneNode") if not node.GetHideFromEditors()
        ]
        if planes != self._planes:
            self._observe(planes)
        table = self._panel.ui.planesTable
        blocked = table.blockSignals(True)
        table.setRowCount(len(planes))
        for row, facts in enumerate(mrml.plane_rows(planes)):
            numbers = [*facts.angles, *facts.center]
            self._write(row, 0, facts.name, True)
            for column, number in enumerate(numbers, 1):
                placed = number == number  # else NaN
                self._write(row, column, f"{number:.1f}" if placed else "", placed and column >= POSITION)
        table.blockSignals(blocked)
        self._updateTableButtons()

    def _write(self, row, column, text, editable):
        table = self._panel.ui.planesTable
        item = table.item(row, column)
        if item is None:
            item = qt.QTableWidgetItem()
            table.setItem(row, column, item)
        if item.text() != text:
            item.setText(text)
        flags = qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled
        item.setFlags(flags | qt.Qt.ItemIsEditable if editable else flags)

    def _selected(self):
        """Planes of the selected rows."""
        rows = sorted({item.row() for item in self._panel.ui.planesTable.selectedItems()})
        return [self._planes[row] for row in rows if row < len(self._planes) and self._planes[row].GetScene()]

    def _updateTableButtons(self):
        ui, selected = self._panel.ui, self._selected()
        ui.showPlaneButton.enabled = len(selected) == 1 and bool(selected[0].GetIsPlaneValid())
        ui.showPlaneButton.toolTip = (
            _("Make it the plane that the preview follows, and move the other slice views to its middle.")
            if ui.showPlaneButton.enabled
            else _("Choose a plane in the table.")
        )
        ui.deletePlanesButton.enabled = bool(selected)
        ui.deletePlanesButton.toolTip = (
            _("Take the selected planes out of the scene.") if selected else _("Choose planes in the table.")
        )

    def onCellChanged(self, row, column):
        """Somebody typed a name or a position."""
        node, text = self._planes[row], self._panel.ui.planesTable.item(row, column).text().strip()
        if column == 0 and text:
            node.SetName(text)
        elif column >= POSITION:
            try:
                self._panel.logic.movePlane(node, column - POSITION, float(text.replace(",", ".")))
            except ValueError:
                pass  # what is no number is written over
        self._schedule()

    def onShow(self, checked=False):
        (plane,) = self._selected()
        parameters = self._panel.parameters
        parameters.plane = plane
        self._panel.logic.showPlane(plane, parameters.previewView if parameters.preview else None)

    def onDelete(self, checked=False):
        self._panel.logic.removePlanes(self._selected())
