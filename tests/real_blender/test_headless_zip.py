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

from tests.core.jobs.small_engine import write_engine

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.real_blender

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

GUEST = """
import addon_utils, bpy, json, os, sys
name = "bl_ext.user_default.maquette"
root = os.path.dirname(sys.modules[name].__file__)
inside = [key for key, module in sys.modules.items() if (getattr(module, "__file__", None) or "").startswith(root)]
kinds = lambda: [kind for kind in dir(bpy.types) if kind.startswith("MAQUETTE")]
found = {
    "outside_bl_ext": [key for key in inside if not key.startswith("bl_ext.")],
    "sys_path": [path for path in sys.path if path.startswith(root)],
    "heavy": [key for key in ("torch", "scipy", "trimesh", "PIL", "cv2", "pycolmap") if key in sys.modules],
    "classes": len(kinds()),
}
addon_utils.disable(name)
found["left"] = kinds() + [key for key in ("Scene", "Object") if hasattr(getattr(bpy.types, key), "maquette")]
print("FOUND " + json.dumps(found))
"""


@pytest.fixture(scope="module")
def blender(tool, version, archive, tmp_path_factory):
    """`blender(*arguments)` -> the finished process; the zip is installed in a user folder of its own."""
    user = tmp_path_factory.mktemp(f"blender-{version}")
    environment = os.environ | {
        "BLENDER_USER_RESOURCES": str(user / "resources"),
        "MAQUETTE_DATA": str(user / "data"),
        "MAQUETTE_ENGINE_PYTHON": sys.executable,
    }
    (user / "resources").mkdir()

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [str(part) for part in (tool, "run", version, *arguments)]
        return subprocess.run(
            command,
            env=environment,
            cwd=user,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    installed = run("--command", "extension", "install-file", "-r", "user_default", "--enable", archive)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    assert "Traceback" not in installed.stdout + installed.stderr
    run.user = user
    return run


SET_UP = """
import bpy, json, os, sys
name = "bl_ext.user_default.maquette"
bpy.context.preferences.addons[name].preferences.wheel_folder = sys.argv[-1]
os.environ.pop("MAQUETTE_ENGINE_PYTHON")
outcome = bpy.ops.maquette.set_up_engine()
status = sys.modules[name + ".operators.engine"].look_again()
print("FOUND " + json.dumps([sorted(outcome), status.origin, str(status.python)]))
"""


def told(done: subprocess.CompletedProcess[str]) -> dict:
    """What a script above printed."""
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    return json.loads(line.removeprefix("FOUND "))


def test_a_quiet_guest(blender, tmp_path):
    """Blender lists extensions that put modules or paths outside their own; leaving takes everything along."""
    (tmp_path / "guest.py").write_text(GUEST, encoding="utf-8")
    found = told(blender("-b", "--python-exit-code", "1", "-P", tmp_path / "guest.py"))
    assert found.pop("classes") > 3
    assert found == {"outside_bl_ext": [], "sys_path": [], "heavy": [], "left": []}


@pytest.mark.timeout(900)
def test_photos_to_blend_with_spaces_and_umlauts_in_the_path(blender, tmp_path):
    folder = tmp_path / "Fotos für später"
    folder.mkdir()
    for photo in PHOTOS:
        shutil.copy(photo, folder)
    done = blender(
        "-b", "--command", "maquette", "mesh", folder, "--out", tmp_path / "result", "--quality", "draft",
        "--report", tmp_path / "report.json", "--blend", tmp_path / "scene.blend",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["status"], report["exit_code"], report["error"]) == ("done", 0, None)
    assert report["metrics"]["registered"] == len(PHOTOS)
    assert report["metrics"]["silhouette_iou"] > 0.9

    (tmp_path / "look.py").write_text(LOOK, encoding="utf-8")
    found = told(
        blender("-b", tmp_path / "scene.blend", "--python-exit-code", "1", "-P", tmp_path / "look.py")
    )
    assert len(found["faces"]) == 1
    assert found["faces"][0] > 1000
    assert found["seen"] == [True]
    assert found["materials"] == [1]
    assert found["packed"]
    assert all(found["packed"])
    assert found["cameras"] == found["backgrounds"] == len(PHOTOS)
    assert found["active"]


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


@pytest.mark.timeout(300)
def test_set_up_engine_finds_a_python_that_is_served(blender, tmp_path):
    """A distribution's Blender may have a Python without a lock file; the button then uses another one, offline."""
    installed = next(blender.user.glob("resources/extensions/user_default/maquette/wheels"))
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for lock in installed.glob("linux-x64-py3*-*.txt"):
        write_engine(wheels, lock)
    (tmp_path / "set_up.py").write_text(SET_UP, encoding="utf-8")
    outcome, origin, python = told(
        blender("-b", "--python-exit-code", "1", "-P", tmp_path / "set_up.py", "--", wheels)
    )
    assert (outcome, origin) == (["FINISHED"], "private")
    command = [
        python,
        "-c",
        "import sys, torch; print(sys.version_info[:2] in ((3, 11), (3, 13)), torch.__version__)",
    ]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True 2.0\n"
