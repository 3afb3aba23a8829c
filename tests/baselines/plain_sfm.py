# SPDX-License-Identifier: GPL-3.0-or-later
"""pycolmap with its defaults, for comparison on the same machine: `python -m tests.baselines.plain_sfm [SET ...]`.

Features, exhaustive matching and the incremental mapper, one camera for all photos. One JSON line a set: registered photos
and seconds of each step.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import pycolmap

from tests.pose_sets import REAL, folder_of


def run(name: str) -> dict[str, object]:
    """One set from its photos to its largest model."""
    folder = folder_of(name)
    photos = folder / "images" if (folder / "images").is_dir() else folder
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        database = Path(scratch) / "database.db"
        began = time.monotonic()
        names = [path.name for path in sorted(photos.iterdir()) if path.suffix.lower() in (".jpg", ".png")]
        pycolmap.extract_features(database, photos, names, camera_mode=pycolmap.CameraMode.SINGLE)
        seconds["extract"] = time.monotonic() - began
        pycolmap.match_exhaustive(database)
        seconds["match"] = time.monotonic() - began - seconds["extract"]
        models = pycolmap.incremental_mapping(database, photos, Path(scratch))
        seconds["all"] = time.monotonic() - began
        seconds["map"] = seconds["all"] - seconds["extract"] - seconds["match"]
    registered = max((model.num_reg_images() for model in models.values()), default=0)
    return {
        "set": name,
        "registered": registered,
        **{step: round(value, 1) for step, value in seconds.items()},
    }


if __name__ == "__main__":
    pycolmap.logging.minloglevel = 2
    for each in sys.argv[1:] or REAL:
        print(json.dumps(run(each)), flush=True)
