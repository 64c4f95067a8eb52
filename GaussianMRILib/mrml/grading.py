"""Grades of discs in the scene: from volume nodes and a disc to labels on a markups plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GaussianMRIError
from ..grading.checkpoints import NO_CHECKPOINT, load_graders
from ..grading.crops import region_options
from ..grading.disc import DiscGeometry
from ..grading.inputs import AXIAL_KINDS
from ..grading.labels import INPUT_TYPES, is_sagittal
from ..grading.roi import RegionOptions, region_of
from .dicom import stacks_of
from .fields import changes_since_fit, field_from_model, is_field, volumes_of
from .grading_request import GradingRequest, GradingResult
from .grading_results import show_grades
from .grading_state import check_plane, place_of
from .jobs import Job
from .scene import as_list, described
from .volume_state import states_of

if TYPE_CHECKING:
    from ..grading.predict import Grade
    from ..stacks import SliceStack



def grading_request(
    volume_nodes: Any,
    disc: DiscGeometry,
    *,
    checkpoints: Any = (),
    input_type: str = "acquired",
    sagittal: Any = None,
    gaussians: Any = None,
    plane_node: Any = None,
    device: str = "cpu",
    poses: str = "auto",
    options: RegionOptions | None = None,
    **fit_options: Any,
) -> GradingRequest:
    """Read everything that a grading needs from the scene and from files.

    Args:
        volume_nodes: axial scalar volume nodes (or `SliceStack`s), one or several of one contrast.
        disc: of `disc_from_segment_node`, `disc_from_points_node` or `disc_from_plane_node`.
        checkpoints: file, folder or list of them, or loaded graders; empty to look at the region only.
        input_type: "acquired": the slices as they are; "R-GS", "R-VI": planes aligned with the disc, by Gaussians or
            voxel interpolation.
        sagittal: sagittal volume node, for the picture.
        gaussians: model node of a fit of these volumes, or of some of them, for "R-GS"; or a GaussianField, which does not
            say what it is of. Default: a new fit around the disc.
        plane_node: that `show_grades` will label, where there is one: it is stale if it moves from here on.
        device: for a fit: "cpu", "cuda" or "auto".
        poses: of slices of volumes that came from DICOM; see `stacks_from_volume`.
        options: of the region; default: as the checkpoints were trained.
        **fit_options: of `Fitter`.

    Raises:
        GaussianMRIError: unusable volumes or checkpoints, an unknown input, a fit of other volumes, no plane.
    """
    if input_type not in AXIAL_KINDS:
        raise GaussianMRIError(f"There is no input '{input_type}'; choose one of {', '.join(AXIAL_KINDS)}.")
    nodes = as_list(volume_nodes)
    if not nodes:
        raise GaussianMRIError("There is no volume to grade; choose the axial series.")
    listed = list(checkpoints) if isinstance(checkpoints, (list, tuple)) else [checkpoints]
    graders = [item for item in listed if hasattr(item, "card")]
    graders += load_graders([item for item in listed if not hasattr(item, "card")])
    not_asked = tuple(grader.name for grader in graders if is_sagittal(grader.card.input_types))
    if graders and len(not_asked) == len(graders):
        raise GaussianMRIError(
            f"{', '.join(not_asked)} were trained on sagittal slices, and one disc is graded on "
            "axial ones. Grade all discs of a segmentation, or choose other checkpoints."
        )
    graders = [grader for grader in graders if not is_sagittal(grader.card.input_types)]
    fit = None
    if input_type != "R-GS":
        gaussians = None
    elif is_field(gaussians):
        fit = {"name": gaussians.GetName(), "volumes": _fitted_names(gaussians, nodes)}
        gaussians = field_from_model(gaussians)
    state: dict[str, Any] = {"volumes": states_of(nodes)}
    if plane_node is not None:
        check_plane(plane_node)
        state["plane"] = place_of(plane_node)
    return GradingRequest(
        disc,
        tuple(stacks_of(nodes, poses)),
        tuple(graders),
        input_type,
        None if sagittal is None else stacks_of([sagittal], poses)[0],
        gaussians,
        options or (region_options(graders[0].card.preprocessing) if graders else RegionOptions()),
        device,
        fit_options,
        not_asked,
        fit,
        state,
    )


def _fitted_names(field_node: Any, graded: list[Any]) -> list[str]:
    """Names of the volumes that a field was fitted to, all of which have to be among the graded ones.

    Raises:
        GaussianMRIError: they are not: its image would be that of another series, or patient, in the same place; or they are
            not what they were at the fit.
    """
    fitted = volumes_of(field_node)
    strangers = [node for node in fitted if not any(node is volume for volume in graded)]
    if fitted and not strangers:
        if changes := changes_since_fit(field_node):
            raise GaussianMRIError(
                f"{changes[0]} since the fit of {described(field_node)} began. Fit again, or choose no fit, so that one is "
                "made around the disc."
            )
        return [node.GetName() for node in fitted]
    known = [f"'{node.GetName()}'" for node in strangers]
    reason = (
        f"was fitted to {', '.join(known)}, which {'is' if len(known) == 1 else 'are'} not graded here"
        if known
        else "was fitted to volumes that are not in the scene (any more)"
    )
    raise GaussianMRIError(
        f"{described(field_node)} {reason}. Choose a fit of the graded volumes, grade the volumes of this one, or "
        "choose no fit, so that one is made around the disc."
    )


def carry_out(
    request: GradingRequest,
    report: Callable[[float, str], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> GradingResult:
    """Cut out the region, fit and resample where asked for, and grade. Knows no scene.

    Args:
        report: called with the share done (0 to 1) and what is going on.
        cancelled: asked now and then; True ends the work.

    Raises:
        GaussianMRIError: no slice at the disc, a network that does not fit, a cancel.
    """
    from ..grading.inputs import acquired_input, resampled_input
    from ..grading.overlay import overlay_picture

    def tell(fraction: float, stage: str) -> bool:
        if cancelled is not None and cancelled():
            raise GaussianMRIError("The grading was cancelled.")
        if report is not None:
            report(fraction, stage)
        return True

    tell(0.0, "cutting out the region")
    share = 0.7 if request.input_type == "R-GS" and request.gaussians is None else 0.1
    if request.input_type == "acquired":
        inputs = acquired_input(request.disc, _nearest_slab(request), request.options)
    else:
        inputs = resampled_input(
            request.disc,
            list(request.stacks),
            request.input_type,
            request.options,
            device=request.device,
            fit_options=request.fit_options,
            field=request.gaussians,
            progress=lambda fraction, stage: tell(share * fraction, stage),
            cancelled=cancelled,
        )
    grades: tuple[Grade, ...] = ()
    if request.graders:
        from ..grading.predict import grade

        rest = 0.95 - share
        grades = tuple(
            grade(
                request.graders,
                inputs,
                level=request.disc.level,
                progress=lambda fraction: tell(share + rest * fraction, "grading"),
            )
        )
    tell(0.95, "drawing the overlay")
    region = region_of(request.disc, request.options)
    shown = [*([] if request.sagittal is None else [request.sagittal]), *request.stacks]
    picture = overlay_picture(request.disc, region, shown, inputs)
    tell(1.0, "done")
    return GradingResult(
        request.disc, region, inputs, grades, picture, request.not_asked, request.fit, request.state
    )


def _nearest_slab(request: GradingRequest) -> SliceStack:
    """Of all slabs of all series, the one best aligned of those with a slice at the disc, else the nearest."""
    from ..grading.inputs import alignment_degrees
    from ..grading.rsna_series import oriented_slabs

    reference = region_of(request.disc, request.options).reference

    def rank(stack: SliceStack) -> tuple[float, float]:
        nearest = float(np.abs(stack.distances(reference)).min())
        at_disc = nearest <= max(stack.spacing, stack.thickness)
        return (0.0 if at_disc else nearest, alignment_degrees(request.disc, stack))

    return min((slab for stack in request.stacks for slab in oriented_slabs(stack)), key=rank)


class GradingJob(Job):
    """A grading in a thread of its own.

    Example:
        >>> job = GradingJob(mrml.grading_request([volumeNode], disc, checkpoints="models"))   # doctest: +SKIP
        >>> job.start()                                                                         # doctest: +SKIP
        >>> while not job.poll():                                                               # doctest: +SKIP
        ...     slicer.app.processEvents()
        >>> plane = mrml.show_grades(job.result(), [volumeNode])                                # doctest: +SKIP
    """

    def __init__(self, request: GradingRequest) -> None:
        super().__init__(self._grade, "grading")
        self._request = request

    def _grade(self, job: Job) -> GradingResult:
        return carry_out(self._request, job.report, lambda: job.cancelled)


def grade_disc(
    volume_nodes: Any,
    disc: DiscGeometry,
    checkpoints: Any,
    *,
    input_type: str = "acquired",
    plane_node: Any = None,
    scene: Any = None,
    report: Callable[[float, str], object] | None = None,
    **options: Any,
) -> Any:
    """Grade one disc and put the labels on a markups plane; see `grading_request` and `show_grades`.

    Returns:
        the plane's node: `plane_node`, or a new one.

    Raises:
        GaussianMRIError: what cannot be graded, and without a checkpoint where one comes from; the scene is then as it was.

    Example:
        >>> disc = mrml.disc_from_points_node(pointsNode, "L5/S1")                                # doctest: +SKIP
        >>> plane = mrml.grade_disc([axialNode], disc, "checkpoints", input_type="R-GS")          # doctest: +SKIP
    """
    request = grading_request(
        volume_nodes, disc, checkpoints=checkpoints, input_type=input_type, plane_node=plane_node, **options
    )
    if not request.graders:
        raise GaussianMRIError(NO_CHECKPOINT)
    result = carry_out(request, report)
    return show_grades(result, as_list(volume_nodes), plane_node=plane_node, scene=scene)


def kinds_of_input() -> dict[str, str]:
    """For people, what each of `INPUT_TYPES` means."""
    meanings = (
        "acquired slices, aligned with the disc",
        "acquired slices, not aligned with the disc",
        "planes by voxel interpolation",
        "planes by Gaussians",
        "sagittal T1 slices",
        "sagittal T2 slices",
    )
    return dict(zip(INPUT_TYPES, meanings, strict=True))
