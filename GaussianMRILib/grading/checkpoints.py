"""Checkpoints that a user has: files, or folders of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import GaussianMRIError

if TYPE_CHECKING:
    from .labels import Task
    from .model_card import Grader

CHECKPOINT_SUFFIX = ".pt"
NO_CHECKPOINT = (
    "No grade without a checkpoint, and none comes with this software. Train one on data that you have, such as the RSNA "
    "2024 lumbar data set (non-commercial use), with the command gaussianmri grade train, or take one that a colleague "
    "trained with this software; the experiment on phantoms in the source code trains some on drawings, whose grades are "
    "marked SYNTHETIC. Then choose its file, or a folder with one file for each condition and side."
)


def find_checkpoints(path: str | os.PathLike[str]) -> list[Path]:
    """The checkpoints that a path stands for: a file, or every *.pt file in a folder.

    Raises:
        GaussianMRIError: no path, no such file, or a folder without checkpoints; says where they come from.
    """
    if not str(path):
        raise GaussianMRIError(NO_CHECKPOINT)
    place = Path(path)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise GaussianMRIError(f"{place} does not exist. {NO_CHECKPOINT}")
    found = sorted(place.glob("*" + CHECKPOINT_SUFFIX))
    if not found:
        raise GaussianMRIError(f"{place} has no checkpoint (*{CHECKPOINT_SUFFIX}). {NO_CHECKPOINT}")
    return found


def load_graders(paths: Iterable[str | os.PathLike[str]], *, device: str = "cpu") -> list[Grader]:
    """The networks of files and folders, one for each condition and side.

    Raises:
        GaussianMRIError: see `find_checkpoints` and `load_grader`; two networks for the same condition and side.
    """
    from .model_card import load_grader

    graders: dict[Task, Grader] = {}
    for path in paths:
        for file in find_checkpoints(path):
            grader = load_grader(file, device=device)
            other = graders.setdefault(grader.card.task, grader)
            if other is not grader:
                raise GaussianMRIError(
                    f"{other.name} and {grader.name} both grade {grader.card.task.title}; leave one of them."
                )
    return [graders[task] for task in sorted(graders)]
