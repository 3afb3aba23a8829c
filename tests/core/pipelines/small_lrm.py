# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture of an ellipse, and the single-picture models at a size that runs in a blink."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from maquette.core.jobs.execution import execute
from maquette.core.jobs.request import Request
from maquette.core.models.lrm.object_lrm import ObjectLRMConfig
from maquette.core.models.lrm.openlrm import OpenLRMConfig
from maquette.core.models.lrm.triposr import TripoSRConfig
from maquette.core.models.parts.transformer import VisionTransformerConfig
from maquette.core.pipelines import PIPELINES
from maquette.core.progress import Progress
from maquette.core.settings import MeshSettings

TINY = ObjectLRMConfig((4, 8, 16), depth=1, heads=2, hidden=16)
TINY_TRIPOSR = TripoSRConfig(
    image=16, encoder=VisionTransformerConfig(16, 1, 2, 32, 8, 16, pooler=True), plane=4, width=32, heads=2,
    head_width=16, layers=1, features=4, hidden=8, hidden_layers=2,
)  # fmt: skip
TINY_OPENLRM = OpenLRMConfig(
    encoder=VisionTransformerConfig(16, 1, 2, 32, 14, 28, registers=4, layer_scale=True, resize="antialias"),
    camera_width=8, width=32, layers=1, heads=2, plane=4, features=4,
)  # fmt: skip


def random_(model: torch.nn.Module, spread: float = 0.3) -> torch.nn.Module:
    """Weights at random, so that planes and colours vary from place to place."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += spread * torch.randn(weight.shape, generator=generator)
    return model.eval()


def ellipse() -> np.ndarray:
    """(320, 400, 4) uint8: a striped ellipse, off the middle, cut out."""
    y, x = np.mgrid[0:320, 0:400]
    inside = ((x - 220) / 100) ** 2 + ((y - 140) / 80) ** 2 < 1
    rgb = np.stack([120 + 80 * np.sin(x / 18), 90 + 60 * np.sin(y / 14), np.full(x.shape, 70)], -1)
    return np.dstack([rgb, 255 * inside]).astype(np.uint8)


def mesh(picture: Path, out: Path, **settings: object) -> dict:
    values = asdict(MeshSettings(resolution=64, face_budget=8000, texture_size=256, **settings))  # type: ignore[arg-type]
    execute(Request("mesh", (str(picture),), values, str(out)), Progress(), PIPELINES)
    return json.loads((out / "scene.json").read_text())
