# SPDX-License-Identifier: GPL-3.0-or-later
"""Full-size tri-planes that hold a real object: random ones have no sensible surface, and extraction depends on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import trimesh
from maquette.core.fields.triplane import TriplaneField, TriplaneRule
from maquette.core.models.lrm.triposr import TripoSRConfig
from maquette.core.models.stored_field import load_field
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label
from scipy.spatial import cKDTree

from tests.bench_lrm import load_mesh

ROOT = Path(__file__).resolve().parents[1]
MESHES = ROOT.parent / "shared" / "data" / "meshes"
CACHE = ROOT / "build" / "bench"
FILL = 0.85
"""Share of the box that the object's longest side takes."""
SIDE = 192
"""Cells of the grid of distances that the planes are fitted to."""
STEPS, POINTS = 400, 8192
SLOPE, LOWEST, HIGHEST = 40.0, -7.0, 4.0
"""Raw density per radius, and how far it goes below and above the surface's: about 10^-3 outside, 1400 deep inside."""


def fitted_field(
    mesh: str, rule: TriplaneRule, features: int, hidden_layers: int, activation: str, name: str
) -> TriplaneField:
    """A field whose surface is that of a test mesh; made once (about a minute), then read from `build/bench`."""
    path = CACHE / f"{name}_{Path(mesh).stem}.safetensors"
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        _fit(MESHES / mesh, rule, features, hidden_layers, activation).save(path)
    field = load_field(path)
    assert isinstance(field, TriplaneField)
    return field


def _fit(path: Path, rule: TriplaneRule, features: int, hidden_layers: int, activation: str) -> TriplaneField:
    """Planes of 64 x 64 and their decoder, by Adam on points near the surface and anywhere."""
    from maquette.core.fields.triplane import PlaneDecoder

    torch.manual_seed(0)
    points, colours = _surface(path)
    distances = torch.from_numpy(_signed_distances(points))[None, None]
    tree = cKDTree(points)
    planes = (0.1 * torch.randn(3, features, 64, 64)).requires_grad_()
    decoder = PlaneDecoder(3 * features, 64, hidden_layers, 3, activation)
    field = TriplaneField(planes, decoder, rule)
    level = (
        float(np.log(rule.level) if rule.density == "exp" else np.log(np.expm1(rule.level)))
        - rule.density_bias
    )
    optimiser = torch.optim.Adam(
        [{"params": [planes], "lr": 2e-2}, {"params": decoder.parameters(), "lr": 2e-3}], betas=(0.9, 0.99)
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS, 1e-4)
    chance = np.random.default_rng(0)
    for _ in range(STEPS):
        near = points[chance.integers(len(points), size=POINTS // 2)]
        near = near + chance.normal(0, 0.03, near.shape)
        unit = np.concatenate([near, chance.uniform(-1, 1, (POINTS // 2, 3))]).clip(-1, 1).astype(np.float32)
        found = F.grid_sample(
            distances,
            torch.from_numpy(unit).flip(1)[None, None, None],
            align_corners=False,
            padding_mode="border",
        )
        wanted = level + (-SLOPE * found.reshape(-1)).clamp(LOWEST, HIGHEST)
        raw = field._raw(torch.from_numpy(unit) * rule.radius)
        loss = F.smooth_l1_loss(raw[:, 0], wanted)
        nearest = tree.query(unit[:1024])[1]
        loss = loss + 5 * F.mse_loss(torch.sigmoid(raw[:1024, 1:]), torch.from_numpy(colours[nearest]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return TriplaneField(planes.detach(), decoder.requires_grad_(False), rule)


def _surface(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, 3) points on the mesh, longest side 2 FILL around the origin, and their colours."""
    mesh = load_mesh(path)
    body = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points, face = trimesh.sample.sample_surface(body, 1_500_000, seed=0)
    corner = trimesh.triangles.points_to_barycentric(body.triangles[face], points).astype(np.float32)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    placed = (points - (low + high) / 2) * (2 * FILL / (high - low).max())
    return placed.astype(np.float32), mesh.colours(face, corner).astype(np.float32)


def _signed_distances(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """(SIDE,) * 3 over -1..1, x y z: distance to the surface, negative where the outside cannot be reached."""
    cell = ((points + 1) / 2 * SIDE).astype(int).clip(0, SIDE - 1)
    wall = np.zeros((SIDE,) * 3, bool)
    wall[tuple(cell.T)] = True
    parts, _ = label(~wall)
    solid = parts != parts[0, 0, 0]
    size = 2 / SIDE
    outwards, inwards = distance_transform_edt(~solid), distance_transform_edt(solid)
    # The wall is a cell thick, so the surface lies half a cell inside its outer face.
    return ((np.where(solid, 0.5 - inwards, outwards - 0.5) + 0.5) * size).astype(np.float32)


def full_size(system: str, mesh: str) -> TriplaneField:
    """`triposr` or `openlrm` (small) at the size of the public model."""
    if system == "triposr":
        config = TripoSRConfig()
        return fitted_field(
            mesh, config.rule, config.features, config.hidden_layers, config.activation, system
        )
    from maquette.core.models.lrm.openlrm import OpenLRMConfig

    small = OpenLRMConfig()
    return fitted_field(mesh, small.rule, small.features, 3, "relu", system)
