# SPDX-License-Identifier: GPL-3.0-or-later
"""Times and memory of the z-buffer, extraction, UVs and baking: `python -m tests.bench_surface`.

Wall seconds and CPU seconds (the machine may be shared); peak memory is the process's own, so far.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from maquette.core.render.rasterize import rasterize
from maquette.core.surface.bake import BakeSettings, bake_texture
from maquette.core.surface.clean import CleanSettings, clean_mesh
from maquette.core.surface.extract import ExtractSettings, extract_surface
from maquette.core.surface.match import match_view
from maquette.core.surface.uv import UvSettings, unwrap
from maquette.core.types import Camera, Mesh, View

from tests.reference.extract import AnalyticField, extract_dense, sphere, torus

Answer = TypeVar("Answer")


def timed(name: str, work: Callable[[], Answer], note: Callable[[Answer], str] = lambda answer: "") -> Answer:
    """Run, print one line, return the answer."""
    wall, cpu = time.perf_counter(), time.process_time()
    answer = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"{name:44s} {wall:8.3f} s wall {cpu:8.3f} s cpu {peak:7.0f} MB peak  {note(answer)}\n")
    sys.stdout.flush()
    return answer


def bumps(points: torch.Tensor) -> torch.Tensor:
    """A ball with bumps large and small, signed as a density."""
    large = (9 * points[:, 0]).sin() * (8 * points[:, 1]).sin() * (7 * points[:, 2]).sin()
    small = (40 * points[:, 0]).sin() * (35 * points[:, 1]).sin() * (45 * points[:, 2]).sin()
    return 0.6 - points.norm(dim=1) + 0.08 * large + 0.008 * small


def camera_around(number: int, count: int, size: int) -> Camera:
    """Camera `number` of two rings around the origin, 3 units away."""
    azimuth, height = 4 * np.pi * number / count, (0.25, 0.9)[number * 2 // count]
    direction = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    right = np.cross(-direction, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(-direction, right), -direction], 1)
    pose[:3, 3] = 3 * direction
    return Camera(f"{number}", size, size, 1.8 * size, 1.8 * size, size / 2, size / 2, pose)


def view_of(mesh: Mesh, camera: Camera) -> View:
    """The mesh with a smooth pattern of colours, as a photo."""
    vertices, faces = torch.as_tensor(mesh.vertices), torch.as_tensor(mesh.faces).long()
    raster = rasterize(vertices, faces, camera)
    point = (vertices[faces[raster.face.clamp_min(0).long()]] * raster.barycentric[..., None]).sum(2)
    colour = 0.5 + 0.25 * (12 * point).sin() + 0.2 * (50 * point).sin()
    covered = raster.face >= 0
    return View(camera, (colour * covered[..., None]).numpy(), covered.float().numpy())


def bench_rasterize() -> None:
    """Balls of several sizes in pictures of several sizes."""
    import trimesh

    for subdivisions, size in ((3, 512), (4, 512), (6, 1024), (7, 1024)):
        ball = trimesh.creation.icosphere(subdivisions, 0.7)
        vertices, faces = (
            torch.tensor(np.asarray(ball.vertices)).float(),
            torch.tensor(np.asarray(ball.faces)),
        )
        camera = camera_around(0, 24, size)
        rasterize(vertices, faces, camera)
        timed(
            f"rasterize {len(faces):7d} faces {size} px",
            lambda v=vertices, f=faces, c=camera: rasterize(v, f, c),
        )


def bench_extract(resolutions: tuple[int, ...]) -> None:
    """Analytic bodies; the dense grid beside the multi-resolution one where it fits."""
    for name, formula in (("sphere", sphere(0.83)), ("torus", torus(0.6, 0.2)), ("bumps", bumps)):
        for resolution in resolutions:
            field = AnalyticField(formula)
            mesh = timed(
                f"extract {name} {resolution}^3",
                lambda f=field, r=resolution: extract_surface(f, ExtractSettings(r, polish=0)),
                lambda m, f=field, r=resolution: (
                    f"{len(m.faces)} faces, {f.asked} points = {100 * f.asked / (r + 1) ** 3:.1f} %"
                ),
            )
            if resolution <= 256:
                dense = timed(
                    f"  dense {name} {resolution}^3", lambda f=field, r=resolution: extract_dense(f, r)
                )
                assert len(dense[1]) == len(mesh.faces), "a piece was lost"


def bench_texture() -> None:
    """A mesh of 100,000 faces: clean, UVs both ways, bake from 24 views."""
    surface = extract_surface(AnalyticField(bumps), ExtractSettings(256))
    mesh = timed("clean to 100,000 faces", lambda: clean_mesh(surface, CleanSettings(face_budget=100_000)))
    views = [view_of(mesh, camera_around(number, 24, 1024)) for number in range(24)]
    mesh = timed(f"unwrap {len(mesh.faces)} faces, projected", lambda: unwrap(mesh, UvSettings(2048)))
    baked = timed(
        "bake 2048 from 24 views of 1024 px", lambda: bake_texture(mesh, views, settings=BakeSettings(2048))
    )
    match = timed("match one view", lambda: match_view(mesh, baked.texture, views[3]), str)
    assert match["photo_psnr"] > 30
    timed("unwrap the same by xatlas", lambda: unwrap(mesh, UvSettings(2048, projected_from=10**9)))


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["rasterize", "extract", "texture"]
    if "rasterize" in wanted:
        bench_rasterize()
    if "extract" in wanted:
        bench_extract((128, 256, 512))
    if "texture" in wanted:
        bench_texture()
    if "1024" in wanted:
        bench_extract((1024,))
