"""What users hand in: for each kind the files, which of them are damaged, and the command that reads them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .seeds import TESTS


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes:
        name: of the kind.
        copied: what is copied into the folder that the command runs in, relative to the seeds.
        damaged: which files may be damaged, as patterns relative to that folder.
        command: arguments of `gaussianmri`, with {seeds} for the seeds' folder, or a function of the two folders.
    """

    name: str
    copied: tuple[str, ...]
    damaged: tuple[str, ...]
    command: tuple[str, ...] | Callable[[Path, Path], Any]


_PLANE = ("--center", "1", "-15", "30", "--normal", "0", ".2", "1", "--size", "24", "24", "--spacing", "1")
_OUTPUTS = ("-o", "o.nrrd", "--png", "o.png", "--distance", "dist.nrrd", "--support", "s.nrrd")
_LOOK = ("--train", "1", "--test", "0", "--size", "16", "--samples", "1", "--test-samples", "1", "-o", "made")
_QUICK = ("--quality", "quick", "--splats", "60", "--iterations", "12", "--device", "cpu")
_CUT = ("--clip", "0", "0", "1", "30")
_PARTS = tuple(f"s{k}.raw" for k in range(6))


def _grade_training(seeds: Path, folder: Path) -> None:
    sys.path.insert(0, str(TESTS))
    import grading_cases

    from GaussianMRILib.grading.crops import CropSet

    for _ in grading_cases.trainer(CropSet.read(seeds / "grade" / "inputs"), Path("left.ckpt")):
        pass


def _volume(name: str, *more: str) -> Target:
    files = tuple(f"vol/{each}" for each in (name, *more))
    return Target(f"volume {name}", files, (name, *(m for m in more if not m.endswith("raw"))), ("inspect", name))


