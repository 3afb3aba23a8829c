# SPDX-License-Identifier: GPL-3.0-or-later
"""One picture to a mesh on ten pictures: `python -m tests.bench_single --out FOLDER [--quality normal] [--model NAME|FILE] [PICTURE...]`.

Prints a line per picture (seconds, overlap through the model's own camera, the solved one and after the refinement, PSNR,
depth over width, closed or not) and writes a contact sheet: picture, view through its camera, from 90 and from 180 degrees.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from maquette.core.jobs.execution import execute
from maquette.core.jobs.request import Request
from maquette.core.pipelines import PIPELINES
from maquette.core.progress import Progress
from maquette.core.render.shade import render_textured
from maquette.core.results import read_mesh, read_result
from maquette.core.settings import MeshSettings
from maquette.core.types import Camera, Mesh
from PIL import Image

PICTURES = Path(__file__).parents[2] / "shared" / "data" / "single"
CELL = 256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quality", default="normal")
    parser.add_argument("--model", default="")
    options = parser.parse_args()
    rows, sheet = [], []
    for path in options.pictures or sorted(PICTURES.glob("*.png")):
        out = options.out / path.stem
        settings = asdict(MeshSettings(method="lrm", model=options.model, quality=options.quality))
        began = time.perf_counter()
        execute(Request("mesh", (str(path),), settings, str(out)), Progress(), PIPELINES)
        seconds = time.perf_counter() - began
        result, mesh = read_result(out), read_mesh(out / "mesh.npz")
        row = result.metrics
        numbers = [row[n] for n in ("model_camera_iou", "solved_camera_iou", "silhouette_iou", "photo_psnr")]
        width, depth, _ = np.ptp(placed(mesh, result.world_from_result).vertices, axis=0)
        rows.append([seconds, *numbers, depth / width])
        closed = "closed" if result.objects[0].report["watertight"] else "OPEN"
        stages = " ".join(f"{name} {value:.1f}" for name, value in result.timings_s.items())
        print(f"{path.stem:22s} {line(rows[-1])} {closed}   {stages}", flush=True)
        sheet.append(np.concatenate(cells(out), 1))
    print(f"{'mean':22s} {line(np.mean(rows, 0))}")
    Image.fromarray(np.concatenate(sheet)).save(options.out / "sheet.png")


def line(row: list[float]) -> str:
    return "{:6.2f} s  IoU {:.3f} -> {:.3f} -> {:.3f}  {:5.2f} dB  depth/width {:.2f}".format(*row)


def placed(mesh: Mesh, world: np.ndarray) -> Mesh:
    """In the world of the result."""
    vertices = (mesh.vertices @ world[:3, :3].T + world[:3, 3]).astype(np.float32)
    return Mesh(vertices, mesh.faces, mesh.uvs)


def cells(out: Path) -> list[np.ndarray]:
    """The picture, and the mesh through its camera, from its right and from behind."""
    result, mesh = read_result(out), read_mesh(out / "mesh.npz")
    with Image.open(out / "base_color.png") as image:
        texture = torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 255)
    (shot,) = result.cameras
    assert shot.view is not None
    assert shot.image is not None
    scale = CELL / max(shot.view.width, shot.view.height)
    size = round(shot.view.width * scale), round(shot.view.height * scale)
    with Image.open(out / shot.image) as image:
        ground = Image.new("RGBA", image.size, (70, 70, 70, 255))
        photo = Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB").resize(size)
    shown = [np.asarray(photo), drawn(mesh, texture, shot.view.resized(*size))]
    standing = placed(mesh, result.world_from_result)
    shown += [drawn(standing, texture, around(standing, turn)) for turn in (90, 180)]
    return [np.pad(c, [(0, CELL - c.shape[0]), (0, CELL - c.shape[1]), (0, 0)]) for c in shown]


def around(mesh: Mesh, degrees: float) -> Camera:
    """From a little above, so many degrees counter-clockwise from the front."""
    middle = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
    a, e = np.radians([degrees, 12])
    back = np.array([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)])
    right = np.array([np.cos(a), np.sin(a), 0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, -np.cross(back, right), -back], 1)
    pose[:3, 3] = middle + 2.6 * back
    return Camera("", CELL, CELL, 1.9 * CELL, 1.9 * CELL, CELL / 2, CELL / 2, pose)


def drawn(mesh: Mesh, texture: torch.Tensor, camera: Camera) -> np.ndarray:
    rgb, alpha = render_textured(mesh, texture, camera)
    picture = rgb * alpha[..., None] + 0.27 * (1 - alpha[..., None])
    return (picture.clamp(0, 1).numpy() * 255 + 0.5).astype(np.uint8)


if __name__ == "__main__":
    main()
