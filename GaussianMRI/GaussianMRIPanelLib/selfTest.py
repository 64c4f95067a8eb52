import unittest

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest


class SelfTest(ScriptedLoadableModuleTest):
    """Runs in Slicer's self-tests; the library has tests of its own.

    It installs nothing: where packages are missing it is skipped, and says which.
    """

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        """What "Reload and Test" does, and slicer.selfTests."""
        for name in unittest.defaultTestLoader.getTestCaseNames(type(self)):
            self.setUp()
            try:
                getattr(self, name)()
            except unittest.SkipTest as skipped:
                self.delayDisplay(f"Skipped: {skipped}")

    def needPackages(self, logic):
        """Skip the test where something is missing that the module's logic would install."""
        missing = logic.packagesMissing()
        if missing:
            self.skipTest(f"not installed: {', '.join(missing)}")
