"""A ball that is coloured by position, cut by planes and drawn exactly: data sets and splats for the cinematic tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.dataset import CinematicDataset, read_dataset
from GaussianMRILib.cinematic.splats import Splats

RADIUS = 40.0
CENTER = np.array([5.0, -10.0, 20.0])


def ball_picture(camera: Camera, plane: ClipPlane | None) -> np.ndarray:
    """(H, W, 3) float32: the ball over black, its cut face flat and shaded with the plane's normal."""
    rays, eye = camera.rays(), camera.eye - CENTER
    along = rays @ eye
    inside = along**2 - (eye @ eye - RADIUS**2)
    hit, half = inside > 0, np.sqrt(np.maximum(inside, 0))
    t, far = -along - half, -along + half
    normals = (eye + t[..., None] * rays) / RADIUS
    if plane is not None:
        slope = rays @ plane.normal
        cut = -plane.signed_distance(camera.eye) / np.where(np.abs(slope) < 1e-9, 1e-9, slope)
        kept = plane.signed_distance(camera.eye + t[..., None] * rays) < 0
        face = ~kept & (cut > t) & (cut < far)
        hit &= kept | face
        t, normals = np.where(face, cut, t), np.where(face[..., None], plane.normal, normals)
    place = eye + t[..., None] * rays
    light = 0.4 + 0.6 * np.clip(normals @ np.array([0.4, 0.6, 0.7]), 0, 1)
    colour = (0.5 + 0.4 * np.sin(place / [9.0, 11.0, 7.0])) * light[..., None]
    return np.where(hit[..., None], colour, 0).astype(np.float32)


def ball_views(count: int, size: int, seed: int) -> list[tuple[Camera, ClipPlane]]:
    """Cameras on a sphere, and planes of any direction through the ball."""
    rng = np.random.default_rng(seed)
    views = []
    for _ in range(count):
        direction = rng.normal(size=3)
        eye = CENTER + 4 * RADIUS * direction / np.linalg.norm(direction)
        camera = Camera.look_at(eye, CENTER, up=(0.1, 0.2, 1.0), fov_degrees=35, size=size)
        normal = rng.normal(size=3)
        point = CENTER + normal / np.linalg.norm(normal) * rng.uniform(-0.8, 1.0) * RADIUS
        views.append((camera, ClipPlane.from_point(point, normal)))
    return views


def random_ball(count: int, seed: int, degree: int = 1) -> Splats:
    """Splats of all sizes, shapes and opacities in the ball."""
    rng = torch.Generator().manual_seed(seed)
    places = torch.randn(count, 3, generator=rng)
    places *= RADIUS * torch.rand(count, 1, generator=rng) ** (1 / 3) / places.norm(dim=1, keepdim=True)
    return Splats(
        places + torch.from_numpy(CENTER).float(),
        torch.randn(count, 4, generator=rng),
        torch.rand(count, 3, generator=rng) * 1.5 + 0.3,
        torch.randn(count, (degree + 1) ** 2, 3, generator=rng) * 0.5,
        torch.randn(count, generator=rng) * 1.5,
    )


def ball_data_set(folder: Path, train: int, test: int, size: int) -> CinematicDataset:
    """A finished data set of the ball, in the layout of `make_dataset`, read back."""
    (folder / "images").mkdir(parents=True)
    views = ball_views(train + test, size, 0)
    for split, part in (("train", views[:train]), ("test", views[train:])):
        frames = []
        for number, (camera, plane) in enumerate(part):
            name = f"images/{split}_{number:04d}.png"
            picture = np.rint(ball_picture(camera, plane) * 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / name)
            pose = camera.camera_to_world @ np.diag([1.0, -1, -1, 1])
            frames.append(
                {"file_path": name, "transform_matrix": pose.tolist(), "clip_plane": plane.to_dict()}
            )
        focal = views[0][0].fx
        content = {"fl_x": focal, "fl_y": focal, "cx": size / 2, "cy": size / 2, "w": size, "h": size}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content | {"frames": frames}))
    settings = {
        "options": {"background": [0, 0, 0]},
        "preset": {"name": "ball"},
        "bounds": [(CENTER - RADIUS).tolist(), (CENTER + RADIUS).tolist()],
        "fingerprint": f"ball {train} {test} {size}",
    }
    (folder / "dataset.json").write_text(json.dumps(settings))
    return read_dataset(folder)
