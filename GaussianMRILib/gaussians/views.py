"""Series as they were acquired, for planes that lie nearly as their slices do.

A field of several series shows one body for all directions, so it cannot agree with each of them where they differ: by
motion between them, by fat that is shifted along another readout direction, by another slice's partial volume. On a plane
parallel to a series' slices that series is the sharpest witness, and what it shows there is what the reader knows. A view
adds it there, by the share that left-out slices have confirmed, and fades out as the plane turns away.
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


@dataclass(frozen=True, eq=False)
class SeriesView:
    """Parallel slices of one series, fitted alone, in the field's intensities.

    Attributes:
        lattice: equal to the field's image at the border of what the series scanned, so that it has no edge.
        normal: (3,) of the slices, RAS, of length 1.
        share: of the image on parallel planes, 0 to 1; the rest is the field's.
    """

    lattice: GaussianLattice
    normal: NDArray[np.float64]
    share: float

    def share_on(self, plane: ImagePlane) -> float:
        """Of the image on a plane, 0 to 1."""
        angle = np.degrees(np.arccos(min(1.0, abs(float(self.normal @ plane.normal)))))
        turned = float(np.clip((NONE_DEGREES - angle) / (NONE_DEGREES - FULL_DEGREES), 0, 1))
        return self.share * turned**2 * (3 - 2 * turned)

    def to(self, device: torch.device | str) -> SeriesView:
        """The same view on another device."""
        return replace(self, lattice=self.lattice.to(device))


def add_views(
    views: Sequence[SeriesView], planes: Sequence[ImagePlane], image: torch.Tensor, background: float
) -> torch.Tensor:
    """A field's normalised image (total,) of planes with the views that lie nearly as they do.

    Where several views show a pixel they share what the strongest of them would have.
    """
    sizes = [int(np.prod(plane.shape)) for plane in planes]
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    shares_of = [(view, [view.share_on(plane) for plane in planes]) for view in views]
    shares_of = [(view, shares) for view, shares in shares_of if any(shares)]
    if not shares_of:
        return image
    change, total, most = (torch.zeros_like(image) for _ in range(3))
    for view, shares in shares_of:
        chosen = [n for n, share in enumerate(shares) if share > 0]
        step = float(view.lattice.pitch.max()) / 2
        batch = PlaneBatch.from_planes([planes[n] for n in chosen], device=image.device, step=step)
        own, weight = view.lattice.render(batch, background=background)
        at = torch.cat([torch.arange(firsts[n], firsts[n + 1]) for n in chosen]).to(image.device)
        share = torch.cat([torch.full((sizes[n],), shares[n]) for n in chosen]).to(image.device)
        share *= weight > 0.5 * FULL_DENSITY
        change[at] += share * (own - image[at])
        total[at] += share
        most[at] = torch.maximum(most[at], share)
    return image + change * (most / total.clamp(min=1e-6))
