# SPDX-License-Identifier: GPL-3.0-or-later
"""EG3D at full size with random weights: `python -m tests.bench_eg3d [ROW ...] [--runs N] [--default-memory]`.

Every row runs in a process of its own, the plain implementation (`tests/reference/plain_eg3d.py`) and ours with the same
threads and under the same setting of the C library's memory: as the engine has it, or as a plain process has it
(`--default-memory`). Times are the best of the runs after a warm-up; memory is the process's peak, weights included.
`image` and `plain-image` draw one picture of 512 pixels from 128; `mesh` extracts 256^3 from planes, `plain-grid` asks
for the whole grid and runs marching cubes, as the published program does but with the planes computed once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from maquette.core.jobs.memory import MemoryWatch
from maquette.core.jobs.tuning import engine_environment
from maquette.core.models.eg3d.cameras import frontal_label
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.surface.extract import ExtractSettings, extract_surface
from skimage.measure import marching_cubes

from .reference import plain_eg3d as plain

SHARE, GB, FASTER = 0.6, 1.2, 5.0
"""Targets: time of a picture against the plain one, its memory, time of the full grid against the mesh."""
RESOLUTION = 256
QUANTILE = 0.9
"""Random planes hold no sensible surface: the level is so high in the trimmed cube (reference timings)."""


def head(seed: int = 0) -> tuple[Eg3d, torch.Tensor, torch.Tensor]:
    """Network, latent rows and label."""
    torch.manual_seed(seed)
    network = Eg3d().eval().requires_grad_(False)
    label = torch.from_numpy(frontal_label())[None]
    return network, network.mapping(torch.randn(1, 512), label), label


def image(runs: int, precision: torch.dtype = torch.float32) -> dict[str, Any]:
    network, ws, label = head()
    network.superresolution.precision = precision
    found = timed(lambda: network(ws, label), runs)
    made = found.pop("made")
    if precision != torch.float32:
        network.superresolution.precision = torch.float32
        exact = network(ws, label)
        gap = made - exact
        found["remark"] = (
            f"differs by {100 * float(gap.square().mean().sqrt() / exact.square().mean().sqrt()):.2f} % (rms), "
            f"at most {float(gap.abs().max() / exact.abs().max()):.4f} of the maximum"
        )
    return found


def plain_image(runs: int) -> dict[str, Any]:
    network, ws, label = head()
    return timed(lambda: plain.picture(network, ws, label, 128), runs, drop=True)


def parity(runs: int) -> dict[str, Any]:
    """Ours against the plain picture."""
    network, ws, label = head()
    ours, slow = network(ws, label), plain.picture(network, ws, label, 128)
    error = float((ours - slow).abs().max() / slow.abs().max())
    return {
        "seconds": [0.0],
        "good": error < 1e-3,
        "remark": f"largest difference {error:.1e} of the maximum",
    }


def level_of(network: Eg3d, planes: torch.Tensor) -> float:
    """Raw density below which nine tenths of the trimmed cube lie."""
    points = (torch.rand(200_000, 3, generator=torch.Generator().manual_seed(1)) - 0.5) * 0.766
    return float(network.query(planes[0], points)[0].quantile(QUANTILE))


def mesh(runs: int) -> dict[str, Any]:
    network, ws, _ = head()
    planes = network.planes(ws)
    field = network.field(planes[0], level_of(network, planes), border=0.0)
    settings = ExtractSettings(resolution=RESOLUTION)
    found = timed(lambda: extract_surface(field, settings), runs)
    made = found.pop("made")
    return found | {"remark": f"{len(made.vertices)} vertices, {len(made.faces)} faces"}


def plain_grid(runs: int) -> dict[str, Any]:
    network, ws, _ = head()
    planes = network.planes(ws)
    level = level_of(network, planes)

    def work() -> Any:
        grid = plain.density_grid(network, planes, RESOLUTION)
        return marching_cubes(grid.numpy(), level)

    found = timed(work, runs)
    vertices, faces, *_ = found.pop("made")
    return found | {"remark": f"{len(vertices)} vertices, {len(faces)} faces"}


ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "parity": parity,
    "plain-image": plain_image,
    "image": image,
    "image-bf16": lambda runs: image(runs, torch.bfloat16),
    "plain-grid": plain_grid,
    "mesh": mesh,
}


def timed(work: Callable[[], Any], runs: int, drop: bool = False) -> dict[str, Any]:
    """The last result, and wall and processor seconds of some runs after one."""
    made = work()
    seconds, processor = [], []
    for _ in range(runs):
        del made
        wall, cpu = time.perf_counter(), time.process_time()
        made = work()
        seconds.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
    return {"seconds": seconds, "processor": processor} | ({} if drop else {"made": made})


def in_own_process(name: str, runs: int, default_memory: bool) -> dict[str, Any]:
    keep = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    environment = engine_environment(keep)
    if default_memory:
        environment = {key: value for key, value in environment.items() if not key.startswith("MALLOC_")}
    command = [sys.executable, "-m", "tests.bench_eg3d", name, "--runs", str(runs), "--here"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def verdict(name: str, found: dict[str, Any], best: dict[str, float]) -> str:
    """How the row stands against its target, where the plain row has run too."""
    own = best[name]
    if name.startswith("image") and "plain-image" in best:
        share = own / best["plain-image"]
        good = share <= SHARE and found["peak"] <= GB * 1e9
        return f"{'ok  ' if good else 'MISS'} {share:.0%} of plain (<= {SHARE:.0%}), <= {GB} GB"
    if name == "mesh" and "plain-grid" in best:
        ratio = best["plain-grid"] / own
        return (
            f"{'ok  ' if ratio >= FASTER else 'MISS'} {ratio:.1f} times faster than the grid (>= {FASTER:g})"
        )
    return "ok  " if found.get("good", True) else "MISS"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench_eg3d", description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--default-memory", action="store_true", help="the C library's usual setting")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        with torch.no_grad(), MemoryWatch() as watch:
            found = ROWS[options.rows[0]](options.runs)
        print(json.dumps(found | {"peak": watch.peak_bytes}))
        return
    best: dict[str, float] = {}
    for name in options.rows or ROWS:
        found = in_own_process(name, options.runs, options.default_memory)
        best[name] = min(found["seconds"])
        print(
            f"{name:12}{best[name]:8.3f} s (median {statistics.median(found['seconds']):.3f}, processor "
            f"{min(found.get('processor', [0.0])):.2f}) {found['peak'] / 1e9:6.2f} GB  "
            f"{verdict(name, found, best)} {found.get('remark', '')}".rstrip(),
            flush=True,
        )


if __name__ == "__main__":
    main()
