# SPDX-License-Identifier: GPL-3.0-or-later
"""`operators/headless.py` as the command line and render farms start it, and the picture test: a render of the imported

object through an imported camera against the photo that the camera belongs to.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.blender.ball import ball_cameras, photograph


@pytest.fixture(scope="module")
def headless(root):
    """Runs the script in a process of its own; returns it."""

    def run(*arguments):
        command = [sys.executable, str(root / "operators" / "headless.py"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run


def read_png(path: Path):
    """(H, W, 4) float, row 0 at the top, display-encoded."""
    image = bpy.data.images.load(str(path))
    pixels = np.array(image.pixels[:], np.float32).reshape(image.size[1], image.size[0], 4)[::-1]
    bpy.data.images.remove(image)
    return pixels


def test_renders_match_the_photos(headless, ball_result, module, tmp_path):
    """Silhouette IoU >= 0.95 and PSNR >= 22 dB inside the mask are asked for; a ball allows far more."""
    done = headless("render", ball_result, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    for camera in ball_cameras(module("core.types")):
        rendered, photo = read_png(tmp_path / f"{Path(camera.name).stem}.png"), photograph(camera)
        assert rendered.shape == photo.shape
        ours, theirs = rendered[..., 3] > 0.5, photo[..., 3] > 0.5
        iou = (ours & theirs).sum() / (ours | theirs).sum()
        inside = photo[..., 3] > 0.99
        psnr = -10 * np.log10(((rendered - photo)[inside][:, :3] ** 2).mean())
        assert iou >= 0.99, (camera.name, iou)
        assert psnr >= 35, (camera.name, psnr)


def test_wrong_camera_is_noticed(headless, ball_result, module, tmp_path):
    """The falsifier: the render of camera 0 does not pass for the photo of camera 3 (same size)."""
    done = headless("render", ball_result, "--camera", "photo 0.jpg", "--out", tmp_path / "one.png")
    assert done.returncode == 0, done.stderr
    rendered, photo = read_png(tmp_path / "one.png"), photograph(ball_cameras(module("core.types"))[3])
    inside = photo[..., 3] > 0.99
    assert -10 * np.log10(((rendered - photo)[inside][:, :3] ** 2).mean()) < 15


def test_import_writes_a_packed_blend(headless, ball_result, scene, tmp_path):
    blend = tmp_path / "with spaces é" / "ball.blend"
    done = headless("import", ball_result, "--blend", blend)
    assert done.returncode == 0, done.stderr
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    assert len(bpy.data.objects["Ball"].data.polygons) == 2 * 96 * 96
    assert all(image.packed_file for image in bpy.data.images if image.type == "IMAGE")
    assert bpy.context.view_layer.objects.active.name == "Ball"


def test_unreadable_result_is_exit_code_2(headless, tmp_path):
    done = headless("import", tmp_path, "--blend", tmp_path / "never.blend")
    assert done.returncode == 2
    assert "RESULT_UNREADABLE" in done.stderr
    assert not (tmp_path / "never.blend").exists()
