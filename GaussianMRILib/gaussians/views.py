"""Series as they were acquired, for planes that lie nearly as their slices do.

A field of several series shows one body for all directions, so it cannot agree with each of them where they differ: by
motion between them, by fat that is shifted along another readout direction, by another slice's partial volume. On a plane
parallel to a series' slices that series is the sharpest witness, and what it shows there is what the reader knows. A view
adds it there and fades out as the plane turns away. Where a slice was acquired it shows that slice; halfway between two of
them, where slices were left out, it has the share that these have confirmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..geometry import ImagePlane
from .lattice import FULL_DENSITY, GaussianLattice
from .planes import PlaneBatch

#: Up to this angle between plane and slices a view counts fully, and from the second one on not at all, degrees. At 10
#: degrees the blur of a slice of 4 mm is .7 mm in the plane, about a pixel; at 30 degrees it is 2 mm.
FULL_DEGREES, NONE_DEGREES = 10.0, 30.0
#: Points along each side of a plane at which the distance from slices is looked at.
_PLACES = 17


@dataclass(frozen=True, eq=False)
class SeriesView:
    """Parallel slices of one series, fitted alone, in the field's intensities.

    Attributes:
        lattice: equal to the field's image at the border of what the series scanned, so that it has no edge.
        normal: (3,) of the slices, RAS, of length 1.
        share: of the image on parallel planes halfway between two slices, 0 to 1; the rest is the field's.
        places: (K,) mm: slice centres along the normal, from the RAS origin, ascending. On a slice the share is 1.
            Empty: the share is the same everywhere.
    """

    lattice: GaussianLattice
    normal: NDArray[np.float64]
    share: float
    places: NDArray[np.float64]

    def share_on(self, plane: ImagePlane) -> float:
        """Of the image on a plane, 0 to 1: the mean over the plane, so that no stripes show where it crosses slices."""
        angle = np.degrees(np.arccos(min(1.0, abs(float(self.normal @ plane.normal)))))
        turned = float(np.clip((NONE_DEGREES - angle) / (NONE_DEGREES - FULL_DEGREES), 0, 1))
        if turned <= 0:
            return 0.0
        return (self.share + (1 - self.share) * self._nearness(plane)) * turned**2 * (3 - 2 * turned)

    def _nearness(self, plane: ImagePlane) -> float:
        """1 on a slice, 0 halfway between two and beyond the outermost; the mean over a plane."""
        if len(self.places) < 2:
            return 0.0
        rows, columns = plane.shape
        along = self.normal @ plane.ijk_to_ras[:3]  # mm a column and a row, and at the first pixel
        i, j = np.linspace(0, columns - 1, _PLACES), np.linspace(0, rows - 1, _PLACES)[:, None]
        height = along[3] + along[0] * i + along[1] * j
        after = np.clip(np.searchsorted(self.places, height), 1, len(self.places) - 1)
        low, high = self.places[after - 1], self.places[after]
        away = np.minimum(abs(height - low), abs(height - high)) / (high - low)
        return float(np.mean(np.cos(np.pi * np.minimum(away, 0.5)) ** 2))

    def to(self, device: torch.device | str) -> SeriesView:
        """The same view on another device."""
        return replace(self, lattice=self.lattice.to(device))


def add_views(
    views: Sequence[SeriesView], planes: Sequence[ImagePlane], image: torch.Tensor, background: float
) -> torch.Tensor:
    """A field's normalised image (total,) of planes with the views that lie nearly as they do.

    Where several views show a pixel their odds against the field, share / (1 - share), add up: these are ratios of
    expected squared errors, by whose inverse independent witnesses are weighted.
    """
    sizes = [int(np.prod(plane.shape)) for plane in planes]
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    shares_of = [(view, [view.share_on(plane) for plane in planes]) for view in views]
    shares_of = [(view, shares) for view, shares in shares_of if any(shares)]
    if not shares_of:
        return image
    change, total = torch.zeros_like(image), torch.ones_like(image)
    for view, shares in shares_of:
        chosen = [n for n, share in enumerate(shares) if share > 0]
        step = float(view.lattice.pitch.max()) / 2
        batch = PlaneBatch.from_planes([planes[n] for n in chosen], device=image.device, step=step)
        own, weight = view.lattice.render(batch, background=background)
        at = torch.cat([torch.arange(firsts[n], firsts[n + 1]) for n in chosen]).to(image.device)
        odds = [share / max(1 - share, 1e-4) for share in shares]
        say = torch.cat([torch.full((sizes[n],), odds[n], dtype=torch.float32) for n in chosen]).to(image.device)
        say *= weight > 0.5 * FULL_DENSITY
        change[at] += say * (own - image[at])
        total[at] += say
    return image + change / total
