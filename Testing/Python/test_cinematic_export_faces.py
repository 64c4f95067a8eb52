"""Exports that carry the cut: pictures of them against the model's own, read back by other projects' readers."""

from __future__ import annotations

import io
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from test_cinematic_cut_face import tracer_of
from trace_scenes import affine, blob

from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.cut_face import CutFace
from GaussianMRILib.cinematic.export import RAS_TO_Y_UP, export_splats, rotated
from GaussianMRILib.cinematic.export_faces import face_pictures, face_splats
from GaussianMRILib.cinematic.model import CinematicModel
from GaussianMRILib.cinematic.model_files import load_model, read_ply
from GaussianMRILib.cinematic.rasterise import rasterise
from GaussianMRILib.cinematic.splats import SH_C0, Splats
from GaussianMRILib.cinematic.start import sample_points, volume_splats
from GaussianMRILib.cinematic.tracer import PathTracer

NORMALS = {"one": [(0.3, 1, 0.2)], "three": [(0.3, 1, 0.2), (-1, 0.3, 0.1), (0.1, 0.2, 1)]}


@pytest.fixture(scope="module")
def tracer() -> PathTracer:
    return tracer_of()


@pytest.fixture(scope="module")
def model(tracer: PathTracer) -> CinematicModel:
    """Splats in the volume's colours, as a training begins, behind the volume's own faces."""
    splats = volume_splats(sample_points(tracer, count=4000), 4000, 1)
    return CinematicModel(splats, tracer.centre, tracer.radius, face=CutFace.of(tracer))


def view(tracer: PathTracer, which: str) -> tuple[Camera, list[ClipPlane]]:
    planes = [ClipPlane.from_point(tracer.centre, normal) for normal in NORMALS[which]]
    return tracer.camera(azimuth=35, elevation=30, size=96, zoom=1.4), planes


def psnr(picture: np.ndarray, other: np.ndarray) -> float:
    return -10 * math.log10(float(np.mean((np.clip(picture, 0, 1) - np.clip(other, 0, 1)) ** 2)))


@pytest.mark.parametrize("which", list(NORMALS))
def test_exported_splats_look_as_the_model_does(
    tracer: PathTracer, model: CinematicModel, which: str, tmp_path: Path
) -> None:
    camera, planes = view(tracer, which)
    truth = tracer.render(camera, clips=planes, samples=256).image
    own = psnr(model.render(camera, planes, side=3).image.numpy(), truth)
    baked = load_model(export_splats(tmp_path / "cut.ply", model, plane=planes))
    with_face = psnr(baked.render(camera).image.numpy(), truth)
    without = psnr(rasterise(model.bake(planes), camera)[0].numpy(), truth)
    assert with_face > own - 2 and with_face > without + 2, (own, with_face, without)
    again = load_model(export_splats(tmp_path / "spz.ply", model, plane=planes))
    assert torch.equal(again.splats.means, baked.splats.means)
    assert model.antialiased and not baked.antialiased  # see `test_face_splats_are_flat_opaque_and_on_their_planes`


@pytest.mark.parametrize("grid", ["left-handed", "sheared"])
def test_faces_of_other_grids_are_exported_where_they_are(grid: str) -> None:
    volume = 0.5 + 0.5 * blob()
    matrix = affine((1.0, 1.2, 2.0), volume.shape)
    if grid == "left-handed":
        matrix[:3, 3] += matrix[:3, 0] * (volume.shape[2] - 1)
        matrix[:3, 0] *= -1
    else:
        matrix[:3, 2] += 0.3 * matrix[:3, 0]
    other = PathTracer(volume, matrix, tracer_of().look)
    camera, planes = view(other, "three")
    face = CutFace.of(other)
    truth = other.render(camera, clips=planes, samples=128).image
    shown = rasterise(face_splats(face, planes, degree=0), camera)[0].numpy()
    black = psnr(np.zeros_like(truth), truth)
    assert psnr(shown, truth) > 22 > black + 6, (psnr(shown, truth), black)
    for picture in face_pictures(face, planes):
        outward = picture.centre + 0.5 * picture.normal
        assert (outward - other.centre) @ picture.normal > 0  # to the side that is cut away


