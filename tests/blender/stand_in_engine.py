# SPDX-License-Identifier: GPL-3.0-or-later
"""The real worker with stand-ins for its verbs. `mesh` takes MAQUETTE_TEST_SECONDS and leaves a copy of the Result

folder MAQUETTE_TEST_RESULT. A photo whose name begins with `bad` fails the job, `crash` kills the worker.
Started as `Worker(python of an engine, script=this file)`.
"""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path

STAGES = {"masks": 1, "cameras": 2, "field": 5, "texture": 2}


def mesh(request, folder, progress):
    from maquette.core import errors, results

    seconds, prepared = float(os.environ["MAQUETTE_TEST_SECONDS"]), Path(os.environ["MAQUETTE_TEST_RESULT"])
    first = Path(request.inputs[0]).name
    progress.set_plan(STAGES)
    for stage, share in STAGES.items():
        with progress.stage(stage):
            if stage == "cameras" and first.startswith("bad"):
                raise errors.InputError(
                    "NO_OVERLAP", "The photos do not overlap.", "Take photos that share more of the object."
                )
            if stage == "field" and first.startswith("crash"):
                os.kill(os.getpid(), signal.SIGKILL)
            for step in range(20):
                progress.update(step / 20)
                time.sleep(seconds * share / sum(STAGES.values()) / 20)
    progress.warning("This is a stand-in.")
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    result = results.read_result(prepared)
    result.settings = request.settings
    return result


def extract(request, folder, progress):
    """A copy of the result; its settings tell what was asked."""
    from maquette.core import results

    source = Path(request.inputs[0])
    shutil.copytree(source, folder, dirs_exist_ok=True)
    result = results.read_result(source)
    result.settings = request.settings
    return result


def bake(request, folder, progress):
    """The mesh that was asked for with half of it seen; every corner gets a UV of its own where there is none."""
    import numpy as np
    from maquette.core import results

    source = Path(request.inputs[0])
    shutil.copytree(source, folder, dirs_exist_ok=True)
    mesh = results.read_mesh(Path(request.settings["onto"]))
    if mesh.uvs is None:
        mesh.uvs = np.random.default_rng(0).random((len(mesh.faces), 3, 2)).astype(np.float32)
    mesh.attributes["seen"] = (np.arange(len(mesh.vertices)) % 2).astype(np.float32)
    results.write_mesh(folder / "mesh.npz", mesh)
    result = results.read_result(source)
    result.metrics["photo_psnr"] = 31.25
    return result


def candidates(request, folder, progress):
    """One for each of two seeds, one pixel each."""
    from maquette.core import results
    from PIL import Image

    rows = []
    for seed in range(request.settings["seed"], request.settings["seed"] + 2):
        Image.new("RGB", (6, 2), (90, 60, 30)).save(folder / f"candidate_{seed}.png")
        rows.append({"model": "tiny", "licence": "CC0-1.0", "seed": seed, "preview": f"candidate_{seed}.png"})
    result = results.Result("picture", "candidates")
    result.metrics = {"candidates": rows, "picture": request.inputs[0]}
    return result


def poses(request, folder, progress):
    """The prepared take."""
    from maquette.core import results

    prepared = Path(os.environ["MAQUETTE_TEST_TAKE"])
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    result = results.read_result(prepared)
    result.settings = request.settings
    return result


def align(request, folder, progress):
    """The camera that MAQUETTE_TEST_CAMERA holds; the geometry has to be readable."""
    import json

    from maquette.core import results, scene_geometry

    geometry = scene_geometry.read(Path(request.settings["geometry"]))
    camera = results.camera_from_json(json.loads(os.environ["MAQUETTE_TEST_CAMERA"]))
    (folder / "views").mkdir()
    shutil.copy(request.inputs[0], folder / "views" / "photo.png")
    item = results.SceneCamera(camera, camera, "views/photo.png", request.inputs[0], {"reprojection_px": 0.7})
    result = results.Result("Alignment", "align", cameras=[item], settings=request.settings)
    result.metrics = {"distance": 4.0, "faces": len(geometry.faces)}
    return result


def head_sample(request, folder, progress):
    """The prepared result as a head; or a gallery, one picture a seed."""
    from maquette.core import results
    from PIL import Image

    if request.settings["gallery"]:
        rows = []
        for seed in range(request.settings["seed"], request.settings["seed"] + request.settings["gallery"]):
            Image.new("RGB", (6, 3), (90, 60, 30)).save(folder / f"seed_{seed}.png")
            rows.append({"seed": seed, "preview": f"seed_{seed}.png"})
        result = results.Result("Heads", "head_gallery")
        result.metrics = {"gallery": rows, "truncation": request.settings["truncation"], "model": ""}
        return result
    if request.settings["orbit"]:
        rows = []
        for number in range(request.settings["orbit"]):
            Image.new("RGB", (4, 4), (number, 60, 30)).save(folder / f"side_{number:03d}.png")
            yaw = -180 + 360 * number / request.settings["orbit"]
            rows.append({"yaw": yaw, "elevation": 0.0, "preview": f"side_{number:03d}.png"})
        result = results.Result("Head", "head_orbit", settings=request.settings)
        result.metrics = {"orbit": rows}
        return result
    return head(request, folder, progress)


def head(request, folder, progress):
    """The prepared result with the latent's file, and the pictures that a blend leaves."""
    from maquette.core import results
    from PIL import Image

    prepared = Path(os.environ["MAQUETTE_TEST_RESULT"])
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    (folder / "head.safetensors").write_bytes(b"")
    for name in ("picture", "before", "after"):
        Image.new("RGB", (8, 8), (90, 60, 30)).save(folder / f"{name}.png")
    result = results.read_result(prepared)
    result.method, result.settings = request.verb, request.settings
    for camera in result.cameras[:1]:
        camera.photo_path = request.inputs[0] if request.inputs else ""
    del result.cameras[1:]
    result.failed = {}
    if request.verb != "head_sample":
        result.metrics |= {"compared_by": "colours and gradients at five scales", "head_psnr": 27.5}
    if request.verb == "head_blend":
        result.metrics |= {
            "original": request.inputs[0],
            "reference": request.inputs[1],
            "outside_psnr": 31.5,
        }
    return result


VERBS = {
    "mesh": mesh,
    "extract": extract,
    "bake": bake,
    "candidates": candidates,
    "poses": poses,
    "align": align,
    "head_sample": head_sample,
    "head_invert": head,
    "head_blend": head,
}

if __name__ == "__main__":
    bootstrap = Path(__file__).resolve().parents[2] / "core" / "jobs" / "bootstrap.py"
    if not bootstrap.is_file():  # beside an installed add-on: told where that is
        bootstrap = Path(os.environ["MAQUETTE_TEST_ADDON"]) / "core" / "jobs" / "bootstrap.py"
    runpy.run_path(str(bootstrap))["load_package"]()
    from maquette.core.jobs import worker

    sys.exit(worker.main(sys.argv[2:], VERBS))
