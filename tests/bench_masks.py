# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tests.bench_masks [FOLDER...]`: masks of rendered photos, found with estimated cameras, against the true ones.

A folder is what `tests/render_photos.py` wrote. Prints one JSON line per folder: overlap (intersection over union) of all
masks, the seconds for the masks alone, and the grade of the cameras.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from maquette.core.images.load import open_photos, read_pixels
from maquette.core.images.masks import find_masks
from maquette.core.images.undistort import undistort
from maquette.core.poses.structure_from_motion import estimate
from maquette.core.progress import Progress

BENCH = Path(__file__).resolve().parents[1] / "build" / "bench"
SIDE = 640
"""Long side of the views, as quality `normal` takes them."""


def run(folder: Path) -> dict[str, object]:
    """Cameras, then masks, then overlaps."""
    photos = open_photos([folder / "images"])
    with tempfile.TemporaryDirectory() as scratch:
        found = estimate(photos, None, Progress(), Path(scratch))
    by_name = {photo.name: photo for photo in photos}
    views = [undistort(by_name[camera.name], camera, SIDE) for camera in found.cameras]
    progress = Progress()
    began = time.monotonic()
    masks, region = find_masks(views, found.cloud, progress)
    seconds = time.monotonic() - began
    overlaps = []
    for view, mask in zip(views, masks, strict=True):
        (true_photo,) = open_photos([folder / "masks" / f"{Path(view.camera.name).stem}.png"])
        given = read_pixels(true_photo)[0][..., 0]
        camera = next(camera for camera in found.cameras if camera.name == view.camera.name)
        true = undistort(by_name[camera.name], camera, SIDE, given).mask
        assert true is not None
        overlaps.append(float(((mask > 0.5) & (true > 0.5)).sum() / ((mask > 0.5) | (true > 0.5)).sum()))
    return {
        "set": folder.name, "views": len(views), "mean_iou": round(float(np.mean(overlaps)), 4),
        "worst_iou": round(min(overlaps), 4), "seconds": round(seconds, 1), "whole_scene": region.whole_scene,
        "cameras": found.grade, "warnings": progress.warnings,
    }  # fmt: skip


def main() -> None:
    folders = [Path(name) for name in sys.argv[1:]] or sorted(
        p for p in BENCH.iterdir() if (p / "masks").is_dir()
    )
    for folder in folders:
        print(json.dumps(run(folder)), flush=True)


if __name__ == "__main__":
    main()
