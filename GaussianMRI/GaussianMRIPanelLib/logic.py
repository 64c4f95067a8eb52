import enum
import os

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic


class Menu(enum.Enum):
    """What a menu offers: names are for scripts and saved scenes, words for people.

    Slicer's extractor of texts to translate takes what stands in `_()` itself. In a language two names may have the same
    words, which are therefore no values: names of one value are one member.
    """

    def __new__(cls, words):
        member = object.__new__(cls)
        member._value_ = len(cls.__members__)
        member._words = words
        return member

    def label(self):
        return self._words


class Device(Menu):
    auto = _("Automatic")
    cpu = _("Processor (CPU)")
    cuda = _("Graphics card (CUDA)")


class PanelLogic(ScriptedLoadableModuleLogic):
    """What every module offers without a panel."""

    #: The module's name for people.
    TITLE = ""
    #: Class of the module's parameter node.
    PARAMETERS = None
    #: Requirements besides those of the library, of the form name or name>=version.
    PACKAGES = ()

    def getParameterNode(self):
        """The scene's parameters; those that its file has damaged, or that another version wrote, get their defaults."""
        from GaussianMRILib.mrml.panels import forget_damaged

        node = super().getParameterNode()
        forget_damaged(node, self.PARAMETERS.allParameters.values())
        return self.PARAMETERS(node)

    def ensurePackages(self, *, cuda=False, others=()):
        """Install what Slicer does not bring, after asking. See `GaussianMRILib.mrml.dependencies`."""
        from GaussianMRILib.mrml.dependencies import ensure_packages

        ensure_packages(self.TITLE, cuda=cuda, others=[*self.PACKAGES, *others])

    def askForPackages(self, *, cuda=False, others=()):
        """`ensurePackages` for a button: an error is shown, and ends the slot.

        It comes before the busy cursor, which would stay over the question: the user would wait for it to go away.
        """
        with slicer.util.tryWithErrorDisplay(_("Packages are missing.")):
            self.ensurePackages(cuda=cuda, others=others)

    def packagesMissing(self):
        """Packages that `ensurePackages` would install."""
        from GaussianMRILib.mrml.dependencies import packages_missing

        return packages_missing(self.PACKAGES)

    @staticmethod
    def kernelNotice():
        """A sentence where work is slow for want of compiled kernels, else empty."""
        from GaussianMRILib.mrml.panels import kernel_notice

        return kernel_notice()

    @staticmethod
    def defaultVolume():
        """The volume to offer first: the one in the Red view, else the first; None without any."""
        from GaussianMRILib.mrml.panels import default_volume

        return default_volume(slicer.mrmlScene)

    @staticmethod
    def inSceneFolder(name):
        """Path of a file in the folder that the scene was last loaded from or saved to."""
        return os.path.join(slicer.mrmlScene.GetRootDirectory() or "", name)

    @staticmethod
    def showTable(tableNode):
        """Show a table beside the views."""
        from GaussianMRILib.mrml.panels import show_table

        show_table(tableNode, slicer.app.applicationLogic(), slicer.app.layoutManager())
