import slicer
import vtk
from GaussianMRIPanelLib.selfTest import SelfTest

from GaussianMRIResamplingLib.logic import GaussianMRIResamplingLogic


class GaussianMRIResamplingTest(SelfTest):
    """A fit and a plane of it."""

    def test_PointIsFoundWhereItWasPut(self):
        """A bright point in a thick-slice volume appears on an oblique plane at the same RAS position."""
        logic = GaussianMRIResamplingLogic()
        self.needPackages(logic)
        import numpy as np

        point = np.array([8.0, -11.0, 24.0])
        volume = self._volumeWithPoint(point)
        field = logic.fit([volume])
        plane = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "oblique")
        plane.SetSizeMode(plane.SizeModeAbsolute)
        plane.SetSize(30, 30)
        plane.SetCenter(point)
        plane.SetNormal([1.0, -2.0, 3.0])
        (result,) = logic.resample(field, [plane], spacing=0.5)
        image = slicer.util.arrayFromVolume(result)[0].astype(float)
        above = np.clip(image - 0.5 * image.max(), 0, None)
        rows, columns = np.indices(image.shape)
        middle = [(columns * above).sum() / above.sum(), (rows * above).sum() / above.sum(), 0, 1]
        matrix = vtk.vtkMatrix4x4()
        result.GetIJKToRASMatrix(matrix)
        found = np.array(matrix.MultiplyPoint(middle))[:3]
        self.assertLess(np.linalg.norm(found - point), 0.3, f"found at {found}, put at {point}")
        self.delayDisplay("The point is where it was put.")

    @staticmethod
    def _volumeWithPoint(point):
        """12 slices of 4 mm, left-handed, with a round bright point, as it would be scanned."""
        import numpy as np

        spacing, shape = np.array([1.0, 1.0, 4.0]), (12, 56, 60)
        origin = point - [27.3, 25.6, 21.1]
        k, j, i = np.indices(shape)
        image = np.zeros(shape, np.float32)
        for shift in (-1.5, -0.5, 0.5, 1.5):  # through the slice
            away = np.stack([i, j, k], axis=-1) * spacing + origin + [0, 0, shift] - point
            image += 250 * np.exp(-(away**2).sum(axis=-1) / (2 * 4.0**2))
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "point")
        matrix = vtk.vtkMatrix4x4()
        for axis in range(3):
            matrix.SetElement(axis, axis, spacing[axis])
            matrix.SetElement(axis, 3, origin[axis])
        # Slices from top to bottom: the same places, numbered the other way.
        matrix.SetElement(2, 2, -spacing[2])
        matrix.SetElement(2, 3, origin[2] + spacing[2] * (shape[0] - 1))
        node.SetIJKToRASMatrix(matrix)
        slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(image[::-1]))
        return node
