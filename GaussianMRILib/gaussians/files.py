"""Files of fields: NumPy archives with a header in JSON, so that any program with NumPy reads them."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write
from .lattice import GaussianLattice

if TYPE_CHECKING:
    from .field import GaussianField

FORMAT = "GaussianMRI field"
#: Of the file: 1 has plain Gaussians only, 2 a lattice as well; a field without a lattice is still written as 1.
VERSION = 2
#: The higher levels of zlib take five times as long and save a few per cent of a lattice, which is mostly noise.
_LEVEL = 1


def header_of(field: GaussianField) -> dict[str, Any]:
    """What a file says of a field beside its arrays: JSON types only."""
    described = {
        "format": FORMAT,
        "version": 1 if field.lattice is None else VERSION,
        "model": "I(x) = offset + scale * sum(w c) / (sum(w) + background); w = opacity * exp(-q/2) where "
        "q = |M (x - mean)|^2 < cut; x in RAS mm; M upper triangular, rows M00 M01 M02 M11 M12 M22",
        "offset": field.offset,
        "scale": field.scale,
        "background": field.background,
        "cut": field.cut,
        "frame_of_reference": field.frame_of_reference,
        "report": field.report,
    }
    if field.lattice is not None:
        described["lattice"] = {
            "model": "Gaussians at nodes u = (x, y, z), RAS = node_to_ras u; colour c = step * codes[brick, z % 8, y % 8, "
            "x % 8], brick = lattice_table[z // 8, y // 8, x // 8], -1: none; weight exp(-|v - u|^2 / (2 * 0.6^2)) at node "
            "coordinates v, for the 4 x 4 x 4 nodes around v; codes = lattice_low + 256 * lattice_high (8 bits each, low "
            "without and high with sign, apart because they compress better so); in Slicer's models lattice_codes is a zlib "
            "stream of lattice_low, then lattice_high",
            "node_to_ras": field.lattice.node_to_ras.tolist(),
            "step": field.lattice.step,
        }
    return described


def field_of(
    header: dict[str, Any],
    parameters: NDArray[np.float32],
    hulls: Sequence[NDArray[np.float64]],
    slice_poses: NDArray[np.float64],
    slice_shapes: NDArray[np.int32],
    device: torch.device | str = "cpu",
    codes: NDArray[np.int16] | None = None,
    table: NDArray[np.int32] | None = None,
) -> GaussianField:
    """The field of a header and of arrays as the classes have them.

    Raises:
        KeyError, TypeError, ValueError, GaussianMRIError: something is missing or has another shape.
    """
    from .field import GaussianField

    lattice = None
    if "lattice" in header:
        if codes is None or table is None:
            raise ValueError("the lattice is missing")
        facts = header["lattice"]
        matrix = np.array(facts["node_to_ras"], np.float64)
        lattice = GaussianLattice.from_codes(codes, table, matrix, facts["step"], device)
    return GaussianField(
        torch.from_numpy(parameters).to(device),
        header["offset"],
        header["scale"],
        tuple(hulls),
        slice_poses,
        slice_shapes,
        header["frame_of_reference"],
        header["report"],
        header["background"],
        header["cut"],
        lattice,
    )


def bytes_of(codes: NDArray[np.int16]) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """The low and the high bytes of codes. Apart they compress better: noise is in the low one, the other hardly changes."""
    return codes.astype(np.uint8), (codes >> 8).astype(np.int8)


def codes_of(low: NDArray[np.uint8], high: NDArray[np.int8]) -> NDArray[np.int16]:
    """What `bytes_of` took apart."""
    codes = high.astype(np.int16)
    codes <<= 8
    codes |= low
    return codes


def save(field: GaussianField, path: str | os.PathLike[str]) -> None:
    """See `GaussianField.save`."""
    arrays: dict[str, NDArray[Any]] = {
        "header": np.array(json.dumps(header_of(field))),
        **{name: getattr(field, name) for name in ("means", "factors", "colours", "opacities")},
        "slice_poses": field.slice_poses,
        "slice_shapes": field.slice_shapes,
        **{f"hull{n}": hull for n, hull in enumerate(field.hulls)},
    }
    if field.lattice is not None:
        arrays["lattice_low"], arrays["lattice_high"] = bytes_of(field.lattice.codes)
        arrays["lattice_table"] = field.lattice.table.cpu().numpy()
    with (
        atomic_write(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive,
    ):
        for name, array in arrays.items():
            # numpy.savez_compressed does the same, with no choice of the level.
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def load(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> GaussianField:
    """See `GaussianField.load`."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            header = json.loads(str(stored["header"]))
            if header.get("format") != FORMAT:
                raise ValueError("another format")
            if header["version"] > VERSION:
                raise GaussianMRIError(
                    f"{path} was written by a newer version (field version {header['version']}); update GaussianMRI."
                )
            rows = (
                stored["means"].T,
                stored["factors"].T,
                stored["colours"][None],
                stored["opacities"][None],
            )
            parameters = np.concatenate(rows).astype(np.float32, order="C")
            names = sorted((n for n in stored.files if n.startswith("hull")), key=lambda n: int(n[4:]))
            hulls = [stored[name] for name in names]
            codes = None
            if "lattice" in header:
                codes = codes_of(stored["lattice_low"], stored["lattice_high"])
            poses, shapes = stored["slice_poses"], stored["slice_shapes"]
            return field_of(
                header, parameters, hulls, poses, shapes, device, codes, stored.get("lattice_table")
            )
    except FileNotFoundError as error:
        raise GaussianMRIError(f"{path} does not exist.") from error
    except GaussianMRIError:
        raise
    except Exception as error:  # zip, JSON, key and shape errors all mean the same to the user
        raise GaussianMRIError(f"{path} is not a GaussianMRI field, or it is damaged ({error}).") from error
