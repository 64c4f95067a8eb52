"""Transfer functions: what colour and how opaque each value of a volume is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..files import number, reading

#: Opacity counts as this where it is more: a wholly opaque tissue has no finite extinction.
LARGEST_OPACITY = 0.99
_LARGEST_VALUE = 1e12


def _points(values: ArrayLike, columns: int, what: str) -> NDArray[np.float64]:
    try:
        table = np.array(values, dtype=np.float64).reshape(-1, columns)
    except (TypeError, ValueError) as error:
        raise GaussianMRIError(f"The {what} needs points of {columns} numbers each.") from error
    if not np.all(np.abs(table) <= _LARGEST_VALUE):  # or NaN
        raise GaussianMRIError(f"The {what} has a point that is not finite or beyond {_LARGEST_VALUE:g}.")
    if np.any(np.diff(table[:, 0]) < 0):
        raise GaussianMRIError(f"The points of the {what} must be in the order of their values.")
    if np.any(table[:, 1:] < 0) or np.any(table[:, 1:] > 1):
        raise GaussianMRIError(f"The {what} has a number outside 0 to 1.")
    table.flags.writeable = False
    return table


@dataclass(frozen=True, eq=False)
class TransferFunction:
    """Colour and opacity by value, linear between points and constant beyond them, as in VTK and Slicer.

    Attributes:
        colour: (n, 4): value, red, green, blue in 0..1 (as picked on a screen, sRGB).
        opacity: (n, 2): value, opacity in 0..1 of `unit_distance` mm of this tissue.
        gradient_opacity: (n, 2): magnitude of the gradient, factor in 0..1; empty for none. Like VTK's the magnitude
            is the change of the value over one voxel (the mean spacing).
        unit_distance: mm; None stands for the volume's mean spacing, as in a Slicer file that says nothing.

    Raises:
        GaussianMRIError: points out of order, outside 0 to 1 or not finite, no colour, or no opacity anywhere.
    """

    colour: NDArray[np.float64]
    opacity: NDArray[np.float64]
    _: KW_ONLY
    gradient_opacity: NDArray[np.float64] = ()  # type: ignore[assignment]
    unit_distance: float | None = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "colour", _points(self.colour, 4, "colour transfer function"))
        object.__setattr__(self, "opacity", _points(self.opacity, 2, "opacity transfer function"))
        gradient = _points(self.gradient_opacity, 2, "gradient opacity")
        if np.all(gradient[:, 1] == 1.0):
            gradient = gradient[:0]
        object.__setattr__(self, "gradient_opacity", gradient)
        if not len(self.colour):
            raise GaussianMRIError("The transfer function has no colour; add at least one point.")
        if not np.any(self.opacity[:, 1:] > 0) or (len(gradient) and not np.any(gradient[:, 1] > 0)):
            raise GaussianMRIError(
                "The transfer function has no opacity anywhere, so there is nothing to see. Raise its opacity."
            )
        if self.unit_distance is not None:
            number(self.unit_distance, "opacity's unit distance in mm", 1e-6, 1e3)

    def colour_at(self, values: ArrayLike) -> NDArray[np.float64]:
        """sRGB colour (..., 3) of values (...)."""
        x = np.asarray(values, dtype=np.float64)
        return np.stack([np.interp(x, self.colour[:, 0], self.colour[:, c]) for c in (1, 2, 3)], axis=-1)

    def opacity_at(self, values: ArrayLike) -> NDArray[np.float64]:
        """Opacity (...) of `unit_distance` mm, of values (...)."""
        result: NDArray[np.float64] = np.interp(np.asarray(values, dtype=np.float64), *self.opacity.T)
        return result

    def extinction_at(self, values: ArrayLike, *, spacing: float = 1.0) -> NDArray[np.float64]:
        """1/mm: -ln(1 - opacity) / unit distance; `spacing` (mm) stands in for a missing unit distance."""
        opacity = np.minimum(self.opacity_at(values), LARGEST_OPACITY)
        return -np.log1p(-opacity) / (self.unit_distance or spacing)

    def visible_range(self) -> tuple[float, float]:
        """Smallest and largest value with opacity; infinite where the first or last point is opaque."""
        x, y = self.opacity.T
        first, last = int(np.argmax(y > 0)), len(y) - 1 - int(np.argmax(y[::-1] > 0))
        low = -np.inf if y[0] > 0 else x[first - 1]
        high = np.inf if y[-1] > 0 else x[last + 1]
        return float(low), float(high)

    def rescaled(self, low: float, high: float) -> TransferFunction:
        """Values 0..1 of this function laid over low..high; magnitudes of gradients are stretched alike."""
        colour, opacity, gradient = (x.copy() for x in (self.colour, self.opacity, self.gradient_opacity))
        colour[:, 0] = low + colour[:, 0] * (high - low)
        opacity[:, 0] = low + opacity[:, 0] * (high - low)
        gradient[:, 0] *= high - low
        return replace(self, colour=colour, opacity=opacity, gradient_opacity=gradient)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it."""
        result: dict[str, Any] = {
            "colour": self.colour.tolist(),
            "opacity": self.opacity.tolist(),
            "unit_distance": self.unit_distance,
        }
        if len(self.gradient_opacity):
            result["gradient_opacity"] = self.gradient_opacity.tolist()
        return result

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TransferFunction:
        """The function that `to_dict` described.

        Raises:
            GaussianMRIError: `colour` or `opacity` is missing or wrong.
        """
        for name in ("colour", "opacity"):
            if name not in values:
                raise GaussianMRIError(f"The transfer function has no {name!r}.")
        unit = values.get("unit_distance", 1.0)
        try:
            unit = None if unit is None else float(unit)
        except (TypeError, ValueError) as error:
            raise GaussianMRIError(f"The opacity's unit distance must be mm, got {unit!r}.") from error
        gradient = values.get("gradient_opacity", ())
        return cls(values["colour"], values["opacity"], gradient_opacity=gradient, unit_distance=unit)


