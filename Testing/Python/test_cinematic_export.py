"""Files of models and splats, read back by decoders that know nothing of the writers."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cinematic_scenes import CENTER, RADIUS, ball_views, random_ball
from test_cinematic_model import model

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.cinematic.animation import clip_sweep, render_shots, turntable, write_film, write_frames
from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.export import RAS_TO_Y_UP, export_splats, rotated, write_gltf, write_spz
from GaussianMRILib.cinematic.model_files import load_model, model_bytes, read_ply, save_model, write_ply
from GaussianMRILib.cinematic.rasterise import rasterise
from GaussianMRILib.cinematic.splats import Splats

CAMERA, PLANE = ball_views(1, 40, 7)[0]


@pytest.mark.parametrize(
    ("visibility", "adjust"), [("analytic", False), ("learned", False), ("learned", True), ("none", True)]
)
def test_a_model_is_the_same_after_a_file(tmp_path: Path, visibility: str, adjust: bool) -> None:
    before = model(random_ball(60, 1, degree=2), visibility, adjust)
    before.background = (0.1, 0.2, 0.3)
    before.facts = {"method": "lt", "training_s": 12.5}
    path = save_model(tmp_path / "ball.ply", before)
    for name in ("ball.ply", "ball.json"):
        after = load_model(tmp_path / name)
        assert after.facts == before.facts and after.unit == RADIUS and after.background == before.background
        assert np.array_equal(after.center, CENTER)
        for plane in (PLANE, None):
            assert torch.allclose(
                after.render(CAMERA, plane).image, before.render(CAMERA, plane).image, atol=1e-5
            )
    assert model_bytes(path) == path.stat().st_size + path.with_suffix(".json").stat().st_size
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ball.json", "ball.ply"]


def test_models_of_the_first_version_look_as_they_did(tmp_path: Path) -> None:
    """They learned with a low-pass filter that adds light; so does a PLY of another program."""
    splats = random_ball(60, 1)
    splats.log_scales -= 3
    path = save_model(tmp_path / "ball.ply", model(splats, "analytic", False))
    header = json.loads(path.with_suffix(".json").read_text())
    assert header["version"] == 2 and header.pop("antialiased") is True
    path.with_suffix(".json").write_text(json.dumps(header | {"version": 1}))
    old = load_model(path)
    assert torch.allclose(old.render(CAMERA).image, rasterise(splats, CAMERA, antialiased=False)[0], atol=1e-5)
    assert float((old.render(CAMERA).image - rasterise(splats, CAMERA)[0]).max()) > 0.1
    again = export_splats(tmp_path / "again.ply", old)
    assert not load_model(again).antialiased
    for antialiased in (False, True):  # a flag of SPZ
        path = export_splats(tmp_path / "a.spz", replace(old, antialiased=antialiased))
        assert gzip.decompress(path.read_bytes())[14] == antialiased


def test_ply_has_the_layout_of_3dgs(tmp_path: Path) -> None:
    splats = random_ball(7, 2, degree=3)
    raw = write_ply(tmp_path / "a.ply", splats, {"clip_offset": np.arange(7, dtype=np.float32)}).read_bytes()
    header, body = raw.split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 7"]
    names = [line.split()[2] for line in lines[3:]]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:54] == [f"f_rest_{n}" for n in range(45)]
    last = ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3", "clip_offset"]
    assert names[54:] == last
    table = np.frombuffer(body, "<f4").reshape(7, -1)
    row = dict(zip(names, table[3], strict=True))
    assert row["y"] == splats.means[3, 1] and row["opacity"] == splats.logit_opacities[3]
    assert row["f_rest_0"] == splats.sh[3, 1, 0]  # all coefficients of red, then of green, then of blue
    assert row["f_rest_15"] == splats.sh[3, 1, 1] and row["f_rest_44"] == splats.sh[3, 15, 2]
    assert row["scale_2"] == splats.log_scales[3, 2] and row["clip_offset"] == 3
    assert math.hypot(*(row[f"rot_{n}"] for n in range(4))) == pytest.approx(1, abs=1e-6)


def test_a_foreign_ply_becomes_a_model(tmp_path: Path) -> None:
    splats = random_ball(40, 3)
    write_ply(tmp_path / "other.ply", splats)
    loaded = load_model(tmp_path / "other.ply")
    assert loaded.visibility == "analytic" and len(loaded) == 40
    assert abs(loaded.center - CENTER).max() < RADIUS / 2 and loaded.unit < 1.2 * RADIUS
    expected = rasterise(splats, CAMERA, clip=PLANE, antialiased=False)[0]
    assert torch.allclose(loaded.render(CAMERA, PLANE).image, expected, atol=1e-5)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = save_model(tmp_path / "a.ply", model(random_ball(9, 0), "learned", adjust=True))
    whole, header = path.read_bytes(), json.loads(path.with_suffix(".json").read_text())
    path.write_bytes(whole[:-20])
    with pytest.raises(GaussianMRIError, match=r"a\.ply is truncated"):
        load_model(path)
    path.write_bytes(b"ply\nformat ascii 1.0\nend_header\n")
    with pytest.raises(GaussianMRIError, match="not a binary PLY"):
        load_model(path)
    path.write_bytes(whole.replace(b"opacity", b"opaqity"))
    with pytest.raises(GaussianMRIError, match="layout of 3D Gaussian splatting"):
        load_model(path)
    path.write_bytes(whole)
    for change, message in (
        ({"count": 8}, "belongs to 8 splats"),
        ({"version": 99}, "newer version"),
        ({"format": "x"}, "not the description"),
        ({"adjustment": header["adjustment"] | {"width": 8}}, "damaged"),
    ):
        path.with_suffix(".json").write_text(json.dumps(header | change))
        with pytest.raises(GaussianMRIError, match=message):
            load_model(path)
    with pytest.raises(GaussianMRIError, match=r"b\.ply cannot be read"):
        load_model(tmp_path / "b.ply")
    with pytest.raises(GaussianMRIError, match=r"must end in \.ply"):
        save_model(tmp_path / "a.txt", model(random_ball(2, 0)))


def test_turned_splats_look_the_same_to_a_turned_camera() -> None:
    splats = random_ball(80, 4, degree=3)
    turned = rotated(splats, RAS_TO_Y_UP)
    assert np.linalg.det(RAS_TO_Y_UP) == pytest.approx(1)
    pose = CAMERA.world_to_camera.copy()
    pose[:3, :3] = pose[:3, :3] @ RAS_TO_Y_UP.T
    camera = Camera(pose, fx=CAMERA.fx, fy=CAMERA.fy, cx=CAMERA.cx, cy=CAMERA.cy, width=CAMERA.width, height=CAMERA.height)
    assert torch.allclose(rasterise(turned, camera)[0], rasterise(splats, CAMERA)[0], atol=2e-4)


def test_spz(tmp_path: Path) -> None:
    splats = random_ball(500, 5, degree=3)
    path = export_splats(tmp_path / "ball.spz", model(splats))
    raw = gzip.decompress(path.read_bytes())
    magic, version, count, degree, bits, flags, reserved = struct.unpack("<IIIBBBB", raw[:16])
    assert (magic, version, count, degree, bits, flags, reserved) == (0x5053474E, 3, 500, 3, 12, 1, 0)
    sizes = [9, 1, 3, 3, 4, 45]
    assert len(raw) == 16 + 500 * sum(sizes)
    ends = 16 + 500 * np.cumsum([0, *sizes])
    position, alpha, colour, scale, rotation, sh = (
        np.frombuffer(raw, np.uint8)[a:b].reshape(500, -1).astype(np.int64)
        for a, b in itertools.pairwise(ends)
    )
    turned = rotated(splats, RAS_TO_Y_UP)
    fixed = position.reshape(500, 3, 3) @ [1, 256, 65536]
    means = np.where(fixed >= 2**23, fixed - 2**24, fixed) / 4096
    assert np.abs(means - turned.means.numpy()).max() < 1.3e-4
    assert np.abs(means - splats.means.numpy() @ RAS_TO_Y_UP.T).max() < 1.3e-4
    assert np.abs(alpha[:, 0] / 255 - splats.opacities.numpy()).max() < 0.0021
    dc = (colour / 255 - 0.5) / 0.15
    inside = np.abs(turned.sh[:, 0].numpy()) < 3.3
    assert np.abs(dc - turned.sh[:, 0].numpy())[inside].max() < 0.0135
    assert np.abs(scale / 16 - 10 - splats.log_scales.numpy()).max() < 0.0313
    coefficients = (sh.reshape(500, 15, 3) - 128) / 128
    expected = turned.sh[:, 1:].numpy()
    error = np.where(np.abs(expected) < 0.9, np.abs(coefficients - expected), 0)
    assert error[:, :3].max() < 0.036 and error[:, 3:].max() < 0.067
    # smallest three: two bits say which of x, y, z, w is left out, then a sign and nine bits for each other one
    packed = rotation @ [1, 256, 65536, 16777216]
    largest = packed >> 30
    values = np.zeros((500, 4))
    for axis in (3, 2, 1, 0):
        here = largest != axis
        part = np.where(packed & 512, -1, 1) * (packed & 511) / 511 / math.sqrt(2)
        values[:, axis] = np.where(here, part, 0)
        packed = np.where(here, packed >> 10, packed)
    values[np.arange(500), largest] = np.sqrt(1 - (values**2).sum(axis=1))
    wxyz = torch.nn.functional.normalize(turned.quaternions, dim=1).numpy()
    assert np.abs(np.abs((np.roll(values, 1, axis=1) * wxyz).sum(axis=1)) - 1).max() < 1e-5
    assert path.stat().st_size < 0.4 * write_ply(tmp_path / "ball.ply", splats).stat().st_size


def test_spz_of_a_scene_far_from_the_origin_keeps_its_positions(tmp_path: Path) -> None:
    splats = random_ball(5, 0).map(lambda t: t.clone())
    splats.means[0] = torch.tensor([0.0, 0, 5000])
    raw = gzip.decompress(export_splats(tmp_path / "a.spz", model(splats)).read_bytes())
    assert raw[13] == 10
    assert int.from_bytes(raw[16 + 3 : 16 + 6], "little") == 5000 * 2**10  # superior is up: y


def test_gltf(tmp_path: Path) -> None:
    splats = random_ball(30, 6, degree=2)
    raw = export_splats(tmp_path / "ball.glb", model(splats)).read_bytes()
    magic, version, length, text_length, kind = struct.unpack("<4sIII4s", raw[:20])
    assert (magic, version, length, kind) == (b"glTF", 2, len(raw), b"JSON") and text_length % 4 == 0
    content = json.loads(raw[20 : 20 + text_length])
    body_length, kind = struct.unpack("<I4s", raw[20 + text_length : 28 + text_length])
    assert (
        kind == b"BIN\0" and body_length == len(raw) - 28 - text_length == content["buffers"][0]["byteLength"]
    )
    body = raw[28 + text_length :]
    assert content["asset"]["version"] == "2.0" and content["extensionsUsed"] == ["KHR_gaussian_splatting"]
    (primitive,) = content["meshes"][0]["primitives"]
    extension = primitive["extensions"]["KHR_gaussian_splatting"]
    assert primitive["mode"] == 0
    assert extension["kernel"] == "ellipse" and extension["colorSpace"] == "srgb_rec709_display"

    def read(name: str) -> np.ndarray:
        accessor = content["accessors"][primitive["attributes"][name]]
        view = content["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        assert accessor["count"] == 30 and view["byteOffset"] % 4 == 0
        kind = {5126: "<f4", 5123: "<u2"}[accessor["componentType"]]
        values = np.frombuffer(body, kind, 30 * width, view["byteOffset"])
        assert values.nbytes == view["byteLength"]
        return values.reshape(30, width)

    turned = rotated(splats, RAS_TO_Y_UP)
    position = read("POSITION")
    assert np.allclose(position * 1000, splats.means.numpy() @ RAS_TO_Y_UP.T, atol=1e-3)
    accessor = content["accessors"][primitive["attributes"]["POSITION"]]
    assert np.allclose(accessor["min"], position.min(axis=0)) and np.allclose(
        accessor["max"], position.max(axis=0)
    )
    khr = "KHR_gaussian_splatting:"
    assert np.allclose(read(khr + "SCALE") * 1000, splats.scales.numpy(), rtol=1e-5)
    assert np.allclose(read(khr + "OPACITY")[:, 0], splats.opacities.numpy(), atol=1e-6)
    wxyz = torch.nn.functional.normalize(turned.quaternions, dim=1).numpy()
    assert np.allclose(np.roll(read(khr + "ROTATION"), 1, axis=1), wxyz, atol=1e-5)
    for degree, order, index in ((0, 0, 0), (1, 0, 1), (1, 2, 3), (2, 4, 8)):
        assert np.allclose(
            read(f"{khr}SH_DEGREE_{degree}_COEF_{order}"), turned.sh[:, index].numpy(), atol=1e-5
        )
    assert not any("SH_DEGREE_3" in name for name in primitive["attributes"])
    # Linear in glTF, of which 0.5 as displayed is 0.214 (IEC 61966-2-1).
    shown = np.clip(0.5 + 0.28209479 * splats.sh[:, 0].numpy().astype(float), 0, 1)
    linear = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    colour = content["accessors"][primitive["attributes"]["COLOR_0"]]
    assert colour["componentType"] == 5123 and colour["normalized"] is True
    assert np.abs(read("COLOR_0")[:, :3] / 65535 - linear).max() < 2e-5
    assert np.abs(read("COLOR_0")[:, 3] / 65535 - splats.opacities.numpy()).max() < 2e-5


@pytest.mark.parametrize(("write", "name"), [(write_ply, "none.ply"), (write_spz, "none.spz"), (write_gltf, "none.glb")])
def test_no_splats_are_no_file(tmp_path: Path, write: Callable[..., Path], name: str) -> None:
    empty = Splats(*(torch.zeros(0, *shape) for shape in ((3,), (4,), (3,), (1, 3), ())))
    with pytest.raises(GaussianMRIError, match="no splats to export"):
        write(tmp_path / name, empty)
    assert not list(tmp_path.iterdir())


def test_export_under_a_plane_needs_no_plane_afterwards(tmp_path: Path) -> None:
    whole = model(random_ball(60, 1), "learned", adjust=True)
    path = export_splats(tmp_path / "cut.ply", whole, plane=PLANE)
    cut = load_model(path)
    assert cut.visibility == "analytic" and cut.adjustment is None
    assert cut.facts["baked_for"] == [PLANE.to_dict()]
    assert torch.allclose(cut.render(CAMERA).image, whole.render(CAMERA, PLANE).image, atol=1e-5)
    assert set(read_ply(path)[1]) == set()
    with pytest.raises(GaussianMRIError, match="removes every splat"):
        export_splats(tmp_path / "no.spz", model(random_ball(5, 0)), plane=type(PLANE)(PLANE.normal, -1e4))
    with pytest.raises(GaussianMRIError, match="must end in one of"):
        export_splats(tmp_path / "a.obj", whole)


def test_what_was_exported_under_a_plane_is_cut_by_others(tmp_path: Path) -> None:
    whole, other = model(random_ball(300, 1)), ClipPlane.from_point(CENTER, (0.0, 0.0, 1.0))
    path = export_splats(tmp_path / "cut.ply", whole, plane=PLANE)
    header = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(header | {"visibility": "none"}))  # as it once was
    cut = load_model(path)
    expected = rasterise(cut.splats, CAMERA, clip=other)[0]
    assert torch.equal(cut.render(CAMERA, other).image, expected)
    assert float((expected - cut.render(CAMERA).image).abs().max()) > 0.1
    again = load_model(export_splats(tmp_path / "again.ply", cut, plane=other))
    at_once = whole.bake([other, PLANE])
    assert len(again) == len(at_once) < len(cut)
    assert torch.allclose(again.splats.means, at_once.means, atol=1e-4)
    assert again.facts["baked_for"] == [PLANE.to_dict(), other.to_dict()]


def test_a_model_that_has_learned_no_cut_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_model(save_model(tmp_path / "half.ply", model(random_ball(9, 0), "none")))
    assert "before it learned to be cut" in caplog.text
    caplog.clear()
    load_model(save_model(tmp_path / "whole.ply", model(random_ball(9, 0), "none", adjust=True)))
    assert not caplog.records


# ---- films -------------------------------------------------------------------------------------------------------


def test_turntable_goes_once_round_from_the_front() -> None:
    shots = turntable(CENTER, 200, 4, plane=PLANE, elevation_degrees=0, size=(60, 40))
    offsets = np.array([camera.eye - CENTER for camera, _ in shots])
    assert np.allclose(offsets, [[0, 200, 0], [-200, 0, 0], [0, -200, 0], [200, 0, 0]], atol=1e-9)
    assert all(plane is PLANE and (camera.width, camera.height) == (60, 40) for camera, plane in shots)


def test_sweep_comes_back() -> None:
    offsets = [plane.offset for _, plane in clip_sweep(CAMERA, (0, 0, 2), lowest=-10, highest=30, count=8) if plane]
    side = 20 * 0.5**0.5
    assert offsets == pytest.approx([30, 10 + side, 10, 10 - side, -10, 10 - side, 10, 10 + side])
    there = [
        plane.offset
        for _, plane in clip_sweep(CAMERA, (0, 0, 1), lowest=-10, highest=30, count=5, back=False)
        if plane
    ]
    assert there == pytest.approx([30, 20, 10, 0, -10])


def test_frames_are_pictures_of_the_shots(tmp_path: Path) -> None:
    from PIL import Image

    whole = model(random_ball(50, 1))
    shots = clip_sweep(CAMERA, PLANE.normal, lowest=PLANE.offset - 20, highest=PLANE.offset + 20, count=3)
    done: list[float] = []
    longer = write_frames(tmp_path / "film", [np.zeros((4, 4, 3), np.uint8)] * 5)
    assert len(longer) == 5
    (tmp_path / "film" / "frame-notes.png").touch()  # another's
    files = write_frames(tmp_path / "film", render_shots(whole, shots, progress=done.append))
    assert [f.name for f in files] == ["frame-0000.png", "frame-0001.png", "frame-0002.png"]
    assert sorted((tmp_path / "film").iterdir()) == [*files, tmp_path / "film" / "frame-notes.png"]
    assert done == pytest.approx([1 / 3, 2 / 3, 1])
    for file, (camera, plane) in zip(files, shots, strict=True):
        expected = whole.render(camera, plane).image.clamp(0, 1).numpy() * 255
        assert np.abs(np.asarray(Image.open(file)).astype(float) - expected).max() <= 0.51


def test_a_frame_in_the_way_is_said(tmp_path: Path) -> None:
    """A folder of a frame's name cannot be removed as a file, like a picture that another program has open in Windows."""
    (tmp_path / "frame-0003.png").mkdir()
    with pytest.raises(GaussianMRIError, match=r"frame-0003\.png is in the way and cannot be removed: .*another folder"):
        write_frames(tmp_path, [np.zeros((4, 4, 3), np.uint8)])
    assert [path.name for path in tmp_path.iterdir()] == ["frame-0003.png"]


def test_a_film_without_ffmpeg_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GaussianMRIError, match="needs ffmpeg"):
        write_film(tmp_path / "a.mp4", [np.zeros((8, 8, 3), np.uint8)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_film_goes_through_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """A stand-in for ffmpeg that copies what it is fed to the file that it is told, or complains."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = "#!/bin/sh\n" + (
        "echo no codec >&2; exit 1\n" if fails else 'for last; do :; done; cat > "$last"\n'
    )
    (folder / "ffmpeg").write_text(script)
    (folder / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    pictures = [np.full((4, 6, 3), n, np.uint8) for n in range(3)]
    if fails:
        with pytest.raises(GaussianMRIError, match="no codec"):
            write_film(tmp_path / "a.mp4", pictures)
        assert [p.name for p in tmp_path.iterdir()] == ["bin"]
    else:
        assert write_film(tmp_path / "a.mp4", iter(pictures)).read_bytes() == bytes(
            [0] * 72 + [1] * 72 + [2] * 72
        )
