"""What an image of a DICOM series shows, by its header, and when two of them show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .dicom_frames import Frame

#: What the third and later values of Image Type or Frame Type say of the kind of image: (component, values). What was
#: computed comes first, since magnitude is said of it as well.
_COMPONENTS = (
    ("diffusion coefficient", ("ADC", "ADC_UNSPECIFIED")),
    ("anisotropy", ("FA", "FRACTIONAL ANISOTROPY", "FRACTIONAL_ANISO")),
    ("trace", ("TRACEW", "TRACE")),
    ("subtraction", ("SUBTRACTION", "SUBTRACT", "SUB")),
    ("projection", ("PROJECTION IMAGE", "MIP", "MAX_IP", "MIN_IP", "MINIP", "MNIP")),
    ("T1 map", ("T1 MAP", "T1_MAP", "T1")),
    ("T2 map", ("T2 MAP", "T2_MAP", "T2", "T2_STAR MAP", "T2_STAR")),
    ("phase", ("P", "PHASE", "PHASE MAP", "PHASE_MAP", "VELOCITY", "VELOCITY MAP")),
    ("real", ("R", "REAL")),
    ("imaginary", ("I", "IMAGINARY")),
    ("water", ("W", "WATER")),
    ("fat", ("F", "FAT")),
    ("in phase", ("IP", "IN_PHASE")),
    ("out of phase", ("OP", "OUT_PHASE", "OPP_PHASE")),
    ("diffusion", ("DIFFUSION",)),  # whose phase, real and imaginary images are these first of all
    ("magnitude", ("M", "MAGNITUDE", "M_FFE", "M_SE", "M_IR", "M_IRW")),
)
#: Those of them that have a "_".
JOINED = [value for _, values in _COMPONENTS for value in values if "_" in value]
#: Components that are always computed from other images.
_COMPUTED = ("diffusion coefficient", "anisotropy", "trace", "subtraction", "projection", "T1 map", "T2 map")
#: What Image Type says of planes cut through images that were acquired. Scanners say MPR of oblique slices that they
#: acquired as well, as ORIGINAL; and some write DERIVED, without these, on all that they acquire.
_REFORMATTED = {"MPR", "REFORMATTED"}
#: Numbers of one contrast differ by no more than this: (part, absolute). Scanners give b-values by the direction of the
#: gradients, and times with noise. All others have to be equal.
_TOLERANCES = {
    "echo time": (0.01, 0.05),
    "b-value": (0.05, 5.0),
    "inversion time": (0.02, 1.0),
    "repetition time": (0.02, 5.0),
    "trigger time": (0.0, 1.0),
    "flip angle": (0.0, 0.5),
}
#: A difference in these makes another stack, wherever its slices lie.
ALWAYS = ("echo", "echo time", "b-value", "component")


def component_of(contrast: Mapping[str, Any]) -> str | None:
    """Magnitude, phase, fat ... by `Frame.contrast`; None where it is not said."""
    shown = [str(contrast.get("complex component", ""))]
    shown += str(contrast.get("image type", "")).split("\\")[2:]
    said = {value.strip().upper() for value in shown}
    return next((component for component, values in _COMPONENTS if said & {*values}), None)


def origin_of(contrast: Mapping[str, Any]) -> str:
    """ "reformatted", what else was computed from other images, or "acquired", which is all that does not say so."""
    first, *_, last = str(contrast.get("image type", "")).upper().partition("\\")
    if first == "DERIVED" and _REFORMATTED & {*last.replace("\\", " ").replace("_", " ").split()}:
        return "reformatted"
    component = component_of(contrast)
    return component if component in _COMPUTED else "acquired"


def value_of(frame: Frame, label: str) -> Any:
    """What the header says under a label of `Frame.contrast`, or of its component; None where it does not."""
    return component_of(frame.contrast) if label == "component" else frame.contrast.get(label)


def classes(label: str, values: Sequence[Any]) -> list[int]:
    """For each value the number of its class: numbers that follow each other within the tolerance are one."""
    part, absolute = _TOLERANCES.get(label, (0.0, 0.0))
    numbers = sorted({v for v in values if isinstance(v, float)})
    number_of: dict[Any, int] = {}
    last = -1
    for n, value in enumerate(numbers):
        last += n == 0 or value - numbers[n - 1] > absolute + part * abs(value)
        number_of[value] = last
    for text in sorted({str(v) for v in values if v is not None and not isinstance(v, float)}):
        last += 1
        number_of[text] = last
    return [last + 1 if v is None else number_of[v if isinstance(v, float) else str(v)] for v in values]


def same_contrast(one: Frame, other: Frame) -> bool:
    """Whether two images of one series show the same: one echo, b-value, component and inversion time."""
    return all(
        len(set(classes(label, [value_of(one, label), value_of(other, label)]))) == 1
        for label in (*ALWAYS, "inversion time")
    )


def shown(value: object) -> str:
    """A value for people."""
    return f"{value:.6g}" if isinstance(value, float) else str(value or "none")


__all__ = ["ALWAYS", "classes", "component_of", "origin_of", "same_contrast", "shown", "value_of"]
