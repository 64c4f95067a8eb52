"""How good a fit is by its own report: the error on slices that were left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Quality:
    """An error on left-out slices.

    Attributes:
        psnr: dB on them.
        slices: how many they are.
        other: what predicts the same slices for comparison: "cubic spline"; of several series put together the one that
            does so best, as "axial alone".
        other_psnr: dB of that.
        series: whose fit was measured, where it is one of several and nothing says how good they are together; None: all.
    """

    psnr: float
    slices: int
    other: str
    other_psnr: float
    series: str | None = None

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Quality | None:
        """From a field's report; None where nothing was measured, see `why_unmeasured`."""
        names = [stack["name"] for stack in report.get("stacks", [])]
        fusion = report.get("fusion") or {}
        if scores := fusion.get("psnr_db"):
            part = fusion["part"]
            other = max((f"{name} alone" for name in names if f"{name} alone" in scores), key=scores.__getitem__)
            chosen = scores[fusion["method"] if part is None else f"{part} alone"]
            return cls(chosen, fusion["left_out_slices"], other, scores[other])
        held_out = report.get("held_out")
        if not held_out:
            return None
        series = held_out.get("stack", "one series") if len(names) > 1 else None
        return cls(held_out["psnr_db"], held_out["slices"], "cubic spline", held_out["spline_psnr_db"], series)


def why_unmeasured(report: Mapping[str, Any]) -> str:
    """Why `Quality.of` is None, as the end of a sentence."""
    if report.get("preset") == "paper":
        return "the preset paper leaves no slices out"
    return "there are too few slices to leave any out" if "held_out" in report else "no slices were left out"
