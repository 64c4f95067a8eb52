"""Pictures of the experiment's report, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from GaussianMRILib.files import atomic_write
from GaussianMRILib.grading.bootstrap import Interval
from GaussianMRILib.grading.crops import Case, CropSet
from GaussianMRILib.grading.labels import GRADES, STENOSES

#: Of the input types; tell each other apart in grey and with colour-blind eyes.
COLOURS = {"N": "#d55e00", "R-VI": "#56b4e9", "R-GS": "#0072b2", "A": "#5a5a5a"}


def auroc_figure(title: str, rows: Mapping[str, Mapping[str, Interval]], tested: Sequence[str]) -> Figure:
    """A group for each training set, in it a dot with its interval for each input type tested on.

    Args:
        rows: AUROC by training set and input type; undefined ones are left out.
        tested: input types in order.
    """
    figure = Figure(figsize=(7.6, 4.2), dpi=100, layout="constrained")
    axes = figure.add_subplot(title=title, ylabel="macro AUROC")
    lowest = 0.5
    for k, kind in enumerate(tested):
        offset = (k - (len(tested) - 1) / 2) / (len(tested) + 2)
        known = [(n + offset, row[kind]) for n, row in enumerate(rows.values())]
        x = [place for place, interval in known if interval.value is not None]
        y = [interval.value for _, interval in known if interval.value is not None]
        axes.plot(x, y, "o", color=COLOURS[kind], markersize=8, label=kind)
        lowest = min([lowest, *y])
        for place, interval in known:
            if interval.low is not None and interval.high is not None:
                axes.vlines(place, interval.low, interval.high, color=COLOURS[kind], linewidth=3)
                lowest = min(lowest, interval.low)
    axes.set(xlim=(-0.5, len(rows) - 0.5), ylim=(np.floor(lowest * 10) / 10, 1))
    axes.set_xticks(range(len(rows)), [f"trained on {name}" for name in rows])
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    figure.legend(title="tested on", ncols=len(tested), loc="outside lower center")
    return figure


def example_figure(crops: CropSet, studies: Sequence[str]) -> Figure:
    """The middle slice of studies as every input type shows it, with the reported grades; left is on the right."""
    kinds = ("A", "R-VI", "R-GS", "N")
    cases = {(case.study_id, case.input_type): case for case in crops.cases}
    rows, columns = crops.images(cases[studies[0], kinds[0]])[0].shape[1:]
    width = 2.6  # inches
    size = (width * len(kinds), (width * rows / columns + 0.45) * len(studies))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    grid = figure.subplots(len(studies), len(kinds), squeeze=False)
    for line, study in zip(grid, studies, strict=True):
        for axes, kind in zip(line, kinds, strict=True):
            images, mask = crops.images(cases[study, kind])
            there = np.flatnonzero(mask)
            axes.imshow(images[there[len(there) // 2]].astype(np.float32), cmap="gray", vmin=0, vmax=1)
            axes.set_title(f"{kind}, SYNTHETIC", fontsize="small", loc="left")
            axes.set_axis_off()
        line[0].set_title(f"{kinds[0]}, SYNTHETIC:\n{_grades(cases[study, kinds[0]])}", fontsize="small", loc="left")
    return figure


def _grades(case: Case) -> str:
    """The reported grades that are not normal."""
    found = [
        f"{task.title.rsplit(' ', 1)[0]} {case.grades[task.name].lower()}"
        for task in STENOSES
        if case.grades.get(task.name, GRADES[0]) != GRADES[0]
    ]
    return ",\n".join(found) or GRADES[0].lower()


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG.

    Raises:
        GaussianMRIError: the file cannot be written.
    """
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")
