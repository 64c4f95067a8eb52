"""Grades of every disc of a segmentation, as a table in the scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import GaussianMRIError
from ..grading.checkpoints import NO_CHECKPOINT, load_graders
from ..grading.label_schemes import scheme_of
from ..grading.labels import DISCLAIMER, GRADES
from .canal import spine_maps
from .dicom import stacks_of
from .jobs import Job
from .scene import as_list, in_scene
from .tables import segmentation_table

if TYPE_CHECKING:
    from ..grading.study import StudyGrades

_P = tuple(f"P {name.lower()}" for name in GRADES)
_DESCRIPTIONS = (
    "Disc.",
    "The patient's left or right.",
    "What is graded.",
    "The most probable grade; blank where there is none.",
    *("Probability; the column calibrated says whether it is calibrated.",) * 3,
    "Whether the checkpoint has a calibration.",
    "A, N: axial slices, aligned with the disc or not; R-GS, R-VI: resampled planes; S-T1, S-T2: sagittal slices.",
    "Names of the series that the network was shown.",
    "Share of the crop outside the scan.",
    "File of the network.",
    "Training data of the network, as its checkpoint declares them.",
    "SHA-256 of the checkpoint.",
    "Why there is no grade, or what has to stand beside it.",
)


class StudyGradingJob(Job):
    """Grades of every disc in a thread of its own.

    Args:
        segmentation_nodes: vtkMRMLSegmentationNode of TotalSpineSeg or SPINEPS, or one with segments named as theirs.
        volume_nodes: axial T2, sagittal T1 and T2; which is which is found out.
        checkpoints: files or folders, one network for each condition and side.
        kind: what axial networks are shown, of `AXIAL_KINDS`; None: what each was trained on.
        device: for Gaussians: "cpu", "cuda" or "auto".

    Raises:
        GaussianMRIError: no segmentation, volume or checkpoint, a segmentation without discs, unusable volumes.
    """

    def __init__(
        self,
        segmentation_nodes: Any,
        volume_nodes: Any,
        checkpoints: Any,
        *,
        kind: str | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(StudyGradingJob._grade, "grading of the study")
        self._nodes, self._volumes = as_list(segmentation_nodes), list(dict.fromkeys(as_list(volume_nodes)))
        if not self._nodes or not self._volumes:
            raise GaussianMRIError("Choose a segmentation of TotalSpineSeg or SPINEPS, and the volumes of the study.")
        maps = {name: labels for node in self._nodes for name, labels in spine_maps(node).items()}
        schemes = {name: scheme_of(labels) for name, labels in maps.items()}
        name = next((name for name, scheme in schemes.items() if scheme is not None and scheme.discs), next(iter(maps)))
        self._labels = name, maps[name]
        self._stacks = stacks_of(self._volumes)
        paths = list(checkpoints) if isinstance(checkpoints, (list, tuple)) else [checkpoints]
        self._graders = load_graders(paths)
        if not self._graders:
            raise GaussianMRIError(NO_CHECKPOINT)
        self._kind, self._device = kind, device

    def _grade(self) -> StudyGrades:
        from ..grading.spine_labels import spine_labels
        from ..grading.study import grade_study

        name, labels = self._labels

        def tell(part: float, stage: str) -> bool:
            self.report(part, stage)
            return not self.cancelled

        return grade_study(
            self._graders, self._stacks, labels=spine_labels(labels, name), kind=self._kind, device=self._device,
            progress=tell,
        )  # fmt: skip

    def node(self, scene: Any = None) -> Any:
        """The grades, once `poll` says that the work has ended, as a new table node.

        Raises:
            GaussianMRIError: the work was cancelled, or segmentation or volumes were removed meanwhile.
        """
        found: StudyGrades = self.result()
        if not all(in_scene(node) for node in (*self._nodes, *self._volumes)):
            raise GaussianMRIError("The segmentation or a volume was removed while it was graded; nothing is kept.")
        return segmentation_table(
            self._nodes[0], "grades", [row.cells() for row in found.rows], _DESCRIPTIONS,
            [*found.remarks, *found.notes] or [DISCLAIMER],
            kind="study grades", numbers=_P, volumes=self._volumes, scene=scene,
        )  # fmt: skip


def grade_study(
    segmentation_nodes: Any,
    volume_nodes: Any,
    checkpoints: Any,
    *,
    scene: Any = None,
    progress: Callable[[float], object] | None = None,
    **options: Any,
) -> Any:
    """Grade every disc and wait for the table; see `StudyGradingJob`.

    Args:
        progress: called with the fraction done; when it returns False the work is cancelled.

    Raises:
        GaussianMRIError: see `StudyGradingJob`; a label map off the volumes or mirrored, volumes of several patients.

    Example:
        >>> table = mrml.grade_study(segmentationNode, [axialNode, t1Node, t2Node], "models")      # doctest: +SKIP
    """
    job = StudyGradingJob(segmentation_nodes, volume_nodes, checkpoints, **options)
    job.run(progress)
    return job.node(scene)


def describe_study(table_node: Any) -> str:
    """Lines for people: how many were graded, and what has to stand beside them."""
    table = table_node.GetTable()
    rows = range(table.GetNumberOfRows())
    graded = sum(bool(table.GetValueByName(row, "grade").ToString()) for row in rows)
    return f"{graded} of {len(rows)} graded; the table says why others are not.\n{table_node.GetDescription()}"
