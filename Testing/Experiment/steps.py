"""The jobs of the experiment, each for one study or one network, in any process that sees the same files."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from GaussianMRILib.cohort import Outcome, stopping
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.files import atomic_write
from GaussianMRILib.grading.crops import Case, CropSet
from GaussianMRILib.grading.disc import DiscGeometry
from GaussianMRILib.grading.inputs import RESAMPLED, GradingInput, acquired_input, resampled_input
from GaussianMRILib.grading.labels import AXIAL_TYPES, GRADES, Task
from GaussianMRILib.grading.options import GradingOptions
from GaussianMRILib.grading.roi import COLUMNS, ROWS, RegionOptions
from GaussianMRILib.stacks import SliceStack

#: Standard deviations of the weights of pixels around the disc's back, in rows and columns of a crop (the paper's Fig. 9).
WEIGHT_SIGMAS = (ROWS / 6, COLUMNS / 6)
SCORES = ("psnr", "ssim", "lpips")
PREDICTIONS, TAKEN = "predictions.csv", "training.json"


# ---- images --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PrepareInputs:
    """From a study in the RSNA layout to its inputs of every type; R are resampled from N on the planes of A."""

    cohort: str
    region: RegionOptions
    fit: dict[str, Any]
    device: str

    def __call__(self, study_id: str) -> Outcome:
        from GaussianMRILib.grading.disc_sources import read_discs
        from GaussianMRILib.grading.rsna import opened

        study = opened(self.cohort, "train").study(study_id)
        discs = read_discs(Path(self.cohort) / "discs" / f"{study_id}.json")
        found, lines = [], list(study.problems)
        for level, disc in discs.items():
            grades = study.grades_at(level)
            for kind, images in self.inputs(disc, study.axial).items():
                name = f"{study_id}-{level.replace('/', '')}-{kind}"
                case = Case(name, study_id, study_id, level, kind, "", grades, synthetic=study.synthetic)
                found.append((case, images))
        return Outcome(found, lines=tuple(lines))

    def inputs(self, disc: DiscGeometry, axial: Sequence[SliceStack]) -> dict[str, GradingInput]:
        """By type; without straight slices A only.

        As in the paper's section 3, the planes of the resampled images are those of the aligned slices.

        Raises:
            GaussianMRIError: no aligned slices, two series of one type, or a fit that was stopped.
        """
        acquired: dict[str, tuple[GradingInput, SliceStack]] = {}
        for stack in axial:
            images = acquired_input(disc, stack, self.region)
            if images.input_type in acquired:
                raise GaussianMRIError(f"{stack.name} is a second axial series of type {images.input_type}.")
            acquired[images.input_type] = images, stack
        if "A" not in acquired:
            raise GaussianMRIError(f"There is no axial series aligned with {disc.named}.")
        aligned = acquired["A"][0]
        found = {kind: images for kind, (images, _) in acquired.items()}
        if "N" in acquired:
            straight, stack = acquired["N"]
            median = float(straight.facts["vertebral_median"])
            planes = [plane for plane, there in zip(aligned.planes, aligned.mask, strict=True) if there]
            for method in RESAMPLED:
                # Gaussians know the slice profile; interpolation does not, and would blur twice.
                chosen = planes if method == "R-GS" else [replace(plane, thickness=0.0) for plane in planes]
                found[method] = resampled_input(
                    disc, stack, method, self.region, self.device, self.fit,
                    cancelled=stopping, planes=chosen, median=median,
                )  # fmt: skip
        return {kind: found[kind] for kind in AXIAL_TYPES if kind in found}


@dataclass(frozen=True)
class ScoreImages:
    """Quality of a study's resampled images against its aligned slices, written to `metrics/{study}.json`."""

    folder: str

    def __call__(self, study_id: str) -> None:
        crops = _opened_crops(self.folder)
        cases = {case.input_type: case for case in crops.cases if case.study_id == study_id}
        truth = crops.images(cases["A"])
        scores = {kind: image_scores(*crops.images(cases[kind]), *truth) for kind in RESAMPLED}
        with atomic_write(Path(self.folder) / "metrics" / f"{study_id}.json") as temporary:
            temporary.write_text(json.dumps(scores) + "\n", encoding="utf-8")


