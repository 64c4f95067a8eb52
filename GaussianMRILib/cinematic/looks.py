"""Looks: transfer functions with surfaces and light, from a JSON file that users can add to."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..files import finite, number, read_json, reading
from .transfer import TransferFunction, read_volume_property

BUILT_IN = Path(__file__).with_name("looks.json")
Colour = tuple[float, float, float]


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise GaussianMRIError(message)


def _colour(value: Any, what: str) -> Colour:
    red, green, blue = (float(c) for c in finite(value, (3,), what, 1e6))
    _check(min(red, green, blue) >= 0, f"The {what} must be three numbers from 0.")
    return red, green, blue


@dataclass(frozen=True)
class Light:
    """A square that shines at the middle of the volume; distances in radii of the volume.

    Attributes:
        azimuth: degrees from the patient's front towards the patient's left.
        elevation: degrees upwards (superior).
        distance: of the square's middle from the volume's.
        size: edge.
        intensity: of a white matte surface at the volume's middle that faces the light.
        colour: linear red, green, blue.
    """

    azimuth: float
    elevation: float
    distance: float = 3.0
    size: float = 1.5
    intensity: float = 1.0
    colour: Colour = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "colour", _colour(self.colour, "light's colour"))
        for name, low, high in (
            ("azimuth", -3600, 3600), ("elevation", -3600, 3600), ("distance", 0.01, 1e4), ("size", 1e-3, 1e4),
            ("intensity", 0, 1e6),
        ):  # fmt: skip
            object.__setattr__(self, name, number(getattr(self, name), f"light's {name}", low, high))

    @property
    def direction(self) -> NDArray[np.float64]:
        """(3,) unit, RAS, from the volume's middle to the light."""
        azimuth, elevation = math.radians(self.azimuth), math.radians(self.elevation)
        level = math.cos(elevation)
        return np.array([-level * math.sin(azimuth), level * math.cos(azimuth), math.sin(elevation)])


