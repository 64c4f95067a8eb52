"""DICOM MR series of a phantom, as a scanner would export them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import geometry
from ..stacks.dicom_pixels import save_dicom
from .frame import Floats
from .tissues import T2, Contrast

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

SCALE = 1000.0  # stored value of relative signal 1
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Study:
    """What the series of one study share. UIDs follow from `name`: a phantom is the same study every time."""

    name: str
    seed: int

    def uid(self, what: str) -> str:
        from pydicom.uid import generate_uid

        return str(generate_uid(entropy_srcs=[self.name, what]))


def write_series(
    folder: Path,
    study: Study,
    number: int,
    planes: Sequence[geometry.ImagePlane],
    images: Floats,
    name: str,
    file_name: str = "IM{:04d}.dcm",
    rising: bool = False,
    *,
    contrast: Contrast = T2,
) -> None:
    """Write one MR file per slice.

    Args:
        planes: the slices in order along their normal.
        images: (slices, rows, columns), relative signal.
        name: of the series; those of one study and contrast have different ones.
        file_name: with a place for the instance number.
        rising: instance numbers run along the normal. By default they run against it, as they do on many scanners:
            a reader has to sort by position.
        contrast: what the header says of the sequence.
    """
    count = len(planes)
    spacing = float(np.linalg.norm(planes[1].center - planes[0].center)) if count > 1 else None
    for k, (plane, image) in enumerate(zip(planes, images, strict=True)):
        instance = k + 1 if rising else count - k
        dataset = _instance(study, number, instance, name, image, contrast)
        columns, rows = plane.spacing
        dataset.ImagePositionPatient = [_text(x) for x in plane.origin * _RAS_TO_LPS]
        axes = [*(plane.i_axis * _RAS_TO_LPS), *(plane.j_axis * _RAS_TO_LPS)]
        dataset.ImageOrientationPatient = [_text(x) for x in axes]
        dataset.PixelSpacing = [_text(rows), _text(columns)]
        # The standard wants a thickness above zero: the thin planes of the truth are called 0.1 mm.
        dataset.SliceThickness = _text(plane.thickness or 0.1)
        if spacing is not None:
            dataset.SpacingBetweenSlices = _text(spacing)
        path = folder / file_name.format(instance)
        save_dicom(dataset, path)


def _instance(
    study: Study, number: int, instance: int, name: str, image: Floats, contrast: Contrast
) -> FileDataset:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

    # The UIDs of T2 series do not name the contrast.
    unique = name if contrast == T2 else f"{contrast.name} {name}"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(study.uid(f"{unique} {instance}"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["DERIVED" if name == "truth" else "ORIGINAL", "PRIMARY", "OTHER"],
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyDate": "20260101",
        "StudyTime": "120000",
        "AccessionNumber": "",
        "Modality": "MR",
        "Manufacturer": "GaussianMRI phantom",
        "ReferringPhysicianName": "",
        "StudyDescription": "SYNTHETIC lumbar spine",
        "SeriesDescription": f"SYNTHETIC {contrast.name} {name}",
        "PatientName": "Phantom^Lumbar",
        "PatientID": f"PHANTOM-{study.seed}",
        "PatientBirthDate": "",
        "PatientSex": "O",
        "BodyPartExamined": "LSPINE",
        "ScanningSequence": "SE",
        "SequenceVariant": "SK",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "EchoTime": str(contrast.echo_time),
        "RepetitionTime": str(contrast.repetition_time),
        "EchoTrainLength": contrast.echo_train,
        "PatientPosition": "HFS",
        "StudyInstanceUID": study.uid("study"),
        "SeriesInstanceUID": study.uid(f"series {unique}"),
        "FrameOfReferenceUID": study.uid("frame of reference"),
        "PositionReferenceIndicator": "",
        "StudyID": "1",
        "SeriesNumber": number,
        "InstanceNumber": instance,
        "ImageComments": "Synthetic image of a computed phantom",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": image.shape[0],
        "Columns": image.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "WindowCenter": "450",
        "WindowWidth": "900",
    }
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = np.clip(np.rint(image * SCALE), 0, 4095).astype("<u2").tobytes()
    return dataset


def _text(value: float) -> str:
    """A decimal string: at most 16 characters."""
    return f"{float(value):.10f}"[:16]
