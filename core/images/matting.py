# SPDX-License-Identifier: GPL-3.0-or-later
"""A matting model that the artist supplies as an ONNX file: picture -> alpha. Needs onnxruntime, which the engine does not bring.

The public background removers share one form: an input (1, 3, H, W), a first output (1, 1, H, W). What they differ in,
the file does not say: the picture is normalised as U2-Net (Qin et al. 2020) and BiRefNet (Zheng et al. 2024) want it, and an
output that leaves 0..1 is taken for logits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingError

MEAN, SPREAD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
FREE_SIDE = 1024
"""Side of the picture for a model that takes any, pixels."""

Map = NDArray[np.float32]


def matted(model: Path, rgb: Map) -> Map:
    """Alpha (H, W) float32 0..1 of a picture (H, W, 3) float32 sRGB 0..1.

    Raises:
        MissingError: ONNX_MISSING where the engine has no onnxruntime.
        InputError: NOT_FOUND; MATTING_UNREADABLE for a file that is no such model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingError(
            "ONNX_MISSING",
            f"{model.name} is an ONNX model and the engine has no library for it.",
            "Install onnxruntime into the engine, or give masks instead.",
        ) from error
    if not model.is_file():
        raise InputError("NOT_FOUND", f"{model} does not exist.", "Check the path.")
    try:
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        alpha = _run(session, rgb)
    except Exception as error:  # the library's errors share no type of their own
        raise InputError(
            "MATTING_UNREADABLE",
            f"{model.name} is no matting model with an input (1, 3, H, W) and an output (1, 1, H, W).",
            "Use another file, e.g. of U2-Net, IS-Net or BiRefNet.",
        ) from error
    return np.asarray(cv2.resize(alpha, rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32).clip(
        0, 1
    )


def _run(session: Any, rgb: Map) -> Map:
    """Alpha at the model's own size."""
    asked = session.get_inputs()[0]
    height, width = (side if isinstance(side, int) else FREE_SIDE for side in asked.shape[2:])
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    picture = ((small - MEAN) / SPREAD).transpose(2, 0, 1)[None].astype(np.float32)
    found = np.asarray(session.run(None, {asked.name: picture})[0], np.float32)
    if found.size != height * width or not np.isfinite(found).all():
        raise ValueError(f"output {found.shape}")
    if found.min() < -0.01 or found.max() > 1.01:
        found = 1.0 / (1.0 + np.exp(-found.clip(-30, 30)))
    return np.ascontiguousarray(found.reshape(height, width))
