import vtk
from slicer.util import VTKObservationMixin


class NodesObserver(VTKObservationMixin):
    """Observes some nodes, and then others in their place.

    `VTKObservationMixin.removeObserver` keeps what it observed for as long as it lives itself, so that a removed field would
    stay in memory; `removeObservers` lets go.

    :param slot: called with the node and the event.
    :param events: names of events of the node's class or of vtkCommand; those that a node does not have are left out.
    """

    def __init__(self, slot, *events):
        VTKObservationMixin.__init__(self)
        self._slot = slot
        self._events = events
        self._nodes = []

    @property
    def nodes(self):
        """What is observed."""
        return list(self._nodes)

    def observe(self, nodes):
        """Observe these nodes and no others; those that are None are left out."""
        nodes = [node for node in nodes if node is not None]
        if nodes == self._nodes:
            return
        self.removeObservers()
        self._nodes = nodes
        for node in nodes:
            for name in self._events:
                event = getattr(node, name, None) or getattr(vtk.vtkCommand, name, None)
                if event is not None:
                    self.addObserver(node, event, self._slot)
