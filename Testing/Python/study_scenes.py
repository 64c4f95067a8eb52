"""A study of a graded phantom (axial T2, sagittal T1 and T2), a label map of it, and networks that can be foreseen."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from grading_cases import card

from GaussianMRILib import ImagePlane
from GaussianMRILib.grading.foreign import CARD_FORMAT, known_input
from GaussianMRILib.grading.foreign_import import import_network
from GaussianMRILib.grading.label_schemes import TOTALSPINESEG
from GaussianMRILib.grading.labels import GRADES, LEVELS, STENOSES, Task
from GaussianMRILib.grading.model_card import Grader
from GaussianMRILib.labels import LabelFile, write_labels
from GaussianMRILib.phantom.dicom import Study, write_series
from GaussianMRILib.phantom.scanner import Scan, acquire
from GaussianMRILib.phantom.tissues import T1
from GaussianMRILib.stacks import read_stacks
from Testing.Experiment.graded import GradedPhantom

FULL = (9, 112, 224)
SEED = 18  # nearly upright: what lies on both sides of the midline is alike
LEFT_STENOSED = {
    Task("spinal_canal_stenosis"): 0.0,
    Task("subarticular_stenosis", "left"): 7.0, Task("subarticular_stenosis", "right"): 0.0,
    Task("neural_foraminal_narrowing", "left"): 6.0, Task("neural_foraminal_narrowing", "right"): 0.0,
}  # fmt: skip
DISCS = ("L5-S1", "L4-L5", "L3-L4", "L2-L3", "L1-L2")
#: What each condition is shown as.
KINDS = {task: {"spinal": "S-T2", "neural": "S-T1"}.get(task.condition.split("_")[0], "A") for task in STENOSES}


def stenosed_left(mirrored: bool = False) -> GradedPhantom:
    """Recess and foramen narrow on the left at L5/S1; on the right in the mirror image."""
    depths = {task.mirrored if mirrored else task: depth for task, depth in LEFT_STENOSED.items()}
    return GradedPhantom(SEED, depths, mirrored)


def scans(phantom: GradedPhantom, pixel: float = 1.3, spacing: float = 3.3) -> dict[str, Scan]:
    """Axial slices aligned with each disc and two sagittal series of the whole lumbar spine, without noise."""
    middle = phantom.frame.to_ras(0, -12, phantom.build.disc("L3-L4").s)
    shape = (round(80 / pixel), round(130 / pixel))
    axial = [
        plane
        for name in DISCS
        for plane in phantom.disc_plane(name, spacing=(pixel, pixel), shape=shape, thickness=4.0).stack(5, 4.4)
    ]
    shape = (round(250 / pixel), round(120 / pixel))
    upright = ImagePlane.from_axes(middle, (0, -1, 0), (0, 0, -1), spacing=(pixel, pixel), shape=shape, thickness=4.0)
    return {
        "axial T2": Scan("axial", tuple(axial), samples=1),
        "sagittal T2": Scan("sagittal", tuple(upright.stack(19, spacing)), samples=1),
        "sagittal T1": Scan("sagittal", tuple(upright.stack(19, spacing)), samples=1, contrast=T1),
    }


def write_study(folder: Path, phantom: GradedPhantom, pixel: float = 1.3) -> Path:
    """`dicom/` and `labels.nii.gz`, which lies on the grid of the sagittal T2 series."""
    study = Study("study", phantom.seed)
    for number, (name, scan) in enumerate(scans(phantom, pixel).items(), 1):
        place = folder / "dicom" / name
        place.mkdir(parents=True)
        images = acquire(phantom, scan, seed=number)
        write_series(place, study, number, scan.planes, images, scan.name, contrast=scan.contrast)
    write_labels(folder / "labels.nii.gz", phantom_labels(phantom, folder / "dicom" / "sagittal T2"))
    return folder


def phantom_labels(phantom: GradedPhantom, series: Path) -> LabelFile:
    """Discs, vertebrae and canal of a phantom as TotalSpineSeg numbers them, on the grid of a series."""
    (stack,) = read_stacks([series])
    matrix = stack.grid()
    assert matrix is not None
    k, j, i = np.indices(stack.shape).reshape(3, -1)
    ras = np.stack([i, j, k], axis=1) @ matrix[:3, :3].T + matrix[:3, 3]
    points = phantom.frame.points(phantom._reflected(ras))
    voxels = np.zeros(len(ras), np.uint8)
    discs = [phantom.build.disc(name) for name in DISCS]
    names = ["S1", "L5", "L4", "L3", "L2", "L1"]
    edges = [discs[0].s - 34, *(disc.s for disc in discs), discs[-1].s + 37]
    body = (points.u / 24) ** 2 + (points.v / 17) ** 2 < 1
    for name, (low, high) in zip(names, pairwise(edges), strict=True):
        voxels[body & (points.s > low) & (points.s < high)] = TOTALSPINESEG.vertebrae[name]
    for disc in discs:
        inside = (points.u / disc.half_width) ** 2 + (points.v / disc.half_depth) ** 2 < 1
        voxels[inside & (np.abs(points.s - disc.s) < disc.height / 2)] = TOTALSPINESEG.discs[disc.name.replace("-", "/")]
    canal = (points.u / 9) ** 2 + ((points.v + 26) / 7) ** 2 < 1
    voxels[canal & (points.s > edges[0]) & (points.s < edges[-1])] = 2
    return LabelFile(voxels.reshape(stack.shape), matrix)


class Probe(torch.nn.Module):
    """A network without weights: severe where one part of the region is darker than another, by a margin.

    Args:
        dark, bright: (slices, rows, columns) of the region; None for `bright`: the intensity .3.
    """

    def __init__(self, dark: list[list[int]], bright: list[list[int]] | None = None) -> None:
        super().__init__()
        self.dark, self.bright = dark, bright or [[0, 0]] * 3
        self.fixed = bright is None

    def mean(self, images: torch.Tensor, box: list[list[int]]) -> torch.Tensor:
        (a, b), (c, d), (e, f) = box
        return images[:, a:b, c:d, e:f].mean(dim=[1, 2, 3])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, 3) of images (B, 9, 112, 224)."""
        dark = self.mean(images, self.dark)
        bright = torch.full_like(dark, 0.3) if self.fixed else self.mean(images, self.bright)
        return torch.stack([torch.ones_like(dark), torch.zeros_like(dark), 30 * (bright - dark)], dim=1)


