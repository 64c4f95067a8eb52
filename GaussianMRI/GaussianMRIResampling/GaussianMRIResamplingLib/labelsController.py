from GaussianMRIPanelLib.jobController import JobSection
from slicer.i18n import tr as _


class LabelsController(JobSection):
    """The section that takes a segmentation along onto a resampled image or an isotropic volume."""

    def __init__(self, panel):
        JobSection.__init__(self, panel, "labels", _("The segmentation was not resampled."))
        self.toolTip = _("Make a segmentation of the image's own pixels.")

    def missing(self, parameters):
        if parameters.segmentation is None:
            return _("Choose a segmentation.")
        if parameters.labelsOnto is None and not (parameters.plane and parameters.plane.GetIsPlaneValid()):
            return _("Choose a volume, or place a plane above.")
        return ""

    def job(self, parameters):
        field = self._panel.previewController.field(parameters.field) if parameters.field else None
        job = self._panel.logic.labelsJob(
            parameters.segmentation,
            parameters.labelsOnto or parameters.plane,
            boundaries=parameters.boundaries.name,
            spacing=parameters.spacing or None,
            field=field,
        )

        def keep(job):
            node = job.node()
            names = self._panel.logic.emptySegments(node)
            text = _("{name} · segments: {count}").format(
                name=node.GetName(), count=node.GetSegmentation().GetNumberOfSegments() - len(names)
            )
            return node, text + (_("; not on the image: {names}").format(names=", ".join(names)) if names else "")

        return job, keep
