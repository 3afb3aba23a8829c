# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tests.bench_photos [ROW...]`: the measures of photos to mesh, one JSON line each.

Rows: `fit` (lego_200, given cameras), `plain` (the fit against a plain one, points per second), `temple` (four photos left
out), `poses` (fox, Herz-Jesu, temple), `renders` and `draft` (24 Cycles renders each of three objects, cameras unknown,
scored against the true mesh), `blender` (the imported object rendered through its cameras in Blender). Without a row: all.
Renders are made once under `build/bench/` with the bpy environment `.venv-bpy-4.5`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from maquette.core.fields.sparse_grid import SparseGrid
from maquette.core.fit.bounds import focus_box, hull_box
from maquette.core.fit.occupancy import grid_shape, visual_hull
from maquette.core.fit.radiance import FitSettings, fit_radiance
from maquette.core.images.load import open_photos
from maquette.core.images.undistort import undistort
from maquette.core.poses.frame import common_point
from maquette.core.poses.given import given_cameras
from maquette.core.progress import Progress
from maquette.core.render.volume import render_field
from maquette.core.types import View
from PIL import Image

from tests import bench_poses

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
POSED = SHARED / "data" / "posed"
OBJECTS = ("spot", "ycb_banana", "water_bottle")
SHORT = FitSettings(points=4.4e8, fullness=0.0)
"""lego_200 within 120 s on two free cores."""
LONG = FitSettings(points=1.4e9, fullness=0.0)
"""lego_200 within six minutes."""
TEMPLE = FitSettings(
    resolution=256, points=2e8, bend_density=1e-6, smooth_density=1e-6, smooth_colour=3e-7, fullness=0.0
)
"""Chosen with templeSR0002, 0006, 0010 and 0014 left out, which the row does not score; photos to mesh has its own settings."""


def say(row: str, **numbers: Any) -> None:
    """One line of the table."""
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in numbers.items()}
    print(json.dumps({"row": row, **rounded, "peak_gib": round(_peak(), 2)}), flush=True)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """dB over all values, 0..1."""
    return float(-10 * np.log10(np.square(picture - truth).mean()))


def lego(split: str) -> list[View]:
    """Views of lego_200 with their alpha as mask, on their own pixels."""
    photos = open_photos([POSED / "lego_200" / "images"])
    file = POSED / "lego_200" / f"transforms_{split}.json"
    wanted = {Path(frame["file_path"]).stem for frame in json.loads(file.read_text())["frames"]}
    photos = [photo for photo in photos if Path(photo.name).stem in wanted]
    found = given_cameras(file, photos)
    by_name = {photo.name: photo for photo in photos}
    return [undistort(by_name[camera.name], camera, 200) for camera in found.cameras]


def on_white(field: SparseGrid, views: list[View]) -> float:
    """Mean PSNR of renders on white against the pictures on white."""
    values = []
    for view in views:
        rgb, alpha, _ = render_field(field, view.camera)
        assert view.mask is not None
        truth = view.rgb * view.mask[..., None] + 1 - view.mask[..., None]
        values.append(psnr(rgb + 1 - alpha[..., None], truth))
    return float(np.mean(values))


