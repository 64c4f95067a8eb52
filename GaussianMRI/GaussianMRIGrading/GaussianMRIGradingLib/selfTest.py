import slicer
import vtk
from GaussianMRIPanelLib.selfTest import SelfTest

from GaussianMRIGradingLib.logic import GaussianMRIGradingLogic


class GaussianMRIGradingTest(SelfTest):
    """What a network sees."""

    def test_LeftIsLeft(self):
        """A bright spot on the patient's left is in the left half of what a network sees, at its place in space."""
        logic = GaussianMRIGradingLogic()
        self.needPackages(logic)
        import numpy as np

        from GaussianMRILib.mrml.grading import carry_out

        spot = np.array([-14.0, -18.0, 2.0])  # RAS: left of the midline, behind the disc
        volume = self._volumeWithSpot(spot)
        points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "disc")
        points.AddControlPoint(vtk.vtkVector3d(0.0, 17.0, 0.0))
        points.AddControlPoint(vtk.vtkVector3d(0.0, -17.0, 0.0))
        disc = logic.discFromPoints(points, "L5/S1")
        result = carry_out(logic.request([volume], disc))
        self.assertEqual(result.grades, ())
        images = result.inputs.images
        k, j, i = np.unravel_index(images.argmax(), images.shape)
        self.assertGreater(i, images.shape[2] / 2)
        found = (result.inputs.planes[k].ijk_to_ras @ [i, j, 0, 1])[:3]
        self.assertLess(np.linalg.norm((found - spot)[:2]), 1.0, f"found at {found}, put at {spot}")
        self.delayDisplay("Left is left.")

    @staticmethod
    def _volumeWithSpot(spot):
        """15 axial slices of 4 mm, in the order and with the axes in which they are scanned."""
        import numpy as np

        spacing, shape = np.array([0.8, 0.8, 4.0]), (15, 120, 140)
        affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
        affine[:3, 3] = [55.6, 47.6, -28.0]
        k, j, i = np.indices(shape)
        places = np.stack([i, j, k], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
        away = ((places - spot) / [2.0, 2.0, 4.0]) ** 2
        image = (400 + 1200 * np.exp(-away.sum(axis=-1) / 2)).astype(np.float32)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "spot")
        matrix = vtk.vtkMatrix4x4()
        for row in range(3):
            for column in range(4):
                matrix.SetElement(row, column, affine[row, column])
        node.SetIJKToRASMatrix(matrix)
        slicer.util.updateVolumeFromArray(node, image)
        return node