def probe(task: Task) -> Probe:
    """Of the recesses on axial slices, of the foramina on sagittal T1, of the canal on sagittal T2."""
    if task.condition == "subarticular_stenosis":
        left, right = [[4, 5], [50, 62], [124, 142]], [[4, 5], [50, 62], [82, 100]]
    elif task.condition == "neural_foraminal_narrowing":
        left, right = [[7, 8], [50, 62], [106, 118]], [[1, 2], [50, 62], [106, 118]]
    else:
        return Probe([[4, 5], [40, 72], [122, 136]])
    return Probe(left, right) if task.side == "left" else Probe(right, left)


def probe_graders() -> list[Grader]:
    """One for each condition, for whole inputs of every level."""
    cards = {task: card(task, FULL, levels=LEVELS, input_types=(KINDS[task],)) for task in STENOSES}
    networks: list[Any] = [ProbeNetwork(probe(task)) for task in STENOSES]
    return [Grader(networks[n], known, f"{n}" * 64, task.name) for n, (task, known) in enumerate(cards.items())]


class ProbeNetwork:
    """A `Probe` in the place of a `GradingNetwork`."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module, self.cls = module, torch.zeros(1)

    def encode(self, images: torch.Tensor, mask: torch.Tensor, batch: int | None = None) -> torch.Tensor:
        return images

    def classify(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.module(features)


def import_probe(task: Task, folder: Path, output: Path, **changes: Any) -> None:
    """Write a probe as TorchScript with its card, and import both."""
    module = torch.jit.script(probe(task))
    torch.jit.save(module, folder / "probe.ts")
    known = torch.softmax(module(torch.from_numpy(known_input())[None]), dim=1)[0].tolist()
    content = {
        "format": CARD_FORMAT, "version": 1, "task": task.name, "input_types": [KINDS[task]], "classes": list(GRADES),
        "spacing": 0.47, "data": "nothing", "licence": "invented", "known": known, **changes,
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(content))
    import_network(folder / "probe.ts", folder / "card.json", output)
