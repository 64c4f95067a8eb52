"""Splits of patients for training, validation and test in which every label keeps its share."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping

from ..errors import GaussianMRIError

#: Shares of the patients where nothing else is said.
FRACTIONS = {"train": 0.7, "validation": 0.15, "test": 0.15}


def stratified_split(
    labels: Mapping[str, Iterable[str] | Mapping[str, int]],
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
) -> dict[str, str]:
    """Distribute patients so that each label's cases, not only their number, have the wanted shares.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011,
    algorithm 1): the rarest label that is left is dealt out first, each patient to the split that lacks most of that label,
    then most patients. A patient, with all studies and levels, goes to one split.

    Args:
        labels: patient -> the labels of its cases, such as "left_subarticular_stenosis Severe", each as often as it has
            it; a mapping has the counts. Patients without labels are allowed.
        fractions: split -> share; they add up to 1.
        seed: of ties. The result does not depend on the order of `labels`.

    Returns:
        patient -> split.

    Raises:
        GaussianMRIError: shares that do not add up to 1, or fewer patients than splits.
    """
    shares = dict(FRACTIONS if fractions is None else fractions)
    if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise GaussianMRIError(f"The shares of the splits must be 0 or more and add up to 1, got {shares}.")
    splits = [name for name, share in shares.items() if share > 0]
    counts = {patient: Counter(labels[patient]) for patient in sorted(labels)}
    if len(counts) < len(splits):
        raise GaussianMRIError(
            f"{len(counts)} patients cannot be split into {', '.join(splits)}: all studies of a patient stay together. "
            "Check that the Patient IDs of the images differ, or use fewer splits."
        )
    generator = random.Random(seed)
    left = list(counts)
    generator.shuffle(left)
    total: Counter[str] = Counter()
    for own in counts.values():
        total.update(own)
    wanted = {name: {label: shares[name] * n for label, n in total.items()} for name in splits}
    room = {name: shares[name] * len(counts) for name in splits}
    found: dict[str, str] = {}

    def place(patient: str, label: str | None) -> None:
        def lack(name: str) -> tuple[float, float]:
            return (wanted[name][label] if label is not None else 0.0), room[name]

        name = max(splits, key=lambda each: (*lack(each), generator.random()))
        found[patient] = name
        room[name] -= 1
        for own, n in counts[patient].items():
            wanted[name][own] -= n

    while left:
        remaining: Counter[str] = Counter(
            label for patient in left for label, n in counts[patient].items() if n > 0
        )
        if not remaining:
            for patient in left:
                place(patient, None)
            break
        rarest = min(remaining, key=lambda label: (remaining[label], label))
        # Those with most cases first: the others can still even things out.
        now = sorted((p for p in left if counts[p][rarest] > 0), key=lambda p: -counts[p][rarest])
        for patient in now:
            place(patient, rarest)
        taken = set(now)
        left = [patient for patient in left if patient not in taken]
    return found
