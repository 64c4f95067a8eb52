"""Planes of many studies resampled by chosen methods: the job of `gaussianmri cohort`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..cohort import CohortReport, CohortRow, Outcome, run_cohort, stopping
from ..errors import GaussianMRIError
from ..files import all_or_none, file_names
from ..geometry import ImagePlane
from ..geometry.affine import check_spacing
from ..methods import GAUSSIANS, METHODS, classical
from ..stacks import SliceStack, check_same_contrast, check_same_frame, check_same_patient, read_stacks
from ..stacks.agreement import direction, without_repeats

if TYPE_CHECKING:
    from ..baselines import SuperResolution
    from ..volumes import Resampler
    from .disc import DiscGeometry

Images = list[NDArray[np.float32]]
DIRECTIONS = ("axial", "sagittal", "coronal", "all")
_MARGIN = 10.0  # mm around the planes that are fitted as well
_BY_NAME = 'choose stacks by a text in their names, with series="TEXT" (`gaussianmri cohort --series TEXT`)'


@dataclass(frozen=True, kw_only=True)
class ResampleOptions:
    """What is made of each study.

    Attributes:
        methods: of `GaussianMRILib.methods.METHODS`.
        levels: discs that planes are aligned with; none for the planes of markups alone.
        discs: files of discs, see `GaussianMRILib.grading.disc_files.find_disc_file`; None for the label coordinates of a
            copy of the RSNA data.
        planes: markups file of Slicer for all studies, or a name with `{study}` in it.
        count, step: parallel planes around each of them, and mm between; nine planes 4 mm apart at a disc by default.
        thickness: mm of each plane; 0 is thin.
        spacing: mm between pixels of markups planes (0.5 by default); those at discs are 112 x 224 pixels.
        direction: stacks that are used, by their orientation.
        series: only stacks whose name has this text (any case).
        suffix: of the volumes.
        picture: write the middle plane as a PNG too.
        device, seed: of fits.

    Raises:
        GaussianMRIError: an unknown method or direction, or nothing that says where the planes are.
    """

    methods: tuple[str, ...] = ("fast",)
    levels: tuple[str, ...] = ()
    discs: str | None = None
    planes: str | None = None
    count: int | None = None
    step: float | None = None
    thickness: float = 0.0
    spacing: float | None = None
    direction: str = "axial"
    series: str = ""
    suffix: str = ".nrrd"
    picture: bool = False
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown or not self.methods:
            raise GaussianMRIError(f"Methods are {', '.join(METHODS)}; got '{', '.join(self.methods)}'.")
        if self.direction not in DIRECTIONS:
            raise GaussianMRIError(f"'{self.direction}' is no direction; use {', '.join(DIRECTIONS)}.")
        if not self.levels and self.planes is None:
            raise GaussianMRIError(
                "Nothing says where the planes are: give levels of discs, or a markups file."
            )
        if self.planes is not None and (self.count or 1) > 1 and self.step is None:
            raise GaussianMRIError("Several parallel planes need a step, the distance between them in mm.")
        if self.step is not None:
            check_spacing(self.step, "step between planes")


def resample_cohort(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: ResampleOptions,
    studies: Sequence[str] | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: Callable[[int, int, CohortRow], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CohortReport:
    """Resample planes of every study in a folder; each gets a folder of volumes in `output`.

    Args:
        folder: a copy of the RSNA data, or a folder with a folder of images for each study.
        output: gets `{study}/{plane}-{method}{suffix}` and `report.csv`.
        studies: only these.
        executor, workers, progress, cancelled: see `run_cohort`.

    Raises:
        GaussianMRIError: no studies there, or `output` holds another run or lies among them.

    Example:
        Dask, on one machine or a cluster that sees the same files:

        >>> from distributed import Client                                                  # doctest: +SKIP
        >>> options = ResampleOptions(levels=("L5/S1",))
        >>> resample_cohort("rsna", "out", options, executor=Client().get_executor())       # doctest: +SKIP
    """
    root = Path(folder).absolute()
    part = next((name for name in ("train", "test") if (root / f"{name}_images").is_dir()), None)
    if part is not None:
        from .rsna import RsnaDataset

        known = RsnaDataset(root, part).studies
    elif root.is_dir():
        if Path(os.path.realpath(output)).is_relative_to(os.path.realpath(root)):
            raise GaussianMRIError(f"{output} lies in {folder}, where it would be a study. Choose a folder beside it.")
        known = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    else:
        raise GaussianMRIError(f"{folder} is no folder. Give one with a folder of images for each study.")
    missing = [study for study in studies or () if study not in known]
    if missing:
        raise GaussianMRIError(f"There is no study {missing[0]} in {folder}.")
    chosen = known if studies is None else list(studies)
    if not chosen:
        raise GaussianMRIError(f"{folder} has no folder of a study.")
    if options.levels and options.discs is None and part is None:
        raise GaussianMRIError("Planes at discs need files of discs: give them, or a copy of the RSNA data.")
    from .disc_files import check_disc_source, whole_source

    check_disc_source(options.discs, len(chosen))
    planes = None if options.planes is None else os.path.abspath(options.planes)
    options = replace(options, discs=whole_source(options.discs), planes=planes)
    work = _ResampleStudy(str(root), part, str(Path(output).absolute()), options)
    return run_cohort(
        chosen,
        work,
        output,
        executor=executor,
        workers=workers,
        settings={
            "source": str(root),
            **asdict(options),
            "methods": list(options.methods),
            "levels": list(options.levels),
        },
        inputs=work.inputs,
        progress=progress,
        cancelled=cancelled,
    )


@dataclass(frozen=True)
class _ResampleStudy:
    """The job of one study, for any process that sees the same files."""

    folder: str
    part: str | None
    output: str
    options: ResampleOptions

    def __call__(self, study: str) -> Outcome:
        stacks, discs, lines = self._read(study)
        check_same_frame(stacks, advice=_BY_NAME)
        wanted = self._planes(study, discs)
        kept: dict[str, list[ImagePlane]] = {}
        for name, (file, planes) in wanted.items():
            if any(_inside(stacks, plane) for plane in planes):
                kept[name] = planes
            else:
                lines.append(f"{name} ({file}) lies outside the scanned region")
        if not kept:
            raise GaussianMRIError("; ".join([*lines, "no plane meets the scan"]))
        used: list[str] = []
        images: dict[str, dict[str, Images]] = {}
        for method in self.options.methods:
            images[method], given = _rendered(method, stacks, kept, self.options)
            left = [stack.name for stack in stacks if not any(stack is other for other in given)]
            if left:
                lines.append(
                    f"{method}: {', '.join(left)} left out, in the place of another stack with which it would be averaged; "
                    "--series chooses by name"
                )
            used.append(f"{method}: {', '.join(stack.name for stack in given)}")
        target = Path(self.output) / study
        target.mkdir(parents=True, exist_ok=True)
        files: list[str] = []
        # At the end: a study that fails leaves what an earlier run made of it as it was, and a killed one no parts of files.
        with all_or_none():
            for method, (name, planes) in itertools.product(images, kept.items()):
                files += self._write(target, f"{name}-{method}", images[method][name], planes)
        return Outcome(None, lines=tuple(lines), stacks=tuple(used), files=tuple(files))

    def inputs(self, study: str) -> list[Path]:
        """Files and folders that the images of a study are made of."""
        from .disc_files import disc_files

        root, options = Path(self.folder), self.options
        images = (root if self.part is None else root / f"{self.part}_images") / study
        tables = [] if self.part is None else ["series_descriptions", "label_coordinates"]
        planes = [] if options.planes is None else [Path(options.planes.replace("{study}", study))]
        discs = disc_files(options.discs, study, images) if options.levels else []
        return [images, *(root / f"{self.part}_{name}.csv" for name in tables), *planes, *discs]

    def _read(self, study: str) -> tuple[list[SliceStack], dict[str, DiscGeometry], list[str]]:
        levels = self.options.levels
        discs: dict[str, DiscGeometry] = {}
        if self.part is not None:
            from .prepare import study_discs
            from .rsna import opened
            from .rsna_tables import AXIAL, SAGITTAL_T2

            # T1 images have another contrast: no image can be made of both.
            read = opened(self.folder, self.part).study(study, (AXIAL, SAGITTAL_T2))
            lines = list(read.problems)
            if levels:
                images = Path(self.folder) / f"{self.part}_images"
                discs, problems = study_discs(read, levels, self.options.discs, images)
                lines += problems
            given = [*read.axial, *([] if read.sagittal_t2 is None else [read.sagittal_t2])]
            return self._chosen(given), discs, lines
        folder, lines = Path(self.folder) / study, []
        given = read_stacks(folder)
        if levels:
            from .disc_files import find_disc_file, read_disc_file

            assert self.options.discs is not None
            path = find_disc_file(self.options.discs, study, folder)
            sagittal = max(
                (s for s in given if direction(s) == "sagittal"), key=lambda s: s.shape[0], default=None
            )
            discs, lines = read_disc_file(path, sagittal, levels)
        chosen = self._chosen(given)
        check_same_patient(chosen)
        check_same_contrast(chosen, advice=_BY_NAME)  # interpolation would take the mean of what the folder holds
        return chosen, discs, lines

    def _chosen(self, stacks: list[SliceStack]) -> list[SliceStack]:
        kept = [
            stack
            for stack in stacks
            if self.options.direction in ("all", direction(stack))
            and self.options.series.lower() in stack.name.lower()
        ]
        if not kept:
            names = ", ".join(stack.name for stack in stacks) or "none"
            raise GaussianMRIError(
                f"No stack that can be used is {self.options.direction}"
                + (f" and has '{self.options.series}' in its name" if self.options.series else "")
                + f"; the study has {names}. Choose by --direction and --series."
            )
        return kept

    def _planes(
        self, study: str, discs: Mapping[str, DiscGeometry]
    ) -> dict[str, tuple[str, list[ImagePlane]]]:
        """By name the file that says where they are, and the planes."""
        from .roi import aligned_planes, region_of

        options = self.options
        planes: dict[str, tuple[str, list[ImagePlane]]] = {}
        for level, disc in discs.items():
            name = level.replace("/", "-")
            region = region_of(disc)
            aligned = aligned_planes(region, options.count or 9, options.step, options.thickness)
            planes[name] = disc.file, aligned
        if options.planes is None:
            return planes
        spacing = None if options.spacing is None else (options.spacing, options.spacing)
        path = options.planes.replace("{study}", study)
        found = ImagePlane.set_from_markups(path, spacing=spacing, shape=None, thickness=options.thickness)
        names = file_names((label for label, _ in found), "plane", planes)
        for name, (_, plane) in zip(names, found, strict=True):
            planes[name] = path, plane.stack(options.count or 1, 1.0 if options.step is None else options.step)
        return planes

    def _write(self, target: Path, name: str, images: Images, planes: list[ImagePlane]) -> list[str]:
        """Names of what is written, below the folder of the output."""
        from ..writers import write_png, write_volume

        written = [write_volume(target / f"{name}{self.options.suffix}", images, planes)]
        if self.options.picture:
            middle = len(planes) // 2
            written.append(write_png(target / f"{name}.png", images[middle], plane=planes[middle]))
        return [path.relative_to(self.output).as_posix() for path in written]


def _inside(stacks: Sequence[SliceStack], plane: ImagePlane) -> bool:
    points = plane.points()[::8, ::8]
    return any(bool(stack.inside(points).any()) for stack in stacks)


def _rendered(
    method: str, stacks: list[SliceStack], planes: Mapping[str, list[ImagePlane]], options: ResampleOptions
) -> tuple[dict[str, Images], list[SliceStack]]:
    """Images of every plane by one method, NaN outside the scan; and the stacks that they were made of."""
    if method in GAUSSIANS:
        from ..fitting import Fitter

        corners = np.concatenate([plane.corners() for group in planes.values() for plane in group])
        box = np.stack([corners.min(axis=0) - _MARGIN, corners.max(axis=0) + _MARGIN], axis=1)
        fitter = Fitter(stacks, preset=method, seed=options.seed, device=options.device, roi=box)
        for _ in fitter:
            _check_cancel()
        return {name: fitter.field.render_many(group) for name, group in planes.items()}, stacks
    images: dict[str, Images] = {name: [] for name in planes}
    # For each plane: where one of two acquisitions shows it, it is no mean of both, whatever other planes need.
    kept = iter(without_repeats(stacks, [*itertools.chain(*planes.values())]))
    resamplers: dict[tuple[int, ...], Resampler | SuperResolution] = {}
    for name, group in planes.items():
        for plane in group:
            _check_cancel()
            shown = next(kept)
            used = tuple(n for n, stack in enumerate(stacks) if any(stack is other for other in shown))
            if used not in resamplers:
                resamplers[used] = classical(method, shown)
            images[name].append(resamplers[used].render(plane))
    return images, [stack for n, stack in enumerate(stacks) if any(n in used for used in resamplers)]


def _check_cancel() -> None:
    if stopping():
        raise GaussianMRIError("The run was cancelled.")
