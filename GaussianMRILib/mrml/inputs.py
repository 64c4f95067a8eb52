"""What is odd about volumes that a user is about to fit together, said before he does."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GaussianMRIError
from .dicom import dicom_files
from .volumes import dicom_slices, file_notes, placed

if TYPE_CHECKING:
    from ..stacks import SliceStack

#: What tells images of one series apart; the library's reader compares whole series, here one image of each is at hand.
_KINDS = ("echo", "echo time", "b-value", "component", "time point")


def input_warnings(volume_nodes: Any) -> list[str]:
    """Sentences that name volumes which do not belong together by their DICOM headers (patient, study, frame of
    reference, contrast), and volumes whose files leave open where they lie.

    One header of each volume is read. Volumes that did not come from DICOM, or whose files are gone, agree with all.
    """
    from ..stacks import why_apart

    nodes = list(volume_nodes)
    found = [f"{node.GetName()}: {note}." for node in nodes for note in file_notes(node)]
    if len(nodes) < 2:
        return found
    known = [stack for node in nodes if (stack := _header_of(node)) is not None]
    for one, other in itertools.combinations(known, 2):
        if reason := why_apart(one, other):
            found.append(f"{one.name} and {other.name} do not belong together: {reason}.")
    return found


def _header_of(node: Any) -> SliceStack | None:
    """A stack with the headers of a volume and no image; None where they are not at hand."""
    if not dicom_slices(node):
        return None
    try:
        path = Path(dicom_files(node)[0])
        moved = not np.array_equal(placed(node)[1], np.eye(4))
        source, frame = _read(path, path.stat().st_mtime_ns)
    except (GaussianMRIError, OSError):
        return None
    from ..stacks import SliceStack

    if moved:  # by the user, who knows where it belongs
        source, frame = {**source, "placed": True}, None
    return SliceStack.from_array(
        np.zeros((1, 1, 1)),
        np.eye(4)[None],
        thickness=1.0,
        frame_of_reference=frame,
        name=node.GetName(),
        source=source,
    )


@functools.lru_cache(maxsize=64)
def _read(path: Path, _changed: int) -> tuple[dict[str, Any], str | None]:
    from ..stacks.dicom_frames import NotAnImage, frames, read_header
    from ..stacks.dicom_source import source_of
    from ..stacks.kinds import shown, value_of

    try:
        frame = frames(path, read_header(path))[0]
    except NotAnImage as error:
        raise GaussianMRIError(f"{path} is no image: {error}.") from error
    kind = {label: shown(value) for label in _KINDS if (value := value_of(frame, label)) is not None}
    return source_of([frame], kind), frame.frame_of_reference


__all__ = ["input_warnings"]
