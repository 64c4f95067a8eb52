from GaussianMRIPanelLib.jobController import JobSection
from slicer.i18n import tr as _


class IsotropicController(JobSection):
    """The section that makes an isotropic volume of the fit."""

    def __init__(self, panel):
        JobSection.__init__(self, panel, "isotropic", _("No volume was made."))
        self.toolTip = _("Render the fit on cubic voxels, as a volume for the Segment Editor and everything else.")

    def missing(self, parameters):
        return "" if parameters.field else _("Fit a volume first.")

    def job(self, parameters):
        output = parameters.isotropicOutput
        job = self._panel.logic.isotropicJob(
            parameters.field,
            spacing=parameters.isotropicSpacing or None,
            roi=parameters.isotropicRegion,
            axes=parameters.isotropicAxes.name,
            field=self._panel.previewController.field(parameters.field),
        )

        def keep(job):
            node = job.node(output if output is not None and output.GetScene() else None)
            slices, rows, columns = job.grid.shape
            facts = _("{columns} x {rows} x {slices} voxels of {spacing:.2f} mm").format(
                columns=columns, rows=rows, slices=slices, spacing=node.GetSpacing()[0]
            )
            return node, f"{self._panel.logic.describe([node])} · {facts}"

        return job, keep
