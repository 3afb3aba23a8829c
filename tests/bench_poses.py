# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tests.bench_poses [ROW | SET | FOLDER ...] [-v]`: cameras found without their truth, scored against it.

Rows: `real` (fox, temple, Herz-Jesu), `lego` (24 views of 200 pixels before white), `grey` (nearly untextured head and
bunny), `renders` (three objects, 8, 12 and 24 views around), `hard` (low contrast, blur, a fifth of the photos of something
else, a repeating pattern, a mirrored object). Without one: all. One JSON line per set: the numbers of
`../shared/tools/pose_auc.py`, those of `score_grades`, the set's grade and the wall time. A folder must hold its photos
and `transforms.json`.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from maquette.core.cameras import nerf_json, rotations
from maquette.core.errors import MaquetteError
from maquette.core.images.load import open_photos
from maquette.core.poses.ladder import find_cameras
from maquette.core.progress import Progress
from maquette.core.types import GOOD, Camera

from tests.pose_sets import ROOT, SETS, folder_of, strangers_of, truth_of

Numbers = dict[str, Any]


def run(folder: Path, quality: str = "normal", seed: int = 0) -> Numbers:
    """Estimate and score one set."""
    photos = open_photos([folder / "images" if (folder / "images").is_dir() else folder])
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            found = find_cameras(photos, None, Progress(), Path(scratch), quality, seed)
        except MaquetteError as error:
            return {"set": folder.name, "error": error.code, "seconds": round(time.monotonic() - began, 1)}
        seconds = time.monotonic() - began
        file = Path(scratch) / "transforms.json"
        nerf_json.write(file, found.cameras, found.failed)
        score = subprocess.run(
            [sys.executable, ROOT.parent / "shared" / "tools" / "pose_auc.py", truth_of(folder), file],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    truth = {Path(c.name).stem: c for c in _read(truth_of(folder), photos[0].width, photos[0].height)}
    metrics = {
        k: round(v, 3) if isinstance(v, float) else v for k, v in found.metrics.items() if k != "per_camera"
    }
    return {
        "set": folder.name, **json.loads(score.stdout), **score_grades(found.cameras, truth, strangers_of(folder)),
        "method": found.method, "grade": found.grade, "seconds": round(seconds, 1), "failed": found.failed,
        "metrics": metrics, "advice": found.advice, "doubtful": {c.name: c.reason for c in found.cameras if c.reason},
    }  # fmt: skip


def _read(file: Path, width: int, height: int) -> list[Camera]:
    return nerf_json.read(file, dict.fromkeys(nerf_json.frame_names(file), (width, height)))[0]


def camera_errors(found: list[Camera], truth: dict[str, Camera]) -> dict[str, float]:
    """Camera -> degrees: the median, over the other cameras, of the larger error of the pair's rotation and direction.

    A camera that is wrong is so against all others, a right one only against those that are wrong.
    """
    cameras = [camera for camera in found if Path(camera.name).stem in truth]
    true = [truth[Path(camera.name).stem] for camera in cameras]
    errors = np.full((len(cameras), len(cameras)), np.nan)
    for i, (a, ta) in enumerate(zip(cameras, true, strict=True)):
        for j, (b, tb) in enumerate(zip(cameras, true, strict=True)):
            if i != j:
                turn, true_turn = _relative(a, b), _relative(ta, tb)
                step, true_step = turn[:3, 3], true_turn[:3, 3]
                away = step @ true_step / max(np.linalg.norm(step) * np.linalg.norm(true_step), 1e-12)
                direction = np.degrees(np.arccos(np.clip(away, -1, 1)))
                errors[i, j] = max(rotations.angle_deg(true_turn[:3, :3].T @ turn[:3, :3]), direction)
    middle = np.nanmedian(errors, axis=1) if len(cameras) > 1 else np.zeros(len(cameras))
    return {camera.name: float(error) for camera, error in zip(cameras, middle, strict=True)}


def _relative(a: Camera, b: Camera) -> np.ndarray:
    return np.asarray(a.world_to_cam @ b.cam_to_world)


def score_grades(found: list[Camera], truth: dict[str, Camera], strangers: set[str]) -> Numbers:
    """What the grades are worth: none of the good off by more than 5 degrees, nearly all within 1 degree called good.

    The good are measured against each other: doubtful ones beside them say nothing of them (with three at least).
    """
    errors = camera_errors(found, truth)
    good = {c.name for c in found if c.grade == GOOD}
    if len(good & errors.keys()) >= 3:
        errors |= camera_errors([c for c in found if c.grade == GOOD], truth)
    right = [name for name, error in errors.items() if error <= 1.0]
    focal = [c.fx / c.width / (truth[Path(c.name).stem].fx / truth[Path(c.name).stem].width) - 1
             for c in found if Path(c.name).stem in truth]  # fmt: skip
    return {
        "good_worst_deg": round(max((errors[name] for name in errors if name in good), default=0.0), 3),
        "good_over_1deg": sum(errors[name] > 1.0 for name in errors if name in good),
        "good_over_5deg": sum(errors[name] > 5.0 for name in errors if name in good),
        "within_1deg": len(right),
        "within_1deg_good": round(sum(name in good for name in right) / len(right), 3) if right else None,
        "focal_worst": round(float(np.abs(focal).max()), 4) if focal else None,
        "strangers_placed": sum(Path(c.name).stem in strangers for c in found),
        "strangers_good": sum(Path(name).stem in strangers for name in good),
    }


def main() -> None:
    if "-v" in sys.argv:
        logging.basicConfig(level=logging.INFO)
    wanted = [name for name in sys.argv[1:] if not name.startswith("-")] or list(SETS)
    for name in [item for row in wanted for item in SETS.get(row, (row,))]:
        folder = Path(name) if Path(name).is_dir() else folder_of(name)
        print(json.dumps(run(folder)), flush=True)


if __name__ == "__main__":
    main()
