"""An empty module of the name of Slicer's Data module, so that a session has somewhere to go."""

from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget


class Data(ScriptedLoadableModule):
    """The module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "Data"


class DataWidget(ScriptedLoadableModuleWidget):
    """Its panel."""
