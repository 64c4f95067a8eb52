"""Cinematic rendering that can be cut open: a path tracer teaches splats, and a plane cuts them in real time.

Source: "ClipGS: Clippable Gaussian Splatting for Interactive Cinematic Visualization of Volumetric Medical Data"
(MICCAI 2025), as modes that can be compared; an analytic cut is the default. Not for diagnosis.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Camera": "camera",
    "ClipPlane": "clip",
    "combined": "clip",
    "keep_body": "body",
    "Splats": "splats",
    "TransferFunction": "transfer",
    "Look": "looks",
    "find_look": "looks",
    "PathTracer": "tracer",
    "Render": "tracer",
    "LivePicture": "live",
    "render_picture": "picture",
    "CutFace": "cut_face",
    "CinematicDataset": "dataset",
    "DatasetOptions": "dataset_views",
    "make_dataset": "dataset",
    "read_dataset": "dataset",
    "CinematicModel": "model",
    "TrainOptions": "options",
    "Trainer": "train",
    "train_model": "train",
    "load_model": "model_files",
    "save_model": "model_files",
    "export_splats": "export",
    "evaluate_model": "evaluate",
    "turntable": "animation",
    "clip_sweep": "animation",
    "render_shots": "animation",
    "write_film": "animation",
    "write_frames": "animation",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module("." + _HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
