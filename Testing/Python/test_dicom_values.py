"""Pixel values of DICOM: padding, Modality LUT, bits that mean nothing, signs, byte orders."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import image, save, series
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.stacks import read_stacks
from GaussianMRILib.stacks.dicom_pixels import stored_values

NOISE = np.random.default_rng(5).integers(1, 3000, (6, 5)).astype(np.uint16)


def read(dataset: Dataset, folder: Path) -> np.ndarray:
    return read_stacks(save(dataset, folder / "a.dcm"))[0].pixels[0]


def with_padding(value: int, limit: int | None = None, vr: str = "US", **attributes: Any) -> Dataset:
    dataset = image(attributes.pop("pixels"), (0, 0, 0), **attributes)
    dataset.add_new("PixelPaddingValue", vr, value)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", vr, limit)
    return dataset


@pytest.mark.parametrize("compressed", [False, True])
def test_padding_has_the_lowest_value_of_what_was_measured(tmp_path: Path, compressed: bool) -> None:
    pixels = NOISE.astype(np.int16)
    pixels[0] = -2000
    path = save(with_padding(-2000, vr="SS", pixels=pixels, RescaleSlope=2, RescaleIntercept=-24), tmp_path / "a")
    if compressed:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    values = read_stacks(path)[0].pixels[0]
    np.testing.assert_allclose(values[1:], NOISE[1:] * 2.0 - 24)
    np.testing.assert_allclose(values[0], NOISE[1:].min() * 2.0 - 24)


def test_padding_has_a_range_and_either_sign(tmp_path: Path) -> None:
    pixels = NOISE.copy()
    pixels[0], pixels[1, 0] = 65535, 65530
    np.testing.assert_array_equal(
        read(with_padding(65535, 65530, pixels=pixels), tmp_path)[pixels > 60000], pixels[pixels < 60000].min()
    )
    assert read(with_padding(65535, pixels=pixels), tmp_path).max() == 65530
    signed = NOISE.astype(np.int16)
    signed[0] = -32768
    assert read(with_padding(32768, pixels=signed), tmp_path).min() == NOISE[1:].min()  # as an unsigned number
    # Twelve bits are stored, the padding has sixteen.
    pixels = NOISE.copy()
    pixels[0] = 63536
    dataset = with_padding(63536, pixels=pixels, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read(dataset, tmp_path)[0], NOISE[1:].min())


def test_zeros_around_mr_stay_and_the_lowest_is_that_of_the_stack(tmp_path: Path) -> None:
    pixels = NOISE.copy()
    pixels[0] = 0
    np.testing.assert_array_equal(read(with_padding(0, pixels=pixels), tmp_path), pixels)
    whole = np.full_like(NOISE, 65535)
    save(with_padding(65535, pixels=whole), tmp_path / "x.dcm")
    save(image(NOISE, (0, 0, 4)), tmp_path / "y.dcm")
    (stack,) = read_stacks([tmp_path / "x.dcm", tmp_path / "y.dcm"])
    assert set(stack.pixels[0].ravel()) == {float(NOISE.min())}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high_bit", [11, 13, 15])
def test_bits_around_the_value_mean_nothing(tmp_path: Path, signed: bool, high_bit: int) -> None:
    values = (NOISE % 4096).astype(np.int32) - (2048 if signed else 0)
    below = high_bit - 11
    noise = np.random.default_rng(1).integers(0, 65536, NOISE.shape)
    raw = ((values & 0xFFF) << below) | (noise & ~(0xFFF << below) & 0xFFFF)
    dataset = image(
        raw.astype(np.uint16), (0, 0, 0), BitsStored=12, HighBit=high_bit, PixelRepresentation=int(signed)
    )
    np.testing.assert_array_equal(read(dataset, tmp_path), values)


def test_slices_of_one_series_may_be_signed_and_unsigned(tmp_path: Path) -> None:
    save(image(NOISE, (0, 0, 0)), tmp_path / "a.dcm")
    save(image(-NOISE.astype(np.int16), (0, 0, 4)), tmp_path / "b.dcm")
    (stack,) = read_stacks(tmp_path)
    np.testing.assert_array_equal(stack.pixels, [NOISE, -NOISE.astype(float)])


def lut(first: int, table: list[int], bits: int = 16, vr: str = "US") -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [len(table), first, bits])
    item.add_new("LUTData", "OW", np.array(table, np.uint16).tobytes())
    item.ModalityLUTType = "US"
    return [item]


def test_a_modality_lut_maps_stored_values_and_holds_at_its_ends(tmp_path: Path) -> None:
    stored = np.array([[0, 9, 10], [11, 12, 500]], np.uint16)
    dataset = image(stored, (0, 0, 0), ModalityLUTSequence=lut(10, [7, 40000, 3]))
    np.testing.assert_array_equal(read(dataset, tmp_path), [[7, 7, 7], [40000, 3, 3]])
    dataset = image(stored.astype(np.int16) - 11, (0, 0, 0), ModalityLUTSequence=lut(-1, [7, 40000, 3], vr="SS"))
    np.testing.assert_array_equal(read(dataset, tmp_path), [[7, 7, 7], [40000, 3, 3]])
    dataset = image(stored, (0, 0, 0), PhotometricInterpretation="MONOCHROME1", ModalityLUTSequence=lut(10, [7, 40000, 3]))
    np.testing.assert_array_equal(read(dataset, tmp_path), [[39996, 39996, 39996], [3, 40000, 40000]])
    short = lut(10, [7, 8])
    short[0].LUTDescriptor = [99, 10, 16]
    with pytest.raises(GaussianMRIError, match=r"a\.dcm has a Modality LUT of 2 values where it announces 99"):
        read(image(stored, (0, 0, 0), ModalityLUTSequence=short), tmp_path)


@pytest.mark.parametrize("way", ["implicit", "deflated", "big", "8 bits", "32 bits", "two frames"])
def test_every_plain_encoding_is_read_alike(tmp_path: Path, way: str, monkeypatch) -> None:
    dataset = image(NOISE, (0, 0, 0))
    expected = NOISE.astype(float)
    if way == "8 bits":
        expected = (NOISE % 256).astype(float)
        dataset = image(NOISE, (0, 0, 0), BitsAllocated=8, BitsStored=8, HighBit=7)
        dataset.PixelData = (NOISE % 256).astype(np.uint8).tobytes()
        dataset["PixelData"].VR = "OB"
    elif way == "32 bits":
        dataset = image(NOISE, (0, 0, 0), BitsAllocated=32, BitsStored=32, HighBit=31)
        dataset.PixelData = NOISE.astype("<u4").tobytes()
    path = save(dataset, tmp_path / "a.dcm")
    if way in ("implicit", "deflated"):
        again = pydicom.dcmread(path)
        uid = ImplicitVRLittleEndian if way == "implicit" else DeflatedExplicitVRLittleEndian
        again.file_meta.TransferSyntaxUID = uid
        if int(pydicom.__version__.split(".")[0]) >= 3:
            pydicom.dcmwrite(path, again, implicit_vr=way == "implicit", little_endian=True)
        else:
            again.is_implicit_VR, again.is_little_endian = way == "implicit", True
            again.save_as(path, write_like_original=False)
    elif way == "big":
        again = pydicom.dcmread(path)
        again.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
        again.PixelData = NOISE.astype(">u2").tobytes()
        if int(pydicom.__version__.split(".")[0]) >= 3:
            pydicom.dcmwrite(path, again, implicit_vr=False, little_endian=False)
        else:
            again.is_implicit_VR, again.is_little_endian = False, False
            again.save_as(path, write_like_original=False)
    elif way == "two frames":
        from dicom_files import enhanced

        frames = [{"position": (0, 0, 0)}, {"position": (0, 0, 4)}]
        save(enhanced(np.stack([NOISE, NOISE + 1]), frames), path)
        np.testing.assert_array_equal(read_stacks(path)[0].pixels, [NOISE, NOISE + 1])
    np.testing.assert_array_equal(read_stacks(path)[0].pixels[0], expected)
    np.testing.assert_array_equal(stored_values(path)[0], expected)


def test_a_slope_of_zero_makes_no_black_slice(tmp_path: Path, caplog) -> None:
    paths = series(tmp_path / "a", 5)
    for path, stored in ((paths[2], None), (paths[3], 7)):
        dataset = pydicom.dcmread(path)
        dataset.RescaleSlope, dataset.RescaleIntercept = 0, 3
        if stored is not None:  # one value anyhow, as in an empty slice of PET
            dataset.PixelData = np.full((6, 5), stored, np.uint16).tobytes()
        dataset.save_as(path)
    with pytest.raises(GaussianMRIError, match=r"a02\.dcm has a RescaleSlope of 0"):
        read_stacks(paths)
    (stack,) = read_stacks(tmp_path / "a")
    assert stack.shape[0] == 4 and (stack.pixels[2] == 3).all() and "a02.dcm has a RescaleSlope of 0" in caplog.text


def test_headers_are_read_once(tmp_path: Path, monkeypatch) -> None:
    paths = series(tmp_path, 6)
    opened: list[str] = []
    whole = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda file, **o: opened.append(str(file)) or whole(file, **o))
    assert read_stacks(tmp_path)[0].shape[0] == 6
    assert len(opened) == len(paths) + 1  # the first of a stack again, for what a derived series repeats


def test_a_deflated_file_that_would_become_too_large_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from GaussianMRILib.stacks import dicom_pixels

    path = save(image(NOISE, (0, 0, 0)), tmp_path / "a.dcm")
    content = path.read_bytes()
    end = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = content[:end].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    head = head[:140] + (end - 144 + 2).to_bytes(4, "little") + head[144:]
    head = head.replace(b"\x02\0\x10\0UI\x14\0", b"\x02\0\x10\0UI\x16\0")
    body = packer.compress(content[end:]) + packer.flush()
    path.write_bytes(head + body)
    np.testing.assert_array_equal(read_stacks(path)[0].pixels[0], NOISE)
    monkeypatch.setattr(dicom_pixels, "_LARGEST_DEFLATED", len(content) - end - 1)
    monkeypatch.setattr(pydicom, "dcmread", lambda *_a, **_k: pytest.fail("it was unpacked"))
    with pytest.raises(GaussianMRIError, match=r"a\.dcm would be unpacked to more than"):
        read_stacks(path)
