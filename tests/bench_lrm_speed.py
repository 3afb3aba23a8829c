# SPDX-License-Identifier: GPL-3.0-or-later
"""TripoSR and OpenLRM at the size of the public models on a CPU: `python -m tests.bench_lrm_speed [ROW...]`.

Each row runs in a process of its own, set up as the engine is (freed memory kept), and prints what is wanted, median wall
and best CPU seconds of three runs after a warm-up, the process's peak memory with the network in it, and the difference
from the slow way. Originals: the column "kept" of `../shared/specs/reference-timings.md`, measured on the same kind of
machine. Surfaces: planes fitted to a test mesh (`tests.fitted_planes`); networks: random weights that keep activations near one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import trimesh
from maquette.core.fields.triplane import TriplaneField
from maquette.core.jobs.tuning import engine_environment
from maquette.core.models.lrm.cameras import triposr_rays
from maquette.core.models.lrm.openlrm import OpenLRM
from maquette.core.models.lrm.rendering import render_triposr
from maquette.core.models.lrm.triposr import TripoSR
from maquette.core.surface.extract import ExtractSettings, extract_surface
from maquette.core.surface.marching import marching_cubes
from maquette.core.surface.report import face_parts
from maquette.core.types import Mesh
from scipy.spatial import cKDTree

from tests.fitted_planes import CACHE, full_size

MESH = "quaternius_cart.glb"
"""Thin spokes, a basket and flat boards: the hardest of the test meshes for coarse-to-fine."""
PLANES = CACHE / "triposr_planes_float32.npy"

Measured = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    work: Callable[[int], Measured]
    """Number of runs -> what was measured."""
    wanted: str


def timed(work: Callable[[], Any], runs: int) -> tuple[Any, Measured]:
    """What `work` gives, and median wall and least CPU seconds of `runs`, after a warm-up where there are several."""
    if runs > 1:
        work()
    walls, busy = [], []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        answer = work()
        walls.append(time.perf_counter() - wall)
        busy.append(time.process_time() - cpu)
    return answer, {"seconds": statistics.median(walls), "best": min(walls), "cpu": min(busy)}


def coloured_mesh(field: TriplaneField, vertices_per_side: int, polish: int = 1) -> tuple[Mesh, torch.Tensor]:
    """Surface and the colours of its vertices; the grid has its points where the published one has them."""
    mesh = extract_surface(field, ExtractSettings(resolution=vertices_per_side - 1, polish=polish))
    with torch.inference_mode():
        return mesh, field.appearance(torch.from_numpy(mesh.vertices))


def mesh_row(system: str, vertices_per_side: int, runs: int) -> Measured:
    """A coloured mesh, with the network of the system in the process as it is after it has made the planes."""
    kept = random_network(TripoSR if system == "triposr" else OpenLRM, torch.bfloat16)
    field = full_size(system, MESH)
    (mesh, _), measured = timed(lambda: coloured_mesh(field, vertices_per_side), runs)
    del kept
    return measured | {"note": f"{len(mesh.vertices):,} vertices"}


def full_grid(system: str, vertices_per_side: int) -> Measured:
    """The coarse-to-fine surface against marching cubes on every point of the grid."""
    field = full_size(system, MESH)
    began = time.perf_counter()
    with torch.inference_mode():
        vertices, faces = marching_cubes(field.grid(vertices_per_side), field.level)
    seconds = time.perf_counter() - began
    cell = 2 * field.rule.radius / (vertices_per_side - 1)
    dense = Mesh((vertices.numpy() * cell - field.rule.radius).astype(np.float32), faces.numpy())
    linear, _ = coloured_mesh(field, vertices_per_side, polish=0)
    gap = cKDTree(linear.vertices).query(dense.vertices)[0] / cell
    polished, _ = coloured_mesh(field, vertices_per_side)
    off = np.concatenate([distances(polished, dense), distances(dense, polished)]) / cell
    pieces = [face_parts(m.faces, len(m.vertices))[0] for m in (dense, polished)]
    note = (
        f"grid's vertices not among ours: {int((gap > 1e-2).sum())} of {len(gap):,}, the others off by at most "
        f"{gap[gap <= 1e-2].max():.4f} cells; pieces {pieces[0]} -> {pieces[1]}; polished to the field itself, which the grid "
        f"interpolates: {off.mean():.3f} cells, 99.9 % within {np.quantile(off, 0.999):.3f}, at most {off.max():.3f}"
    )
    return {"seconds": seconds, "best": seconds, "cpu": 0.0, "note": note}


def distances(points: Mesh, surface: Mesh, near: int = 24) -> np.ndarray:
    """(V,) from the vertices of one mesh to the nearest of the other's triangles around them."""
    triangles = surface.vertices[surface.faces].astype(float)
    candidates = cKDTree(triangles.mean(1)).query(points.vertices, near)[1]
    best = np.full(len(points.vertices), np.inf)
    for column in candidates.T:
        foot = trimesh.triangles.closest_point(triangles[column], points.vertices.astype(float))
        best = np.minimum(best, np.linalg.norm(foot - points.vertices, axis=1))
    return best


