# SPDX-License-Identifier: GPL-3.0-or-later
"""A `PoseEstimate` as files, for the stage cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..jobs.messages import plain
from ..results import camera_as_json, camera_from_json
from ..types import PoseEstimate, SparseCloud


def save_estimate(folder: Path, found: PoseEstimate) -> None:
    """Write `estimate.json` and `cloud.npz` into an existing folder."""
    lengths = np.array([len(seen) for seen in found.cloud.observers], np.int64)
    seen = np.concatenate(found.cloud.observers) if len(lengths) else np.zeros(0, np.int32)
    np.savez(
        folder / "cloud.npz", points=found.cloud.points, colors=found.cloud.colors, lengths=lengths, seen=seen
    )
    text = {
        "cameras": [camera_as_json(camera) for camera in found.cameras],
        "failed": found.failed,
        "method": found.method,
        "grade": found.grade,
        "metrics": found.metrics,
        "advice": found.advice,
    }
    (folder / "estimate.json").write_text(json.dumps(plain(text)), encoding="utf-8")


def load_estimate(folder: Path) -> PoseEstimate:
    """Inverse of `save_estimate`."""
    text = json.loads((folder / "estimate.json").read_text(encoding="utf-8"))
    with np.load(folder / "cloud.npz", allow_pickle=False) as data:
        observers = np.split(data["seen"], np.cumsum(data["lengths"])[:-1]) if len(data["lengths"]) else []
        cloud = SparseCloud(data["points"], data["colors"], list(observers))
    cameras = [camera_from_json(item) for item in text.pop("cameras")]
    return PoseEstimate(cameras=cameras, cloud=cloud, **text)
