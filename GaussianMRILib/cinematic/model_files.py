"""Models as files: PLY in the layout of 3D Gaussian splatting, and a JSON file beside it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import os
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write, finite, number, read_json, reading
from ..geometry.affine import LARGEST_POSITION_MM
from ..tensor_files import without_values
from .adjustment import Adjustment
from .cut_face import CutFace
from .model import CinematicModel
from .splats import Splats

FORMAT = "GaussianMRI cinematic model"
VERSION = 2
FACE = ".face.npz"
_LARGEST_NETWORK = 64 << 20
_LARGEST_LOG_SCALE = 40.0  # of a splat that is a plane or a point to float32, or as large as the earth
_LOG = logging.getLogger("GaussianMRI")


def save_model(path: str | os.PathLike[str], model: CinematicModel) -> Path:
    """Write `model` as PATH.ply (viewers of Gaussian splats open it; RAS mm), PATH.json (cut, network, provenance) and,
    where it has cut faces of its volume, PATH.face.npz.

    Returns:
        The PLY file.

    Raises:
        GaussianMRIError: the name does not end in .ply, or a file cannot be written.
    """
    target = suffixed(path, ".ply")
    header: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "splats": target.name,
        "count": len(model),
        "space": "RAS mm",
        "center": model.center.tolist(),
        "unit": model.unit,
        "visibility": model.visibility,
        "background": list(model.background),
        "antialiased": model.antialiased,
        "adjustment": None if model.adjustment is None else _pack_network(model.adjustment),
        "facts": model.facts,
        "face": model.face is not None,
    }
    extra = {} if model.offsets is None else {"clip_offset": model.offsets.detach().cpu().numpy()}
    face = target.with_suffix(FACE)
    # Everything is on the disk before the first of the files gets its name.
    with contextlib.ExitStack() as parts:
        temporary = parts.enter_context(atomic_write(target.with_suffix(".json")))
        splats = parts.enter_context(atomic_write(target))
        _write_ply(splats, model.splats, extra)
        header["sha256"] = {".ply": _sha256(splats)}
        if model.face is not None:
            faces = parts.enter_context(atomic_write(face))
            model.face.save(faces)
            header["sha256"][FACE] = _sha256(faces)
        temporary.write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
    if model.face is None:
        face.unlink(missing_ok=True)
    return target


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_model(path: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> CinematicModel:
    """Read what `save_model` wrote, by the name of either file; a PLY of 3DGS alone becomes a model with the analytic cut.
    A model whose file of cut faces was left behind is read without them, with a warning.

    Raises:
        GaussianMRIError: a file is missing, damaged, of another kind or of a newer version, or the two do not belong
            together.
    """
    given = Path(path)
    beside = given.with_suffix(".json")
    ply = given.with_suffix(".ply") if given.suffix.lower() == ".json" else given
    splats, extra = read_ply(ply)
    if not beside.is_file():
        means = splats.means.double().numpy()
        if not len(means):
            raise GaussianMRIError(f"{ply} has no splats.")
        if "clip_offset" in extra:
            raise GaussianMRIError(f"{ply} has a learned cut, of which {beside.name} is missing. Copy both files.")
        low, high = means.min(axis=0), means.max(axis=0)
        facts = {"source": given.name}
        unit = float((high - low).max() / 2) or 1.0
        model = CinematicModel(splats, (low + high) / 2, unit, antialiased=False, facts=facts)
        return model.to(device)
    with reading(beside, "the description of a model"):
        header = read_json(beside)
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ValueError("another format")
        if number(header["version"], "version") > VERSION:
            raise GaussianMRIError(
                f"{beside} was written by a newer version (model version {header['version']}); update GaussianMRI."
            )
        if header["count"] != len(splats):
            raise GaussianMRIError(
                f"{beside} belongs to {header['count']} splats, {ply.name} has {len(splats)}. Take both "
                "files from one training."
            )
        sums = header.get("sha256", {})  # files of the first releases have none
        _check_belongs(beside, ply, sums.get(".ply"))
        model = _described(splats, extra.get("clip_offset"), header)
        if model.visibility == "none" and model.adjustment is None:
            _LOG.warning("%s was stopped before it learned to be cut: planes leave it as it is.", ply)
        faces = given.with_suffix(FACE) if header.get("face") else None
        if faces is not None and not faces.is_file():
            _LOG.warning("%s is missing; cut faces are shown by the splats.", faces)
            faces = None
    if faces is not None:
        _check_belongs(beside, faces, sums.get(FACE))
        model = replace(model, face=CutFace.load(faces))
    return model.to(device)


def _check_belongs(beside: Path, path: Path, sha256: str | None) -> None:
    if sha256 is not None and _sha256(path) != sha256:
        raise GaussianMRIError(
            f"{path} is not the file that {beside} describes: it is of another training, or damaged. Take all files of "
            "a model from one training."
        )


def _described(
    splats: Splats, offsets: NDArray[np.float32] | None, header: dict[str, Any]
) -> CinematicModel:
    """The model of a JSON file; raises anything where that is damaged."""
    network, background = header["adjustment"], finite(header["background"], (3,), "background", 1.0)
    red, green, blue = (float(c) for c in background)
    if not isinstance(header["facts"], dict) or background.min() < 0:
        raise ValueError("its facts or its background are none")
    if offsets is not None:
        finite(offsets, (len(splats),), "learned offsets", 1e6)
    return CinematicModel(
        splats,
        finite(header["center"], (3,), "center", LARGEST_POSITION_MM),
        number(header["unit"], "unit", 1e-6, LARGEST_POSITION_MM),
        # Splats that were cut for good are ordinary ones, whatever their file says of the model that they come from.
        visibility="analytic" if "baked_for" in header["facts"] else header["visibility"],
        offsets=None if offsets is None else torch.from_numpy(offsets),
        adjustment=None if network is None else _unpack_network(network),
        background=(red, green, blue),
        antialiased=bool(header.get("antialiased", False)),  # version 1 was not
        facts=header["facts"],
    )


def model_bytes(path: str | os.PathLike[str]) -> int:
    """Size of a model's files."""
    files = [Path(path).with_suffix(suffix) for suffix in (".ply", ".json", FACE)]
    return sum(file.stat().st_size for file in files if file.is_file())


