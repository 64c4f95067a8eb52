"""Measures of the canal at all discs of a study, from its label maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..labels import LabelFile
from .canal import Canal, CanalMeasure, measure_canal
from .disc import DiscGeometry
from .label_schemes import SPINEPS_REGIONS, SPINEPS_VERTEBRAE, scheme_of
from .labels import LEVELS
from .spine_labels import SpineLabels, canal_mask, check_on_scan, check_same_grid, spine_labels

if TYPE_CHECKING:
    from ..stacks import SliceStack


@dataclass(frozen=True)
class StudyMeasures:
    """What was measured.

    Attributes:
        measures: a row for each level.
        remarks: on the label maps as a whole: transitional, missing or doubled vertebrae.
        spine: the label map that named the discs; None where the discs were given and no map has any.
    """

    measures: tuple[CanalMeasure, ...]
    remarks: tuple[str, ...]
    spine: SpineLabels | None


def measure_study(
    maps: Mapping[str, LabelFile],
    *,
    canal: tuple[str, LabelFile] | None = None,
    discs: Mapping[str, DiscGeometry] | None = None,
    stacks: Sequence[SliceStack] = (),
    levels: Iterable[str] = LEVELS,
    progress: Callable[[float], object] | None = None,
) -> StudyMeasures:
    """Measure the canal at every disc.

    Args:
        maps: label maps by their names for messages: one of TotalSpineSeg, or both of SPINEPS.
        canal: name and label map of the canal, in place of the one in `maps`.
        discs: by level, in place of those in `maps`, which say where a level disagrees with theirs.
        stacks: the scan; label maps have to lie on it, and the canal may not be cut by its edge.
        levels: rows of the result.
        progress: called with the fraction done.

    Raises:
        GaussianMRIError: maps that nobody can read, without discs or canal, of different grids, off the scan or mirrored.
    """
    if canal is not None:
        maps = {name: labels for name, labels in maps.items() if name != canal[0]}
    spines = [spine_labels(labels, name) for name, labels in maps.items()]
    for one in spines:
        if stacks:
            check_on_scan(one.labels, stacks, one.name)
    by_scheme = {one.scheme.name: one for one in spines}
    pair = [by_scheme[scheme.name] for scheme in (SPINEPS_VERTEBRAE, SPINEPS_REGIONS) if scheme.name in by_scheme]
    if len(pair) == 2:
        check_same_grid(pair[0].labels, pair[1].labels, (pair[0].name, pair[1].name))
    mask, matrix = _canal(spines, canal, stacks)

    def scanned(points: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray(np.any([stack.inside(points) for stack in stacks], axis=0))

    spine = next((one for one in spines if any(value in one.places for value in one.scheme.discs.values())), None)
    wanted = list(levels)
    if discs is not None:
        problems: dict[str, str] = {level: "the file of discs has no such disc" for level in wanted}
        found = {level: disc for level, disc in discs.items() if level in wanted}
        notes = {level: [said] for level, disc in found.items() if spine is not None and (said := spine.says(disc))}
    elif spine is not None:
        found, problems = spine.discs(wanted)
        notes = {level: spine.remarks(level) for level in found}
    else:
        names = ", ".join(f"{one.name} ({one.scheme.name})" for one in spines) or "no label map"
        raise GaussianMRIError(
            f"There are no discs in {names}. Give the label map of TotalSpineSeg, of SPINEPS the one with seg-vert in its "
            "name, or a file of discs."
        )
    for level, disc in found.items():
        if "warning" in disc.facts:
            notes.setdefault(level, []).append(disc.facts["warning"])
    rows = measure_canal(
        Canal(mask, matrix, scanned if stacks else None), found, wanted, problems=problems, notes=notes, progress=progress
    )
    return StudyMeasures(tuple(rows), tuple(line for one in spines for line in one.anomalies()), spine)


def _canal(
    spines: Sequence[SpineLabels], canal: tuple[str, LabelFile] | None, stacks: Sequence[SliceStack]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Mask and matrix of the canal."""
    if canal is not None:
        name, labels = canal
        if stacks:
            check_on_scan(labels, stacks, name)
        if scheme_of(labels) is not None:
            spine_labels(labels, name)  # its sides
    else:
        having = [one for one in spines if any(value in one.places for value in one.scheme.canal)]
        if not having:
            names = ", ".join(f"{one.name} ({one.scheme.name})" for one in spines)
            raise GaussianMRIError(
                f"There is no spinal canal in {names}. Give the label map that has it: of SPINEPS the one with seg-spine in "
                "its name."
            )
        name, labels = having[0].name, having[0].labels
    return canal_mask(labels, name), labels.ijk_to_ras
