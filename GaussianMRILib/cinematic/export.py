"""Splats for other programs: PLY as in 3D Gaussian splatting, SPZ, and glTF."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write
from ..native.splats.reference import sh_basis
from .animation import to_bytes
from .clip import Cutting, convex_planes
from .export_faces import FacePicture, face_pictures, face_splats, joined, without_hidden
from .model import CinematicModel, quaternions_of
from .model_files import save_model, suffixed
from .splats import SH_C0, Splats, rotation_matrices
from .tracer_volume import srgb_to_linear

SUFFIXES = (".ply", ".spz", ".glb")

RAS_TO_Y_UP = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
"""Rotates RAS to the axes of glTF and SPZ: y up, and the patient, like any glTF asset, looks along +z."""


def export_splats(
    path: str | os.PathLike[str], model: CinematicModel, *, plane: Cutting = None
) -> Path:
    """Write splats for other programs, the format by the suffix: .ply (RAS, mm), .spz (y up, mm) or .glb (y up, metres).

    A PLY gets a JSON file beside it, which viewers ignore and `load_model` reads. A model's cut faces (of planes, of its
    region and of the volume's border) are flat splats in PLY and SPZ and textured rectangles in glTF; a PLY without a plane
    has them in its own file.

    Args:
        plane: the model as this plane cuts it, or as several of the type "union" do (`CinematicModel.bake`); None: the whole
            model. A PLY that was cut can be cut further; `facts["baked_for"]` has all planes.

    Raises:
        GaussianMRIError: another suffix, a plane that removes everything, or a file that cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise GaussianMRIError(f"{target} must end in one of {', '.join(SUFFIXES)}.")
    planes = convex_planes(plane)
    if planes:
        splats = model.bake(planes)
        if not len(splats):
            said = "The planes remove" if len(planes) > 1 else f"{planes[0].file or 'The plane'} removes"
            raise GaussianMRIError(f"{said} every splat; nothing is left to export. Move or flip what cuts.")
        earlier = model.facts.get("baked_for")
        facts = {
            **model.facts,
            "baked_for": [*(earlier if isinstance(earlier, list) else []), *(plane.to_dict() for plane in planes)],
        }
        face = model.face
        # What was learned is in the splats now; further planes cut them as any others.
        model = replace(model, splats=splats, visibility="analytic", offsets=None, adjustment=None, facts=facts, face=None)
    else:
        face = None if target.suffix.lower() == ".ply" else model.face  # a PLY has its faces in a file beside it
    faces: list[FacePicture] = []
    if face is not None:
        faces = face_pictures(face, planes)
        model = replace(model, splats=without_hidden(model.splats.to("cpu"), faces))
    if target.suffix.lower() == ".glb":
        return write_gltf(target, model.splats, faces=faces)
    if face is not None:
        whole = joined(model.splats, face_splats(face, planes, degree=model.splats.degree))
        # Flat splats side by side are opaque together only where none becomes fainter than it is.
        model = replace(model, splats=whole, antialiased=False)
    if target.suffix.lower() == ".ply":
        return save_model(target, model)
    return write_spz(target, model.splats, antialiased=model.antialiased)


