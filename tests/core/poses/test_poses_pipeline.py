# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb `poses` on given cameras: what the Result folder holds and what the result says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from maquette.core.cameras import colmap_files, nerf_json
from maquette.core.jobs.request import Request
from maquette.core.pipelines.poses import run
from maquette.core.progress import Progress
from PIL import Image

from .corner import cameras, shoot


def test_result_folder_of_given_cameras(tmp_path: Path) -> None:
    truth = cameras(3)
    shoot(tmp_path / "photos", truth)
    nerf_json.write(tmp_path / "given.json", truth[:2], {})
    (tmp_path / "out").mkdir()
    request = Request(
        "poses", (str(tmp_path / "photos"),), {"cameras": str(tmp_path / "given.json"), "seed": 5}
    )
    progress = Progress()
    result = run(request, tmp_path / "out", progress)
    assert [c.source.name for c in result.cameras] == ["00.png", "01.png"]
    assert result.failed == {"02.png": "has no camera in the file"} and len(result.metrics["partly"]) == 1
    assert np.array_equal(result.world_from_result, np.eye(4))  # the artist's own frame stays
    assert set(progress.timings_s) == {"load", "cameras", "views"}
    view = result.cameras[0]
    assert view.view is not None and view.image is not None
    assert Image.open(tmp_path / "out" / view.image).size == (view.view.width, view.view.height)
    written, failed = nerf_json.read(tmp_path / "out" / "transforms.json")
    assert np.abs(written[1].cam_to_world - truth[1].cam_to_world).max() < 1e-12 and "02.png" in failed
    assert len(colmap_files.read(tmp_path / "out" / "cameras")[0]) == 2
    assert np.load(tmp_path / "out" / "points.npz")["points"].shape == (0, 3)
