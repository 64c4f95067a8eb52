"""Transfer functions, Slicer's files of them, looks, cameras and planes."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from GaussianMRILib.cinematic import looks as module
from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.looks import Light, Look, find_look, read_looks
from GaussianMRILib.cinematic.transfer import TransferFunction, read_volume_property, write_volume_property
from GaussianMRILib.errors import GaussianMRIError

COLOUR = [[0, 0, 0, 0], [100, 1, 0.5, 0]]
OPACITY = [[10, 0], [20, 0.5], [100, 1]]

#: As Slicer writes it: interpolation, shade, diffuse, ambient, specular, power, opacity, gradient, colour.
SLICER = """1
1
0.9
0.1
0.2
10
10 -3024 0 143.556 0 166.222 0.686275 214.389 0.696078 3071 0.803922
4 0 1 255 1
20 -3024 0 0 0 143.556 0.615686 0.356863 0.184314 166.222 0.882353 0.603922 0.290196 214.389 1 1 1 3071 0.827451 0.658824 1
"""


def test_values_between_points() -> None:
    transfer = TransferFunction(COLOUR, OPACITY, unit_distance=2.0)
    assert np.allclose(transfer.colour_at([-5, 50, 200]), [[0, 0, 0], [0.5, 0.25, 0], [1, 0.5, 0]])
    assert np.allclose(transfer.opacity_at([0, 15, 60, 500]), [0, 0.25, 0.75, 1])
    # Two mm of it let 1 - opacity through.
    assert np.allclose(np.exp(-2 * transfer.extinction_at([15, 60])), [0.75, 0.25])
    assert np.isfinite(transfer.extinction_at([100.0])[0])
    per_voxel = dataclasses.replace(transfer, unit_distance=None)
    assert np.allclose(np.exp(-0.7 * per_voxel.extinction_at([15], spacing=0.7)), [0.75])


def test_visible_range() -> None:
    assert TransferFunction(COLOUR, OPACITY).visible_range() == (10, np.inf)
    assert TransferFunction(COLOUR, [[0, 1], [5, 0], [9, 0]]).visible_range() == (-np.inf, 5)
    assert TransferFunction(COLOUR, [[0, 0], [5, 0], [7, 1], [9, 0]]).visible_range() == (5, 9)


def test_rescaled_and_json() -> None:
    transfer = TransferFunction(
        [[0, 1, 1, 1], [1, 0, 0, 0]],
        [[0.5, 0], [1, 1]],
        gradient_opacity=[[0, 0], [0.1, 1]],
        unit_distance=None,
    )
    moved = transfer.rescaled(-100, 300)
    assert moved.opacity[:, 0].tolist() == [100, 300] and moved.colour[:, 0].tolist() == [-100, 300]
    assert moved.gradient_opacity[:, 0].tolist() == [0, 40]
    again = TransferFunction.from_dict(json.loads(json.dumps(moved.to_dict())))
    for name in ("colour", "opacity", "gradient_opacity"):
        assert np.array_equal(getattr(again, name), getattr(moved, name))
    assert again.unit_distance is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((COLOUR, [[0, 0], [1, 0]]), "no opacity anywhere"),
        ((COLOUR, []), "no opacity anywhere"),
        (([], OPACITY), "no colour"),
        ((COLOUR, [[5, 0], [1, 1]]), "order"),
        ((COLOUR, [[0, 0], [1, 2]]), "outside 0 to 1"),
        ((COLOUR, [[0, 0], [1, float("nan")]]), "not finite"),
        ((COLOUR, [[0, 0, 1]]), "2 numbers"),
        ((COLOUR, OPACITY, {"unit_distance": 0.0}), "unit distance"),
        ((COLOUR, OPACITY, {"gradient_opacity": [[0, 0], [5, 0]]}), "nothing to see"),
    ],
)
def test_bad_functions(arguments: tuple, words: str) -> None:
    with pytest.raises(GaussianMRIError, match=words):
        TransferFunction(*arguments[:2], **dict(*arguments[2:]))


def test_slicer_volume_property(tmp_path: Path) -> None:
    path = tmp_path / "CT-Bone.vp"
    path.write_text(SLICER)
    found = read_volume_property(path)
    assert found.shade and (found.diffuse, found.ambient, found.specular, found.specular_power) == (
        0.9,
        0.1,
        0.2,
        10,
    )
    assert found.transfer.opacity[2].tolist() == [166.222, 0.686275]
    assert found.transfer.colour[3].tolist() == [214.389, 1, 1, 1]
    assert not len(found.transfer.gradient_opacity) and found.transfer.unit_distance is None
    look = find_look(path)
    assert look.name == "CT-Bone" and np.array_equal(look.transfer.opacity, found.transfer.opacity)
    again = tmp_path / "again.vp"
    write_volume_property(again, found.transfer)
    assert np.array_equal(read_volume_property(again).transfer.colour, found.transfer.colour)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1\n1\n", "2 of 9 lines"),
        (SLICER.replace("10 -3024", "12 -3024"), "announces 12 numbers"),
        (SLICER.replace("143.556 0.61", "x 0.61"), "not a list of numbers"),
        (SLICER.replace("0.9\n", "bright\n"), "not a usable"),
        (SLICER.replace("0.686275", "0").replace("0.696078", "0").replace("0.803922", "0"), "no opacity"),
    ],
)
def test_bad_volume_properties(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.vp"
    path.write_text(text)
    with pytest.raises(GaussianMRIError, match=words):
        find_look(path)
    with pytest.raises(GaussianMRIError, match="cannot be read"):
        read_volume_property(tmp_path / "missing.vp")


def test_slicer_volume_property_as_json(tmp_path: Path) -> None:
    def curve(*points: tuple) -> dict:
        return {"points": [{"x": x, "color" if isinstance(y, list) else "y": y} for x, y in points]}

    component = {
        "shade": True,
        "lighting": {"diffuse": 0.9, "ambient": 0.1, "specular": 0.2, "specularPower": 10.0},
        "disableGradientOpacity": False,
        "scalarOpacityUnitDistance": 2.5,
        "rgbTransferFunction": curve((100.0, [0.5, 0.25, 0.125]), (600.0, [1.0, 0.75, 0.5])),
        "scalarOpacity": curve((150.0, 0.0), (400.0, 0.8)),
        "gradientOpacity": curve((0.0, 0.5), (100.0, 1.0)),
    }
    content = {"volumeProperties": [{"components": [component]}]}
    path = tmp_path / "bone.vp.json"
    path.write_text(json.dumps(content))
    look = find_look(path)
    assert look.name == "bone" and look.transfer.unit_distance == 2.5 and look.shininess == 30
    assert look.transfer.opacity.tolist() == [[150.0, 0.0], [400.0, 0.8]]
    assert look.transfer.colour[1].tolist() == [600.0, 1.0, 0.75, 0.5]
    assert look.transfer.gradient_opacity.tolist() == [[0.0, 0.5], [100.0, 1.0]]
    component["disableGradientOpacity"] = True
    path.write_text(json.dumps(content))
    assert not len(find_look(path).transfer.gradient_opacity)
    del component["scalarOpacity"]
    path.write_text(json.dumps(content))
    with pytest.raises(GaussianMRIError, match=r"not a usable volume property.*scalarOpacity"):
        find_look(path)


def test_built_in_looks() -> None:
    found = read_looks(module.BUILT_IN)
    assert {"CT bone", "CT soft tissue", "MR head"} <= set(found)
    for look in found.values():
        again = Look.from_dict(json.loads(json.dumps(look.to_dict())))
        assert again.to_dict() == look.to_dict() and look.description
    bone, soft = found["CT bone"].transfer, found["CT soft tissue"].transfer
    # Hounsfield units: air, fat, muscle, cortical bone.
    assert np.allclose(bone.opacity_at([-1000, -100, 50]), 0) and bone.opacity_at(1000) > 0.8
    assert soft.opacity_at(-1000) == 0 and soft.opacity_at(50) > 0.8


def test_looks_of_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.json"
    mine = dataclasses.replace(find_look("CT bone"), name="mine", exposure=2.0)
    shadowing = dataclasses.replace(mine, name="CT bone")
    path.write_text(json.dumps({"looks": [mine.to_dict(), shadowing.to_dict()]}))
    monkeypatch.setenv("GAUSSIANMRI_LOOKS", str(path))
    assert find_look("mine").exposure == 2.0 and find_look("CT bone").exposure == 2.0
    assert find_look(path).name == "mine"
    with pytest.raises(GaussianMRIError, match="Choose one of CT bone"):
        find_look("wax")
    path.write_text('{"looks": [{"name": "x"}]}')
    with pytest.raises(GaussianMRIError, match="no transfer function"):
        find_look("mine")
    path.write_text("[]")
    with pytest.raises(GaussianMRIError, match="no list 'looks'"):
        find_look("mine")


def test_looks_of_users_from_version_0_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("GAUSSIANMRI_LOOKS", "GAUSSIANMRI_PRESETS")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    folder = tmp_path / ".gaussianmri"
    folder.mkdir()
    own = dataclasses.replace(find_look("CT bone"), name="own").to_dict()
    (folder / "presets.json").write_text(json.dumps({"presets": [own]}))
    assert module.user_file() == folder / "presets.json" and find_look("own").name == "own"
    (folder / "looks.json").write_text(json.dumps({"looks": []}))
    assert module.user_file() == folder / "looks.json" and "own" not in module.looks()
    for name in reversed(names):
        monkeypatch.setenv(name, str(tmp_path / name))
        assert module.user_file() == tmp_path / name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"density": 0}, "density"),
        ({"reflectance": 2}, "reflectance"),
        ({"anisotropy": 1}, "anisotropy"),
        ({"percentiles": [50, 150]}, "percentiles"),
        ({"glow": 1}, "unknown word glow"),
        ({"zenith": [1, 1]}, "zenith"),
        ({"lights": [{"azimuth": 0, "elevation": 0, "size": 0}]}, "light"),
        ({"lights": [{"azimuth": 0}]}, "understood"),
        ({"lights": [{"azimuth": 0, "elevation": 0}] * 5}, "four lights"),
        ({"name": ""}, "name"),
    ],
)
def test_bad_looks(change: dict, words: str) -> None:
    with pytest.raises(GaussianMRIError, match=words):
        Look.from_dict({**find_look("CT bone").to_dict(), **change})


def test_relative_looks_follow_the_scan() -> None:
    """The same scan with other numbers looks the same; air is not shown, tissue is."""
    generator = np.random.default_rng(4)
    scan = generator.rayleigh(4.0, (30, 30, 30))
    scan[8:22, 8:22, 8:22] = generator.normal(200, 40, (14, 14, 14))
    look = find_look("MR head")
    first, second = look.fitted(scan), look.fitted(scan * 3.5)
    assert np.allclose(second.transfer.opacity[:, 0], 3.5 * first.transfer.opacity[:, 0], rtol=1e-6)
    assert second.surface == pytest.approx(3.5 * first.surface)
    assert first.transfer.opacity_at(8.0) < 0.05 and first.transfer.opacity_at(180.0) > 0.75
    bone = find_look("CT bone")
    assert bone.fitted(scan) is bone
    with pytest.raises(GaussianMRIError, match="one value only"):
        look.fitted(np.ones((4, 4, 4)))


def test_padding_and_rare_tissue_do_not_spoil_a_relative_look() -> None:
    look = find_look("MR head")
    scan = np.random.default_rng(2).rayleigh(20, (30, 30, 30))
    scan[8:22, 8:22, 8:22] += 700
    alone = look.fitted(scan).transfer
    padded = np.full((40, 40, 40), -2000.0)
    padded[5:35, 5:35, 5:35] = scan
    assert np.allclose(look.fitted(padded).transfer.opacity, alone.opacity)
    few = np.zeros((60, 60, 60), np.float32)
    few[28:32, 28:32, 28:32] = np.linspace(100, 163, 64).reshape(4, 4, 4)
    low, high = look.transfer.opacity[[0, -1], 0]
    shown = look.fitted(few).transfer.opacity[[0, -1], 0]
    rate = np.ptp(shown) / (high - low)  # of the value for one of the look
    assert shown[0] - low * rate == pytest.approx(0) and rate == pytest.approx(163, abs=1)


def test_light_directions() -> None:
    assert np.allclose(Light(0, 0).direction, (0, 1, 0))  # in front of the patient
    assert np.allclose(Light(90, 0).direction, (-1, 0, 0))  # at the patient's left
    assert np.allclose(Light(20, 90).direction, (0, 0, 1))


def test_camera() -> None:
    camera = Camera.look_at((10, -300, 20), (12, 5, 18), fov_degrees=40, size=(64, 48))
    assert np.allclose(camera.eye, (10, -300, 20))
    pixels, depth = camera.project([[12.0, 5.0, 18.0]])
    assert np.allclose(pixels, [[32, 24]]) and depth[0] == pytest.approx(np.linalg.norm([2, 305, 2]))
    rays = camera.rays()
    pixels, _ = camera.project(camera.eye + 70 * rays[5, 9])
    assert np.allclose(pixels, [9.5, 5.5]) and np.allclose(np.linalg.norm(rays, axis=-1), 1)
    above, _ = camera.project([12.0, 5.0, 60.0])  # up is up, and the patient's right is on the image's left
    right, _ = camera.project([50.0, 5.0, 18.0])
    assert above[1] < 24 and right[0] > 32
    assert np.allclose(
        Camera.look_at((0, 300, 0), (0, 0, 0)).project([50.0, 0, 0])[0],
        [50 / 300 * -955.4 + 256, 256],
        atol=0.1,
    )
    again = Camera.from_dict(json.loads(json.dumps(camera.to_dict())))
    assert np.array_equal(again.world_to_camera, camera.world_to_camera) and again.fy == camera.fy
    large = camera.resized(128, 96)
    assert np.allclose(large.project([30.0, 1, 2])[0], 2 * camera.project([30.0, 1, 2])[0])
    with pytest.raises(GaussianMRIError, match="viewing direction"):
        Camera.look_at((0, 0, 0), (0, 0, 5), up=(0, 0, 1))


def test_a_camera_goes_over_the_poles_without_a_jump() -> None:
    middle = np.array([12.0, -5.0, 30.0])
    lifts = [*np.arange(-90, 91, 1.0), 85.0, 87.1, 87.2, 89.999]
    for azimuth in (0.0, 30.0, -135.0):
        turn, axes = np.radians(azimuth), {}
        for lift in sorted(lifts):
            camera = Camera.around(middle, 200, azimuth=azimuth, elevation=lift, size=8)
            axes[lift] = camera.world_to_camera[:3, :3]
            assert np.allclose(axes[lift][0], [-np.cos(turn), -np.sin(turn), 0], atol=1e-9)  # level, by the azimuth
            assert np.linalg.norm(camera.eye - middle) == pytest.approx(200)
        ahead = -np.array([np.sin(turn), -np.cos(turn), 0])
        assert np.allclose(-axes[90.0][1], -ahead) and np.allclose(-axes[-90.0][1], ahead)  # what is up in the picture
        for here, there in itertools.pairwise(sorted(axes)):
            assert np.abs(axes[there] - axes[here]).max() < 0.02
    with pytest.raises(GaussianMRIError, match="distance must be above 0"):
        Camera.around(middle, -300)
    with pytest.raises(GaussianMRIError, match="rigid"):
        dataclasses.replace(camera, world_to_camera=np.eye(4) * 2)
    with pytest.raises(GaussianMRIError, match="incomplete"):
        Camera.from_dict({"fx": 3})


def test_clip_plane() -> None:
    plane = ClipPlane.from_point((1, 2, 3), (0, 0, 5))
    assert plane.offset == 3 and np.allclose(plane.signed_distance([[0, 0, 1], [0, 0, 4]]), [-2, 1])
    assert np.allclose(plane.flipped().signed_distance([0, 0, 1]), 2)
    again = ClipPlane.from_dict(json.loads(json.dumps(plane.to_dict())))
    assert np.array_equal(again.normal, plane.normal) and again.offset == plane.offset
    markup = {
        "markups": [
            {
                "type": "Plane", "coordinateSystem": "LPS", "center": [-1, -2, 3],
                "orientation": [-1, 0, 0, 0, -1, 0, 0, 0, 1],
            }
        ]
    }  # fmt: skip
    drawn = ClipPlane.from_markups(markup)
    assert np.allclose(drawn.normal, (0, 0, 1)) and drawn.offset == pytest.approx(3)
    with pytest.raises(GaussianMRIError, match="no length"):
        ClipPlane((0, 0, 0), 1.0)
    with pytest.raises(GaussianMRIError, match="finite"):
        ClipPlane((0, 0, 1), float("nan"))