def _pack_network(network: Adjustment) -> dict[str, Any]:
    values = torch.cat([p.detach().float().cpu().reshape(-1) for p in network.state_dict().values()])
    packed = base64.b64encode(zlib.compress(values.numpy().astype("<f4").tobytes())).decode("ascii")
    return {**network.config(), "weights": packed, "encoding": "base64 of zlib of float32, in torch's order"}


def _unpack_network(header: dict[str, Any]) -> Adjustment:
    limits = {"depth": 64, "width": 4096, "position_frequencies": 32, "plane_frequencies": 32}
    for name, most in limits.items():
        number(header[name], name, 0 if "frequencies" in name else 1, most)
    finite(header["center"], (3,), "network's center", LARGEST_POSITION_MM)
    number(header["unit"], "network's unit", 1e-6, LARGEST_POSITION_MM)
    if "scale_bound" in header:
        number(header["scale_bound"], "network's bound of scales", 1e-6, 1e6)
    unpacker = zlib.decompressobj()
    raw = unpacker.decompress(base64.b64decode(header["weights"]), _LARGEST_NETWORK)
    if unpacker.unconsumed_tail:
        raise ValueError("the network is too large")
    values = torch.from_numpy(np.frombuffer(raw, dtype="<f4").copy())
    finite(values.numpy(), (None,), "network's weights")
    with without_values():  # the size of a network that the weights are not those of is nobody's memory
        expected = sum(p.numel() for p in Adjustment.from_config(header).state_dict().values())
    if expected != len(values):
        raise ValueError(f"the network has {len(values)} numbers, expected {expected}")
    network = Adjustment.from_config(header)
    state, at = network.state_dict(), 0
    for name, tensor in state.items():
        state[name] = values[at : at + tensor.numel()].reshape(tensor.shape)
        at += tensor.numel()
    network.load_state_dict(state)
    return network.requires_grad_(False)


# ---- PLY ---------------------------------------------------------------------------------------------------------


def _ply_names(coefficients: int) -> list[str]:
    rest = 3 * (coefficients - 1)
    return (
        ["x", "y", "z", "nx", "ny", "nz"]
        + [f"f_dc_{n}" for n in range(3)]
        + [f"f_rest_{n}" for n in range(rest)]
        + ["opacity"]
        + [f"scale_{n}" for n in range(3)]
        + [f"rot_{n}" for n in range(4)]
    )


def write_ply(
    path: str | os.PathLike[str], splats: Splats, extra: dict[str, NDArray[np.float32]] | None = None
) -> Path:
    """Write splats as binary PLY in the layout of 3DGS: log scales, logit opacities, quaternions w x y z, colour by channel.

    Args:
        extra: further properties by name, (N,) each.

    Raises:
        GaussianMRIError: no splats, or the file cannot be written.
    """
    target = suffixed(path, ".ply")
    with atomic_write(target) as temporary:
        _write_ply(temporary, splats, extra or {})
    return target


