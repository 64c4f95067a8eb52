"""Tables as spreadsheets of several countries and systems save them, and as they were, say the same."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grading_cases import make_set
from rsna_files import Copy
from spider_files import HEADER
from test_grading_disc import detections, empty_series, write_csv

from GaussianMRILib.cohort import CohortReport, CohortRow
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.files import table_rows
from GaussianMRILib.grading.crops import CropSet
from GaussianMRILib.grading.disc_sources import read_vert_dicts
from GaussianMRILib.grading.people import FILE, add_people, read_people
from GaussianMRILib.grading.rsna_tables import AXIAL, RsnaTables
from GaussianMRILib.grading.spider import TABLE, SpiderDataset

#: What parts cells, how the file begins, how lines end, and the decimal mark.
SAVED = {
    "as here": (",", "", "\r\n", "."),
    "Excel, German": (";", "", "\r\n", ","),
    "Excel, German, UTF-8": (";", "\ufeff", "\r\n", ","),
    "Excel, English, UTF-8": (",", "\ufeff", "\r\n", "."),
    "LibreOffice, tabs": ("\t", "", "\n", ","),
}


def save_again(path: Path, kind: str) -> None:
    """The same table as a spreadsheet saves it, with the first number of each cell written by the country's mark."""
    delimiter, begin, end, mark = SAVED[kind]
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    marked = [[cell.replace(".", mark) if cell.replace(".", "").isdigit() else cell for cell in row] for row in rows]
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(begin)
        csv.writer(file, delimiter=delimiter, lineterminator=end).writerows(marked)


def rsna(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    copy = Copy(folder / "rsna")
    copy.descriptions.append(["7", "71", AXIAL])
    copy.grade("7", left_subarticular_stenosis_l5_s1="Severe")
    copy.mark("7", "71", 3, "Left Subarticular Stenosis", "L5/S1", 320.571, 12.0)
    copy.save()

    def read() -> Any:
        tables = RsnaTables.read(copy.folder)
        assert tables.series == {"7": {"71": AXIAL}} and tables.points["7"][0].x == 320.571 and not tables.problems
        return tables

    return sorted(copy.folder.glob("*.csv")), read


def spider(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    for name in ("images", "masks"):
        (folder / name).mkdir()
    path = folder / TABLE
    path.write_text("\n".join([",".join(HEADER), "1,1,0,0,0,0,0,0,0,5", "1,2,0,0,0,0,0,0,0,1.0"]) + "\n")

    def read() -> Any:
        data = SpiderDataset(folder)
        assert data.grades_at("1", "L5/S1") == {"disc_degeneration": "Severe"} and not data.problems
        return data.grades_at("1", "L4/L5")

    return [path], read


def spinenet(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    series = empty_series()
    path = write_csv(folder / "verts.csv", detections(series, range(13)))
    return [path], lambda: read_vert_dicts(path, series, range(1, 14))["L5/S1"].frame.tolist()


def crops(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    made = make_set(folder / "set", {"train": 3})
    add_people(made.folder, {who: f"HOSP-{who}" for who in made.patients})

    def read() -> Any:
        found = CropSet.read(made.folder)
        people = read_people(made.folder)
        assert len(people) == 3 and found.cases[0].outside == 0.25
        return found.cases, people

    return [made.folder / "cases.csv", made.folder / FILE], read


def report(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    made = CohortReport(folder / "report.csv")
    made.rows = {
        "a; b": CohortRow("a; b", "done", seconds=1.25, lines=("one", "two, three"), files=("a.nrrd", "b.png")),
        "c": CohortRow("c", "failed", seconds=0.5, lines=("x",), inputs="12"),
    }
    made.write()
    return [made.path], lambda: CohortReport.read(made.path).rows


@pytest.mark.parametrize("kind", SAVED)
@pytest.mark.parametrize("make", [rsna, spider, spinenet, crops, report])
def test_a_table_says_the_same_however_it_was_saved(make: Callable[..., Any], kind: str, tmp_path: Path) -> None:
    files, read = make(tmp_path)
    before = read()
    for path in files:
        save_again(path, kind)
    assert read() == before


def test_a_set_that_a_spreadsheet_saved_goes_on(tmp_path: Path) -> None:
    """Its table is written anew, not with lines of another kind at its end."""
    made = make_set(tmp_path / "set", {"train": 3})
    other = make_set(tmp_path / "other", {"train": 3}, seed=1)
    save_again(made.folder / "cases.csv", "Excel, German, UTF-8")
    found = CropSet.read(made.folder)
    shutil.copytree(other.folder / "images", made.folder / "images", dirs_exist_ok=True)
    found.assign({})
    assert CropSet.read(made.folder).cases == made.cases
    assert (made.folder / "cases.csv").read_bytes().startswith(b"case,study_id,")


def test_what_is_no_table_of_that_name_is_said_plainly(tmp_path: Path) -> None:
    files, read = rsna(tmp_path)
    path = next(path for path in files if "descriptions" in path.name)
    path.write_text("one;two\n1;2\n")
    with pytest.raises(GaussianMRIError, match=r"train_series_descriptions.csv has no column study_id"):
        read()


def test_a_row_that_ends_early_is_noted_and_the_others_are_read(tmp_path: Path) -> None:
    (path,), read = spider(tmp_path)
    expected = read()
    path.write_text(path.read_text() + "2,1\n")
    data = SpiderDataset(tmp_path)
    assert data.grades_at("1", "L4/L5") == expected
    assert data.problems == {"2": [f"line 4 of {TABLE} is not of whole numbers"]}


def test_names_of_columns_with_marks_in_them() -> None:
    assert list(table_rows(b'"x; y, mm";"remark; free"\n"1,5";a\n')) == [{"x; y, mm": "1,5", "remark; free": "a"}]
    assert list(table_rows(b'a,"b; c; d"\n1,2\n')) == [{"a": "1", "b; c; d": "2"}]
    assert list(table_rows(b"study\n1;2\n")) == [{"study": "1;2"}]


def test_cells_and_lines_that_end_otherwise() -> None:
    rows = table_rows(b"a;b\r\n1,5;\"x;\ty\r\nz\"\r\n")
    assert list(rows) == [{"a": "1,5", "b": "x;\ty\r\nz"}]
    assert list(table_rows(b"a,b\r1,2\r")) == [{"a": "1", "b": "2"}]