def test_face_splats_are_flat_opaque_and_on_their_planes(tracer: PathTracer, model: CinematicModel) -> None:
    _, planes = view(tracer, "three")
    flat = face_splats(model.face, planes, degree=2)
    assert flat.sh.shape[1] == 9 and float(flat.sh[:, 1:].abs().max()) == 0
    means = flat.means.double().numpy()
    near = np.stack([np.abs(plane.signed_distance(means)) for plane in planes])
    inside = np.stack([plane.signed_distance(means) for plane in planes])
    assert inside.max() < 0.5 and ((near < 0.01).sum(axis=1) > 50).all()
    # The thin axis is the plane's normal.
    for plane, on in zip(planes, near < 0.01, strict=True):
        thin = flat.rotations[torch.from_numpy(on)][:, :, 2].double().numpy()
        assert (np.abs(thin @ plane.normal) > 0.999).mean() > 0.9  # others are of the volume's border, at an edge
        looking = Camera.look_at(means[on].mean(axis=0) + 60 * plane.normal, means[on].mean(axis=0), fov_degrees=2, size=40)
        alpha = rasterise(flat, looking)[1]
        assert float(alpha.min()) > 0.9  # no gaps from near by
        # From afar, with pixels of many splats, it is opaque only if no splat becomes fainter than it is.
        face = flat.map(lambda tensor, on=on: tensor[torch.from_numpy(on)])
        afar = Camera.look_at(means[on].mean(axis=0) + 5e3 * plane.normal, means[on].mean(axis=0), fov_degrees=1, size=21)
        solid, fainter = (float(rasterise(face, afar, antialiased=a)[1].max()) for a in (False, True))
        assert solid > 0.98 and fainter < 0.95
    few = face_splats(model.face, planes, degree=0, most=150)
    assert 60 < len(few) <= 150
    border = face_splats(model.face, [], degree=0)
    assert len(border) > 100  # where the volume ends amid tissue


def test_a_face_picture_is_the_tracer_s_view_of_its_plane(tracer: PathTracer, model: CinematicModel) -> None:
    _, planes = view(tracer, "one")
    (picture,) = [p for p in face_pictures(model.face, planes) if p.normal @ planes[0].normal > 0.999]
    places = picture.places()
    assert np.abs(planes[0].signed_distance(places)).max() < 1e-9
    assert np.linalg.norm(places[0, 1] - places[0, 0]) == pytest.approx(tracer._volume.spacing / 2)
    # Seen from elsewhere: places of opaque pixels, projected, have the colour of the traced picture there.
    camera = tracer.camera(azimuth=10, elevation=5, size=120, zoom=1.4)
    truth = tracer.render(camera, clips=planes, samples=256).image
    pixels, _ = camera.project(places)
    opaque = picture.image[..., 3] > 0.99
    at = [pixels[..., 1][opaque] - 0.5, pixels[..., 0][opaque] - 0.5]
    seen = np.stack([map_coordinates(truth[..., c], at, order=1, mode="nearest") for c in range(3)], axis=-1)
    off = np.abs(seen - picture.image[opaque][:, :3])
    assert opaque.sum() > 500 and np.median(off) < 0.02 and off.mean() < 0.03


def test_nothing_is_added_where_there_is_no_face(model: CinematicModel, tracer: PathTracer, tmp_path: Path) -> None:
    camera, planes = view(tracer, "one")
    bare = CinematicModel(model.splats, model.center, model.unit)
    assert len(load_model(export_splats(tmp_path / "a.ply", bare, plane=planes))) == len(bare.bake(planes))
    whole = load_model(export_splats(tmp_path / "whole.ply", model))
    assert len(whole) == len(model) and whole.face is not None
    assert torch.allclose(whole.render(camera, planes).image, model.render(camera, planes).image, atol=1e-5)


# ---- other projects' readers