@dataclass(frozen=True)
class VolumeProperty:
    """What a Slicer VolumeProperty file holds.

    Attributes:
        transfer: the transfer functions.
        shade: whether shading was on.
        diffuse, ambient, specular, specular_power: of VTK's lighting.
    """

    transfer: TransferFunction
    shade: bool
    diffuse: float
    ambient: float
    specular: float
    specular_power: float


def _numbers(text: str, columns: int, what: str) -> NDArray[np.float64]:
    """Points of "count value..." as MRML writes it: the count of all numbers first."""
    try:
        values = [float(word) for word in text.split()]
        count = int(values[0])
    except (ValueError, IndexError) as error:
        raise GaussianMRIError(f"the {what} is not a list of numbers") from error
    if count != len(values) - 1 or count % columns:
        raise GaussianMRIError(f"the {what} announces {count} numbers and has {len(values) - 1}")
    return np.asarray(values[1:]).reshape(-1, columns)


def read_volume_property(path: str | os.PathLike[str]) -> VolumeProperty:
    """Read a `.vp` or `.vp.json` file of Slicer's Volume Rendering module.

    `.vp` has a line each for: interpolation, shade, diffuse, ambient, specular, specular power, scalar opacity,
    gradient opacity, colour (vtkMRMLVolumePropertyStorageNode); the last three as "count x y x y ..." and
    "count x r g b ...". It has no unit distance, so opacity is meant per mean spacing. Of a `.vp.json`
    (volume-property-schema 1.0) the first component counts.

    Raises:
        GaussianMRIError: the file cannot be read, or is not such a file.
    """
    with reading(path, "a usable volume property file"):
        text = Path(path).read_text(encoding="utf-8")
        found = _json_property(json.loads(text)) if text.lstrip().startswith("{") else _text_property(text)
    return found


def _text_property(text: str) -> VolumeProperty:
    lines = [line.strip() for line in text.splitlines()]
    if len(lines) < 9:
        raise ValueError(f"it has {len(lines)} of 9 lines")
    lighting = [number(float(line or 0), "lighting", -1e6, 1e6) for line in lines[1:6]]
    opacity = _numbers(lines[6], 2, "scalar opacity")
    gradient: Sequence[Any] | NDArray[np.float64] = (
        _numbers(lines[7], 2, "gradient opacity") if lines[7] else ()
    )
    colour = _numbers(lines[8], 4, "colour")
    transfer = TransferFunction(colour, opacity, gradient_opacity=gradient, unit_distance=None)  # type: ignore[arg-type]
    return VolumeProperty(transfer, lighting[0] != 0, *lighting[1:])


def _json_property(content: Mapping[str, Any]) -> VolumeProperty:
    component = content["volumeProperties"][0]["components"][0]

    def points(name: str) -> list[list[float]]:
        return [[p["x"], *(p["color"] if "color" in p else [p["y"]])] for p in component[name]["points"]]

    description = {
        "colour": points("rgbTransferFunction"),
        "opacity": points("scalarOpacity"),
        "gradient_opacity": [] if component.get("disableGradientOpacity") else points("gradientOpacity"),
        "unit_distance": component["scalarOpacityUnitDistance"],
    }
    transfer = TransferFunction.from_dict(description)
    light = component["lighting"]
    return VolumeProperty(
        transfer,
        bool(component["shade"]),
        *(number(light[name], name, 0, 1e6) for name in ("diffuse", "ambient", "specular", "specularPower")),
    )


def write_volume_property(path: str | os.PathLike[str], transfer: TransferFunction) -> Path:
    """Write a `.vp` file that Slicer's Volume Rendering module loads; returns the path.

    Raises:
        GaussianMRIError: the file cannot be written.
    """
    from ..files import atomic_write

    def line(points: NDArray[np.float64]) -> str:
        return " ".join([str(points.size), *(f"{x:.9g}" for x in points.ravel())])

    gradient = transfer.gradient_opacity if len(transfer.gradient_opacity) else np.array([[0, 1], [255, 1]])
    text = ["1", "1", "1", "0.2", "0.1", "10", line(transfer.opacity), line(gradient), line(transfer.colour)]
    with atomic_write(path) as partial:
        partial.write_text("\n".join(text) + "\n", encoding="utf-8")
    return Path(path)
