"""Time points, directions and averages whose images lie at the same positions: none takes a slice of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import enhanced, image, save
from pydicom.dataset import Dataset

from GaussianMRILib.stacks import SliceStack, belonging_together, read_stacks

PHASES, SLICES = 3, 6
NOISE = np.random.default_rng(5).integers(1, 200, (6, 5)).astype(np.uint16)
NONE: dict[str, Any] = {"InstanceNumber": None}


def at(k: int) -> tuple[float, float, float]:
    return (-10.0, -20.0, 4.0 * k)


def clock(seconds: float) -> str:
    minutes, left = divmod(seconds, 60)
    return f"{int(minutes) // 60 % 24:02d}{int(minutes) % 60:02d}{left:09.6f}"


def exam(folder: Path, tags, seed: int = 0, without: tuple[tuple[int, int], ...] = ()) -> list[SliceStack]:
    """The stacks of a series, `tags` (phase, slice) in each header; pixels say the phase, names of files say nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(seed).permutation(PHASES * SLICES)
    for n in range(PHASES):
        for k in range(SLICES):
            if (n, k) not in without:
                save(image(NOISE + np.uint16(1000 * n), at(k), **tags(n, k)), folder / f"{names[n * SLICES + k]:03d}.dcm")
    return read_stacks(folder)


