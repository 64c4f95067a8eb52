"""The path tracer in plain torch: the same light transport as csrc/paths/math.h with other random numbers.

All pixels' paths move together. Collisions are found with one majorant for the whole volume, so it shares neither the
cells nor their skipping with the kernels, and is slow.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .arguments import FaceScene, TraceScene

_FAR = 1e30


class _Volume:
    """The medium of a scene, looked up at voxel coordinates (N, 3)."""

    def __init__(
        self, scene: Any, values: Tensor, gradients: Tensor, majorants: Tensor, table: Tensor
    ) -> None:
        self.scene = scene
        self.values = values.to(torch.int32)
        # One voxel more on each side, along a straight line.
        wider = np.pad(self.values.numpy(), 1, mode="reflect", reflect_type="odd")
        self.extended = torch.from_numpy(wider).float()
        self.gradients = gradients.to(torch.int32)
        levels = int(scene["levels"])
        self.extinctions, self.factors = table[:levels], table[4 * levels :]
        self.colours = table[levels : 4 * levels].reshape(levels, 3)
        self.majorant = float(majorants.max())
        self.top = torch.tensor(scene["size"].tolist(), dtype=torch.float32) - 1
        self.matrix = torch.from_numpy(scene["to_voxel"][:, :3].copy())
        self.origin = torch.from_numpy(scene["to_voxel"][:, 3].copy())
        count = int(scene["planes"])
        self.planes = torch.from_numpy(scene["plane"].T[:count].copy())
        self.solid = count - int(scene["holes"])
        self.normals = torch.from_numpy(scene["normal"][:count].copy())

    def sample(self, volume: Tensor, at: Tensor) -> Tensor:
        at = torch.minimum(at.clamp(min=0), self.top)
        low = torch.minimum(at.floor(), self.top - 1)
        part = at - low
        i, j, k = low.long().unbind(-1)
        result = torch.zeros(len(at), dtype=torch.float32)
        for corner in range(8):
            bits = (corner & 1, corner >> 1 & 1, corner >> 2)
            weight = torch.ones(len(at), dtype=torch.float32)
            for axis, bit in enumerate(bits):
                weight = weight * (part[:, axis] if bit else 1 - part[:, axis])
            result += weight * volume[k + bits[2], j + bits[1], i + bits[0]]
        return result

    def level(self, at: Tensor) -> Tensor:
        return (self.sample(self.values, at) * float(self.scene["value_scale"]) + 0.5).long()

    def extinction(self, at: Tensor) -> Tensor:
        sigma = self.extinctions[self.level(at)]
        if self.gradients.numel():
            sigma = sigma * self.factors[(self.sample(self.gradients, at) + 0.5).long()]
        return sigma

    def gradient(self, at: Tensor) -> Tensor:
        """Per mm, of the cubic B-spline whose coefficients are the stored values."""
        at = torch.minimum(at.clamp(min=0), self.top)
        low = torch.minimum(at.floor(), self.top - 1)
        x = (at - low)[..., None] - torch.arange(-1.0, 3.0, dtype=torch.float32)  # (N, 3, 4) to each of four voxels
        away, inner = x.abs(), x.abs() < 1
        weights = torch.where(inner, 2 / 3 - x**2 + away**3 / 2, (2 - away) ** 3 / 6)
        slopes = torch.where(inner, 1.5 * x * away - 2 * x, -0.5 * x.sign() * (2 - away) ** 2)
        i, j, k = (low.long()[..., None] + torch.arange(4)).unbind(1)
        voxels = self.extended[k[:, :, None, None], j[:, None, :, None], i[:, None, None, :]]
        parts = [
            torch.einsum("nkji,ni,nj,nk->n", voxels, *((slopes if a == b else weights)[:, b] for b in range(3)))
            for a in range(3)
        ]
        return torch.stack(parts, dim=-1) @ self.matrix

    def clip(self, p: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where rays enter and leave the half-spaces, and the plane they enter through (-1: they start inside)."""
        rate, room = self._crossings(p, d, slice(0, self.solid))
        t = room / torch.where(rate == 0, 1.0, rate)
        outside = ((rate == 0) & (room <= 0)).any(dim=1)
        leave = torch.where(rate > 0, t, _FAR).amin(dim=1)
        enter, face = torch.where(rate < 0, t, 0.0).max(dim=1)
        face = torch.where(enter > 0, face, -1)
        return enter.clamp(min=0), torch.where(outside, -1.0, leave), face

    def hole(self, p: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where rays are in the hole, and the plane they leave it through; nowhere: from 1e30 to -1e30."""
        if self.solid == len(self.planes):
            never = torch.full((len(p),), _FAR, dtype=torch.float32)
            return never, -never, torch.full((len(p),), -1)
        rate, room = self._crossings(p, d, slice(self.solid, None))
        t = room / torch.where(rate == 0, 1.0, rate)
        missed = ((rate == 0) & (room > 0)).any(dim=1)
        start = torch.where(rate > 0, t, -_FAR).amax(dim=1)
        end, face = torch.where(rate < 0, t, _FAR).min(dim=1)
        missed |= start >= end
        return torch.where(missed, _FAR, start), torch.where(missed, -_FAR, end), face + self.solid

    def _crossings(self, p: Tensor, d: Tensor, which: slice) -> tuple[Tensor, Tensor]:
        start, along = p @ self.matrix.T + self.origin, d @ self.matrix.T
        planes = self.planes[which]
        return along @ planes[:, :3].T, planes[:, 3] - start @ planes[:, :3].T

    def collide(
        self, p: Tensor, d: Tensor, enter: Tensor, leave: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Distance (N) of each ray's first collision outside the hole, -1 where there is none; the tissue's voxel (N, 3)."""
        result, tissue = torch.full((len(p),), -1.0, dtype=torch.float32), torch.zeros(len(p), 3, dtype=torch.float32)
        first, last, _ = self.hole(p, d)
        start, along = p @ self.matrix.T + self.origin, d @ self.matrix.T
        t = enter.clone()
        active = torch.nonzero(enter < leave).reshape(-1)
        while len(active):
            u = torch.rand(len(active), 2, generator=generator, dtype=torch.float32)
            t[active] -= torch.log1p(-u[:, 0]) / self.majorant
            inside = t[active] < leave[active]
            active, u = active[inside], u[inside]
            hollow = (t[active] > first[active]) & (t[active] < last[active])
            t[active[hollow]] = last[active[hollow]]  # exponential steps forget where they began
            active, u, hollow = (x[t[active] < leave[active]] for x in (active, u, hollow))
            jitter = torch.rand(len(active), 3, generator=generator, dtype=torch.float32)
            near = start[active] + t[active, None] * along[active] + jitter - 0.5
            hit = ~hollow & (u[:, 1] * self.majorant < self.extinction(near))
            result[active[hit]], tissue[active[hit]] = t[active[hit]], near[hit]
            active = active[~hit]
        return result, tissue


def _turn(axis: Tensor, cosine: Tensor, u: Tensor) -> Tensor:
    """Directions at an angle to unit vectors, u of the way round."""
    x, _, z = torch.eye(3, dtype=torch.float32)
    helper = torch.where(axis[:, 2:].abs() < 0.9, z, x)
    x = torch.linalg.cross(helper, axis)
    x = x / x.norm(dim=1, keepdim=True)
    y = torch.linalg.cross(axis, x)
    sine = torch.sqrt((1 - cosine**2).clamp(min=0))
    angle = 2 * math.pi * u
    return (
        (sine * torch.cos(angle))[:, None] * x
        + (sine * torch.sin(angle))[:, None] * y
        + cosine[:, None] * axis
    )


class _Paths:
    """One sample of every pixel."""

    def __init__(self, scene: Any, volume: _Volume, generator: torch.Generator) -> None:
        self.s, self.volume, self.generator = scene, volume, generator

    def vector(self, name: str) -> Tensor:
        return torch.from_numpy(self.s[name].copy())

    def random(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.generator, dtype=torch.float32)

    def trace(self) -> Tensor:
        """(pixels, 12), as the kernels' sums."""
        s, v = self.s, self.volume
        width, height = int(s["width"]), int(s["height"])
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        x = columns.reshape(-1) + self.random(width * height)
        y = rows.reshape(-1) + self.random(width * height)
        d = self.vector("corner") + x[:, None] * self.vector("right") + y[:, None] * self.vector("down")
        per_depth = 1 / d.norm(dim=1)
        d = d * per_depth[:, None]
        p = self.vector("eye").expand(len(d), 3)
        sums, through = torch.zeros(len(d), 12, dtype=torch.float32), torch.ones(len(d), 3, dtype=torch.float32)
        alive = torch.arange(len(d))
        for event in range(int(s["events"]) + 1):
            enter, leave, face = v.clip(p, d)
            if event:
                enter, face = torch.zeros_like(enter), torch.full_like(face, -1)
            t, at = v.collide(p, d, enter, leave, self.generator)
            first, last, back = v.hole(p, d)
            again = (first < last) & (last > enter) & (t >= last)
            enter, face = torch.where(again, last, enter), torch.where(again, back, face)
            away = t < 0
            if event:
                sums[alive[away], :3] += (through * self.dome(d))[away]
            alive, p, d, t, at, enter, face, through = (
                q[~away] for q in (alive, p, d, t, at, enter, face, through)
            )
            if event == int(s["events"]) or not len(alive):
                break
            on = p @ v.matrix.T + v.origin + enter[:, None] * (d @ v.matrix.T)
            face = torch.where((t < enter + float(s["face"])) & (v.extinction(on) > 0), face, -1)
            t = torch.where(face >= 0, enter, t)
            at = torch.where(face[:, None] >= 0, on, at)
            p = p + t[:, None] * d
            colour = v.colours[v.level(at)]
            gradient = v.gradient(at)
            size = gradient.norm(dim=1)
            normal = gradient / size.clamp(min=1e-30)[:, None]
            normal = torch.where((normal * d).sum(1, keepdim=True) > 0, -normal, normal)
            normal = torch.where(size[:, None] > 0, normal, -d)
            normal = torch.where(face[:, None] >= 0, v.normals[face.clamp(min=0)], normal)
            surface = self.random(len(p)) >= torch.exp(-size / float(s["gradient_scale"]))
            surface |= face >= 0
            if event == 0:
                sums[alive, 3:] = torch.cat(
                    [
                        torch.ones(len(p), 1, dtype=torch.float32),
                        colour,
                        normal,
                        (t * per_depth[alive])[:, None],
                        torch.zeros(len(p), 1, dtype=torch.float32),
                    ],
                    dim=1,
                )
            cosine = -(normal * d).sum(1)
            f = float(s["reflectance"])
            fresnel = (f + (1 - f) * (1 - cosine).clamp(min=0) ** 5) if f > 0 else torch.zeros(len(p), dtype=torch.float32)
            fresnel = torch.where(surface & (face < 0), fresnel, 0.0)
            mirror = d + 2 * cosine[:, None] * normal
            sums[alive, :3] += through * self.light(p, d, colour, normal, mirror, surface, fresnel)
            d, weight = self.bounce(d, colour, normal, mirror, surface, fresnel)
            through = through * weight
            largest = through.amax(dim=1)
            keep = self.random(len(p)) < largest
            through = through / largest.clamp(max=1.0, min=1e-30)[:, None]
            alive, p, d, through = (q[keep] for q in (alive, p, d, through))
        sums[:, 11] = sums[:, :3].mean(dim=1) ** 2
        return sums

    def dome(self, d: Tensor) -> Tensor:
        height = (d @ self.vector("up"))[:, None]
        end = torch.where(height > 0, self.vector("zenith"), self.vector("nadir"))
        return self.vector("horizon") + height.abs() * (end - self.vector("horizon"))

    def light(
        self,
        p: Tensor,
        d: Tensor,
        colour: Tensor,
        normal: Tensor,
        mirror: Tensor,
        surface: Tensor,
        fresnel: Tensor,
    ) -> Tensor:
        count = int(self.s["lights"])
        if count == 0:
            return torch.zeros_like(p)
        lights = self.s["light"][:count]
        chosen = (self.random(len(p)) * count).long().clamp(max=count - 1)
        part = {name: torch.from_numpy(lights[name].copy())[chosen] for name in lights.dtype.names}
        u, w = (2 * self.random(len(p)) - 1)[:, None], (2 * self.random(len(p)) - 1)[:, None]
        to = part["centre"] + u * part["u"] + w * part["v"] - p
        distance = to.norm(dim=1)
        to = to / distance[:, None]
        facing = -(part["normal"] * to).sum(1).clamp(max=0)
        g, shininess = float(self.s["anisotropy"]), float(self.s["shininess"])
        phase = (1 - g * g) / (4 * math.pi * (1 + g * g - 2 * g * (to * d).sum(1)) ** 1.5)
        diffuse = (1 - fresnel) * (normal * to).sum(1).clamp(min=0) / math.pi
        lobe = fresnel * (shininess + 1) / (2 * math.pi) * (mirror * to).sum(1).clamp(min=0) ** shininess
        tinted, white = torch.where(surface, diffuse, phase), torch.where(surface, lobe, 0.0)
        value = (tinted[:, None] * colour + white[:, None]) * part["radiance"]
        wanted = torch.nonzero((value.sum(1) > 0) & (facing > 0)).reshape(-1)
        _, leave, _ = self.volume.clip(p[wanted], to[wanted])
        leave = torch.minimum(leave, distance[wanted])
        enter = torch.zeros(len(wanted), dtype=torch.float32)
        hit, _ = self.volume.collide(p[wanted], to[wanted], enter, leave, self.generator)
        free = hit < 0
        seen = torch.zeros(len(p), dtype=torch.float32)
        seen[wanted] = free.float()
        return value * (seen * count * facing * part["area"] / distance**2)[:, None]

    def bounce(
        self, d: Tensor, colour: Tensor, normal: Tensor, mirror: Tensor, surface: Tensor, fresnel: Tensor
    ) -> tuple[Tensor, Tensor]:
        u, w = self.random(len(d)), self.random(len(d))
        shiny = surface & (self.random(len(d)) < fresnel)
        g = float(self.s["anisotropy"])
        cosine = 1 - 2 * u
        if abs(g) > 1e-3:
            cosine = ((1 + g * g - ((1 - g * g) / (1 - g + 2 * g * u)) ** 2) / (2 * g)).clamp(-1, 1)
        cosine = torch.where(surface, torch.sqrt(u), cosine)
        cosine = torch.where(shiny, u ** (1 / (float(self.s["shininess"]) + 1)), cosine)
        axis = torch.where(shiny[:, None], mirror, torch.where(surface[:, None], normal, d))
        return _turn(axis, cosine, w), torch.where(shiny[:, None], 1.0, colour)


def trace_(sums: Tensor, scene: TraceScene) -> None:
    """Add the samples to sums; see csrc/paths/api.h."""
    header = scene.header
    volume = _Volume(header, scene.values, scene.gradients, scene.majorants, scene.table)
    for sample in range(scene.first, scene.first + scene.count):
        generator = torch.Generator().manual_seed(scene.seed * 1_000_003 + sample)
        sums += _Paths(header, volume, generator).trace().reshape(sums.shape)


def trace_faces_(image: Tensor, alpha: Tensor, depth: Tensor, scene: FaceScene) -> None:
    """Paint the faces in front of a picture; see csrc/paths/api.h."""
    s, side = scene.header, scene.side
    volume = _Volume(s, scene.values, scene.gradients, torch.zeros(1, dtype=torch.float32), scene.table)
    corner, right, down, eye = (torch.from_numpy(s[n].copy()) for n in ("corner", "right", "down", "eye"))
    rows, columns = torch.meshgrid(*(torch.arange(int(s[n])) for n in ("height", "width")), indexing="ij")
    sums = torch.zeros(columns.numel(), 5, dtype=torch.float32)
    for n in range(side * side):
        x = columns.reshape(-1, 1) + (n % side + 0.5) / side
        y = rows.reshape(-1, 1) + (n // side + 0.5) / side
        sums += _faces(s, volume, scene.dome, scene.exposure, eye, corner + x * right + y * down) / side**2
    cover = sums[:, 3].reshape(alpha.shape)
    behind = (1 - cover) * alpha
    both = cover + behind
    image.copy_(sums[:, :3].reshape(image.shape) + (1 - cover)[..., None] * image)
    mixed = (sums[:, 4].reshape(alpha.shape) + behind * depth) / both.clamp(min=1e-30)
    depth.copy_(torch.where(cover > 0, mixed, depth))
    alpha.copy_(both)


def _faces(s: Any, volume: _Volume, dome: Tensor, exposure: float, eye: Tensor, d: Tensor) -> Tensor:
    """(N, 5) of rays: colour as displayed times opacity, opacity, depth times opacity; 0 where there is no face."""
    enter, leave, face = volume.clip(eye.expand(d.shape), d)
    start, along = volume.matrix @ eye + volume.origin, d @ volume.matrix.T
    at = start + enter[:, None] * along
    here = volume.extinction(at)
    length = d.norm(dim=1)
    reach = torch.minimum(float(s["face"]) / length, leave - enter).clamp(min=0)
    thickness = (here + 3 * volume.extinction(at + (2 / 3 * reach)[:, None] * along)) / 4 * reach * length
    cover = torch.where((face >= 0) & (enter < leave) & (here > 0), 1 - torch.exp(-thickness), 0.0)
    face = face.clamp(min=0)
    p, normal, irradiance = eye + enter[:, None] * d, volume.normals[face], dome[face]
    for light in s["light"][: int(s["lights"])]:
        part = {name: torch.from_numpy(np.array(light[name])) for name in light.dtype.names}
        total = torch.zeros(len(d), dtype=torch.float32)
        for u, w in ((u, w) for u in (-0.5, 0.5) for w in (-0.5, 0.5)):
            to = part["centre"] + u * part["u"] + w * part["v"] - p
            here, back = (to * normal).sum(1).clamp(min=0), (-(to @ part["normal"])).clamp(min=0)
            total += here * back / to.square().sum(1).square()
        irradiance = irradiance + total[:, None] * part["radiance"] * part["area"] / 4
    tone = 1 - torch.exp(-exposure / math.pi * volume.colours[volume.level(at)] * irradiance)
    shown = torch.where(tone <= 0.0031308, 12.92 * tone, 1.055 * tone.clamp(min=1e-8) ** (1 / 2.4) - 0.055)
    return torch.cat([shown, torch.ones(len(d), 1, dtype=torch.float32), enter[:, None]], dim=1) * cover[:, None]
