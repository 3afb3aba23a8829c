# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tests.bench_poses [SET...]`: cameras of real and rendered photos, found without their truth, scored against it.

Prints one line per set: the numbers of `../shared/tools/pose_auc.py`, the set's grade and the wall time. A folder given
instead of a set's name must hold transforms.json and its photos.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from maquette.core.cameras import nerf_json
from maquette.core.errors import MaquetteError
from maquette.core.images.load import open_photos
from maquette.core.poses.structure_from_motion import estimate
from maquette.core.progress import Progress

SHARED = Path(__file__).resolve().parents[2] / "shared"
SETS = ("fox", "temple_sparse_ring", "herzjesu_p8")


def run(folder: Path, quality: str = "normal", seed: int = 0) -> dict[str, object]:
    """Estimate and score one set."""
    photos = open_photos([folder / "images" if (folder / "images").is_dir() else folder])
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            found = estimate(photos, None, Progress(), Path(scratch), quality, seed)
        except MaquetteError as error:
            return {"set": folder.name, "error": error.code, "seconds": round(time.monotonic() - began, 1)}
        seconds = time.monotonic() - began
        file = Path(scratch) / "transforms.json"
        nerf_json.write(file, found.cameras, found.failed)
        score = subprocess.run(
            [sys.executable, SHARED / "tools" / "pose_auc.py", folder / "transforms.json", file],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    metrics = {
        k: round(v, 3) if isinstance(v, float) else v for k, v in found.metrics.items() if k != "per_camera"
    }
    return {
        "set": folder.name, **json.loads(score.stdout), "grade": found.grade, "seconds": round(seconds, 1),
        "failed": found.failed, "metrics": metrics, "advice": found.advice,
        "doubtful": {c.name: c.reason for c in found.cameras if c.reason},
    }  # fmt: skip


def main() -> None:
    if "-v" in sys.argv:
        logging.basicConfig(level=logging.INFO)
    names = [name for name in sys.argv[1:] if not name.startswith("-")] or list(SETS)
    for name in names:
        folder = SHARED / "data" / "posed" / name if name in SETS else Path(name)
        print(json.dumps(run(folder)), flush=True)


if __name__ == "__main__":
    main()
