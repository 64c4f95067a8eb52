import os

import slicer
from GaussianMRIPanelLib.selfTest import SelfTest

from GaussianMRICinematicLib.logic import GaussianMRICinematicLogic


class GaussianMRICinematicTest(SelfTest):
    """A model that a plane cuts."""

    def test_PlaneCutsModelOpen(self):
        """Of a red ball above a blue one, a plane between them that cuts upwards leaves the blue one."""
        logic = GaussianMRICinematicLogic()
        self.needPackages(logic)
        import numpy as np
        import torch

        from GaussianMRILib.cinematic import save_model
        from GaussianMRILib.cinematic.model import CinematicModel
        from GaussianMRILib.cinematic.splats import SH_C0, Splats

        colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        splats = Splats(
            torch.tensor([[0.0, 0.0, 20.0], [0.0, 0.0, -20.0]]),
            torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(2, 1),
            torch.full((2, 3), 1.8),
            (colours[:, None, :] - 0.5) / SH_C0,
            torch.full((2,), 6.0),
        )
        path = os.path.join(slicer.app.temporaryPath, "GaussianMRICinematicTest.ply")
        save_model(path, CinematicModel(splats, np.zeros(3), 50.0))
        camera = logic.threeDView().cameraNode().GetCamera()
        camera.SetPosition(0, 300, 0)
        camera.SetFocalPoint(0, 0, 0)
        camera.SetViewUp(0, 0, 1)
        plane = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "cut")
        plane.SetCenter([0.0, 0.0, 60.0])
        plane.SetNormal([0.0, 0.0, 1.0])
        view = logic.showModel(path, plane)
        try:
            both = view.picture()
            self.assertGreater(both[..., 0].max(), 200)
            self.assertGreater(both[..., 2].max(), 200)
            plane.SetCenter([0.0, 0.0, 0.0])
            view.refresh()
            cut = view.picture()
            self.assertLess(cut[..., 0].max(), 60)
            self.assertGreater(cut[..., 2].max(), 200)
        finally:
            view.stop()
        self.delayDisplay("The plane cuts the model.")
