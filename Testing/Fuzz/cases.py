"""Replays files that once went wrong: `python -m Testing.Fuzz.cases FOLDER`, a folder with one for each case.

A case's CMD has the command in its first line, which may name `seeds/...`; the files beside it are the damaged ones. The
right answer is one error that names a file of the case, or, where the rest can be used, a warning that does.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import harness

_DATASET = "cinematic dataset seeds/cine/vol.nii.gz -o set --train 1 --test 0 --size 16 --samples 1 --test-samples 1"
#: Of cases without CMD.
_COMMANDS = {
    "hang-preset": f"{_DATASET} --preset p.json",
    "left_one_bit.pt": "grade evaluate seeds/grade/inputs left_one_bit.pt --views 1 --resamples 5",
    "silent-mha-uninitialised": "inspect b.mha",
    "silent-nifti-pair-truncated": "inspect c.hdr",
}
#: What is bounded now, and therefore right to accept: it took hours.
_ACCEPTED = ("hang-preset",)


def replay(case: Path, seeds: Path) -> tuple[harness.Verdict, bool]:
    """Run a case on a copy; how it ended, and whether that is right."""
    with tempfile.TemporaryDirectory(prefix="case-") as name:
        folder = Path(name) / "case"
        folder.mkdir()
        shutil.copytree(case, folder, dirs_exist_ok=True) if case.is_dir() else shutil.copy(case, folder)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)
        names = {path.name for path in folder.rglob("*") if path.is_file()} - {"CMD"}
        shutil.copytree(seeds, folder / "seeds")
        for checkpoint in folder.glob("*.ckpt"):
            _adopt(checkpoint, folder / "seeds" / "cine" / "set" / "dataset.json")
        told = folder / "CMD"
        command = told.read_text().splitlines()[0] if told.is_file() else _COMMANDS[case.name]
        verdict = harness.run(shlex.split(command), folder, sorted(names))
        text = (folder / "output.log").read_text(errors="replace")
        warned = verdict.kind == "accepted" and "Warning: Left out" in text and any(n in text for n in names)
        # Files of a model are checked as one, and an export of a sound one is accepted.
        sound = case.name.startswith("splat-clean") and verdict.kind == "accepted"
        return verdict, verdict.kind == "clean" or warned or sound or (case.name in _ACCEPTED and verdict.good)


def _adopt(checkpoint: Path, settings: Path) -> None:
    """Let a data set be the one that a checkpoint was made with."""
    import torch

    content = json.loads(settings.read_text())
    content["fingerprint"] = torch.load(checkpoint, weights_only=True)["dataset"]
    settings.write_text(json.dumps(content))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m Testing.Fuzz.cases", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--seeds", type=Path, help="folder of seeds; made where it is not there")
    options = parser.parse_args(arguments)
    with harness.ready(options.seeds) as seeds:
        cases = [case for case in sorted(options.folder.iterdir()) if options.only in case.name]
        wrong = 0
        for case in cases:
            verdict, right = replay(case, seeds)
            wrong += not right
            print(f"{'right' if right else 'WRONG'} {case.name}: {verdict.kind}: {verdict.detail}", flush=True)
        print(f"{len(cases)} cases, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