def glb_splats(path: Path) -> Splats:
    """The splats of a glTF as pygltflib reads its header and body, in RAS mm."""
    pygltflib = pytest.importorskip("pygltflib")
    gltf = pygltflib.GLTF2().load(str(path))
    (primitive,) = gltf.meshes[0].primitives
    body = gltf.binary_blob()
    names = primitive.attributes.__dict__

    def read(name: str) -> np.ndarray:
        accessor = gltf.accessors[names[name]]
        place = gltf.bufferViews[accessor.bufferView]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor.type]
        return np.frombuffer(body, "<f4", accessor.count * width, place.byteOffset).reshape(-1, width)

    khr = "KHR_gaussian_splatting:"
    sh = np.stack([read(f"{khr}SH_DEGREE_0_COEF_0")], axis=1)
    half = math.sqrt(0.5)  # y up to RAS: a quarter turn about x, then half a turn about z
    turn = np.array([0, 0, half, half])
    w, x, y, z = np.roll(read(f"{khr}ROTATION"), 1, axis=1).T
    a, b, c, d = turn
    q = np.stack([a * w - b * x - c * y - d * z, a * x + b * w + c * z - d * y,
                  a * y - b * z + c * w + d * x, a * z + b * y - c * x + d * w], axis=1)  # fmt: skip
    return Splats(
        torch.from_numpy(read("POSITION") @ RAS_TO_Y_UP * 1000).float(),
        torch.from_numpy(q).float(),
        torch.from_numpy(read(f"{khr}SCALE") * 1000).log(),
        torch.from_numpy(sh.copy()),
        torch.logit(torch.from_numpy(read(f"{khr}OPACITY")[:, 0].copy()), eps=1e-6),
    )


@pytest.mark.parametrize("which", list(NORMALS))
def test_a_gltf_s_rectangles_show_the_faces(tracer: PathTracer, model: CinematicModel, which: str, tmp_path: Path) -> None:
    """Read by trimesh; drawn by rays that meet its triangles, with its texture, in front of the splats."""
    trimesh = pytest.importorskip("trimesh")
    camera, planes = view(tracer, which)
    path = export_splats(tmp_path / "cut.glb", model, plane=planes)
    truth = tracer.render(camera, clips=planes, samples=256).image
    scene = trimesh.load_scene(path)
    faces = [g for g in scene.geometry.values() if isinstance(g, trimesh.Trimesh)]
    assert len(faces) >= len(planes)
    picture = rasterise(glb_splats(path), camera)[0].numpy()
    without = psnr(picture, truth)
    eye = RAS_TO_Y_UP @ camera.eye / 1000
    rays = camera.rays().reshape(-1, 3) @ RAS_TO_Y_UP.T
    nearest, flat = np.full(len(rays), np.inf), picture.reshape(-1, 3)
    for mesh in faces:
        corner, right, _, up = mesh.vertices
        right, up = right - corner, up - corner
        normal = np.cross(right, up)
        assert mesh.face_normals @ normal == pytest.approx([np.linalg.norm(normal)] * 2)
        towards = rays @ normal
        t = (corner - eye) @ normal / towards
        at = eye + t[:, None] * rays - corner
        s, r = at @ right / (right @ right), at @ up / (up @ up)
        texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGBA")) / 255
        uv = mesh.visual.uv
        u = uv[0, 0] + s * (uv[1, 0] - uv[0, 0])
        v = uv[0, 1] + r * (uv[3, 1] - uv[0, 1])  # trimesh's v goes upwards
        rows, columns = (1 - v) * texture.shape[0] - 0.5, u * texture.shape[1] - 0.5
        rgba = np.stack([map_coordinates(texture[..., c], [rows, columns], order=1, mode="nearest") for c in range(4)], -1)
        front = (towards < 0) & (s >= 0) & (s <= 1) & (r >= 0) & (r <= 1) & (rgba[:, 3] >= 0.5) & (t < nearest)
        nearest[front] = t[front]
        flat[front] = rgba[front, :3]
    own = psnr(model.render(camera, planes, side=3).image.numpy(), truth)
    assert psnr(picture, truth) > own - 2 and psnr(picture, truth) > without + 2


