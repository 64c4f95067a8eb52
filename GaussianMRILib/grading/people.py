"""Who the patients of a set of inputs are, told by hashes that nobody without the key can turn back into Patient IDs.

`patients.csv` of a set has a row for each patient of `cases.csv`: the key's name and the HMAC-SHA-256 of the Patient ID.
Patient IDs are short, so that a hash without a key, however slow, is undone by trying all of them.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import logging
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import GaussianMRIError
from ..files import atomic_write, reading, table_rows

FILE = "patients.csv"
_COLUMNS = ("patient", "key", "hash")
_SHORTEST_KEY = 32  # characters
#: Patient of the table -> name of the key, hash of the Patient ID.
People = dict[str, tuple[str, str]]
_log = logging.getLogger("GaussianMRI")


def patient_key() -> bytes | None:
    """The secret of whoever prepares sets: the file that GAUSSIANMRI_PATIENT_KEY names, else one at home, made when needed.

    None where there is no home to keep one in.

    Raises:
        GaussianMRIError: the file cannot be read, or is too short to be secret.
    """
    given = os.environ.get("GAUSSIANMRI_PATIENT_KEY")
    try:
        path = Path(given) if given else Path.home() / ".gaussianmri" / "patients.key"
        if not given and not path.exists():
            path.parent.mkdir(exist_ok=True)
            _make_key(path)
    except (OSError, RuntimeError) as error:
        _log.warning("No hashes of Patient IDs: there is no place for their key (%s).", error)
        return None
    with reading(path, "a key for Patient IDs", "Name another one by GAUSSIANMRI_PATIENT_KEY."):
        key = path.read_bytes().strip()
        if len(key) < _SHORTEST_KEY:
            raise ValueError(f"it has fewer than {_SHORTEST_KEY} characters")
    return key


def _make_key(path: Path) -> None:
    """Write a new key to `path`, whole, unless another process was faster: both then have that one's."""
    number, name = tempfile.mkstemp(dir=path.parent)  # which only the user can read
    temporary = Path(name)
    try:
        with open(number, "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(temporary, path)  # unlike a renaming, it leaves a file that is there
        except OSError:
            if not path.exists():  # the file system has no links
                os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def add_people(folder: Path, patient_ids: Mapping[str, str]) -> None:
    """Write the hashes of Patient IDs into a set, beside those that are there.

    Args:
        patient_ids: by patient of `cases.csv`; "" where there is none.

    Raises:
        GaussianMRIError: see `patient_key`; or the file cannot be read or written.
    """
    key = patient_key()
    if key is None:
        return
    people = read_people(folder)
    name = _hash(key, "name of the key")[:8]
    people |= {who: (name, _hash(key, f"patient {found}")) for who, found in patient_ids.items() if found}
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *((who, *people[who]) for who in sorted(people))])
    with atomic_write(folder / FILE) as temporary:
        temporary.write_bytes(text.getvalue().encode())


def _hash(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:32]


def read_people(folder: Path) -> People:
    """The hashes in a set; none of one that has no such file.

    Raises:
        GaussianMRIError: a damaged file.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    people = {}
    with reading(path, "a table of hashed Patient IDs", "Delete it, or prepare the set again."):
        rows = table_rows(path.read_bytes())
        for row in rows:
            if not re.fullmatch("[0-9a-f]{8}", row["key"]) or not re.fullmatch("[0-9a-f]{32}", row["hash"]):
                raise ValueError(f"line {rows.line_num} has no hash")
            people[row["patient"]] = row["key"], row["hash"]
    return people


def check_other_people(folder: Path, patients: Iterable[str], other: Path, others: Iterable[str]) -> str:
    """Refuse a second set that has people of the first.

    Args:
        folder, other: of the sets.
        patients, others: all patients in the tables of each.

    Returns:
        for how many this could not be told, and which of those have one name in both; "" where it could for all.

    Raises:
        GaussianMRIError: some are in both, or a file of hashes is damaged.
    """
    sets = [(folder, set(patients), read_people(folder)), (other, set(others), read_people(other))]
    keys = {key for key, _ in sets[0][2].values()} & {key for key, _ in sets[1][2].values()}
    told = [{who: known for who in all_ if (known := people.get(who, ("", "")))[0] in keys} for _, all_, people in sets]
    both = sorted(who for who, known in told[1].items() if known in told[0].values())
    if os.path.realpath(folder) == os.path.realpath(other):
        both = sorted(sets[1][1])
    if both:
        raise GaussianMRIError(
            f"{other} is no other cohort: {_few(both)} of its patients are in {folder} too. Prepare it without them."
        )
    if all(len(found) == len(all_) for found, (_, all_, _) in zip(told, sets, strict=True)):
        return ""
    counts = " and ".join(
        f"{len(found)} of {len(all_)} patients of {where}" for found, (where, all_, _) in zip(told, sets, strict=True)
    )
    # A name that others have too proves nothing, and is all that there is to see of a copy.
    alike = sorted(who for who in sets[0][1] & sets[1][1] if who not in told[0] or who not in told[1])
    named = f" Those of one name in both may be the same: {_few(alike)}." if alike else ""
    return (
        f"Whether the same people are in {folder} and {other} could not be checked for all of them: only {counts} have a "
        "hash of a Patient ID that can be compared. Others are of sets prepared before there were hashes or with another "
        f"key, or their images have no Patient ID.{named}"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
