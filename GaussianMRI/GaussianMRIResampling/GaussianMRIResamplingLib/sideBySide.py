import slicer

#: Slice views that stand beside each other, in order.
VIEWS = ("Red", "Yellow", "Green")
#: Slicer's own layouts have small numbers; an extension's must not be one of them.
FIRST_LAYOUT = 26711


def sliceNodes():
    """The nodes of the views of `VIEWS`."""
    return [slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}") for name in VIEWS]


def registerLayouts():
    """Make the arrangements known: a scene that was saved side by side opens without views where they are not."""
    manager = slicer.app.layoutManager()
    if manager is None:  # no main window
        return
    node = manager.layoutLogic().GetLayoutNode()
    for count in range(1, len(VIEWS) + 1):
        if node.IsLayoutDescription(FIRST_LAYOUT + count):
            continue
        items = "".join(
            f'<item><view class="vtkMRMLSliceNode" singletontag="{name}">'
            f'<property name="orientation" action="default">Axial</property>'
            f'<property name="viewlabel" action="default">{name[0]}</property></view></item>'
            for name in VIEWS[:count]
        )
        node.AddLayoutDescription(
            FIRST_LAYOUT + count, f'<layout type="horizontal" split="true">{items}</layout>'
        )


def showViews(count):
    """Arrange the first `count` views beside each other.

    :return: number of the layout that was there before, for `showLayout`.
    """
    manager = slicer.app.layoutManager()
    if manager is None:  # no main window
        return None
    registerLayouts()
    before = manager.layoutLogic().GetLayoutNode().GetViewArrangement()
    manager.setLayout(FIRST_LAYOUT + count)
    return before


def showLayout(number):
    """Go back to a layout that `showViews` returned, unless somebody chose another one meanwhile.

    :param number: None: there is nothing to go back to.
    """
    if number is None:
        return
    manager = slicer.app.layoutManager()
    if FIRST_LAYOUT < manager.layoutLogic().GetLayoutNode().GetViewArrangement() <= FIRST_LAYOUT + len(VIEWS):
        manager.setLayout(number)


def showVolumes(volumes):
    """Up to three volumes beside each other, each as it was rendered."""
    from GaussianMRILib.mrml.views import show_volume

    volumes = volumes[: len(VIEWS)]
    if showViews(len(volumes)) is None:  # no main window
        return
    slicer.app.processEvents()  # the views get their new sizes
    for volume, view in zip(volumes, sliceNodes()[: len(volumes)], strict=True):
        show_volume(view, volume)