def image_scores(
    images: NDArray[Any], mask: NDArray[np.bool_], truth: NDArray[Any], truth_mask: NDArray[np.bool_]
) -> dict[str, float | None]:
    """PSNR (dB), SSIM and LPIPS, each the mean over the slices, weighted around the back of the disc (section 5.2).

    Args:
        images, truth: (S, H, W), 0 to 1; exactly 0 is outside the scan and not judged.
        mask, truth_mask: (S,), which slices exist.

    Returns:
        By name; LPIPS is None where its weights are not available.

    Raises:
        GaussianMRIError: no slice exists in both.
    """
    from GaussianMRILib.evaluation import score_image
    from GaussianMRILib.metrics import gaussian_weight_mask, lpips

    both = np.flatnonzero(mask & truth_mask)
    if not len(both):
        raise GaussianMRIError("Resampled and aligned images have no slice in common.")
    rows, columns = truth.shape[1:]
    sigmas = (WEIGHT_SIGMAS[0] * rows / ROWS, WEIGHT_SIGMAS[1] * columns / COLUMNS)
    weight = gaussian_weight_mask((rows, columns), ((rows - 1) / 2, (columns - 1) / 2), sigmas)
    values: dict[str, list[float]] = {name: [] for name in SCORES}
    for k in both:
        image, true = (np.where(a[k] == 0, np.nan, a[k]).astype(np.float32) for a in (images, truth))
        if not (np.isfinite(image) & np.isfinite(true)).any():
            continue
        found = score_image(image, true, weight=weight, lpips=lpips, whole=False)
        for name in SCORES:
            if (value := getattr(found, name)) is not None:
                values[name].append(value)
    return {name: float(np.mean(each)) if each else None for name, each in values.items()}


# ---- networks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainNetwork:
    """Train one network and test it on every type; goes on from its checkpoint.

    `networks/{training}-{task}/` gets `grader.pt`, `log.csv`, `training.json` (how many steps it took) and the probabilities
    of the test cases, `predictions.csv`.
    """

    folder: str
    options: GradingOptions
    views: int
    device: str

    def __call__(self, item: tuple[str, tuple[str, ...], str]) -> Outcome:
        from GaussianMRILib.grading.model_card import load_grader
        from GaussianMRILib.grading.predict import grade_cases
        from GaussianMRILib.grading.train import GradingTrainer

        name, types, task_name = item
        task = Task.named(task_name)
        crops = _opened_crops(self.folder)
        target = Path(self.folder) / "networks" / f"{name}-{task_name}"
        target.mkdir(parents=True, exist_ok=True)
        checkpoint = target / "training.ckpt"
        trainer = GradingTrainer(
            crops, task, replace(self.options, input_types=types), checkpoint, self.device, target / "log.csv"
        )
        for _ in trainer:
            if stopping():
                trainer.save()
                raise GaussianMRIError("The training was stopped; the same command goes on with it.")
        taken = {"steps": trainer.step, "limit": trainer.steps, "converged": trainer.converged}
        with atomic_write(target / TAKEN) as temporary:
            temporary.write_text(json.dumps(taken) + "\n", encoding="utf-8")
        grader = load_grader(trainer.export(target / "grader.pt"), task, self.device)
        rows = []
        for kind in AXIAL_TYPES:
            cases = crops.chosen("test", [kind], task=task)
            for case, p in zip(cases, grade_cases(grader, crops, cases, self.views), strict=True):
                rows.append([case.study_id, kind, GRADES[case.label(task) or 0], *(f"{v:.6f}" for v in p)])
        with atomic_write(target / PREDICTIONS) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([["study_id", "input_type", "label", *GRADES], *rows])
        checkpoint.unlink(missing_ok=True)
        return Outcome(None, lines=())


def _opened_crops(folder: str) -> CropSet:
    """The inputs, whose table is read once in each process as long as it does not change."""
    path = Path(folder) / "inputs"
    try:
        changed = (path / "cases.csv").stat().st_mtime_ns
    except OSError:
        changed = 0
    return _read_crops(path, changed)


@functools.lru_cache(maxsize=1)
def _read_crops(path: Path, _changed: int) -> CropSet:
    return CropSet.read(path)