@dataclass(frozen=True)
class Look:
    """How a kind of volume is shown.

    Attributes:
        name, description: for people.
        modality: "CT" or "MR" where the look is made for one; "" where it is not known.
        transfer: transfer functions; of values 0..1 where `relative`.
        relative: MR has no calibrated intensities: 0..1 of the functions is laid over the volume's own range (see
            `fitted`). Else values are the volume's own (HU for CT).
        percentiles: of the air's values, which one is 0, and of the tissue's, which one is 1.
        density: factor of the extinction; more makes tissue look more like solid surfaces.
        smoothing: standard deviation (mm) of a Gaussian the volume is blurred by.
        surface: change of the value per mm (relative looks: of 0..1) at which 63 % of collisions are with a surface
            instead of a particle.
        reflectance, shininess: white reflection of surfaces seen from above (0..1), and how narrow it is.
        anisotropy: Henyey-Greenstein's g of particles, -1 to 1.
        scatterings: most of them on a path.
        lights: at most four. `zenith`, `horizon`, `nadir`: linear colours of the dome.
        exposure: factor of the radiance before tone mapping.
    """

    name: str
    transfer: TransferFunction
    _: KW_ONLY
    description: str = ""
    modality: str = ""
    relative: bool = False
    percentiles: tuple[float, float] = (50.0, 99.5)
    density: float = 1.0
    smoothing: float = 0.0
    surface: float = 30.0
    reflectance: float = 0.04
    shininess: float = 30.0
    anisotropy: float = 0.0
    scatterings: int = 4
    lights: tuple[Light, ...] = (
        Light(35, 40, intensity=1.6, colour=(1.0, 0.95, 0.88)),
        Light(-110, 15, size=2.0, intensity=0.5, colour=(0.8, 0.9, 1.0)),
    )
    zenith: Colour = (0.55, 0.58, 0.62)
    horizon: Colour = (0.4, 0.4, 0.42)
    nadir: Colour = (0.22, 0.2, 0.18)
    exposure: float = 1.0

    def __post_init__(self) -> None:
        lights = tuple(x if isinstance(x, Light) else Light(**x) for x in self.lights)
        object.__setattr__(self, "lights", lights)
        for name in ("zenith", "horizon", "nadir"):
            object.__setattr__(self, name, _colour(getattr(self, name), f"{name} of {self.name}"))
        percentiles = tuple(number(p, f"percentiles of {self.name}", 0, 100) for p in self.percentiles)
        object.__setattr__(self, "percentiles", percentiles)
        _check(len(percentiles) == 2, f"{self.name}: percentiles must be two numbers.")
        _check(len(self.lights) <= 4, f"{self.name}: there are at most four lights.")
        for name, low, high in (
            ("density", 1e-6, 1e6), ("smoothing", 0, 100), ("surface", 1e-6, 1e12), ("shininess", 0, 1e4),
            ("reflectance", 0, 1), ("anisotropy", -0.95, 0.95), ("scatterings", 1, 4096), ("exposure", 1e-6, 1e6),
        ):  # fmt: skip
            value = number(getattr(self, name), f"{name} of {self.name}", low, high)
            object.__setattr__(self, name, int(value) if name == "scatterings" else value)
        texts = (self.name, self.description, self.modality)
        words = all(isinstance(text, str) for text in texts) and isinstance(self.relative, bool)
        _check(words, f"{self.name}: name, description and modality are text, relative is true or false.")

    def fitted(self, values: ArrayLike) -> Look:
        """The look in the volume's own values.

        A relative look's 0 and 1 become `percentiles` of air and of tissue, which Otsu's threshold separates.
        """
        if not self.relative:
            return self
        voxels = np.asarray(values).reshape(-1)
        sample = voxels[:: max(1, voxels.size // 1_000_000)].astype(np.float64)
        sample = sample[np.isfinite(sample)]
        _check(sample.size > 0, "The volume has no finite value.")
        sample = sample[sample >= lowest(sample)]
        low, high = np.percentile(sample, [0.0, 99.9])
        if not high > low:  # all but few voxels are alike: those few are looked for in the whole volume
            sample = voxels[np.isfinite(voxels)].astype(np.float64)
            low, high = sample.min(), sample.max()
        _check(high > low, "The volume has one value only, so there is nothing to see.")
        air = otsu(sample, low, high)
        bottom = float(np.percentile(sample[sample <= air], self.percentiles[0]))
        top = float(np.percentile(sample[sample > air], self.percentiles[1]))
        _check(top > bottom, "The volume has too few values to fit the look to.")
        return dataclasses.replace(
            self,
            transfer=self.transfer.rescaled(bottom, top),
            relative=False,
            surface=self.surface * (top - bottom),
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it."""
        result = dataclasses.asdict(dataclasses.replace(self, transfer=None))  # type: ignore[arg-type]
        result["transfer"] = self.transfer.to_dict()
        return result

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Look:
        """The look that `to_dict` described; what is missing has its default.

        Raises:
            GaussianMRIError: no name or transfer function, an unknown word, or a value out of range.
        """
        name = values.get("name")
        _check(isinstance(name, str) and bool(name), "A look needs a name.")
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        _check(not unknown, f"Look {name!r} has the unknown word {', '.join(unknown)}.")
        _check(isinstance(values.get("transfer"), Mapping), f"Look {name!r} has no transfer function.")
        try:
            return cls(**{**values, "transfer": TransferFunction.from_dict(values["transfer"])})
        except (TypeError, ValueError) as error:
            raise GaussianMRIError(f"Look {name!r} cannot be understood: {error}.") from error
        except GaussianMRIError as error:
            raise GaussianMRIError(f"Look {name!r}: {error}") from error


def lowest(sample: NDArray[Any]) -> float:
    """The lowest value of an MR that is no padding: nothing else of it is negative where one value is far below 0."""
    padding = sample.min()
    rest = sample[sample > padding]
    if rest.size and rest.min() >= 0 and padding < -0.5 * float(rest.max()):
        return float(rest.min())
    return float(padding)


def otsu(sample: NDArray[np.float64], low: float, high: float) -> float:
    """The value that separates two kinds of values best (Otsu 1979)."""
    counts, edges = np.histogram(sample, bins=256, range=(low, high))
    middles = (edges[1:] + edges[:-1]) / 2
    weight = np.cumsum(counts)
    rest = weight[-1] - weight
    total = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = weight * rest * (total / weight - (total[-1] - total) / rest) ** 2
    return float(edges[1 + int(np.nanargmax(between))])


def user_file() -> Path:
    """Where a user's own looks are: GAUSSIANMRI_LOOKS, else `.gaussianmri/looks.json` at home.

    Version 0.1 called looks presets: GAUSSIANMRI_PRESETS and `.gaussianmri/presets.json` stand in for what is not there.
    """
    given = os.environ.get("GAUSSIANMRI_LOOKS") or os.environ.get("GAUSSIANMRI_PRESETS")
    if given:
        return Path(given)
    file = Path.home() / ".gaussianmri" / "looks.json"
    old = file.with_name("presets.json")
    return old if old.is_file() and not file.is_file() else file


def read_looks(path: str | os.PathLike[str]) -> dict[str, Look]:
    """The looks of a JSON file, by name: {"looks": [...]} ("presets" in version 0.1), each as `Look.to_dict` gives it.

    Raises:
        GaussianMRIError: not readable, not such a file, or a look in it is wrong.
    """
    name = os.fspath(path)
    with reading(path, "a file of looks"):
        content = read_json(path)
        entries = content.get("looks", content.get("presets")) if isinstance(content, Mapping) else None
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise GaussianMRIError(f"{name} is not a file of looks: it has no list 'looks' of objects.")
        found = [Look.from_dict(entry) for entry in entries]
    return {look.name: look for look in found}


def looks() -> dict[str, Look]:
    """All looks by name: the built-in ones, and those of `user_file`, which replace built-in ones of the same name.

    Raises:
        GaussianMRIError: the user's file is wrong.
    """
    result = read_looks(BUILT_IN)
    if user_file().is_file():
        result.update(read_looks(user_file()))
    return result


def default_look(values: ArrayLike, modality: str = "") -> str:
    """Name of the built-in look for a scan that nobody has chosen a look for.

    Args:
        values: voxels; where `modality` says nothing, Hounsfield units are known by their air, below -500.
        modality: DICOM's, as "CT" or "MR".
    """
    if modality:
        return "CT bone" if modality == "CT" else "MR head"
    return "CT bone" if float(np.nanmin(np.asarray(values))) < -500 else "MR head"


def modality_warning(look: Look, values: ArrayLike, modality: str = "") -> str:
    """A sentence where a look is made for another modality than the volume's; "" where it fits, or nobody knows.

    Args:
        values: voxels; where `modality` says nothing, Hounsfield units are known by their air, below -500.
        modality: DICOM's, as "CT" or "MR".
    """
    if not look.modality:
        return ""
    if modality:
        fits, found = modality == look.modality, f"is {modality}"
    else:
        hounsfield = default_look(values).startswith("CT")
        fits = hounsfield == (look.modality == "CT")
        found = "has air below -500, as a CT has" if hounsfield else "has no air below -500, as a CT would have"
    if fits:
        return ""
    return f"The look '{look.name}' is made for {look.modality}, but the volume {found}: what it shows may be anything."


def find_look(name: str | os.PathLike[str]) -> Look:
    """A look by its name, or from a file: a Slicer `.vp` or `.vp.json`, or a JSON file of looks (its first).

    Raises:
        GaussianMRIError: there is none of that name, or the file is wrong.
    """
    text = os.fspath(name)
    suffix = Path(text).suffix.lower()
    if suffix == ".vp" or text.lower().endswith(".vp.json"):
        return from_volume_property(text)
    if suffix == ".json":
        found = list(read_looks(text).values())
        _check(bool(found), f"{text} has no look.")
        return found[0]
    known = looks()
    if text not in known:
        raise GaussianMRIError(
            f"There is no look {text!r}. Choose one of {', '.join(sorted(known))}, or give a .vp, .vp.json or .json file."
        )
    return known[text]


def from_volume_property(path: str | os.PathLike[str]) -> Look:
    """The look of a Slicer `.vp` or `.vp.json` file: its transfer functions and highlights, our light.

    Slicer blends opacity along a straight ray; the path tracer needs denser tissue for the same impression, hence the
    factor of the density.
    """
    found = read_volume_property(path)
    visible = found.transfer.opacity[:, 0]
    span = float(visible[-1] - visible[0]) or 1.0
    with reading(path, "a Slicer volume property"):
        return Look(
            name=Path(path).name.removesuffix(".json").removesuffix(".vp"),
            transfer=found.transfer,
            description="Slicer volume property",
            density=4.0,
            surface=max(1e-6, 0.02 * min(span, 2000.0)) if found.shade else 1e6,
            reflectance=min(0.2, 0.2 * found.specular) if found.shade else 0.0,
            shininess=max(1.0, min(200.0, found.specular_power * 3.0)),
        )
