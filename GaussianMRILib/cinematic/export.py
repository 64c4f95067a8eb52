"""Splats for other programs: PLY as in 3D Gaussian splatting, SPZ, and glTF."""

from __future__ import annotations

import gzip
import json
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write
from ..native.splats.reference import sh_basis
from .clip import Cutting, convex_planes
from .model import CinematicModel, quaternions_of
from .model_files import save_model, suffixed
from .splats import SH_C0, Splats, rotation_matrices

SUFFIXES = (".ply", ".spz", ".glb")

RAS_TO_Y_UP = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
"""Rotates RAS to the axes of glTF and SPZ: y up, and the patient, like any glTF asset, looks along +z."""


def export_splats(
    path: str | os.PathLike[str], model: CinematicModel, *, plane: Cutting = None
) -> Path:
    """Write splats for other programs, the format by the suffix: .ply (RAS, mm), .spz (y up, mm) or .glb (y up, metres).

    A PLY gets a JSON file beside it, which viewers ignore and `load_model` reads.

    Args:
        plane: the model as this plane cuts it (`CinematicModel.bake`); None: the whole model.

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
        facts = {**model.facts, "baked_for": [plane.to_dict() for plane in planes]}
        model = replace(
            model, splats=splats, visibility="none", offsets=None, adjustment=None, facts=facts, face=None
        )
    if target.suffix.lower() == ".ply":
        return save_model(target, model)
    return (write_spz if target.suffix.lower() == ".spz" else write_gltf)(target, model.splats)


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
    return rotated(splats.map(lambda tensor: tensor.detach().cpu()), RAS_TO_Y_UP)


# ---- SPZ ---------------------------------------------------------------------------------------------------------


def write_spz(path: str | os.PathLike[str], splats: Splats) -> Path:
    """Write splats as SPZ, version 3 (Niantic): about a tenth of the PLY's size; mm, x right, y up, z back.

    Positions have 24 bits, 12 of them behind the point (1/4096 mm, up to 2 m); where that is too little, fewer. Colours,
    opacities and log scales have 8 bits, rotations 32, spherical harmonics 5 (degree 1) and 4.
    """
    target, s = suffixed(path, ".spz"), _y_up(splats).to(torch.float64)
    means = s.means.numpy()
    reach = float(np.abs(means).max()) if len(means) else 1.0
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
    header = struct.pack("<IIIBBBB", 0x5053474E, 3, len(s), s.degree, bits, 0, 0)
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


def write_gltf(path: str | os.PathLike[str], splats: Splats) -> Path:
    """Write splats as binary glTF with KHR_gaussian_splatting (Khronos, ratified 2026): metres, y up, z to the viewer.

    Programs without the extension show coloured points.
    """
    target, s = suffixed(path, ".glb"), _y_up(splats)
    count = len(s)
    colours = np.clip(s.sh[:, 0].numpy() * SH_C0 + 0.5, 0, 1)
    rgba = np.rint(np.concatenate([colours, s.opacities.numpy()[:, None]], axis=1) * 255).astype(np.uint8)
    name = "KHR_gaussian_splatting"
    quaternions = torch.nn.functional.normalize(s.quaternions, dim=1).roll(-1, dims=1)
    attributes: dict[str, NDArray[Any]] = {
        "POSITION": s.means.numpy() / 1000,
        "COLOR_0": rgba,
        f"{name}:ROTATION": quaternions.numpy(),
        f"{name}:SCALE": s.scales.numpy() / 1000,
        f"{name}:OPACITY": s.opacities.numpy()[:, None],
    }
    for degree in range(s.degree + 1):
        for order in range(2 * degree + 1):
            attributes[f"{name}:SH_DEGREE_{degree}_COEF_{order}"] = s.sh[:, degree**2 + order].numpy()
    accessors: list[dict[str, Any]] = []
    views: list[dict[str, Any]] = []
    body = b""
    for key, values in attributes.items():
        byte = values.dtype == np.uint8
        data = np.ascontiguousarray(values if byte else values.astype("<f4"))
        kind = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[data.shape[1]]
        accessor: dict[str, Any] = {
            "bufferView": len(views), "componentType": 5121 if byte else 5126, "count": count, "type": kind
        }  # fmt: skip
        if byte:
            accessor["normalized"] = True
        if key == "POSITION":
            accessor |= {"min": data.min(axis=0).tolist(), "max": data.max(axis=0).tolist()}
        views.append({"buffer": 0, "byteOffset": len(body), "byteLength": data.nbytes, "target": 34962})
        accessors.append(accessor)
        body += data.tobytes()
    extension = {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }
    primitive = {
        "mode": 0,
        "attributes": {key: n for n, key in enumerate(attributes)},
        "extensions": {name: extension},
    }
    content = {
        "asset": {"version": "2.0", "generator": "GaussianMRI"},
        "extensionsUsed": [name],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(body)}],
    }
    text = json.dumps(content, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 4)
    body += b"\0" * (-len(body) % 4)
    with atomic_write(target) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(body)))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", len(body), b"BIN\0") + body)
    return target