TARGETS = (
    Target("dicom", ("dicom",), ("dicom/*.dcm",), ("inspect", "dicom")),
    Target("dicom pixels", ("dicom",), ("dicom/*.dcm",), ("fit", "dicom", "-o", "f.npz", "--device", "cpu")),
    Target("dicom enhanced", ("enhanced",), ("enhanced/*.dcm",), ("inspect", "enhanced")),
    Target("dicom compressed", ("compressed",), ("compressed/*.dcm",), ("inspect", "compressed")),
    _volume("a.mha"), _volume("b.mha"), _volume("a.mhd", "a.raw"), _volume("a.nrrd"), _volume("c.nrrd"),
    _volume("a.nhdr", "a.raw"), _volume("e.mhd", *_PARTS), _volume("e.nhdr", *_PARTS), _volume("a.nii"),
    _volume("a.nii.gz"), _volume("d.hdr", "d.img"),
    Target("sidecar", ("vol/s.nii", "vol/s.json"), ("s.json",), ("fit", "s.nii", "{seeds}/vol/t.nii", "-o", "f.npz")),
    Target("field", ("field/f.npz",), ("f.npz",), ("resample", "f.npz", *_PLANE, *_OUTPUTS)),
    Target("field of a lattice", ("field/l.npz",), ("l.npz",), ("resample", "l.npz", *_PLANE, *_OUTPUTS)),
    Target("field to volume", ("field/l.npz",), ("l.npz",), ("resample", "l.npz", "--isotropic", "4", "-o", "v.nrrd")),
    Target(
        "planes", ("plane/p.mrk.json",), ("p.mrk.json",),
        ("resample", "{seeds}/field/f.npz", "--plane", "p.mrk.json", "-o", "o.nrrd", "--png", "o.png"),
    ),
    Target(
        "line", ("plane/l.mrk.json",), ("l.mrk.json",),
        ("resample", "{seeds}/field/f.npz", "--line", "l.mrk.json", "--radial", "2", "--size", "24", "24", "-o", "o.nrrd"),
    ),
    *(
        Target(
            f"labels {name}", (f"vol/{name}",), (name,), ("labels", name, "--onto", "{seeds}/vol/a.nii", "-o", "o.seg.nrrd")
        )
        for name in ("l.seg.nrrd", "l.nii.gz")
    ),
    Target(
        "curve", ("plane/c.mrk.json",), ("c.mrk.json",),
        ("resample", "{seeds}/field/l.npz", "--curve", "c.mrk.json", "--width", "10", "-o", "o.nrrd", "--png", "o.png"),
    ),
    *(
        Target(
            f"look {name}", (f"cine/{name}",), (name,),
            ("cinematic", "dataset", "{seeds}/cine/vol.nii.gz", "--look", name, *_LOOK),
        )
        for name in ("p.json", "x.vp", "x.vp.json")
    ),
    Target(
        "model", ("cine/m.ply", "cine/m.json", "cine/m.face.npz"), ("m.ply", "m.json", "m.face.npz"),
        ("cinematic", "render", "m.ply", "-o", "o.png", "--size", "32", "32", *_CUT),
    ),
    Target(
        "model to bake", ("cine/m.ply", "cine/m.json", "cine/m.face.npz"), ("m.ply", "m.json", "m.face.npz"),
        ("cinematic", "export", "m.ply", "-o", "o2.ply", *_CUT),
    ),
    Target("model clipgs", ("cine/c.ply", "cine/c.json"), ("c.*",), ("cinematic", "export", "c.ply", "-o", "o.spz", *_CUT)),
    Target("model to glb", ("cine/c.ply", "cine/c.json"), ("c.*",), ("cinematic", "export", "c.ply", "-o", "o.glb")),
    Target("data set", ("cine/set",), ("set/*.json", "set/*.npz"), ("cinematic", "train", "set", "-o", "n.ply", *_QUICK)),
    Target(
        "data set pictures", ("cine/set", "cine/m.ply"), ("set/transforms_test.json", "set/images/test_*"),
        ("cinematic", "evaluate", "set", "m.ply", "--device", "cpu"),
    ),
    Target(
        "training checkpoint", ("cine/m.ckpt",), ("m.ckpt",),
        ("cinematic", "train", "{seeds}/cine/set", "-o", "n.ply", "--checkpoint", "m.ckpt", "--method", "analytic", *_QUICK),
    ),
    Target(
        "training checkpoint clipgs", ("cine/c.ckpt",), ("c.ckpt",),
        ("cinematic", "train", "{seeds}/cine/set", "-o", "n.ply", "--checkpoint", "c.ckpt", "--method", "aam+lt", *_QUICK),
    ),
    Target(
        "grader", ("grade/left.pt",), ("left.pt",),
        ("grade", "evaluate", "{seeds}/grade/inputs", "left.pt", "--views", "1", "--resamples", "5"),
    ),
    Target("grader's training", ("grade/left.ckpt",), ("left.ckpt",), _grade_training),
    Target(
        "grading inputs", ("grade/inputs",), ("inputs/*.csv", "inputs/*.json", "inputs/images/test*.npz"),
        ("grade", "evaluate", "inputs", "{seeds}/grade/left.pt", "--external", "{seeds}/grade/other", "--views", "1",
         "--resamples", "5"),
    ),
    Target(
        "discs", ("grade/discs.json",), ("discs.json",),
        ("grade", "predict", "{seeds}/grade/disc.pt", "--scan", "{seeds}/rsna/train_images/101", "--discs", "discs.json",
         "--level", "L5/S1", "--type", "R-VI", "--views", "1", "--device", "cpu"),
    ),
    Target(
        "network from elsewhere", ("grade/foreign.json", "grade/foreign.ts"), ("foreign.json", "foreign.ts"),
        ("grade", "import", "foreign.ts", "foreign.json", "-o", "made.pt"),
    ),
    Target(
        "spider table", ("spider",), ("spider/radiological_gradings.csv",),
        ("grade", "prepare", "spider", "-o", "made", "--workers", "1", "--split", "1", "0", "0", "--level", "L5/S1"),
    ),
    Target("rsna tables", ("rsna",), ("rsna/*.csv",), ("grade", "validate", "rsna", "--workers", "1")),
    Target(
        "cohort", ("done", "studies"), ("done/report.csv", "done/cohort.json"),
        ("cohort", "studies", "-o", "done", "--planes", "{seeds}/plane/p.mrk.json", "--method", "voxel", "--workers", "1"),
    ),
)  # fmt: skip
