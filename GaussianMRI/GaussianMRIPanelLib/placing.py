import slicer


def startPlacing(node, several=False):
    """Let the user place a markups node in the views; `several`: points until the mode is left, else one thing."""
    markupsLogic = slicer.modules.markups.logic()
    markupsLogic.SetActiveList(node)
    markupsLogic.StartPlaceMode(several)


def placeRegion(node):
    """For a list that made an empty ROI: the user places it next, and changes it by its handles."""
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetHandlesInteractive(True)
    startPlacing(node)


def isPlacing(node):
    """Whether the user places this markups node at the moment."""
    application = slicer.app.applicationLogic()
    interaction, selection = application.GetInteractionNode(), application.GetSelectionNode()
    placing = interaction.GetCurrentInteractionMode() == interaction.Place
    return placing and selection.GetActivePlaceNodeID() == node.GetID()
