"""Models as files: PLY in the layout of 3D Gaussian splatting, and a JSON file beside it."""

from __future__ import annotations

import base64
import json
import logging
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write
from .adjustment import Adjustment
from .cut_face import CutFace
from .model import CinematicModel
from .splats import Splats

FORMAT = "GaussianMRI cinematic model"
VERSION = 1
FACE = ".face.npz"
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
        "adjustment": None if model.adjustment is None else _pack_network(model.adjustment),
        "facts": model.facts,
        "face": model.face is not None,
    }
    extra = {} if model.offsets is None else {"clip_offset": model.offsets.detach().cpu().numpy()}
    write_ply(target, model.splats, extra)
    face = target.with_suffix(FACE)
    if model.face is not None:
        model.face.save(face)
    else:
        face.unlink(missing_ok=True)
    with atomic_write(target.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
    return target


def load_model(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> CinematicModel:
    """Read what `save_model` wrote, by the name of either file; a PLY of 3DGS alone becomes a model with the analytic cut.
    A model whose file of cut faces was left behind is read without them, with a warning.

    Raises:
        GaussianMRIError: a file is missing, damaged, of another kind or of a newer version, or the two do not belong
            together.
    """
    given = Path(path)
    beside = given.with_suffix(".json")
    splats, extra = read_ply(given.with_suffix(".ply") if given.suffix == ".json" else given)
    if not beside.is_file():
        means = splats.means.double().numpy()
        low, high = means.min(axis=0), means.max(axis=0)
        facts = {"source": given.name}
        model = CinematicModel(splats, (low + high) / 2, float((high - low).max() / 2) or 1.0, facts=facts)
        return model.to(device)
    try:
        header = json.loads(beside.read_text(encoding="utf-8"))
        if header.get("format") != FORMAT:
            raise ValueError("another format")
        if header["version"] > VERSION:
            raise GaussianMRIError(
                f"{beside} was written by a newer version (model version {header['version']}); update GaussianMRI."
            )
        if header["count"] != len(splats):
            raise GaussianMRIError(
                f"{beside} belongs to {header['count']} splats, {header['splats']} has {len(splats)}. Take both "
                "files from one training."
            )
        network = header["adjustment"]
        red, green, blue = header["background"]
        offsets = extra.get("clip_offset")
        face = None
        if header.get("face"):
            if given.with_suffix(FACE).is_file():
                face = CutFace.load(given.with_suffix(FACE))
            else:
                _LOG.warning("%s is missing; cut faces are shown by the splats.", given.with_suffix(FACE))
        return CinematicModel(
            splats,
            np.array(header["center"]),
            float(header["unit"]),
            header["visibility"],
            None if offsets is None else torch.from_numpy(offsets),
            None if network is None else _unpack_network(network),
            (float(red), float(green), float(blue)),
            header["facts"],
            face,
        ).to(device)
    except GaussianMRIError:
        raise
    except Exception as error:  # JSON, key, type and shape errors all mean the same to the user
        raise GaussianMRIError(
            f"{beside} is not the description of a model, or it is damaged ({error})."
        ) from error


def model_bytes(path: str | os.PathLike[str]) -> int:
    """Size of a model's files."""
    files = [Path(path).with_suffix(suffix) for suffix in (".ply", ".json", FACE)]
    return sum(file.stat().st_size for file in files if file.is_file())


def _pack_network(network: Adjustment) -> dict[str, Any]:
    values = torch.cat([p.detach().float().cpu().reshape(-1) for p in network.state_dict().values()])
    packed = base64.b64encode(zlib.compress(values.numpy().astype("<f4").tobytes())).decode("ascii")
    return {**network.config(), "weights": packed, "encoding": "base64 of zlib of float32, in torch's order"}


def _unpack_network(header: dict[str, Any]) -> Adjustment:
    network = Adjustment.from_config(header)
    raw = zlib.decompress(base64.b64decode(header["weights"]))
    values = torch.from_numpy(np.frombuffer(raw, dtype="<f4").copy())
    state, at = network.state_dict(), 0
    for name, tensor in state.items():
        state[name] = values[at : at + tensor.numel()].reshape(tensor.shape)
        at += tensor.numel()
    if at != len(values):
        raise ValueError(f"the network has {len(values)} numbers, expected {at}")
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
    """
    target, more = suffixed(path, ".ply"), extra or {}
    s = splats.map(lambda tensor: tensor.detach().float().cpu())
    count = len(s)
    columns = [
        s.means,
        torch.zeros(count, 3),
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
    with atomic_write(target) as temporary, open(temporary, "wb") as file:
        file.write("\n".join(header).encode("ascii"))
        file.write(torch.cat(columns, dim=1).numpy().astype("<f4").tobytes())
    return target


def read_ply(path: str | os.PathLike[str]) -> tuple[Splats, dict[str, NDArray[np.float32]]]:
    """Splats of a binary PLY in the layout of 3DGS, whatever the order of its properties, and its further properties.

    Raises:
        GaussianMRIError: no such file, another kind of PLY, or a truncated one.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise GaussianMRIError(f"{path} cannot be read: {error.strerror or error}.") from error
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
    if len(body) < 4 * count * len(names):
        raise GaussianMRIError(
            f"{path} is truncated: it has {len(body)} bytes of splats, {4 * count * len(names)} are expected. "
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
    known = set(_ply_names(coefficients))
    return splats, {n: v.astype(np.float32) for n, v in columns.items() if n not in known}


def suffixed(path: str | os.PathLike[str], suffix: str) -> Path:
    """`path`, which must end in `suffix`."""
    target = Path(path)
    if target.suffix.lower() != suffix:
        raise GaussianMRIError(f"{target} must end in {suffix}.")
    return target
