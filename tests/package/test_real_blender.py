# SPDX-License-Identifier: GPL-3.0-or-later
"""The built zip, installed into a real Blender and used there without a window: photos in, .blend out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = sorted((ROOT / "tests" / "data" / "example_photos").glob("*.jpg"))

LOOK = """
import bpy, json
scene = bpy.context.scene
meshes = [item for item in scene.objects if item.type == "MESH"]
cameras = [item for item in scene.objects if item.type == "CAMERA"]
print("FOUND " + json.dumps({
    "faces": [len(item.data.polygons) for item in meshes],
    "seen": ["seen" in item.data.attributes for item in meshes],
    "materials": [len(item.data.materials) for item in meshes],
    "packed": [bool(image.packed_file) for image in bpy.data.images if image.name != "Render Result"],
    "cameras": len(cameras),
    "backgrounds": sum(bool(item.data.background_images) for item in cameras),
    "active": scene.camera is not None,
}))
"""


@pytest.fixture(scope="module", params=["4.3", "5.2"])
def blender(request, tmp_path_factory):
    """`blender(*arguments)` -> the finished process; the extension is installed from the zip, in a user folder of its own."""
    tool = ROOT.parent / "shared" / "tools" / "real-blender"
    if not tool.is_file():
        pytest.skip("needs ../shared/tools/real-blender")
    place = subprocess.run(
        [tool, "where", request.param], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not (Path(place) / ".ready").exists():
        pytest.skip(f"needs `real-blender install {request.param}`")
    user = tmp_path_factory.mktemp(f"blender-{request.param}")
    environment = os.environ | {
        "BLENDER_USER_RESOURCES": str(user / "resources"),
        "MAQUETTE_DATA": str(user / "data"),
        "MAQUETTE_ENGINE_PYTHON": sys.executable,
    }
    (user / "resources").mkdir()

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [str(part) for part in (tool, "run", request.param, *arguments)]
        return subprocess.run(
            command,
            env=environment,
            cwd=user,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    built = run("--command", "extension", "build", "--source-dir", ROOT, "--output-dir", user)
    assert built.returncode == 0, built.stdout + built.stderr
    installed = run(
        "--command",
        "extension",
        "install-file",
        "-r",
        "user_default",
        "--enable",
        next(user.glob("maquette-*.zip")),
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    assert "Traceback" not in installed.stdout + installed.stderr
    return run


@pytest.mark.real_blender
@pytest.mark.timeout(900)
def test_photos_to_blend_with_spaces_and_umlauts_in_the_path(blender, tmp_path):
    folder = tmp_path / "Fotos für später"
    folder.mkdir()
    for photo in PHOTOS[::2]:
        shutil.copy(photo, folder)
    done = blender(
        "-b", "--command", "maquette", "mesh", folder, "--out", tmp_path / "result", "--quality", "draft",
        "--report", tmp_path / "report.json", "--blend", tmp_path / "scene.blend",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["status"], report["exit_code"], report["error"]) == ("done", 0, None)
    assert report["metrics"]["registered"] == len(PHOTOS[::2])
    assert report["metrics"]["silhouette_iou"] > 0.9

    (tmp_path / "look.py").write_text(LOOK, encoding="utf-8")
    looked = blender("-b", tmp_path / "scene.blend", "--python-exit-code", "1", "-P", tmp_path / "look.py")
    line = next(line for line in looked.stdout.splitlines() if line.startswith("FOUND "))
    found = json.loads(line.removeprefix("FOUND "))
    assert len(found["faces"]) == 1
    assert found["faces"][0] > 1000
    assert found["seen"] == [True]
    assert found["materials"] == [1]
    assert found["packed"]
    assert all(found["packed"])
    assert found["cameras"] == found["backgrounds"] == len(PHOTOS[::2])
    assert found["active"]


@pytest.mark.real_blender
@pytest.mark.timeout(300)
def test_bad_input_has_the_exit_code_of_the_command_line(blender, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    done = blender(
        "-b", "--command", "maquette", "mesh", tmp_path / "broken.jpg",
        "--out", tmp_path / "result", "--report", tmp_path / "report.json",
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["exit_code"] == 2
    assert report["error"]["remedy"]
    assert not (tmp_path / "result").exists()
