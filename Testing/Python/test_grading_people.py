"""Whether two sets of inputs are of the same people: told by keyed hashes, never by names of folders."""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import secrets
import shutil
import stat
from pathlib import Path

import pytest
from rsna_files import Copy, phantom_study, true_disc
from spider_files import write_spider

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.grading.crops import CropSet
from GaussianMRILib.grading.disc_sources import write_discs
from GaussianMRILib.grading.people import FILE, add_people, check_other_people, patient_key, read_people
from GaussianMRILib.grading.prepare import PrepareOptions, prepare


def cohort(folder: Path, patients: dict[str, str]) -> CropSet:
    """A set of studies of patients with these IDs, prepared in the usual way."""
    copy = Copy(folder / "rsna")
    for study, patient in patients.items():
        phantom_study(copy, study, ("aligned", "sagittal"), patient=patient)
        copy.grade(study, left_subarticular_stenosis_l5_s1="Severe")
        write_discs(copy.folder / f"{study}.json", {"L5/S1": true_disc()})
    options = PrepareOptions(types=("A",), levels=("L5/S1",), discs=str(copy.folder))
    return prepare(copy.save(), folder / "set", options, fractions={"test": 1.0}, workers=1)[0]


def check(one: CropSet, other: CropSet) -> str:
    return check_other_people(one.folder, one.patients, other.folder, other.patients)


def test_people_are_told_by_their_ids(tmp_path: Path) -> None:
    here = cohort(tmp_path / "here", {"1": "HOSP-4711", "2": "HOSP-4712"})
    again = cohort(tmp_path / "again", {"901": "HOSP-4712", "902": "HOSP-4713"})  # one of them, a year later
    away = cohort(tmp_path / "away", {"1": "ELSEWHERE-1", "2": "ELSEWHERE-2"})  # others, whose studies are called the same
    with pytest.raises(GaussianMRIError, match=r"no other cohort: 901 of its patients are in .*here"):
        check(here, again)
    assert check(here, away) == check(again, away) == ""
    for crops in (here, again, away):
        text = "".join(path.read_text() for path in crops.folder.glob("*.csv"))
        assert "HOSP" not in text and "ELSEWHERE" not in text and len(read_people(crops.folder)) == 2
    (here.folder / FILE).unlink()  # as of a set from before
    assert "only 0 of 2 patients of" in check(here, again) and "could not be checked" in check(again, here)
    assert "of one name" not in check(here, again)
    assert check(here, away).endswith(" Those of one name in both may be the same: 1, 2.")
    shutil.copytree(here.folder, tmp_path / "copy")
    assert check(here, CropSet.read(tmp_path / "copy")).endswith(" Those of one name in both may be the same: 1, 2.")
    five = [str(number) for number in range(5)]
    assert check_other_people(here.folder, five, tmp_path / "copy", five).endswith("may be the same: 0, 1, 2 and 2 more.")
    assert len(CropSet.read(here.folder)) == 2
    (away.folder / FILE).write_text("patient,key,hash\n1,ELSEWHERE-1,ELSEWHERE-1\n")
    with pytest.raises(GaussianMRIError, match="line 2 has no hash"):
        check(again, away)


def test_only_the_key_tells_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in (("one", "a" * 32), ("same", "a" * 32), ("other", "b" * 32)):
        (tmp_path / name).mkdir()
        (tmp_path / "key").write_text(key + "\n")
        monkeypatch.setenv("GAUSSIANMRI_PATIENT_KEY", str(tmp_path / "key"))
        add_people(tmp_path / name, {"1": "4711", "2": ""})
    add_people(tmp_path / "other", {"3": "4713"})
    one, same, other = (read_people(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same and list(one) == ["1"] and sorted(other) == ["1", "3"]
    assert one["1"][0] != other["1"][0] and one["1"][1] != other["1"][1]
    assert hashlib.sha256(b"4711").hexdigest()[:32] != one["1"][1]
    note = check_other_people(tmp_path / "one", ["1"], tmp_path / "other", ["1", "3"])
    assert "0 of 1 patients" in note and "0 of 2 patients" in note and "another key" in note
    note = check_other_people(tmp_path / "one", ["2"], tmp_path / "same", ["1"])
    assert "0 of 1 patients" in note and "1 of 1 patients" in note, "images without a Patient ID"
    (tmp_path / "key").write_text("4711")
    with pytest.raises(GaussianMRIError, match="fewer than 32 characters"):
        patient_key()
    monkeypatch.setenv("GAUSSIANMRI_PATIENT_KEY", str(tmp_path / "none"))
    with pytest.raises(GaussianMRIError, match="does not exist"):
        patient_key()


def test_the_key_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("GAUSSIANMRI_PATIENT_KEY")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    key = patient_key()
    assert key is not None and len(key) == 64 and patient_key() == key
    path = tmp_path / ".gaussianmri" / "patients.key"
    assert path.read_bytes() == key and (os.name == "nt" or stat.S_IMODE(path.stat().st_mode) == 0o600)
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("no folder")
    add_people(tmp_path, {"1": "4711"})
    assert not (tmp_path / FILE).exists() and "no place for their key" in caplog.text


def test_a_key_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a full disk the next one is made, and one that another process makes meanwhile is everyone's."""
    monkeypatch.delenv("GAUSSIANMRI_PATIENT_KEY")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    place, found = tmp_path / ".gaussianmri", []

    def full(_count: int) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    def slow(count: int) -> str:
        with monkeypatch.context() as other:
            other.setattr(secrets, "token_hex", lambda _count: "a" * 64)
            found.append(patient_key())
        return "b" * 2 * count

    def no_links(*_names: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as disk:
        disk.setattr(secrets, "token_hex", full)
        assert patient_key() is None and list(place.iterdir()) == []
    with monkeypatch.context() as race:
        race.setattr(secrets, "token_hex", slow)
        assert [patient_key()] == found == [b"a" * 64]
    (place / "patients.key").unlink()
    monkeypatch.setattr(os, "link", no_links)
    key = patient_key()
    assert key is not None and patient_key() == key and len(key) == 64
    assert [path.name for path in place.iterdir()] == ["patients.key"]


def test_copies_of_spider_have_the_same_people(tmp_path: Path) -> None:
    sets = []
    for name in ("one", "other"):
        write_spider(tmp_path / name, {"7": [3]})
        options = PrepareOptions(types=("S-T2",), levels=("L5/S1",))
        sets.append(prepare(tmp_path / name, tmp_path / f"{name}-set", options, fractions={"test": 1.0}, workers=1)[0])
    with pytest.raises(GaussianMRIError, match="7 of its patients"):
        check(*sets)
    with open(sets[0].folder / FILE, newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["patient"] == "7" and "SPIDER" not in row["hash"]