def test_a_gltf_says_what_it_uses(tracer: PathTracer, model: CinematicModel, tmp_path: Path) -> None:
    pygltflib = pytest.importorskip("pygltflib")
    from PIL import Image

    gltf = pygltflib.GLTF2().load(str(export_splats(tmp_path / "cut.glb", model, plane=view(tracer, "one")[1])))
    assert set(gltf.extensionsUsed) == {"KHR_gaussian_splatting", "KHR_materials_unlit"}
    assert len(gltf.nodes) == len(gltf.meshes) == 1 + len(gltf.images) == len(gltf.scenes[0].nodes)
    for material in gltf.materials:
        assert material.alphaMode == "MASK" and material.alphaCutoff == 0.5 and not material.doubleSided
        assert "KHR_materials_unlit" in material.extensions
    body = gltf.binary_blob()
    for image in gltf.images:
        place = gltf.bufferViews[image.bufferView]
        picture = Image.open(io.BytesIO(body[place.byteOffset : place.byteOffset + place.byteLength]))
        assert picture.format == "PNG" and picture.mode == "RGBA"
    assert sum(place.byteLength for place in gltf.bufferViews) <= len(body)
    for mesh in gltf.meshes[1:]:
        (quad,) = mesh.primitives
        assert gltf.accessors[quad.indices].count == 6 and gltf.accessors[quad.attributes.TEXCOORD_0].type == "VEC2"


def test_a_ply_is_read_by_trimesh(tracer: PathTracer, model: CinematicModel, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    path = export_splats(tmp_path / "cut.ply", model, plane=view(tracer, "one")[1])
    cloud = trimesh.load(path)
    expected = load_model(path).splats
    np.testing.assert_allclose(cloud.vertices, expected.means.numpy(), atol=1e-5)
    names = cloud.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_allclose(np.ravel(names["opacity"]), expected.logit_opacities.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.ravel(names["f_dc_1"]), expected.sh[:, 0, 1].numpy(), atol=1e-6)


def test_spz_and_ply_are_read_by_splat_transform(tracer: PathTracer, model: CinematicModel, tmp_path: Path) -> None:
    """PlayCanvas's converter (npm install -g @playcanvas/splat-transform) makes the same table of both."""
    program = shutil.which("splat-transform")
    if program is None:
        pytest.skip("needs splat-transform, which is not installed")
    camera, planes = view(tracer, "one")
    tables = {}
    for suffix in ("ply", "spz"):
        path = export_splats(tmp_path / f"cut.{suffix}", model, plane=planes)
        subprocess.run([program, "-q", "-w", str(path), str(tmp_path / "table.csv")], check=True, timeout=300)
        tables[suffix] = np.genfromtxt(tmp_path / "table.csv", delimiter=",", names=True)
    expected = load_model(tmp_path / "cut.ply").splats
    for table, atol in ((tables["ply"], 1e-4), (tables["spz"], 0.02)):
        assert len(table) == len(expected)
        colour = np.stack([table[f"f_dc_{c}"] for c in range(3)], axis=1) * SH_C0
        np.testing.assert_allclose(colour, expected.sh[:, 0].numpy() * SH_C0, atol=max(atol, 1e-4))
        np.testing.assert_allclose(
            1 / (1 + np.exp(-table["opacity"])), expected.opacities.numpy(), atol=max(atol / 4, 1e-4)
        )
    means = expected.means.numpy()
    # Its table of an SPZ has y down and z forward, as it keeps all splats.
    turned = means @ RAS_TO_Y_UP.T * (1, -1, -1)
    for table, places in ((tables["ply"], means), (tables["spz"], turned)):
        np.testing.assert_allclose(np.stack([table[axis] for axis in "xyz"], axis=1), places, atol=2e-3)
    subprocess.run([program, "-q", "-w", str(tmp_path / "cut.spz"), str(tmp_path / "spz.ply")], check=True, timeout=300)
    back = rotated(read_ply(tmp_path / "spz.ply")[0], (np.diag([1.0, -1, -1]) @ RAS_TO_Y_UP).T)
    truth = tracer.render(camera, clips=planes, samples=256).image
    own = psnr(model.render(camera, planes, side=3).image.numpy(), truth)
    assert psnr(rasterise(back, camera)[0].numpy(), truth) > own - 2
