"""What a training writes of every epoch: a CSV file and, where TensorBoard is installed, its events."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import atomic_write
from .labels import GRADES, Task

LOG_COLUMNS = ("epoch", "rate", "loss", "validation_loss", "validation_auroc", *GRADES, "window", "seconds")


def write_log(path: Path, task: Task, history: Sequence[Mapping[str, Any]]) -> None:
    """Write all epochs to the CSV file and the last one to TensorBoard's events beside it.

    Args:
        task: which the events are named by.
        history: by epoch, values of `LOG_COLUMNS`; absent ones are left empty.

    Raises:
        GaussianMRIError: the file cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, LOG_COLUMNS, lineterminator="\n")
        lines.writeheader()
        lines.writerows(history)
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return
    row = history[-1]
    with SummaryWriter(str(path.parent)) as writer:
        for name in LOG_COLUMNS[1:]:
            if row.get(name) is not None:
                writer.add_scalar(f"{task.name}/{name}", row[name], row["epoch"])
