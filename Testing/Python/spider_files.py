"""A folder as the SPIDER data have it, with invented volumes: sagittal slices that are stored from right to left last."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from spine_scenes import sagittal, spine_map

from GaussianMRILib.grading.label_schemes import SPIDER
from GaussianMRILib.labels import LabelFile

HEADER = (
    "Patient", "IVD label", "Modic", "UP endplate", "LOW endplate", "Spondylolisthesis", "Disc herniation",
    "Disc narrowing", "Disc bulging", "Pfirrman grade",
)  # fmt: skip


def write_mha(path: Path, voxels: np.ndarray, matrix: np.ndarray) -> None:
    """Voxels [k, j, i] with their matrix, so that the file's axes run to the left, to the back and up."""
    columns = matrix[:3, :3]
    order = [int(np.abs(columns[axis]).argmax()) for axis in range(3)]  # file axis -> i, j, k
    turned = voxels.transpose([2 - order[axis] for axis in (2, 1, 0)])
    lps = np.diag([-1.0, -1.0, 1.0])
    axes = lps @ columns[:, order]
    spacing = np.linalg.norm(axes, axis=0)
    image = sitk.GetImageFromArray(turned)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((axes / spacing).ravel().tolist())
    image.SetOrigin((lps @ matrix[:3, 3]).tolist())
    sitk.WriteImage(image, str(path))


def spider_labels(shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> LabelFile:
    """L1 to L5 as the data number them, and no sacrum."""
    grid, shape = sagittal()
    moved = grid.copy()
    moved[:3, 3] += shift
    scheme = SPIDER.__class__(SPIDER.name, {**SPIDER.vertebrae, "S1": 90}, SPIDER.discs, SPIDER.canal)
    labels = spine_map(scheme, (grid, shape))
    voxels = np.where(labels.voxels == 90, 0, labels.voxels).astype(np.uint16)
    return LabelFile(voxels, moved)


def write_spider(folder: Path, grades: dict[str, list[int]], t1_shift: float = 0.0) -> Path:
    """Patients with Pfirrmann grades from L5/S1 up; discs are the darker the higher the grade."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rows = []
    for patient, found in grades.items():
        for series in ("t1", "t2"):
            labels = spider_labels((0, 0, t1_shift) if series == "t1" else (0, 0, 0))
            image = np.where(labels.voxels > 0, 300, 100).astype(np.int16)
            for number, grade in enumerate(found, 1):
                image[labels.voxels == 200 + number] = 400 - 70 * grade
            image[labels.voxels == 100] = 600 if series == "t2" else 60
            image += np.random.default_rng(0).integers(-20, 20, image.shape, np.int16)
            image[:, :, -4:] = -1000
            for place, voxels in (("images", image), ("masks", labels.voxels)):
                write_mha(folder / place / f"{patient}_{series}.mha", voxels, labels.ijk_to_ras)
        rows += [[patient, number, 0, 0, 0, 0, 0, 0, 1, grade] for number, grade in enumerate(found, 1)]
    lines = [",".join(map(str, row)) for row in [HEADER, *rows]]
    (folder / "radiological_gradings.csv").write_text("\n".join(lines) + "\n")
    (folder / "overview.csv").write_text("new_file_name,subset,sex\n" + "".join(f"{p}_t2,training,F \n" for p in grades))
    return folder
