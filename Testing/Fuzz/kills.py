"""Commands that are killed at random moments: what was there before is there, or the new is whole.

`python -m Testing.Fuzz.kills --moments 20`
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import harness
from .targets import _OUTPUTS, _PLANE, _QUICK, TESTS

SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@dataclass(frozen=True)
class Victim:
    """A command, and how to see whether what it writes is whole.

    Attributes:
        name: of the command.
        command: as `targets.Target.command`.
        check: gets the folder and, in one dictionary, what the files held before; raises where something is broken. It runs
            in a process of its own.
        prepare: puts into the folder what was there before.
    """

    name: str
    command: tuple[str, ...] | Callable[[Path, Path], Any]
    check: Callable[[Path, dict[str, bytes]], None]
    prepare: Callable[[Path, Path], None]


def _old(*names: str) -> Callable[[Path, Path], None]:
    def prepare(_seeds: Path, folder: Path) -> None:
        for name in names:
            (folder / name).write_bytes(b"an older result")

    return prepare


def _new(folder: Path, before: dict[str, bytes], name: str) -> bool:
    """Whether a file is another than before; it has to be there where it was."""
    path = folder / name
    assert path.is_file() or name not in before, f"{name} is gone"
    return path.is_file() and path.read_bytes() != before.get(name)


def _check_fit(folder: Path, before: dict[str, bytes]) -> None:
    import GaussianMRILib as gm

    if _new(folder, before, "f.npz"):
        gm.GaussianField.load(folder / "f.npz")


def _check_resample(folder: Path, before: dict[str, bytes]) -> None:
    from PIL import Image

    import GaussianMRILib as gm

    names = ("o.nrrd", "dist.nrrd", "s.nrrd", "o.png")
    new = [name for name in names if _new(folder, before, name)]
    assert len(new) in (0, len(names)), f"only {new} are new"
    for name in new:
        if name.endswith("png"):
            Image.open(folder / name).load()
        else:
            gm.read_stacks(folder / name, thickness=1.0)


def _check_training(folder: Path, before: dict[str, bytes]) -> None:
    from GaussianMRILib.cinematic.checkpoint import read_checkpoint
    from GaussianMRILib.cinematic.model_files import load_model

    load_model(folder / "m.ply")
    if (folder / "t.ckpt").exists():
        read_checkpoint(folder / "t.ckpt")


def _check_grading(folder: Path, before: dict[str, bytes]) -> None:
    from GaussianMRILib.grading.model_card import load_grader
    from GaussianMRILib.grading.train import FORMAT, VERSION
    from GaussianMRILib.tensor_files import read_state

    if _new(folder, before, "left.pt"):
        load_grader(folder / "left.pt")
    if (folder / "t.ckpt").exists():
        read_state(folder / "t.ckpt", FORMAT, VERSION, "a checkpoint", "", "")


def _check_cohort(folder: Path, before: dict[str, bytes]) -> None:
    import GaussianMRILib as gm
    from GaussianMRILib.cohort.report import CohortReport

    report = CohortReport.read(folder / "done" / "report.csv")
    for name in report.done:
        for path in (folder / "done" / name).rglob("*.nrrd"):
            if not path.name.startswith(".partial-"):
                gm.read_stacks(path, thickness=1.0)
        assert any((folder / "done" / name).rglob("*.nrrd")), f"{name} is done, and there is nothing"


def _experiment(_seeds: Path, folder: Path) -> None:
    sys.path.insert(0, str(TESTS))
    import graded_scenes

    from Testing.Experiment import cohort
    from Testing.Experiment.run import run_experiment

    for name, value in graded_scenes.COARSE.items():
        setattr(cohort, name, value)
    run_experiment(folder / "x", graded_scenes.TINY, workers=1)


def _check_experiment(folder: Path, before: dict[str, bytes]) -> None:
    import json

    from GaussianMRILib.cohort.report import CohortReport
    from GaussianMRILib.grading.crops import CropSet
    from Testing.Experiment.run import STEPS

    kept = {}
    for path in (folder / "x").rglob("*"):
        if path.name.startswith(".partial-") or not path.is_file():
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.name == "report.csv":
            kept[path.parent.name] = CohortReport.read(path).rows
        if path.name == "crops.json":
            CropSet.read(path.parent)
    _experiment(folder, folder)  # the same call goes on with what is done
    for step in STEPS[:-1]:
        report = CohortReport.read(folder / "x" / step / "report.csv")
        assert not report.failed, f"{step}: {report.lines}"
        again = [name for name, row in kept.get(step, {}).items() if report.rows[name] != row]
        assert not again, f"{step}: {again} were done twice"
    results = json.loads((folder / "x" / "results.json").read_text())
    assert len(results["auroc"]) == 20 and (folder / "x" / "report.html").stat().st_size > 2000


def _check_series(folder: Path, before: dict[str, bytes]) -> None:
    import pydicom

    files = sorted((folder / "series").glob("*.dcm"))
    uids = {str(pydicom.dcmread(path).SeriesInstanceUID) for path in files}
    assert len(files) == 12 and len(uids) == 1, f"{len(files)} files of {len(uids)} series"


def _train(seeds: Path, folder: Path) -> None:
    sys.path.insert(0, str(TESTS))
    import grading_cases

    from GaussianMRILib.grading.crops import CropSet

    trainer = grading_cases.trainer(CropSet.read(seeds / "grade" / "inputs"), Path("t.ckpt"))
    for _ in trainer:
        trainer.save()
    trainer.export("left.pt")


def _series(_seeds: Path, folder: Path) -> None:
    import numpy as np

    import GaussianMRILib as gm

    planes = gm.ImagePlane.from_normal((0, 0, 0), (0, 0, 1), spacing=(1, 1), shape=(32, 32)).stack(12, 2.0)
    images = np.random.default_rng(0).uniform(0, 1000, (12, 32, 32)).astype(np.float32)
    for _ in range(4):
        gm.write_dicom_series(folder / "series", images, planes, overwrite=True)


def _model_before(seeds: Path, folder: Path) -> None:
    for name in ("m.ply", "m.json", "m.face.npz"):
        shutil.copy(seeds / "cine" / name, folder / name)


def _studies(seeds: Path, folder: Path) -> None:
    shutil.copytree(seeds / "studies", folder / "studies")


VICTIMS = (
    Victim("fit", ("fit", "{seeds}/vol/a.nii", "-o", "f.npz", "--device", "cpu"), _check_fit, _old("f.npz")),
    Victim(
        "resample", ("resample", "{seeds}/field/l.npz", *_PLANE, *_OUTPUTS), _check_resample,
        _old("o.nrrd", "o.png", "dist.nrrd", "s.nrrd"),
    ),
    Victim(
        "cinematic train", ("cinematic", "train", "{seeds}/cine/set", "-o", "m.ply", "--checkpoint", "t.ckpt", *_QUICK),
        _check_training, _model_before,
    ),
    Victim("grade train", _train, _check_grading, _old("left.pt")),
    Victim(
        "cohort",
        ("cohort", "studies", "-o", "done", "--planes", "{seeds}/plane/p.mrk.json", "--method", "fast", "--workers", "1"),
        _check_cohort, _studies,
    ),
    Victim("experiment", _experiment, _check_experiment, lambda _seeds, _folder: None),
    Victim("DICOM overwrite", _series, _check_series, _series),
)  # fmt: skip


def _in_fork(work: Callable[[], object], log: Path) -> int:
    """Exit status of `work` in a fork of this process."""
    child = os.fork()
    if child == 0:
        harness._child(lambda _seeds, _folder: work(), log.parent, log, harness.MEMORY, log.parent)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def strike(victim: Victim, seeds: Path, after: float | None, sent: signal.Signals) -> tuple[str, float]:
    """Start a command, kill it after some seconds (None: never), look; "" or what is broken, and seconds until its end."""
    with tempfile.TemporaryDirectory(prefix="kill-") as name:
        folder = Path(name)
        _in_fork(lambda: victim.prepare(seeds, folder), folder / "prepare.log")
        before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        command = victim.command
        if not callable(command):
            command = tuple(word.replace("{seeds}", str(seeds)) for word in command)
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            harness._child(command, folder, folder / "output.log", harness.MEMORY, seeds)
        if after is not None:
            time.sleep(after)
            try:
                os.killpg(child, sent)
            except ProcessLookupError:
                pass
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        took = time.monotonic() - begun
        if after is None and status:
            return f"ended with {status}: {(folder / 'output.log').read_text()[-300:]}", took
        left = [path.name for path in folder.rglob(".partial-*")]
        if sent == signal.SIGTERM and after is not None and left:
            return f"a polite kill left {left}", took
        if _in_fork(lambda: victim.check(folder, before), folder / "check.log"):
            return (folder / "check.log").read_text()[-400:], took
    return "", took


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m Testing.Fuzz.kills", description=__doc__)
    parser.add_argument("--moments", type=int, default=20, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="commands whose name has this text")
    parser.add_argument("--seeds", type=Path, help="folder of seeds; made where it is not there")
    options = parser.parse_args(arguments)
    with harness.ready(options.seeds) as seeds:
        broken: Counter[str] = Counter()
        for victim in VICTIMS:
            if options.only not in victim.name:
                continue
            wrong, whole = strike(victim, seeds, None, SIGNALS[0])
            if wrong:
                print(f"{victim.name}: {wrong}", flush=True)
                broken[victim.name] += 1
                continue
            for number in range(options.moments):
                rng = random.Random(f"{options.seed} {victim.name} {number}")
                after, sent = rng.uniform(0, whole), SIGNALS[number % 2]
                wrong, _ = strike(victim, seeds, after, sent)
                if wrong:
                    broken[victim.name] += 1
                    print(f"{victim.name}, {sent.name} after {after:.3f} of {whole:.1f} s: {wrong}", flush=True)
            print(f"{victim.name}: {options.moments} kills, {broken[victim.name]} broken", flush=True)
    return int(sum(broken.values()) > 0)


if __name__ == "__main__":
    sys.exit(main())