def rotated(splats: Splats, rotation: NDArray[np.float64]) -> Splats:
    """The splats turned by `rotation` (3, 3) about the origin, colours included: what is seen turns with them.

    The spherical harmonics of a turned direction are a matrix times those of the direction; it is solved for on a set
    of directions, exactly, because each band maps onto itself.
    """
    turn = torch.from_numpy(np.asarray(rotation, dtype=np.float64)).to(splats.means.device)
    whole = splats.to(torch.float64)
    directions = torch.randn(64, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(turn)
    directions = torch.nn.functional.normalize(directions, dim=1)
    count = splats.sh.shape[1]
    before, after = sh_basis(directions @ turn, count), sh_basis(directions, count)
    matrix = torch.linalg.lstsq(after, before).solution  # after @ matrix = before
    turned = replace(
        whole,
        means=whole.means @ turn.T,
        quaternions=quaternions_of(turn @ rotation_matrices(whole.quaternions)),
        sh=torch.einsum("ab,nbc->nac", matrix, whole.sh),
    )
    return turned.to(splats.means.dtype)


def _y_up(splats: Splats) -> Splats:
    return rotated(splats.for_a_file(), RAS_TO_Y_UP)


# ---- SPZ ---------------------------------------------------------------------------------------------------------


def write_spz(path: str | os.PathLike[str], splats: Splats, *, antialiased: bool = True) -> Path:
    """Write splats as SPZ, version 3 (Niantic): about a tenth of the PLY's size; mm, x right, y up, z back.

    Positions have 24 bits, 12 of them behind the point (1/4096 mm, up to 2 m); where that is too little, fewer. Colours,
    opacities and log scales have 8 bits, rotations 32, spherical harmonics 5 (degree 1) and 4.

    Args:
        antialiased: said in the header: a viewer's low-pass filter is to add no light (as for `rasterise`).

    Raises:
        GaussianMRIError: no splats, or the file cannot be written.
    """
    target, s = suffixed(path, ".spz"), _y_up(splats).to(torch.float64)
    means = s.means.numpy()
    reach = float(np.abs(means).max())
    bits = max(0, min(12, 23 - int(np.ceil(np.log2(max(reach, 1e-9) + 1e-9)))))
    fixed = np.clip(np.rint(means * 2**bits), -(2**23), 2**23 - 1).astype("<i4")
    positions = fixed.view(np.uint8).reshape(-1, 3, 4)[:, :, :3]
    colours = _bytes(s.sh[:, 0].numpy() * (0.15 * 255) + 127.5)
    scales = _bytes((s.log_scales.numpy() + 10) * 16)
    parts = [
        positions,
        _bytes(s.opacities.numpy() * 255),
        colours,
        scales,
        _smallest_three(s.quaternions.numpy()),
    ]
    if s.degree:
        step = np.where(np.arange(1, s.sh.shape[1]) < 4, 8, 16)[None, :, None]
        level = np.rint(s.sh[:, 1:].numpy() * 128) + 128
        parts.append(_bytes(np.floor((level + step // 2) / step) * step))
    header = struct.pack("<IIIBBBB", 0x5053474E, 3, len(s), s.degree, bits, int(antialiased), 0)
    content = header + b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    with atomic_write(target) as temporary:
        temporary.write_bytes(gzip.compress(content, mtime=0))
    return target


def _bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _smallest_three(quaternions: NDArray[np.float64]) -> NDArray[np.uint32]:
    """(N,) 32 bits: which of x, y, z, w is largest, and the others with a sign and 9 bits each."""
    q = np.roll(quaternions, -1, axis=1)
    q = q / np.linalg.norm(q, axis=1, keepdims=True)
    rows, largest = np.arange(len(q)), np.abs(q).argmax(axis=1)
    q = q * np.where(q[rows, largest] < 0, -1, 1)[:, None]
    packed = largest.astype(np.uint32)
    for axis in range(4):
        size = np.minimum(np.rint(np.abs(q[:, axis]) * (511 * np.sqrt(2))), 511).astype(np.uint32)
        value = (q[:, axis] < 0).astype(np.uint32) << np.uint32(9) | size
        packed = np.where(largest == axis, packed, packed << np.uint32(10) | value).astype("<u4")
    return packed


# ---- glTF --------------------------------------------------------------------------------------------------------


def write_gltf(path: str | os.PathLike[str], splats: Splats, *, faces: Sequence[FacePicture] = ()) -> Path:
    """Write splats as binary glTF with KHR_gaussian_splatting (Khronos, ratified 2026): metres, y up, z to the viewer.

    Programs without the extension show coloured points.

    Args:
        faces: cut faces, as rectangles with a texture that is shown as it is (KHR_materials_unlit); where a texture is less
            than half opaque, nothing is drawn, so that programs need not sort them among the splats.

    Raises:
        GaussianMRIError: no splats, or the file cannot be written.
    """
    target, s = suffixed(path, ".glb"), _y_up(splats)
    colours = np.clip(s.sh[:, 0].numpy() * SH_C0 + 0.5, 0, 1)
    # COLOR_0 is linear, where 8 bits would show steps; that of the extension is as displayed.
    rgba = np.concatenate([srgb_to_linear(colours), s.opacities.numpy()[:, None]], axis=1)
    name = "KHR_gaussian_splatting"
    quaternions = torch.nn.functional.normalize(s.quaternions, dim=1).roll(-1, dims=1)
    attributes: dict[str, NDArray[Any]] = {
        "POSITION": s.means.numpy() / 1000,
        "COLOR_0": np.rint(rgba * 65535).astype("<u2"),
        f"{name}:ROTATION": quaternions.numpy(),
        f"{name}:SCALE": s.scales.numpy() / 1000,
        f"{name}:OPACITY": s.opacities.numpy()[:, None],
    }
    for degree in range(s.degree + 1):
        for order in range(2 * degree + 1):
            attributes[f"{name}:SH_DEGREE_{degree}_COEF_{order}"] = s.sh[:, degree**2 + order].numpy()
    parts = _GltfParts()
    extension = {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }
    primitive = {
        "mode": 0,
        "attributes": {key: parts.accessor(values, position=key == "POSITION") for key, values in attributes.items()},
        "extensions": {name: extension},
    }
    content: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "GaussianMRI"},
        "extensionsUsed": [name, "KHR_materials_unlit"] if faces else [name],
        "scene": 0,
        "scenes": [{"nodes": [*range(1 + len(faces))]}],
        "nodes": [{"mesh": n} for n in range(1 + len(faces))],
        "meshes": [{"primitives": [primitive]}],
    }
    if faces:
        pictures = [parts.view(_png(face.image)) for face in faces]
        content |= {
            "images": [{"bufferView": view, "mimeType": "image/png"} for view in pictures],
            "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
            "textures": [{"sampler": 0, "source": n} for n in range(len(faces))],
            "materials": [_unlit(n) for n in range(len(faces))],
        }
        content["meshes"] += [{"name": "cut face", "primitives": [_quad(parts, f, n)]} for n, f in enumerate(faces)]
    body = parts.body
    content |= {"accessors": parts.accessors, "bufferViews": parts.views, "buffers": [{"byteLength": len(body)}]}
    text = json.dumps(content, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 4)
    with atomic_write(target) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(body)))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", len(body), b"BIN\0") + body)
    return target


class _GltfParts:
    """The binary body of a glTF file, and what its header says of it."""

    def __init__(self) -> None:
        self.body = b""
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.body), "byteLength": len(data)}
        self.views.append(view if target is None else {**view, "target": target})
        self.body += data + b"\0" * (-len(data) % 4)
        return len(self.views) - 1

    def accessor(self, values: NDArray[Any], *, position: bool = False, indices: bool = False) -> int:
        """Of rows of numbers: 16 bits are colours, or the numbers of corners; all else 32-bit floats."""
        whole = values.dtype.kind == "u"
        data = np.ascontiguousarray(values if whole else values.astype("<f4"))
        code = 5123 if whole else 5126
        kind = "SCALAR" if indices else {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}[data.shape[1]]
        view = self.view(data.tobytes(), 34963 if indices else 34962)
        accessor: dict[str, Any] = {"bufferView": view, "componentType": code, "count": len(data), "type": kind}
        if whole and not indices:
            accessor["normalized"] = True
        if position:
            accessor |= {"min": data.min(axis=0).tolist(), "max": data.max(axis=0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _quad(parts: _GltfParts, face: FacePicture, material: int) -> dict[str, Any]:
    """Two triangles, counter-clockwise as seen from the side that was cut away."""
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    corners = (face.centre + signs @ np.stack([face.right, face.up])) @ RAS_TO_Y_UP.T / 1000
    attributes = {
        "POSITION": parts.accessor(corners, position=True),
        "NORMAL": parts.accessor(np.tile(RAS_TO_Y_UP @ face.normal, (4, 1))),
        "TEXCOORD_0": parts.accessor(np.stack([(signs[:, 0] + 1) / 2, (1 - signs[:, 1]) / 2], axis=1)),
    }
    corners_of = parts.accessor(np.array([0, 1, 2, 0, 2, 3], dtype="<u2"), indices=True)
    return {"attributes": attributes, "indices": corners_of, "material": material}


def _unlit(texture: int) -> dict[str, Any]:
    colour = {"baseColorTexture": {"index": texture}, "metallicFactor": 0.0, "roughnessFactor": 1.0}
    extensions: dict[str, Any] = {"KHR_materials_unlit": {}}
    return {"pbrMetallicRoughness": colour, "alphaMode": "MASK", "alphaCutoff": 0.5, "extensions": extensions}


def _png(image: NDArray[np.float32]) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(to_bytes(image)).save(data, format="PNG")
    return data.getvalue()
