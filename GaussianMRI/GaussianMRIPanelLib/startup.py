import slicer


def whenStarted(call):
    """Call a function once Slicer has started; now, where it has.

    Slicer tells of it once. It makes all modules before it loads the first: a module that is made when others are loaded
    already comes later, from the Extension Wizard or from a script.
    """
    if slicer.app.moduleManager().modulesNames():
        call()
    else:
        slicer.app.connect("startupCompleted()", call)
