import slicer
import vtk
from slicer.util import VTKObservationMixin


class GradeWatch(VTKObservationMixin):
    """Keeps labels of graded planes true from the start of the application, whether or not the panel is open.

    Nothing of the library is imported before there is a markups plane.
    """

    def __init__(self):
        VTKObservationMixin.__init__(self)
        self._watcher = None

    def start(self):
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodeAdded)
        if scene.GetFirstNodeByClass("vtkMRMLMarkupsPlaneNode"):
            self._watch()

    def stop(self):
        self.removeObservers()
        if self._watcher:
            self._watcher.stop()
        self._watcher = None

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, caller, event, node):
        if node.IsA("vtkMRMLMarkupsPlaneNode"):
            self._watch()

    def _watch(self):
        from GaussianMRILib.mrml.grading_watch import GradeWatcher

        self.removeObservers()
        if self._watcher is None:
            self._watcher = GradeWatcher(slicer.mrmlScene)
