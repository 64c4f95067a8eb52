"""From studies of the RSNA or SPIDER data to a folder of network inputs: discs, planes of every wanted type, splits."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..cohort import CohortReport, CohortRow, Outcome, run_cohort, stopping
from ..errors import GaussianMRIError
from ..files import atomic_write, file_name
from ..stacks import SliceStack
from .crops import Case, CropSet, preprocessing
from .disc import DiscGeometry, level_name
from .disc_files import check_disc_source, disc_files, find_disc_file, read_disc_file, whole_source
from .inputs import (
    ALIGNED_DEGREES,
    RESAMPLED,
    GradingInput,
    acquired_input,
    alignment_degrees,
    resampled_input,
    scaled_at,
    series_median,
    vertebral_median,
)
from .labels import AXIAL_TYPES, INPUT_TYPES, LEVELS, SAGITTAL_TYPES
from .people import add_people
from .roi import RegionOptions, region_of
from .rsna import RsnaDataset, RsnaStudy, opened
from .rsna_tables import AXIAL, SAGITTAL_T1, SAGITTAL_T2
from .sagittal import sagittal_input
from .spider import TABLE, SpiderDataset
from .split import stratified_split


def data_in(folder: str, part: str = "train") -> RsnaDataset | SpiderDataset:
    """The data in a folder, whichever they are; tables are read once in each process.

    Raises:
        GaussianMRIError: neither layout is there.
    """
    return _spider(folder) if (Path(folder) / TABLE).is_file() else opened(folder, part)


@functools.lru_cache(maxsize=1)
def _spider(folder: str) -> SpiderDataset:
    return SpiderDataset(folder)


Inputs = list[tuple[Case, GradingInput]]


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """What is made of each disc.

    Attributes:
        types: of `INPUT_TYPES`: acquired slices, aligned ("A") and not ("N"), and those resampled from slices that are
            not aligned ("R-VI", "R-GS"), as in "Rendering Novel Views of MRI", section 4; sagittal slices ("S-T1", "S-T2").
        levels: of `LEVELS`.
        region: see `RegionOptions`.
        discs: where discs are, see `find_disc_file`; None for the data's label coordinates.
        aligned_degrees: angle up to which acquired slices count as aligned.
        most_outside: an input with a larger share outside the scan is left out.
        fewest_slices: acquired slices that an input has at least.
        device, fit: of Gaussians; `fit` are further arguments of `Fitter`.
        overlays: write a picture of each disc with its region, to be checked by eye.

    Raises:
        GaussianMRIError: an unknown type or level.
    """

    types: tuple[str, ...] = INPUT_TYPES
    levels: tuple[str, ...] = LEVELS
    region: RegionOptions = field(default_factory=RegionOptions)
    discs: str | None = None
    aligned_degrees: float = ALIGNED_DEGREES
    most_outside: float = 0.5
    fewest_slices: int = 3
    device: str = "cpu"
    fit: Mapping[str, Any] = field(default_factory=dict)
    overlays: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.types if name not in INPUT_TYPES]
        if unknown or not self.types:
            raise GaussianMRIError(
                f"Input types are {', '.join(INPUT_TYPES)}, got '{', '.join(self.types)}'."
            )
        object.__setattr__(self, "types", tuple(self.types))
        object.__setattr__(self, "levels", tuple(level_name(level) for level in self.levels))


def prepare(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: PrepareOptions | None = None,
    part: str = "train",
    studies: Sequence[str] | None = None,
    fractions: Mapping[str, float] | None = None,
    splits: Mapping[str, str] | None = None,
    seed: int = 0,
    data: str | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: Callable[[int, int, CohortRow], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[CropSet, CohortReport]:
    """Make the inputs of networks from a copy of the RSNA or SPIDER data; a run that was stopped goes on.

    `output` becomes a `CropSet` with `report.csv` beside it: a study that cannot be used is a line there, and so is a disc,
    a series or a type of input that is left out although the study has a grade for it.

    Args:
        folder, part: see `RsnaDataset`, or the folder of `SpiderDataset`, which has no parts.
        studies: only these.
        fractions: share of the patients by split ("train", "validation", "test"); stratified by grade, see
            `stratified_split`. By default .7, .15, .15; everything is "test" in the part "test".
        splits: study -> split, in place of `fractions`.
        seed: of the split.
        data: sentence that says what the data are; models trained on them carry it.
        executor, workers, progress, cancelled: see `run_cohort`.

    Raises:
        GaussianMRIError: no such data, too few patients to split, or `output` holds something else.
    """
    options = options or PrepareOptions()
    source = data_in(str(folder), part)
    chosen = list(source.studies if studies is None else studies)
    if not chosen:
        raise GaussianMRIError(f"There is no study in {folder}.")
    check_disc_source(options.discs, len(chosen))
    options = replace(options, discs=whole_source(options.discs))
    patients, ids, synthetic = _patients(source, chosen)
    if splits is None:
        if part == "test" and fractions is None:
            fractions = {"test": 1.0}
        by_patient = stratified_split(_labels(source, patients, options.levels), fractions, seed)
        splits = {study: by_patient[patient] for study, patient in patients.items()}
    _check_patients(patients, splits)
    crops = CropSet.create(
        output,
        {
            "data": data or ("SYNTHETIC phantoms" if synthetic else source.words),
            "synthetic": synthetic,
            "preprocessing": preprocessing(options.region),
            "aligned_degrees": options.aligned_degrees,
        },
    )

    add_people(crops.folder, ids)

    def receive(study: str, inputs: Inputs) -> None:
        for case, images in inputs:
            crops.add(replace(case, patient=patients[study], split=splits.get(study, "")), images)
        crops.drop(study, but={case.case_id for case, _ in inputs})

    def made_of(study: str) -> list[Path]:
        return [*source.files_of(study), *disc_files(options.discs, study, source.folder / f"{part}_images" / study)]

    report = run_cohort(
        chosen,
        _PrepareStudy(str(source.folder.absolute()), part, options, str(Path(output).absolute())),
        output,
        executor=executor,
        workers=workers,
        settings={
            "source": str(source.folder.absolute()),
            "part": part,
            **_json(options),
            "splits": splits_hash(splits),
        },
        inputs=made_of,
        keep=False,  # a training that takes the cases of a set does not read its report
        receive=receive,
        progress=progress,
        cancelled=cancelled,
    )
    for study in report.failed:  # what an earlier run made of other images or discs
        crops.drop(study)
    return crops, report


def _json(options: PrepareOptions) -> dict[str, Any]:
    content = asdict(options)
    return {**content, "types": list(options.types), "levels": list(options.levels), "fit": dict(options.fit)}


def splits_hash(splits: Mapping[str, str]) -> str:
    """A name for an assignment, the same for the same one."""
    import hashlib

    text = "\n".join(f"{study}={splits[study]}" for study in sorted(splits))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _patients(
    source: RsnaDataset | SpiderDataset, studies: Sequence[str]
) -> tuple[dict[str, str], dict[str, str], bool]:
    """Study -> the first study of the same patient, which stands for the patient; Patient IDs by it; and whether a phantom
    is among them.

    Patient IDs of the images do not leave the data, but for their hashes.
    """
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    ids: dict[str, str] = {}
    synthetic = []
    for study in sorted(studies):
        patient, phantom = source.identity(study)
        found[study] = first.setdefault(patient, study) if patient else study
        ids[found[study]] = patient
        synthetic.append(phantom)
    # A data set with a phantom in it is synthetic: nobody may take it for patients.
    return found, ids, any(synthetic)


def _labels(
    source: RsnaDataset | SpiderDataset, patients: Mapping[str, str], levels: Sequence[str]
) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {patient: Counter() for patient in patients.values()}
    for study, patient in patients.items():
        for level in levels:
            for name, grade in source.grades_at(study, level).items():
                found[patient][f"{name} {grade}"] += 1
    return found


def _check_patients(patients: Mapping[str, str], splits: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for study, patient in patients.items():
        if seen.setdefault(patient, splits.get(study, "")) != splits.get(study, ""):
            raise GaussianMRIError(
                f"Studies {patient} and {study} are of one patient but in different splits; put them into one."
            )


# ---- one study -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _PrepareStudy:
    """The job of one study, for any process that sees the same files."""

    folder: str
    part: str
    options: PrepareOptions
    output: str

    def __call__(self, study_id: str) -> Outcome:
        source = data_in(self.folder, self.part)
        types = [kind for kind in self.options.types if kind in source.types]
        study = source.study(study_id, (AXIAL, SAGITTAL_T2, *([SAGITTAL_T1] if "S-T1" in types else [])))
        lines = list(study.problems)
        grades = {level: study.grades_at(level) for level in self.options.levels}
        levels = [level for level in self.options.levels if grades[level] or not source.graded]
        if not levels:
            return Outcome([], lines=(*lines, "none of its discs has a grade"))
        sagittal = {"S-T1": study.sagittal_t1, "S-T2": study.sagittal_t2}
        seen = {kind: stack for kind, stack in sagittal.items() if kind in types and stack is not None}
        wanted = [kind for kind in SAGITTAL_TYPES if kind in types]
        absent = [f"no sagittal {kind[2:]} series can be used" for kind in wanted if kind not in seen]
        if not study.axial and set(types) & set(AXIAL_TYPES):
            absent.insert(0, "no axial series can be used")
        lines += absent
        if not study.axial and not seen:
            raise GaussianMRIError("; ".join(lines))
        # All of them, as a prediction knows them: slices that end at one disc are scaled at another.
        known, problems = study_discs(
            study, LEVELS, self.options.discs, Path(self.folder) / f"{self.part}_images"
        )
        discs = {level: known[level] for level in levels if level in known}
        lines += [problem for problem in problems if problem.partition(":")[0] in levels]
        if not discs:
            raise GaussianMRIError("; ".join([*lines, "no disc is known"]))
        found: Inputs = []
        for level, disc in discs.items():
            inputs, problems = study_inputs(
                disc, study.axial, seen, options=self.options, others=[*known.values()]
            )
            said = dict.fromkeys(line for images in inputs.values() for line in images.remarks)
            lines += [f"{level}: {line}" for line in (*problems, *said)]
            for kind, images in inputs.items():
                name = file_name(f"{study_id}-{level.replace('/', '')}-{kind}", "case")
                case = Case(
                    name, study_id, study_id, level, kind, "", grades[level], images.outside, study.synthetic
                )
                found.append((case, images))
            if self.options.overlays and inputs:
                self._overlay(study, disc, inputs)
        return Outcome(found, lines=tuple(lines), files=tuple(case.file for case, _ in found))

    def _overlay(self, study: RsnaStudy, disc: DiscGeometry, inputs: Mapping[str, GradingInput]) -> None:
        from PIL import Image

        from .overlay import overlay_picture

        stacks = [*([study.sagittal_t2] if study.sagittal_t2 is not None else []), *study.axial]
        target = Path(self.output) / "overlays"
        target.mkdir(exist_ok=True)
        for kind, images in inputs.items():
            picture = overlay_picture(disc, region_of(disc, self.options.region), stacks, images)
            name = file_name(f"{study.study_id}-{disc.level.replace('/', '')}-{kind}.png", "case.png")
            with atomic_write(target / name) as temporary:
                Image.fromarray(picture).save(temporary, format="PNG")


def study_discs(
    study: RsnaStudy, levels: Sequence[str], source: str | None, images: Path
) -> tuple[dict[str, DiscGeometry], list[str]]:
    """The discs of a study by level, from `source` or its label coordinates, and what is wrong with the others.

    Args:
        source: see `find_disc_file`; None for label coordinates.
        images: folder of the studies.

    Raises:
        GaussianMRIError: there is no file for this study, or it cannot be read.
    """
    from .disc_sources import disc_from_coordinates

    if source is not None:
        path = find_disc_file(source, study.study_id, images / study.study_id)
        found, problems = read_disc_file(path, study.sagittal_t2, levels)
        problems += [
            f"{level}: {path.name} has no such disc"
            for level in levels
            if level not in found and not problems
        ]
        return found, problems
    if study.labels is not None:
        named, reasons = study.labels.discs(levels, study.sagittal_t2)
        return named, [f"{level}: {reason}" for level, reason in reasons.items()]
    discs: dict[str, DiscGeometry] = {}
    problems = []
    for level in levels:
        try:
            sagittal = [] if study.sagittal_t2 is None else [study.sagittal_t2]
            disc = disc_from_coordinates(study.coordinates, sagittal, level)
            discs[level] = replace(disc, file=study.coordinates_file)
        except GaussianMRIError as error:
            problems.append(f"{level}: {study.coordinates_file}: {error}")
    return discs, problems


def study_inputs(
    disc: DiscGeometry,
    axial: Sequence[SliceStack],
    sagittal: Mapping[str, SliceStack],
    *,
    options: PrepareOptions,
    others: Sequence[DiscGeometry] = (),
) -> tuple[dict[str, GradingInput], list[str]]:
    """Inputs of one disc by type, of axial and sagittal series, and what is wrong with the others.

    Args:
        sagittal: series by "S-T1" and "S-T2".
        others: all known discs of the study, for `series_median`.
    """
    found: dict[str, GradingInput] = {}
    problems: list[str] = []
    if axial and set(options.types) & set(AXIAL_TYPES):
        found, problems = disc_inputs(disc, axial, options, others=others)
    for kind in SAGITTAL_TYPES:
        if kind in options.types and kind in sagittal:
            try:
                images = sagittal_input(disc, sagittal[kind], kind, options.region)
                _check_outside(images, kind, disc, options)
            except GaussianMRIError as error:
                problems.append(str(error))
                continue
            found[kind] = images
    return found, problems


def disc_inputs(
    disc: DiscGeometry,
    axial: Sequence[SliceStack],
    options: PrepareOptions,
    *,
    others: Sequence[DiscGeometry] = (),
) -> tuple[dict[str, GradingInput], list[str]]:
    """Inputs of one disc by type, and what is wrong with the others.

    Of acquired stacks of one type the one with most slices in reach counts, then the one with least outside the scan.
    A stack counts only where one of its slices crosses the disc's back: a slab of the neighbouring level does not. Types
    that the scan cannot give (it has no aligned series, say) are no problem as long as it gives one.
    """
    best: dict[str, tuple[GradingInput, SliceStack]] = {}
    problems: list[str] = []
    for stack in axial:
        try:
            median, level = _median(disc, stack, axial, others)
            images = acquired_input(disc, stack, options.region, median, options.aligned_degrees)
            images = scaled_at(images, level)
            _check_shows(images, stack, disc, options)
        except GaussianMRIError as error:
            problems.append(str(error))
            continue
        before = best.get(images.input_type)
        if before is None or _rank(images) > _rank(before[0]):
            best[images.input_type] = (images, stack)
    found = {kind: images for kind, (images, _) in best.items() if kind in options.types}
    if not best:
        return {}, problems or ["no axial series shows it"]
    problems = []
    methods = [method for method in RESAMPLED if method in options.types]
    if methods and "N" in best:
        sources = _sources(disc, best["N"][1], axial, options)
        facts = best["N"][0].facts
        for method in methods:
            try:
                images = resampled_input(
                    disc,
                    sources,
                    method,
                    options.region,
                    options.device,
                    options.fit,
                    cancelled=stopping,
                    median=float(facts["vertebral_median"]),
                )
            except GaussianMRIError as error:
                if stopping():
                    raise
                problems.append(f"{method}: {error}")
                continue
            try:
                _check_outside(images, method, disc, options)
            except GaussianMRIError as error:
                problems.append(str(error))
                continue
            found[method] = scaled_at(images, facts.get("vertebral_median_of", ""))
    return {kind: found[kind] for kind in AXIAL_TYPES if kind in found}, problems


def _rank(images: GradingInput) -> tuple[int, float]:
    return int(images.mask.sum()), -images.outside


def _check_shows(images: GradingInput, stack: SliceStack, disc: DiscGeometry, options: PrepareOptions) -> None:
    nearest, count = float(images.facts["nearest_mm"]), int(images.mask.sum())
    if nearest > stack.spacing:
        raise GaussianMRIError(f"{stack.name}: its slices end {nearest:.0f} mm from {disc.named}")
    if count < options.fewest_slices:
        raise GaussianMRIError(f"{stack.name}: only {count} slices are near {disc.named}")
    _check_outside(images, stack.name, disc, options)


def _check_outside(images: GradingInput, name: str, disc: DiscGeometry, options: PrepareOptions) -> None:
    if images.outside > options.most_outside:
        raise GaussianMRIError(f"{name}: {images.outside:.0%} of the region of {disc.named} lies outside the scan")


def _median(
    disc: DiscGeometry, stack: SliceStack, axial: Sequence[SliceStack], others: Sequence[DiscGeometry]
) -> tuple[float, str]:
    """Of the stack; where a slab ends at the disc, `series_median`."""
    try:
        return vertebral_median(stack, disc), ""
    except GaussianMRIError:
        return series_median(disc, same_series(stack, axial), others)


def same_series(stack: SliceStack, axial: Sequence[SliceStack]) -> list[SliceStack]:
    """Those of `axial` that are of the series of a slab, and so of its scale."""
    return [each for each in axial if _series(each) == _series(stack)]


def _series(stack: SliceStack) -> str:
    """What a series is known by; two volumes without headers are two series."""
    return str(stack.source.get("series_uid") or stack.name)


def _sources(
    disc: DiscGeometry, stack: SliceStack, axial: Sequence[SliceStack], options: PrepareOptions
) -> list[SliceStack]:
    """What planes are resampled from: the slabs of a stack's series that are not aligned with the disc."""
    series = same_series(stack, axial)
    return [each for each in series if alignment_degrees(disc, each) > options.aligned_degrees]