def phases(stacks: list[SliceStack]) -> list[list[int]]:
    return [sorted({int(v) // 1000 for v in stack.pixels[:, 0, 0]}) for stack in stacks]


INTERLEAVED = [0, 2, 4, 1, 3, 5]  # the order in which slices are acquired


@pytest.mark.parametrize(
    "tags",
    [
        # One time for a phase, in a series whose numbers begin again, or that has none.
        lambda n, k: {"InstanceNumber": k + 1, "AcquisitionTime": clock(40000 + 10 * n)},
        lambda n, k: NONE | {"AcquisitionTime": clock(40000 + 10 * n)},
        # Each slice has its own, fractions of a second after that of another place.
        lambda n, k: {"InstanceNumber": k + 1, "AcquisitionTime": clock(40000 + 1.3 * n + 0.21 * INTERLEAVED.index(k))},
        lambda n, k: NONE | {"AcquisitionTime": clock(40000), "ContentTime": clock(40000 + 1.3 * n + 0.21 * k)},
        lambda n, k: NONE | {"AcquisitionDateTime": "20200229" + clock(40000 + 1.3 * n + 0.21 * k) + "+0100"},
        # Over midnight, with the date and without.
        lambda n, k: NONE | {"AcquisitionDate": f"202002{28 + (n > 0)}", "AcquisitionTime": clock(86395 + 6 * n + 0.5 * k)},
        lambda n, k: NONE | {"AcquisitionTime": clock(86395 + 6 * n + 0.5 * k)},
        # All phases of a slice before the next slice, gated.
        lambda n, k: {"InstanceNumber": 1, "TriggerTime": 30.0 * n + 7 * k, "AcquisitionTime": clock(40000 + 9 * k)},
        lambda n, k: {"InstanceNumber": 1, "AcquisitionTime": clock(40000 + 9 * k + n)},
        # Numbers that a copy to another archive gave by the names of files; the times are those of the scanner.
        lambda n, k: {
            "InstanceNumber": (5 * (n * SLICES + k) + 1) % 17 + 18 * (n + k == 0),
            "AcquisitionTime": clock(40000 + 1.3 * n + 0.21 * k),
        },
    ],
)
def test_phases_by_the_order_in_time_at_each_position(tmp_path: Path, tags) -> None:
    stacks = sorted(exam(tmp_path, tags), key=lambda s: s.name)
    assert phases(stacks) == [[0], [1], [2]] and [s.shape[0] for s in stacks] == [SLICES] * 3
    assert [s.name for s in stacks] == [f"T2, axial, repeat {n}" for n in (1, 2, 3)]
    assert not any("mixture" in note for s in stacks for note in s.notes)


def known_order(known: str, places=range(SLICES)):
    def tags(n: int, k: int) -> dict[str, Any]:
        number = n * SLICES + list(places).index(k) + 1
        return {known: number} if known == "InstanceNumber" else NONE | {known: clock(40000 + number)}

    return tags


@pytest.mark.parametrize("known", ["InstanceNumber", "AcquisitionTime"])
@pytest.mark.parametrize("places", [range(SLICES), range(SLICES)[::-1]])
@pytest.mark.parametrize(
    "without",
    [
        [(0, 2), (1, 5)],
        [(0, 0)],
        [(1, 0)],
        [(0, 5)],
        [(1, 5)],
        [(0, 0), (2, 5)],
        [(0, 5), (1, 0)],
        [(0, 0), (0, 1), (1, 0)],
        [(0, 0), (1, 1), (2, 2), (0, 3)],  # no half of the positions is complete
    ],
)
def test_images_that_are_missing_do_not_shift_the_phases(tmp_path: Path, known: str, places, without) -> None:
    stacks = exam(tmp_path, known_order(known, places), without=tuple(without))
    assert phases(stacks) == [[0], [1], [2]]
    assert [s.shape[0] for s in stacks] == [SLICES - sum(n == m for m, _ in without) for n in range(PHASES)]


@pytest.mark.parametrize("known", ["InstanceNumber", "AcquisitionTime"])
def test_missing_images_of_interleaved_phases(tmp_path: Path, known: str) -> None:
    tags = known_order(known, INTERLEAVED)
    assert phases(exam(tmp_path / "middle", tags, without=((0, 4), (1, 3)))) == [[0], [1], [2]]
    stacks = exam(tmp_path / "first", tags, without=((0, 0),))  # or the last of the last phase: nothing says it
    assert len(stacks) == 3 and all("may be a mixture" in "".join(s.notes) for s in stacks)


def test_values_that_mean_something_come_first(tmp_path: Path) -> None:
    """Times say another order, as those of the export do."""
    late = lambda n, k: {"ContentTime": clock(50000 - 10 * n + k), "InstanceNumber": 1}  # noqa: E731
    stacks = exam(tmp_path / "a", lambda n, k: late(n, k) | {"TemporalPositionIdentifier": n + 1})
    assert phases(stacks) == [[0], [1], [2]] and stacks[2].name.endswith("time point 3")
    stacks = exam(tmp_path / "b", lambda n, k: late(n, k) | {"InstanceNumber": n * SLICES + k})
    assert phases(stacks) == [[0], [1], [2]]


@pytest.mark.parametrize(
    "tags",
    [
        lambda n, k: {"InstanceNumber": k + 1},
        lambda n, k: NONE | {"AcquisitionTime": clock(40000)},
        # Known of some only: no order.
        lambda n, k: NONE | {"AcquisitionTime": clock(40000 + n) if k else None, "AcquisitionDate": "20200229"},
    ],
)
def test_repeats_that_nothing_tells_apart_are_said_to_be_mixed(tmp_path: Path, tags, caplog) -> None:
    def clean(n: int, k: int) -> dict[str, Any]:
        return {key: value for key, value in tags(n, k).items() if value is not None or key == "InstanceNumber"}

    stacks = exam(tmp_path, clean)
    assert [s.name for s in stacks] == [f"T2, axial, unordered repeat {n}" for n in (1, 2, 3)]
    assert all("may be a mixture" in s.notes[0] for s in stacks) and caplog.text.count("may be a mixture") == 3


def test_folders_tell_repeats_apart(tmp_path: Path) -> None:
    for n in range(PHASES):
        (tmp_path / f"{n}").mkdir()
        for k in range(SLICES):
            save(image(NOISE + np.uint16(1000 * n), at(k)), tmp_path / f"{n}" / f"{5 * k % 7}.dcm")
    stacks = read_stacks(tmp_path)
    assert phases(stacks) == [[0], [1], [2]] and not stacks[0].notes


@pytest.mark.parametrize("names", ["abcd", "acdb"])
def test_names_of_few_files_tell_no_repeats_apart(tmp_path: Path, names: str) -> None:
    """In both orders of names the positions come as in repeats: 0 1 0 1 and 0 0 1 1."""
    for name, (n, k) in zip(names, [(0, 0), (1, 1), (1, 0), (0, 1)], strict=True):
        save(image(NOISE + np.uint16(1000 * n), at(k), InstanceNumber=k + 1), tmp_path / f"{name}.dcm")
    stacks = read_stacks(tmp_path)
    assert len(stacks) == 2 and all("may be a mixture" in "".join(s.notes) for s in stacks)


def test_names_of_files_tell_repeats_apart_by_one_order_of_the_positions(tmp_path: Path) -> None:
    for folder, orders in (("one", [[0, 2, 1, 3]] * 2), ("several", [[0, 2, 1, 3], [3, 1, 0, 2]])):
        (tmp_path / folder).mkdir()
        for n, order in enumerate(orders):
            for m, k in enumerate(order):
                save(image(NOISE + np.uint16(1000 * n), at(k), InstanceNumber=k + 1), tmp_path / folder / f"{n}{m}.dcm")
    assert phases(read_stacks(tmp_path / "one")) == [[0], [1]]
    assert all("may be a mixture" in "".join(s.notes) for s in read_stacks(tmp_path / "several"))


def test_folders_tell_few_and_missing_images_apart(tmp_path: Path) -> None:
    for n in range(2):
        (tmp_path / f"{n}").mkdir()
        for k in range(n, 3):
            save(image(NOISE + np.uint16(1000 * n), at(k)), tmp_path / f"{n}" / f"{5 * k % 7}.dcm")
    stacks = read_stacks(tmp_path)
    assert phases(stacks) == [[0], [1]] and [s.shape[0] for s in stacks] == [3, 2]


def test_a_slice_that_was_scanned_again_does_not_halve_the_stack(tmp_path: Path) -> None:
    for k in range(SLICES):
        save(image(NOISE, at(k), InstanceNumber=k + 1 + (k > 2)), tmp_path / f"{k}.dcm")
    save(image(NOISE + np.uint16(1000), at(1), InstanceNumber=4), tmp_path / "again.dcm")
    assert [s.shape[0] for s in read_stacks(tmp_path)] == [SLICES, 1]


@pytest.mark.parametrize(
    ("group", "creator", "elements", "kind"),
    [
        (0, "", (), ""),
        (0x0019, "SIEMENS MR HEADER", (0x0E,), "FD"),
        (0x0019, "SIEMENS MR HEADER", (0x0E,), "UN"),
        (0x0019, "GEMS_ACQU_01", (0xBB, 0xBC, 0xBD), "DS"),
        (0x2005, "Philips MR Imaging DD 001", (0xB0, 0xB1, 0xB2), "FL"),
        (0x2005, "Philips MR Imaging DD 001", (0xB0, 0xB1, 0xB2), "UN"),
    ],
)
def test_directions_of_diffusion_of_every_vendor(tmp_path: Path, group: int, creator: str, elements, kind: str) -> None:
    for n, direction in enumerate(np.eye(3)):
        for k in range(SLICES):
            dataset = image(NOISE + np.uint16(1000 * n), at(k), InstanceNumber=k + 1, DiffusionBValue=800.0)
            noisy = (direction + 1e-4 * k).tolist()
            if not creator:
                dataset.DiffusionGradientOrientation = noisy
            else:
                block = dataset.private_block(group, creator, create=True)
                for element, value in zip(elements, noisy if len(elements) > 1 else [noisy], strict=True):
                    packed = np.asarray(value, "<f8" if creator.startswith("SIEMENS") else "<f4").tobytes()
                    block.add_new(element, kind, packed if kind == "UN" else value)
            save(dataset, tmp_path / f"{(7 * (n * SLICES + k)) % 19:02d}.dcm")
    stacks = read_stacks(tmp_path)
    assert sorted(phases(stacks)) == [[0], [1], [2]] and len(belonging_together(stacks)) == 3
    assert stacks[0].name == "T2, axial, gradient direction 0.00 0.00 1.00"


@pytest.mark.parametrize("known", ["index", "time", "direction", "order", "nothing"])
def test_frames_of_one_file(tmp_path: Path, known: str) -> None:
    order = [(n, k) for n in range(PHASES) for k in range(SLICES)]
    if known != "order":
        order = [order[m] for m in np.random.default_rng(2).permutation(len(order))]
    pixels = np.stack([NOISE + np.uint16(1000 * n) for n, _ in order])
    dataset = enhanced(pixels, [{"position": at(k)} for _, k in order])
    for item, (n, k) in zip(dataset.PerFrameFunctionalGroupsSequence, order, strict=True):
        content, diffusion, way = Dataset(), Dataset(), Dataset()
        if known == "index":
            content.DimensionIndexValues = [1, k + 1, n + 1]
        if known == "time":
            content.FrameAcquisitionDateTime = "20200229" + clock(40000 + 1.3 * n + 0.21 * k)
        if known == "direction":
            way.DiffusionGradientOrientation = np.eye(3)[n].tolist()
            diffusion.DiffusionGradientDirectionSequence = [way]
        item.FrameContentSequence, item.MRDiffusionSequence = [content], [diffusion]
    save(dataset, tmp_path / "e.dcm")
    stacks = read_stacks(tmp_path)
    assert (sorted(phases(stacks)) == [[0], [1], [2]]) == (known != "nothing")
    # A direction is another image; a repeat, or an index that may count averages, is not.
    assert len(belonging_together(stacks)) == (PHASES if known == "direction" else 1)
    names = {"index": "dimension index", "direction": "gradient direction", "nothing": "unordered repeat"}
    assert all(f"axial, {names.get(known, 'repeat')} " in s.name for s in stacks)


def test_two_files_of_one_number_with_a_volume_each(tmp_path: Path) -> None:
    for n in range(2):
        places = np.random.default_rng(n).permutation(SLICES).tolist()
        pixels = np.stack([NOISE + np.uint16(1000 * n)] * SLICES)
        save(enhanced(pixels, [{"position": at(k)} for k in places], InstanceNumber=1), tmp_path / f"{n}.dcm")
    assert phases(read_stacks(tmp_path)) == [[0], [1]]