def fit_views(views: list[View], settings: FitSettings, device: str = "cpu") -> tuple[SparseGrid, float]:
    """Hull and fit from masks and cameras alone -> field, seconds."""
    began = time.monotonic()
    box = hull_box(views, focus_box(views, common_point([view.camera for view in views])))
    occupied = visual_hull(views, box, grid_shape(box, settings.resolution // 2))
    field = fit_radiance(views, box, occupied, settings, Progress(), torch.device(device))
    return field, time.monotonic() - began


def row_fit() -> None:
    """lego_200: target 30 dB after 120 s, 33.5 dB after 6 minutes, mean of 20 test views."""
    train, test = lego("train"), lego("test")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, settings in (("120 s", SHORT), ("6 min", LONG)):
        field, seconds = fit_views(train, settings, device)
        say(
            f"lego_200, {name}",
            psnr=on_white(field, test),
            seconds=seconds,
            points_per_s=settings.points / seconds,
            device=device,
        )


def row_plain() -> None:
    """The fit against a plain implementation: seconds to the same quality, and points per second, with all set-up."""
    from tests.reference.plain_fit import fit_plainly

    train, test = lego("train"), lego("test")[::4]
    settings = dataclasses.replace(SHORT, points=3e7)
    field, seconds = fit_views(train, settings)
    quality, looked = on_white(field, test), 0.0
    say("fast fit", psnr=quality, seconds=seconds, points_per_s=settings.points / seconds)
    for plain, spent, points in fit_plainly(train, settings.resolution // 2):
        if spent < looked + 20:
            continue
        looked, reached = spent, plain.on_white(test)
        say("plain fit", psnr=reached, seconds=spent, points_per_s=points / spent)
        if reached >= quality or spent > 600:
            break


def row_temple() -> None:
    """temple_sparse_ring: four photos left out in turn, PSNR where any channel exceeds 20; target 22 dB, 3 minutes each."""
    folder = POSED / "temple_sparse_ring"
    photos = open_photos([folder / "images"])
    found = given_cameras(folder / "transforms.json", photos)
    views = []
    for photo, camera in zip(photos, found.cameras, strict=True):
        view = undistort(photo, camera, 640)
        view.mask = (view.rgb.max(-1) > 20 / 255).astype(np.float32)
        views.append(view)
    values = []
    for left_out in (2, 6, 10, 14):
        field, seconds = fit_views([view for i, view in enumerate(views) if i != left_out], TEMPLE)
        true = views[left_out]
        rgb, _, _ = render_field(field, true.camera)
        assert true.mask is not None
        inside = true.mask > 0.5
        values.append(psnr(rgb[inside], true.rgb[inside]))
        say(f"temple without {true.camera.name}", foreground_psnr=values[-1], seconds=seconds)
    say("temple, four left out", foreground_psnr=float(np.mean(values)))


def row_poses() -> None:
    """fox, herzjesu_p8, temple_sparse_ring: cameras unknown."""
    for name in bench_poses.SETS:
        score = bench_poses.run(POSED / name)
        print(
            json.dumps(
                {"row": f"poses {name}", **{k: v for k, v in score.items() if k not in ("metrics", "advice")}}
            ),
            flush=True,
        )


def photos_of(name: str) -> Path:
    """24 renders of an object, made if they are not there."""
    folder = ROOT / "build" / "bench" / name
    if len(list(folder.glob("images/*"))) < 24:
        python = ROOT / ".venv-bpy-4.5" / "bin" / "python"
        mesh = SHARED / "data" / "meshes" / f"{name}.glb"
        subprocess.run(
            [python, ROOT / "tests" / "render_photos.py", mesh, folder], check=True, stdout=sys.stderr
        )
    return folder


def mesh_of(name: str, quality: str, out: Path) -> dict[str, Any]:
    """Run the command line on an object's photos in a fresh data folder (no cache) -> report, with the mesh's score."""
    folder = photos_of(name)
    report = out / f"{name}.json"
    arguments = ["mesh", folder / "images", "--out", out / name, "--quality", quality, "--report", report]
    arguments += ["--glb", out / f"{name}.glb", "--preview", out / f"{name}.png"]
    shutil.rmtree(out / "data", ignore_errors=True)
    environment = {**os.environ, "MAQUETTE_DATA": str(out / "data")}
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "maquette", *map(str, arguments)], env=environment, stderr=subprocess.DEVNULL
    )
    said = json.loads(report.read_text())
    said["wall_s"] = time.monotonic() - began
    if said["error"] is None:
        scorer = SHARED / "tools" / "mesh_score.py"
        true = SHARED / "data" / "meshes" / f"{name}.glb"
        score = subprocess.run(
            [sys.executable, scorer, true, out / f"{name}.glb", "--any-axes"],
            check=True,
            capture_output=True,
            text=True,
        )
        said["score"] = json.loads(score.stdout)
    return said


def _row_objects(quality: str) -> None:
    out = ROOT / "build" / "bench" / f"out_{quality}"
    out.mkdir(parents=True, exist_ok=True)
    for name in OBJECTS:
        said = mesh_of(name, quality, out)
        score = said.get("score", {})
        print(json.dumps({
            "row": f"{name}, {quality}", "status": said["status"], "error": said["error"],
            "chamfer": score.get("chamfer"), "f@0.02": score.get("f@0.02"), "wall_s": round(said["wall_s"], 1),
            "poses_s": said["timings_s"].get("cameras"), "peak_gib": round(said["peak_memory_bytes"] / 2**30, 2),
            "silhouette_iou": said["metrics"].get("silhouette_iou"), "photo_psnr": said["metrics"].get("photo_psnr"),
            "timings_s": said["timings_s"],
        }), flush=True)  # fmt: skip


def row_renders() -> None:
    """Targets: Chamfer 0.010, F@0.02 0.92, 5 minutes, of which poses 40 s; 4 GiB."""
    _row_objects("normal")


def row_draft() -> None:
    """Target: a mesh within 60 s."""
    _row_objects("draft")


def row_blender() -> None:
    """The result of `renders` imported into Blender and rendered through its cameras: IoU 0.95, 22 dB inside the mask."""
    python = ROOT / ".venv-bpy-4.5" / "bin" / "python"
    for name in OBJECTS:
        result = ROOT / "build" / "bench" / "out_normal" / name
        if not result.is_dir():
            continue
        with tempfile.TemporaryDirectory() as scratch:
            command = [python, ROOT / "operators" / "headless.py", "render", result, "--out", scratch]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            ious, values = zip(
                *(_compare(photos_of(name), result, path) for path in sorted(Path(scratch).glob("*.png"))),
                strict=True,
            )
        say(f"{name} in Blender", silhouette_iou=float(np.mean(ious)), worst_iou=float(min(ious)), psnr=float(np.mean(values)), worst_psnr=float(min(values)))  # fmt: skip


def _compare(photos: Path, result: Path, render: Path) -> tuple[float, float]:
    """Against the undistorted photo and the *true* mask of the render script."""
    picture = np.asarray(Image.open(render).convert("RGBA"), np.float32) / 255
    size = picture.shape[1], picture.shape[0]
    (photo_file,) = [path for path in (result / "views").iterdir() if path.stem == render.stem]
    photo = np.asarray(Image.open(photo_file).convert("RGB").resize(size), np.float32) / 255
    (mask_file,) = [path for path in (photos / "masks").iterdir() if path.stem == render.stem]
    mask = np.asarray(Image.open(mask_file).convert("L").resize(size)) > 127
    drawn = picture[..., 3] > 0.5
    inside = mask & drawn
    return float(inside.sum() / (mask | drawn).sum()), psnr(picture[inside][:, :3], photo[inside])


ROWS: dict[str, Callable[[], None]] = {
    "fit": row_fit,
    "plain": row_plain,
    "temple": row_temple,
    "poses": row_poses,
    "renders": row_renders,
    "draft": row_draft,
    "blender": row_blender,
}


def main() -> None:
    """Run the rows named on the command line, or all."""
    if not SHARED.is_dir():
        sys.exit("bench_photos needs the test data beside the checkout (../shared).")
    for name in sys.argv[1:] or ROWS:
        ROWS[name]()


if __name__ == "__main__":
    main()
