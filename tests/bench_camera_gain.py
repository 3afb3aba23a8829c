# SPDX-License-Identifier: GPL-3.0-or-later
"""What solving the camera gains over LRM's fixed one: `python -m tests.bench_camera_gain`.

The nine meshes of `../shared/data/meshes`, standing as a perfect model would make them, photographed with lenses of 15 to 65
degrees, from 10 degrees beside and above or below where TripoSR takes the camera to be (distance 1.9, 40 degrees). Prints
the overlap of mask and mesh through TripoSR's camera, through it moved and scaled onto the mask (what cropping to the
object does), and through the solved camera; and how well the lens was found (median of |ln f/f0| of those with perspective).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from maquette.core.models.lrm.one_picture import TRIPOSR_DISTANCE, TRIPOSR_FOV
from maquette.core.pipelines.image_to_mesh import TIED
from maquette.core.poses.silhouette_camera import fit_camera, overlap
from maquette.core.render.rasterize import rasterize
from maquette.core.types import Camera

from tests.bench_lrm import SHARED, load_mesh

SIDE, PHOTOS = 512, 3


def main() -> None:
    rng = np.random.default_rng(0)
    rows, lenses = [], []
    for path in sorted((SHARED / "data/meshes").glob("*.*")):
        mesh = load_mesh(path)
        vertices, faces = (mesh.vertices * 1.1).astype(np.float32), mesh.faces.astype(np.int32)
        for _ in range(PHOTOS):
            published = camera(TRIPOSR_FOV, TRIPOSR_DISTANCE, 0.0, 0.0)
            angle = rng.uniform(15, 65)
            shown = np.tan(np.radians(TRIPOSR_FOV / 2)) / np.tan(np.radians(angle / 2))
            turn = rng.uniform(-10, 10, 2)
            true = camera(angle, TRIPOSR_DISTANCE * shown, *turn)
            raster = rasterize(torch.from_numpy(vertices), torch.from_numpy(faces), true)
            mask = (raster.face.numpy() >= 0).astype(np.float32)
            fit = fit_camera(vertices, faces, mask, published, TIED)
            fixed = overlap(vertices, faces, mask, published)
            rows.append([fixed, overlap(vertices, faces, mask, onto(mask, vertices, published)), fit.iou])
            lenses.append(abs(np.log(fit.camera.fx / true.fx)))
        print(f"{path.stem:26s} " + "  ".join(f"{v:.3f}" for v in np.mean(rows[-PHOTOS:], 0)), flush=True)
    print(f"{'mean':26s} " + "  ".join(f"{v:.3f}" for v in np.mean(rows, 0)))
    print(f"worst of {len(rows)}: " + "  ".join(f"{v:.3f}" for v in np.min(rows, 0)))
    print(f"lens: median |ln| {np.median(lenses):.3f}")


def camera(angle: float, distance: float, azimuth: float, elevation: float) -> Camera:
    """From -y, looking at the origin; degrees."""
    a, e = np.radians([azimuth, elevation])
    back = np.array([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)])
    right = np.array([np.cos(a), np.sin(a), 0.0])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.stack([right, -np.cross(back, right), -back], 1), distance * back
    focal = 0.5 * SIDE / np.tan(np.radians(angle / 2))
    return Camera("", SIDE, SIDE, focal, focal, SIDE / 2, SIDE / 2, pose)


def onto(mask: np.ndarray, vertices: np.ndarray, published: Camera) -> Camera:
    """The published camera whose crop is the mask's box, as these models are used."""
    pixels, _ = published.project(vertices.astype(np.float64))
    low, high = pixels.min(0), pixels.max(0)
    rows, columns = np.nonzero(mask > 0.5)
    first = np.array([columns.min(), rows.min()])
    last = np.array([columns.max(), rows.max()]) + 1
    scale = float((last - first).max() / (high - low).max())
    shift = (first + last) / 2 - scale * (low + high) / 2
    return replace(
        published, fx=published.fx * scale, fy=published.fy * scale,
        cx=published.cx * scale + shift[0], cy=published.cy * scale + shift[1],
    )  # fmt: skip


if __name__ == "__main__":
    main()
