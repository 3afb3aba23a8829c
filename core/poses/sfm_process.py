# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs `sfm_child.py`: time limit, cancel, crashes as typed errors, results as `SparseModel`s."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import FailedError, MissingError
from ..progress import Progress
from .sparse_model import SparseModel
from .working_copies import WorkingSet

log = logging.getLogger(__name__)

_CHILD = Path(__file__).with_name("sfm_child.py")
# Where each step of the child begins and how far it reaches, as shares of the call's progress.
_STEPS = {
    "extract": (0.0, 0.3),
    "match": (0.3, 0.7),
    "map": (0.7, 1.0),
    "done": (1.0, 1.0),
}


@dataclass(frozen=True)
class SfmOptions:
    """What one attempt asks of pycolmap."""

    features: int = 4096
    """Per picture at most."""
    peak: float = 0.004
    """Contrast a feature must have; COLMAP's default is 0.0067."""
    affine: bool = False
    """Affine shape and domain-size pooling: about six times slower, bridges wider angles."""
    guided: bool = False
    """Search again along epipolar lines."""
    shared: bool = True
    """One lens per group of pictures; else one per picture."""
    use_masks: bool = False
    mappers: tuple[str, ...] = ("global", "incremental")
    min_inlier_ratio: float = 0.0
    """Of a pair's matches, from which the pair counts."""
    seed: int = 0


@dataclass(frozen=True)
class Pair:
    """Two pictures with verified matches."""

    a: str
    b: str
    kind: str
    """COLMAP's name of the geometry: CALIBRATED, UNCALIBRATED, PLANAR, PANORAMIC, PLANAR_OR_PANORAMIC, WATERMARK ..."""
    matches: NDArray[np.int32]
    """(M, 2) rows of the two feature lists."""


@dataclass(frozen=True)
class SfmResult:
    """What the child found. Positions in pixels of the working pictures."""

    models: list[SparseModel]
    keypoints: dict[str, NDArray[np.float32]]
    """Picture -> (F, 2)."""
    pairs: list[Pair]


def run_sfm(
    working: WorkingSet,
    options: SfmOptions,
    pairs: list[tuple[str, str]] | None,
    folder: Path,
    progress: Progress,
    span: tuple[float, float],
    limit_s: float,
) -> SfmResult:
    """Features, matches and models of the working pictures.

    Args:
        working: pictures and lenses.
        options: of this attempt.
        pairs: pictures to match; None: all with all.
        folder: new folder for the child's files.
        progress: updated within `span` of the caller's stage.
        span: first and last fraction.
        limit_s: the child is ended after so many seconds.

    Raises:
        MissingError: SFM_MISSING when pycolmap is not installed.
        FailedError: SFM_CRASHED, SFM_TIMEOUT.
        Cancelled: the child is ended first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = sorted({copy.name for copy in working.copies})
    request = {
        **asdict(options),
        "folder": str(folder),
        "images": str(working.folder / "images"),
        "masks": str(working.folder / "masks") if options.use_masks and working.masked else None,
        "groups": {name: asdict(lens) for name, lens in working.lenses.items()},
        "pairs": pairs,
        "min_model_size": min(3, len(known)),
        "threads": max(1, os.cpu_count() or 1),
    }
    path = folder / "request.json"
    path.write_text(json.dumps(request), encoding="utf-8")
    _run_child(path, folder / "log.txt", progress, span, limit_s)
    return _read_result(folder)


def _run_child(
    request: Path, log_file: Path, progress: Progress, span: tuple[float, float], limit_s: float
) -> None:
    steps: queue.Queue[str] = queue.Queue()
    with log_file.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-X", "utf8", str(_CHILD), str(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            start_new_session=os.name == "posix",
        )
        threading.Thread(target=_read_steps, args=(child, steps), daemon=True).start()
        try:
            _watch(child, steps, progress, span, limit_s, log_file)
        finally:
            _end(child)
    if child.returncode != 0:
        tail = _tail(log_file)
        log.error("structure from motion ended with %s:\n%s", child.returncode, tail)
        if "No module named 'pycolmap'" in tail:
            raise MissingError(
                "SFM_MISSING",
                "The engine has no pycolmap, which finds the cameras.",
                "Set up the engine again.",
            )
        raise FailedError(
            "SFM_CRASHED",
            f"Finding the cameras crashed (code {child.returncode}).",
            "Try again with fewer or smaller photos; the log holds the details.",
        )


def _read_steps(child: subprocess.Popen[str], steps: queue.Queue[str]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        steps.put(str(json.loads(line)["step"]))


def _watch(
    child: subprocess.Popen[str],
    steps: queue.Queue[str],
    progress: Progress,
    span: tuple[float, float],
    limit_s: float,
    log_file: Path,
) -> None:
    """Until the child ends: pass on its steps, creeping forward within one, and look at the clock and the artist."""
    began = step_began = time.monotonic()
    low, high = 0.0, 0.0
    while child.poll() is None:
        try:
            low, high = _STEPS[steps.get(timeout=0.1)]
            step_began = time.monotonic()
        except queue.Empty:
            pass
        spent = time.monotonic() - step_began
        fraction = low + (high - low) * spent / (spent + 10.0)
        progress.update(span[0] + (span[1] - span[0]) * fraction, "finding cameras")
        if time.monotonic() - began > limit_s:
            log.error("structure from motion ran past %.0f s:\n%s", limit_s, _tail(log_file))
            raise FailedError(
                "SFM_TIMEOUT",
                f"Finding the cameras took longer than {limit_s:.0f} seconds and was stopped.",
                "Use fewer photos, or the quality draft.",
            )


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()


def _tail(log_file: Path, size: int = 2000) -> str:
    return log_file.read_bytes()[-size:].decode("utf-8", "replace")


def _read_result(folder: Path) -> SfmResult:
    listing = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    with np.load(folder / "result.npz", allow_pickle=False) as data:
        arrays = {key: data[key] for key in data.files}
    keypoints = {name: arrays[f"keypoints/{name}"] for name in listing["images"]}
    pairs = [Pair(p["a"], p["b"], p["kind"], arrays[f"matches/{n}"]) for n, p in enumerate(listing["pairs"])]
    models = []
    for number, item in enumerate(listing["models"]):
        part = {
            key.split("/")[1]: value for key, value in arrays.items() if key.startswith(f"model{number}/")
        }
        models.append(_model(item["mapper"], item["images"], part, keypoints))
    return SfmResult(models, keypoints, pairs)


def _model(
    mapper: str,
    images: list[str],
    part: dict[str, NDArray[np.float64]],
    keypoints: dict[str, NDArray[np.float32]],
) -> SparseModel:
    focal, cx, cy, k1 = part["lenses"].T  # SIMPLE_RADIAL
    zero = np.zeros_like(focal)
    image_of, point_of, feature_of = part["observations"].astype(np.int32).T
    pixels = np.zeros((len(image_of), 2))
    for number, name in enumerate(images):
        mine = image_of == number
        pixels[mine] = keypoints[name][feature_of[mine]]
    return SparseModel(
        images=images,
        poses=part["poses"],
        lens_of_image=part["lens_of_image"].astype(np.int32),
        lenses=np.stack([focal, focal, cx, cy, k1, zero, zero, zero], 1),
        points=part["points"],
        colors=part["colors"].astype(np.uint8),
        image_of=image_of,
        point_of=point_of,
        feature_of=feature_of,
        pixels=pixels,
        mapper=mapper,
    )
