# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of the work so far: small, new names, few, and none of them in the finished result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.core.fields.sparse_grid import Cells, SparseGrid, ViewColour
from maquette.core.jobs.execution import execute
from maquette.core.jobs.request import Request
from maquette.core.pipelines import live_preview
from maquette.core.pipelines.live_preview import LivePreview
from maquette.core.progress import PREVIEWS, Progress
from maquette.core.results import Result
from maquette.core.types import Camera
from PIL import Image


def test_new_names_and_the_last_two_stay(tmp_path: Path) -> None:
    told: list[dict] = []
    preview = LivePreview(tmp_path, Progress(told.append))
    red = np.zeros((300, 600, 3), np.float32)
    red[..., 0] = 1.0
    for _ in range(5):
        preview.show(red, np.full((300, 600), 0.5, np.float32))
    assert [Path(message["path"]).name for message in told] == [f"{i}.png" for i in range(5)]
    assert sorted(path.name for path in (tmp_path / PREVIEWS).iterdir()) == ["3.png", "4.png"]
    picture = Image.open(told[-1]["path"])
    assert picture.size == (192, 96)
    # Half red over a quarter of grey: (0.5 + 0.125, 0.125, 0.125) of 255.
    assert np.abs(np.asarray(picture)[50, 50].astype(int) - [159, 32, 32]).max() <= 1


def test_a_full_grid_fills_the_picture_and_waits_its_turn(tmp_path: Path, monkeypatch) -> None:
    """A box of dense green cells seen from the front covers the middle; the next picture waits."""
    cells = Cells(torch.tensor([[-1.0, -1, -1], [1, 1, 1]]), torch.ones(8, 8, 8, dtype=torch.bool))
    table = torch.zeros(len(cells), 8)
    table[:, 0] = 20.0
    table[:, 1:4] = torch.tensor([0.0, 1.0, 0.0])
    field = SparseGrid(cells, table, ViewColour(4))
    pose = np.eye(4)
    pose[2, 3] = -4.0
    camera = Camera("a", 640, 480, 640.0, 640.0, 320.0, 240.0, pose)
    told: list[dict] = []
    preview = LivePreview(tmp_path, Progress(told.append))
    preview.field(field, camera)
    preview.field(field, camera)
    assert len(told) == 1
    picture = np.asarray(Image.open(told[0]["path"])).astype(int)
    assert picture.shape == (144, 192, 3)
    assert np.abs(picture[0, 0] - 64).max() <= 1 and picture[72, 96, 1] > picture[72, 96, 0] + 50
    monkeypatch.setattr(live_preview.time, "monotonic", lambda: 1e9)
    preview.field(field, camera)
    assert len(told) == 2


def test_the_finished_result_holds_none(tmp_path: Path) -> None:
    def pipeline(request: Request, folder: Path, progress: Progress) -> Result:
        LivePreview(folder, progress).show(np.zeros((4, 4, 3), np.float32))
        progress.reused("cameras")
        return Result("a", "photos")

    told: list[dict] = []
    request = Request("mesh", (), {"device": "cpu"}, str(tmp_path / "out"))
    execute(request, Progress(told.append), {"mesh": pipeline})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scene.json"]
    assert [message["type"] for message in told] == ["preview", "reused"]
    assert not Path(told[0]["path"]).exists()


def test_what_is_reused_takes_no_share_of_the_time() -> None:
    told: list[dict] = []
    progress = Progress(told.append, plan={"cameras": 3.0, "field": 1.0})
    with progress.stage("cameras"):
        progress.reused("cameras")
    with progress.stage("field"):
        progress.update(0.5)
    assert told[-1]["progress"] == pytest.approx(0.5)
    assert progress.kept == ["cameras"]