def _write_ply(path: Path, splats: Splats, more: dict[str, NDArray[np.float32]]) -> None:
    s = splats.for_a_file()
    count = len(s)
    columns = [
        s.means,
        torch.zeros(count, 3, dtype=torch.float32),
        s.sh[:, 0],
        s.sh[:, 1:].transpose(1, 2).reshape(count, -1),
        s.logit_opacities[:, None],
        s.log_scales,
        torch.nn.functional.normalize(s.quaternions, dim=1),
        *[torch.from_numpy(np.asarray(value, dtype=np.float32))[:, None] for value in more.values()],
    ]
    names = [*_ply_names(s.sh.shape[1]), *more]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    with open(path, "wb") as file:
        file.write("\n".join(header).encode("ascii"))
        file.write(torch.cat(columns, dim=1).numpy().astype("<f4").tobytes())


def read_ply(path: str | os.PathLike[str]) -> tuple[Splats, dict[str, NDArray[np.float32]]]:
    """Splats of a binary PLY in the layout of 3DGS, whatever the order of its properties, and its further properties.

    Raises:
        GaussianMRIError: no such file, another kind of PLY, or a truncated one.
    """
    with reading(path, "a PLY file in the layout of 3D Gaussian splatting"):
        found = _parsed_ply(path, Path(path).read_bytes())
    return found


def _parsed_ply(path: str | os.PathLike[str], raw: bytes) -> tuple[Splats, dict[str, NDArray[np.float32]]]:
    end = raw.find(b"end_header\n")
    lines = raw[: max(0, end)].decode("ascii", errors="replace").split("\n")
    if (
        end < 0
        or lines[0].strip() != "ply"
        or "format binary_little_endian 1.0" not in [x.strip() for x in lines]
    ):
        raise GaussianMRIError(f"{path} is not a binary PLY file of Gaussian splats.")
    words = [line.split() for line in lines if line.strip()]
    names = [w[2] for w in words if w[0] == "property" and w[1] in ("float", "float32")]
    elements = [w for w in words if w[0] == "element"]
    properties = sum(w[0] == "property" for w in words)
    degrees = {len(_ply_names(n)): n for n in (1, 4, 9, 16)}
    rest = sum(name.startswith("f_rest_") for name in names)
    coefficients = degrees.get(17 + rest)
    needed = set(_ply_names(coefficients or 1)) - {"nx", "ny", "nz"}
    if len(elements) != 1 or properties != len(names) or coefficients is None or needed - set(names):
        raise GaussianMRIError(f"{path} is not a PLY file in the layout of 3D Gaussian splatting.")
    count, body = int(elements[0][2]), raw[end + len(b"end_header\n") :]
    if len(body) != 4 * count * len(names):
        what = "truncated" if len(body) < 4 * count * len(names) else "damaged"
        raise GaussianMRIError(
            f"{path} is {what}: it has {len(body)} bytes of splats, {4 * count * len(names)} are expected. "
            "Copy it again, or export it anew."
        )
    table = np.frombuffer(body, dtype="<f4", count=count * len(names)).reshape(count, len(names))
    columns = {name: table[:, n] for n, name in enumerate(names)}

    def gather(*wanted: str) -> torch.Tensor:
        values = [columns[name] for name in wanted]
        return torch.from_numpy(np.stack(values, axis=1).astype(np.float32).reshape(count, len(values)))

    base = gather(*(f"f_dc_{n}" for n in range(3)))[:, None]
    if coefficients > 1:
        higher = gather(*(f"f_rest_{n}" for n in range(rest))).reshape(count, 3, -1).transpose(1, 2)
        base = torch.cat([base, higher], dim=1)
    splats = Splats(
        gather("x", "y", "z"),
        gather(*(f"rot_{n}" for n in range(4))),
        gather(*(f"scale_{n}" for n in range(3))),
        base.contiguous(),
        gather("opacity")[:, 0],
    )
    if len(set(names)) != len(names):
        raise GaussianMRIError(f"{path} has a property twice.")
    for name, value, largest in (
        ("places", splats.means, LARGEST_POSITION_MM), ("rotations", splats.quaternions, 1e12), ("colours", splats.sh, 1e6),
        ("opacities", splats.logit_opacities, 1e6), ("sizes", splats.log_scales, _LARGEST_LOG_SCALE),
    ):  # fmt: skip
        finite(value.numpy(), (None,) * value.ndim, f"splats' {name}", largest)
    if not bool((splats.quaternions.norm(dim=1) > 1e-12).all()):
        raise GaussianMRIError(f"{path} has splats without a rotation.")
    known = set(_ply_names(coefficients))
    return splats, {n: v.astype(np.float32) for n, v in columns.items() if n not in known}


def suffixed(path: str | os.PathLike[str], suffix: str) -> Path:
    """`path`, which must end in `suffix`."""
    target = Path(path)
    if target.suffix.lower() != suffix:
        raise GaussianMRIError(f"{target} must end in {suffix}.")
    return target
