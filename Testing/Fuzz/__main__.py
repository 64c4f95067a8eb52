"""`python -m Testing.Fuzz --count 5000 --seed 1`: damage, run, count; exit status 1 where something was not refused well."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import harness
from .mutations import mutate
from .targets import TARGETS, Target


@dataclass(frozen=True)
class Outcome:
    """One mutation and what became of it."""

    number: int
    target: Target
    file: str
    done: str
    verdict: harness.Verdict

    def __str__(self) -> str:
        v = self.verdict
        return f"{self.number} {self.target.name}, {self.file}: {self.done}\n    {v.kind} ({v.seconds:.1f} s): {v.detail}"


def fuzz(
    seeds: Path,
    numbers: Sequence[int],
    seed: int = 0,
    targets: Sequence[Target] = TARGETS,
    keep: Path | None = None,
    seconds: float = harness.SECONDS,
) -> Iterator[Outcome]:
    """Damage and run: mutation n depends on `seed` and n alone.

    Args:
        seeds: what `harness.make_seeds` wrote.
        keep: folder that gets the inputs of what went wrong.
    """
    for number in numbers:
        rng = random.Random(f"{seed} {number}")
        target = targets[number % len(targets)]
        with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
            folder = Path(name)
            for source in target.copied:
                place = folder / Path(source).name
                (shutil.copytree if (seeds / source).is_dir() else shutil.copy)(seeds / source, place)
            found = sorted(path for pattern in target.damaged for path in folder.glob(pattern))
            victim = rng.choice(found)
            done = mutate(victim, rng)
            relative = victim.relative_to(folder)
            command = target.command
            if not callable(command):
                command = [word.replace("{seeds}", str(seeds)) for word in command]
            inputs = folder.with_name(folder.name + "-input")
            if keep is not None:
                shutil.copytree(folder, inputs)
            verdict = harness.run(command, folder, [*relative.parts], seconds, seeds=seeds)
            outcome = Outcome(number, target, str(relative), done, verdict)
            if keep is not None:
                if not verdict.good:
                    shutil.copytree(inputs, keep / str(number), dirs_exist_ok=True)
                    (keep / str(number) / "CMD").write_text(f"{command}\n{outcome}\n")
                shutil.rmtree(inputs)
            yield outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m Testing.Fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="mutations")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds whose name has this text")
    parser.add_argument("--seeds", type=Path, help="folder of seeds; made where it is not there")
    parser.add_argument("--log", type=Path, help="file that gets a line for every mutation")
    parser.add_argument("--keep", type=Path, help="folder for the inputs of what went wrong")
    options = parser.parse_args()
    targets = [target for target in TARGETS if options.only in target.name]
    with harness.ready(options.seeds) as seeds:
        kinds: Counter[str] = Counter()
        slowest = largest = 0.0
        begun = time.monotonic()
        for outcome in fuzz(
            seeds, range(options.first, options.first + options.count), options.seed, targets, options.keep
        ):
            kinds[outcome.verdict.kind] += 1
            slowest, largest = max(slowest, outcome.verdict.seconds), max(largest, outcome.verdict.memory / 2**20)
            if options.log is not None:
                with options.log.open("a") as file:
                    file.write(f"{outcome}\n")
            if not outcome.verdict.good:
                print(outcome, flush=True)
    total = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(
        f"{sum(kinds.values())} mutations in {time.monotonic() - begun:.0f} s: {total}; the slowest took {slowest:.1f} s, "
        f"the largest {largest:.0f} MB"
    )
    return int(any(kind not in harness.GOOD for kind in kinds))


if __name__ == "__main__":
    sys.exit(main())