def random_network(kind: type[TripoSR] | type[OpenLRM], dtype: torch.dtype) -> Any:
    """The network at the public size, made in `dtype` at once; matrices have variance 1 / fan-in, the same in every dtype."""
    with torch.device("meta"):
        model = kind().to(dtype).requires_grad_(False).eval()
    model.decoder.float()
    model = model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            weight.fill_(1.0 if name.endswith("weight") else 0.0)
            continue
        spread = (
            1.0
            if name == "tokens"
            else 0.02
            if "embed" in name and "proj" not in name
            else weight[0].numel() ** -0.5
        )
        weight.copy_(torch.empty(weight.shape).normal_(0, spread, generator=generator))
    return model


def planes_row(dtype: torch.dtype, runs: int) -> Measured:
    """Image to tri-plane; in a reduced precision also how far planes and picture are from those of float32."""
    model = random_network(TripoSR, dtype)
    image = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        planes, measured = timed(lambda: model(image)[0], runs)
    if dtype == torch.float32:
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(PLANES, planes.numpy())
        return measured | {"note": ""}
    if not PLANES.is_file():
        return measured | {"note": "run planes32 first for the difference"}
    exact = torch.from_numpy(np.load(PLANES))
    pictures = [picture(model, each / exact.std()) for each in (exact, planes)]
    off = (pictures[1] - pictures[0]).abs()
    spread = pictures[0].std()
    note = (
        f"planes differ by {100 * ((planes - exact).abs().mean() / exact.abs().mean()):.2f} %, picture by {100 * off.mean():.3f} % "
        f"of white (at most {100 * off.max():.2f} %); its own spread is {100 * spread:.1f} %"
    )
    return measured | {"note": note}


def picture(model: TripoSR, planes: torch.Tensor, side: int = 96) -> torch.Tensor:
    """(side, side, 3) through the published renderer; a decoder of gain one, opaque where its raw density is high."""
    origins, directions = triposr_rays(1, 10.0, 1.9, 40.0, side, side)
    for layer in model.decoder.layers[:-1:2]:
        layer.weight.mul_(1.6 / layer.weight.std() * layer.in_features**-0.5)  # SiLU keeps 0.36 of a variance
    last = model.decoder.layers[-1]
    last.weight.mul_(3.0 / last.weight.std() * last.in_features**-0.5)
    field = model.field_of(planes)
    with torch.inference_mode():
        return render_triposr(field, origins, directions, 128)[0][0]


ROWS = {
    "mesh256": Row(
        lambda runs: mesh_row("triposr", 256, runs), "original 13.3 s, 3.2 GB: <= 3.3 s, <= 1920 MB"
    ),
    "mesh512": Row(lambda _: mesh_row("triposr", 512, 1), "<= 6144 MB"),
    "grid256": Row(lambda _: full_grid("triposr", 256), "within 0.5 cells, no piece lost"),
    "planes32": Row(lambda runs: planes_row(torch.float32, runs), "original 15.8 s: <= 15.8 s"),
    "planes16": Row(lambda runs: planes_row(torch.bfloat16, runs), "<= 10 s, picture within 1 %"),
    "open384": Row(
        lambda runs: mesh_row("openlrm", 384, runs), "original 66.7 s, 4.6 GB: <= 10 s, <= 2560 MB"
    ),
    "opengrid384": Row(lambda _: full_grid("openlrm", 384), "within 0.5 cells, no piece lost"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all of them without any"
    )
    parser.add_argument("--runs", type=int, default=3, help="of each row; 1: no warm-up either")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    chosen = options.rows or list(ROWS)
    if options.child:
        measured = ROWS[chosen[0]].work(options.runs)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(measured | {"peak": peak}))  # the last line is what the parent reads
        return
    for system in ("triposr", "openlrm"):
        full_size(system, MESH)  # fitted once, outside what is measured
    for name in chosen:
        command = [
            sys.executable,
            "-m",
            "tests.bench_lrm_speed",
            "--child",
            name,
            "--runs",
            str(options.runs),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, env=engine_environment(os.environ), check=False
        )
        if done.returncode:
            print(f"{name}: {done.stderr.strip()}", flush=True)
            continue
        got = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name:12s} {got['seconds']:7.2f} s (best {got['best']:.2f}, cpu {got['cpu']:.2f})  {got['peak']:5.0f} MB   "
            f"wanted: {ROWS[name].wanted}   {got['note']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
