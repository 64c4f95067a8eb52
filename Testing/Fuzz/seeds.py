"""Small valid files of every kind, which mutations begin with."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1] / "Python"


def make(folder: Path) -> None:
    """Write all seeds below `folder`."""
    sys.path.insert(0, str(TESTS))
    folder.mkdir(parents=True, exist_ok=True)
    _volumes(folder / "vol")
    _dicom(folder)
    _fields(folder)
    _planes(folder / "plane")
    _cinematic(folder / "cine")
    _rsna(folder)
    _grading(folder / "grade")
    _foreign(folder / "grade")
    _spider(folder / "spider")
    _cohort(folder)


def run(*command: str) -> None:
    """A command in this process, which has to succeed."""
    from GaussianMRILib.cli import main

    try:
        main(args=[*command, "--quiet"], prog_name="gaussianmri")
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"gaussianmri {' '.join(command)} ended with {end.code}") from end


def pixels() -> np.ndarray:
    """(6, 20, 24) int16: smooth, with air."""
    z, y, x = np.mgrid[:6, :20, :24]
    body = np.exp(-(((x - 11.5) / 9) ** 2) - ((y - 9.5) / 8) ** 2)
    return (200 * body * (1 + 0.3 * np.sin(x / 2 + z) * np.cos(y / 3)) - 6).astype(np.int16)


def _volumes(folder: Path) -> None:
    import SimpleITK as sitk

    folder.mkdir()
    image = sitk.GetImageFromArray(pixels())
    image.SetSpacing((1.0, 1.1, 4.0))
    image.SetOrigin((-10.0, 5.0, 20.0))
    packed = {"b.mha", "c.nrrd"}
    for name in ("a.mhd", "a.mha", "b.mha", "a.nrrd", "c.nrrd", "a.nhdr", "a.nii", "a.nii.gz", "d.hdr"):
        sitk.WriteImage(image, str(folder / name), name in packed)
    told = {
        "Modality": "MR", "EchoTime": 0.095, "RepetitionTime": 3.5, "InversionTime": 0.16, "SliceThickness": 4,
        "ScanningSequence": "SE_IR", "ScanOptions": "FS", "SequenceName": "_tse2d1_15", "ImageType": ["ORIGINAL", "PRIMARY"],
    }  # fmt: skip
    for name in ("s", "t"):  # with the file that dcm2niix writes beside
        sitk.WriteImage(image, str(folder / f"{name}.nii"))
        (folder / f"{name}.json").write_text(json.dumps(told))
    parts = [f"s{k}.raw" for k in range(len(pixels()))]
    for name, voxels in zip(parts, pixels(), strict=True):
        (folder / name).write_bytes(voxels.tobytes())
    for name, line, named in (
        ("e.mhd", "ElementDataFile = a.raw", "ElementDataFile = LIST 2D\n"),
        ("e.nhdr", "data file: a.raw", "data file: LIST\n"),
    ):  # fmt: skip
        header = (folder / name.replace("e", "a", 1)).read_text()
        assert line in header, header
        (folder / name).write_text(header.replace(line, named + "\n".join(parts)).rstrip() + "\n")
    labels = sitk.Cast(image > 100, sitk.sitkUInt8)
    sitk.WriteImage(labels, str(folder / "l.nii.gz"))
    for key, text in {"Name": "body", "Color": "1 0 0", "LabelValue": "1", "Layer": "0"}.items():
        labels.SetMetaData(f"Segment0_{key}", text)
    sitk.WriteImage(labels, str(folder / "l.seg.nrrd"))


def _dicom(folder: Path) -> None:
    import dicom_files

    plain = folder / "dicom"
    plain.mkdir(parents=True)
    for k, image in enumerate(pixels().astype(np.uint16)):
        dataset = dicom_files.image(image, (-10, -20, 4.0 * k), InstanceNumber=k + 1, EchoTime=20.0)
        dicom_files.save(dataset, plain / f"{k}.dcm")
    frames = [{"position": (0, 0, 4.0 * k), "echo_time": 20.0} for k in range(6)]
    many = folder / "enhanced"
    many.mkdir()
    dicom_files.save(dicom_files.enhanced(pixels().astype(np.uint16), frames), many / "e.dcm")
    packed = folder / "compressed"
    packed.mkdir()
    from pydicom import dcmread
    from pydicom.uid import RLELossless

    for path in sorted(plain.iterdir()):
        dataset = dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(packed / path.name)


def _fields(folder: Path) -> None:
    import GaussianMRILib as gm

    target = folder / "field"
    target.mkdir()
    run("fit", str(folder / "vol" / "a.nii"), "-o", str(target / "l.npz"), "--device", "cpu")
    gm.GaussianField.load(target / "l.npz").explicit().save(target / "f.npz")


def _planes(folder: Path) -> None:
    folder.mkdir()
    base = {"type": "Plane", "coordinateSystem": "LPS", "coordinateUnits": "mm"}
    pose = {
        "center": [-1.0, 15.0, 30.0], "orientation": [1.0, 0, 0, 0, 1, 0, 0, 0, 1], "size": [20.0, 16.0],
        "planeBounds": [-10.0, 10.0, -8.0, 8.0], "baseToNode": np.eye(4).ravel().tolist(), "autoScalingSizeFactor": 1.0,
    }  # fmt: skip
    points = [[-1.0, 15.0, 30.0], [9.0, 15.0, 30.0], [-1.0, 25.0, 30.0]]
    controls = [{"position": p, "positionStatus": "defined"} for p in points]
    markups = [{**base, **pose, "name": "one"}, {**base, "name": "two", "controlPoints": controls}]
    (folder / "p.mrk.json").write_text(json.dumps({"markups": markups}, indent=1))
    line = {**base, "type": "Line", "name": "axis", "controlPoints": controls[:2]}
    (folder / "l.mrk.json").write_text(json.dumps({"markups": [line]}, indent=1))
    curve = [{"position": [-1.0, 15.0 + n * n, 22.0 + 5 * n], "positionStatus": "defined"} for n in range(4)]
    content = {"markups": [{**base, "type": "Curve", "name": "canal", "controlPoints": curve}]}
    (folder / "c.mrk.json").write_text(json.dumps(content, indent=1))


def _cinematic(folder: Path) -> None:
    import SimpleITK as sitk

    from GaussianMRILib.cinematic.looks import find_look
    from GaussianMRILib.cinematic.transfer import write_volume_property

    folder.mkdir()
    k, j, i = np.mgrid[:24, :24, :24]
    away = np.sqrt((k - 12) ** 2 + (j - 12) ** 2 + (i - 12) ** 2)
    volume = sitk.GetImageFromArray(np.where(away < 8, 60 + 20 * np.sin(i / 2), -900).astype(np.int16))
    volume.SetSpacing((2.0, 2.0, 2.5))
    sitk.WriteImage(volume, str(folder / "vol.nii.gz"))
    look = find_look("CT soft tissue")
    (folder / "p.json").write_text(json.dumps({"looks": [look.to_dict()]}))
    write_volume_property(folder / "x.vp", look.transfer)
    transfer = look.transfer
    component = {
        "scalarOpacityUnitDistance": 1.0, "shade": True, "disableGradientOpacity": True,
        "rgbTransferFunction": {"points": [{"x": p[0], "color": p[1:]} for p in transfer.colour.tolist()]},
        "scalarOpacity": {"points": [{"x": p[0], "y": p[1]} for p in transfer.opacity.tolist()]},
        "lighting": {"diffuse": 1.0, "ambient": 0.2, "specular": 0.1, "specularPower": 10.0},
    }  # fmt: skip
    (folder / "x.vp.json").write_text(json.dumps({"volumeProperties": [{"components": [component]}]}))
    run(
        "cinematic", "dataset", str(folder / "vol.nii.gz"), "-o", str(folder / "set"), "--look", str(folder / "p.json"),
        "--train", "6", "--test", "2", "--size", "16", "--samples", "2", "--test-samples", "2",
    )  # fmt: skip
    for name, method in (("m", "analytic"), ("c", "aam+lt")):
        run(
            "cinematic", "train", str(folder / "set"), "-o", str(folder / f"{name}.ply"), "--quality", "quick", "--splats",
            "60", "--iterations", "12", "--method", method, "--checkpoint", str(folder / f"{name}.ckpt"), "--device", "cpu",
        )  # fmt: skip


def _grading(folder: Path) -> None:
    from dataclasses import replace

    import grading_cases
    import rsna_files

    from GaussianMRILib.grading.disc_sources import write_discs
    from GaussianMRILib.grading.model_card import save_grader
    from GaussianMRILib.grading.network import GradingNetwork
    from GaussianMRILib.grading.people import add_people

    crops = grading_cases.make_set(folder / "inputs", {"train": 12, "validation": 6, "test": 9})
    (folder / "patients.key").write_text("a key of nobody " * 3)
    os.environ["GAUSSIANMRI_PATIENT_KEY"] = str(folder / "patients.key")
    for each in (crops, grading_cases.make_set(folder / "other", {"test": 3}, seed=1)):
        add_people(each.folder, {who: f"{each.folder.name} {who}" for who in each.patients})
    trainer = grading_cases.trainer(crops, folder / "left.ckpt")
    for _ in trainer:
        pass
    trainer.export(folder / "left.pt")
    whole = (9, 112, 224)
    card = grading_cases.card(shape=whole, input_size=(16, 32))
    save_grader(folder / "disc.pt", GradingNetwork(replace(grading_cases.TINY, slices=9)), card)
    write_discs(folder / "discs.json", {"L5/S1": rsna_files.true_disc()})


def _foreign(folder: Path) -> None:
    import json

    import torch

    from GaussianMRILib.grading.foreign import CARD_FORMAT, known_input
    from GaussianMRILib.grading.labels import GRADES

    torch.manual_seed(0)
    layers = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(9, 3)
    network = torch.jit.script(torch.nn.Sequential(*layers).eval())
    torch.jit.save(network, folder / "foreign.ts")
    with torch.inference_mode():
        known = torch.softmax(network(torch.from_numpy(known_input())[None]), dim=1)[0].tolist()
    content = {
        "format": CARD_FORMAT, "version": 1, "task": "left_subarticular_stenosis", "input_types": ["A"],
        "classes": list(GRADES), "spacing": 0.5, "data": "none", "licence": "none", "known": known,
    }  # fmt: skip
    (folder / "foreign.json").write_text(json.dumps(content), encoding="utf-8")


def _spider(folder: Path) -> None:
    import spider_files

    spider_files.write_spider(folder, {"1": [1, 2, 3, 4, 5]})


def _rsna(folder: Path) -> None:
    import rsna_files

    copy = rsna_files.Copy(folder / "rsna")
    for study in ("101", "102", "103"):
        rsna_files.phantom_study(copy, study, ("aligned", "sagittal"))
        copy.grade(study, left_subarticular_stenosis_l5_s1="Moderate")
    copy.save()


def _cohort(folder: Path) -> None:
    studies = folder / "studies"
    for name in ("one", "two"):
        (studies / name).mkdir(parents=True)
        shutil.copy(folder / "vol" / "a.nii", studies / name / "a.nii")
    run(
        "cohort", str(studies), "-o", str(folder / "done"), "--planes", str(folder / "plane" / "p.mrk.json"), "--method",
        "voxel", "--workers", "1",
    )  # fmt: skip
