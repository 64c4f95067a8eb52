"""Files of labels: volumes of whole numbers, of which Slicer's .seg.nrrd also has names and colours."""

from __future__ import annotations

import os
import re
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import itk_name, reading
from ..geometry import check_affine
from ..stacks.itk import quiet_itk
from ..stacks.volumes import read_voxels
from ..writers.volume import write_image

#: Different labels of one file; an image has more.
MOST_LABELS = 4096
_SEGMENT = re.compile(r"Segment(\d+)_(\w+)")
#: Where segments lie in the file, and from what they were made, which is not so any more.
_OF_THE_GRID = ("Extent",)
_NAMED = (".seg.nrrd", ".seg.nhdr")


@dataclass(frozen=True, eq=False)
class LabelFile:
    """What a file of labels holds.

    Attributes:
        voxels: (K, J, I) of an unsigned type; 0 is the background.
        ijk_to_ras: (4, 4) float64, mm.
        segments: of each label that has a name or more, what the file says of it by Slicer's keys: "Name", "Color"
            ("r g b", 0 to 1), "ID", "Tags".
    """

    voxels: NDArray[Any]
    ijk_to_ras: NDArray[np.float64]
    _: KW_ONLY
    segments: dict[int, dict[str, str]] = field(default_factory=dict)


def read_labels(path: str | os.PathLike[str]) -> LabelFile:
    """Read a label map: NRRD (Slicer's .seg.nrrd with names and colours), NIfTI or MetaImage.

    Raises:
        GaussianMRIError: no such file, a damaged one, an image instead of labels, or segments that overlap.
    """
    source = Path(path)
    with reading(source, "a label map", "Give a .seg.nrrd, .nrrd, .nii.gz or .mha of labels."), quiet_itk() as sitk:
        os.stat(source)
        segments = _segments(sitk, source) if source.name.lower().endswith(_NAMED) else {}
        if len({entry.get("Layer", "0") for entry in segments.values()}) > 1:
            raise GaussianMRIError(
                f"{source} has segments that overlap. Save those that do not as a file of their own in Slicer."
            )
        voxels, affine = read_voxels(sitk, source)
        check_affine(affine, what="its ijk_to_ras")
        voxels = np.asarray(voxels)
        if voxels.dtype.kind == "f" and not np.array_equal(voxels, np.rint(voxels)):
            raise GaussianMRIError(f"{source} is an image: labels are whole numbers. Give a label map.")
        if voxels.min() < 0 or voxels.max() > 65535 or len(np.unique(voxels)) > MOST_LABELS:
            raise GaussianMRIError(
                f"{source} is an image: labels are 0 to 65535, and {MOST_LABELS} at most. Give a label map."
            )
        named = {int(entry.get("LabelValue", 1)): entry for entry in segments.values()}
    return LabelFile(voxels.astype(np.uint8 if voxels.max() < 256 else np.uint16), affine, segments=named)


def write_labels(path: str | os.PathLike[str], labels: LabelFile) -> Path:
    """Write a label map; of a .seg.nrrd, Slicer makes segments with their names and colours.

    Args:
        path: .nrrd, .nii, .nii.gz or .mha.

    Raises:
        GaussianMRIError: another suffix, or the file cannot be written.
    """
    target = Path(path)
    words = {}
    if target.name.lower().endswith(_NAMED):
        there = [int(value) for value in np.unique(labels.voxels) if value]
        end = " ".join(f"0 {size - 1}" for size in labels.voxels.shape[::-1])
        words = {
            "Segmentation_MasterRepresentation": "Binary labelmap",
            "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
            "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        }
        for number, value in enumerate(dict.fromkeys([*labels.segments, *there])):
            entry = {"ID": f"Segment_{value}", "Name": f"Label {value}", **labels.segments.get(value, {})}
            entry |= {"LabelValue": str(value), "Layer": "0", "Extent": end}
            words |= {f"Segment{number}_{key}": text for key, text in entry.items()}
    return write_image(target, labels.voxels, labels.ijk_to_ras, words=words)


def _segments(sitk: Any, path: Path) -> dict[int, dict[str, str]]:
    """What the header says of each segment, by its number."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    reader.ReadImageInformation()
    found: dict[int, dict[str, str]] = {}
    for key in reader.GetMetaDataKeys():
        matched = _SEGMENT.fullmatch(key)
        if matched is not None and matched[2] not in _OF_THE_GRID:
            found.setdefault(int(matched[1]), {})[matched[2]] = _text(reader.GetMetaData(key))
    return dict(sorted(found.items()))


def _text(words: str) -> str:
    """Of a header that is in UTF-8, as Slicer writes it, or else in Latin-1: ITK hands on other bytes as surrogates."""
    raw = words.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
