# SPDX-License-Identifier: GPL-3.0-or-later
"""What the network says about small pictures, as cameras of the photos."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from maquette.core.images.load import open_photos
from maquette.core.pipelines.learned_cameras import cameras_of, learned_estimator
from PIL import Image


def test_cameras_are_those_of_the_full_photos(tmp_path: Path) -> None:
    for name, size in (("a.png", (560, 420)), ("b.png", (420, 560))):
        Image.new("RGB", size, (90, 120, 30)).save(tmp_path / name)
    photos = open_photos([tmp_path])
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[1, :3, 3] = torch.tensor([1.0, 2.0, 3.0])
    seen = []

    def network(pictures: torch.Tensor) -> SimpleNamespace:
        seen.append(pictures.shape)
        lens = torch.tensor([[100.0, 0, 105], [0, 100.0, 105], [0, 0, 1]]).repeat(2, 1, 1)
        return SimpleNamespace(cam_to_world=pose, intrinsics=lens)

    found = cameras_of(network, photos, torch.device("cpu"))
    # 560 x 420 and 420 x 560 at a long side of 280, cut to their common square of 210: f = 100 * 560 / 280
    assert seen == [(2, 3, 210, 210)]
    assert [(c.width, c.height, c.fx, c.cx, c.cy) for c in found.values()] == [
        (560, 420, 200.0, 280.0, 210.0), (420, 560, 200.0, 210.0, 280.0),
    ]  # fmt: skip
    assert np.array_equal(found["b.png"].centre, [1, 2, 3])


def test_no_estimator_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path))
    assert learned_estimator("cpu") is None
