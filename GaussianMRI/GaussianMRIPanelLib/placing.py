import slicer


def startPlacing(node, several=False):
    """Let the user place a markups node in the views; `several`: points until the mode is left, else one thing."""
    markupsLogic = slicer.modules.markups.logic()
    markupsLogic.SetActiveList(node)
    markupsLogic.StartPlaceMode(several)
