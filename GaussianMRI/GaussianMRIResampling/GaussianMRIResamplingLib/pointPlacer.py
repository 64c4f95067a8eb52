import slicer
from GaussianMRIPanelLib.placing import startPlacing
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin


class PointPlacer(VTKObservationMixin):
    """Lets the user click three points in the views.

    :param onPlaced: called with the point list once its third point is there.
    """

    def __init__(self, onPlaced):
        VTKObservationMixin.__init__(self)
        self._onPlaced = onPlaced
        self._points = None

    def start(self):
        self.stop()
        name = slicer.mrmlScene.GenerateUniqueName(_("Plane points"))
        self._points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
        self._points.CreateDefaultDisplayNodes()
        self._points.SetMaximumNumberOfControlPoints(3)
        self.addObserver(self._points, self._points.PointPositionDefinedEvent, self._onPoint)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._onClose)
        startPlacing(self._points, several=True)

    def stop(self):
        """Forget the points that were placed so far."""
        points, self._points = self._points, None
        self.removeObservers()
        if points and points.GetScene() and points.GetNumberOfDefinedControlPoints() < 3:
            self._endPlaceMode()
            slicer.mrmlScene.RemoveNode(points)

    def _onPoint(self, caller, event):
        if self._points is None or self._points.GetNumberOfDefinedControlPoints() < 3:
            return
        points, self._points = self._points, None
        self.removeObservers()
        self._endPlaceMode()
        self._onPlaced(points)

    def _onClose(self, caller, event):
        self._points = None
        self.removeObservers()

    @staticmethod
    def _endPlaceMode():
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        if interaction:
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
