# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of a video as photos: the sharpest one of each of equal stretches of time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..progress import Progress

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts")
MOST = 60
"""Frames at most; more are too alike to help."""
STEP_S = 0.5
"""Seconds a frame stands for, at least."""
TRIES = 5
"""Frames looked at per stretch."""


def is_video(path: Path) -> bool:
    """By the suffix."""
    return path.suffix.lower() in SUFFIXES


def extract_frames(path: Path, folder: Path, progress: Progress) -> list[Path]:
    """Write frames of a video as JPEG files into `folder` and return them in order.

    Raises:
        InputError: VIDEO_UNREADABLE, saying how to get frames by other means.
    """
    video = cv2.VideoCapture(str(path))
    try:
        total, rate = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), float(video.get(cv2.CAP_PROP_FPS))
        if not video.isOpened() or total < 2 or rate <= 0:
            raise _unreadable(path)
        count = int(np.clip(total / rate / STEP_S, min(total, 12), MOST))
        picks = np.linspace(0, total - 1, count * TRIES).round().astype(int).reshape(count, TRIES)
        folder.mkdir(parents=True, exist_ok=True)
        written: list[Path] = []
        place, best = -1, (-1.0, np.zeros((1, 1, 3), np.uint8))
        for stretch in picks:
            progress.update(len(written) / count)
            best = (-1.0, best[1])
            for wanted in stretch:
                while place < wanted and video.grab():  # seeking is inexact in most formats
                    place += 1
                ready, frame = video.retrieve()
                if ready and _sharpness(frame) > best[0]:
                    best = _sharpness(frame), frame
            if best[0] >= 0:
                out = folder / f"frame_{len(written):04d}.jpg"
                out.write_bytes(cv2.imencode(".jpg", best[1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
                written.append(out)
    finally:
        video.release()
    if not written:
        raise _unreadable(path)
    progress.warning(f"{path.name}: {len(written)} frames were taken as photos.")
    return written


def _sharpness(frame: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian at 320 pixels (Pech-Pacheco 2000)."""
    scale = 320 / max(frame.shape[:2])
    small = cv2.resize(
        cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
    )
    return float(cv2.Laplacian(small, cv2.CV_32F).var())


def _unreadable(path: Path) -> InputError:
    return InputError(
        "VIDEO_UNREADABLE", f"{path.name} is a video that cannot be read here.",
        "Save two frames per second as pictures and use those, for example with: ffmpeg -i "
        f"{path.name} -vf fps=2 frame_%04d.jpg",
    )  # fmt: skip
