# SPDX-License-Identifier: GPL-3.0-or-later
"""The sets of `bench_poses`: real photos, lego on white, and renders made once under `build/bench_poses/`.

Settings were chosen on other objects, seeds and views than these: lego views 1, 5, 9 ..., a MakeHuman head in grey, and
KayKit's chest on wood (`TUNING`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
BUILT = ROOT / "build" / "bench_poses"
REAL = ("fox", "temple_sparse_ring", "herzjesu_p8")
_WHITE = "--room white"
RENDERS = {
    **{
        f"{name}_{views}": (
            f"meshes/{name}.glb",
            f"--views {views} --seed {views} --size 560 {extra}" + ("" if views == 24 else " --ring 28"),
        )
        for name, extra in (
            ("spot", ""),
            ("avocado", "--table wood"),
            ("quaternius_cart", "--size 480 --samples 4"),
        )
        for views in (8, 12, 24)
    },
    "grey_head": ("heads/ict_neutral.glb", f"{_WHITE} --grey --ring 12 --views 16 --size 512 --seed 3"),
    "grey_bunny": ("meshes/stanford_bunny.ply", f"{_WHITE} --grey --ring 20 --views 16 --size 512 --seed 2"),
    "repeated": ("meshes/spot.glb", f"{_WHITE} --pattern --ring 28 --views 12 --size 512 --seed 6"),
    "mirrored": ("meshes/spot.glb", f"{_WHITE} --mirror --ring 25 --views 16 --size 512 --seed 7"),
}
"""Mesh and options of `render_photos.py`."""
TUNING = {
    "tune_head": ("heads/makehuman_male_young.glb", f"{_WHITE} --grey --ring 15 --views 16 --seed 5"),
    "tune_chest": ("meshes/kaykit_chest_gold.glb", "--views 12 --size 560 --seed 4 --table wood --ring 28"),
    "tune_mirrored": ("meshes/kaykit_chest_gold.glb", f"{_WHITE} --mirror --ring 25 --views 16 --seed 9"),
    "tune_repeated": ("meshes/suzanne.glb", f"{_WHITE} --pattern --ring 28 --views 12 --seed 9"),
}


def folder_of(name: str) -> Path:
    """The folder of a set, with `images/` and a file of true cameras; made where it is not there."""
    if name in REAL:
        return SHARED / "posed" / name
    folder = BUILT / name
    if not truth_of(folder).is_file():
        if name in _MADE:
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "images").mkdir(parents=True)
            _MADE[name](folder)
        elif name in RENDERS or name in TUNING:
            mesh, options = (RENDERS | TUNING)[name]
            _render(mesh, options, folder)
    return folder


def truth_of(folder: Path) -> Path:
    """The true cameras of a set."""
    rendered = folder / "transforms_true.json"
    return rendered if rendered.is_file() else folder / "transforms.json"


def strangers_of(folder: Path) -> set[str]:
    """Stems of photos that show something else."""
    return {path.stem for path in (folder / "images").glob("stranger*")}


def _render(mesh: str, options: str, folder: Path) -> None:
    python = ROOT / ".venv-bpy-4.5" / "bin" / "python"
    subprocess.run(
        [python, ROOT / "tests" / "render_photos.py", SHARED / mesh, folder, "--no-masks", *options.split()],
        check=True, stdout=sys.stderr,
    )  # fmt: skip


def lego(folder: Path, first: int = 0) -> None:
    """Every fourth view from `first`, 24 of them, before white."""
    source = SHARED / "posed" / "lego_200"
    frames, top = {}, {}
    for split in ("train", "test"):
        text = json.loads((source / f"transforms_{split}.json").read_text())
        frames |= {Path(frame["file_path"]).stem: frame for frame in text.pop("frames")}
        top = text
    names = sorted(frames)[first::4][:24]
    for name in names:
        rgba = np.asarray(Image.open(source / "images" / f"{name}.png").convert("RGBA"), np.float32) / 255
        rgb = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
        Image.fromarray(np.rint(255 * rgb).astype(np.uint8)).save(folder / "images" / f"{name}.png")
    kept = [{**frames[name], "file_path": f"images/{name}.png"} for name in names]
    size = {"w": 200, "h": 200, "fl_x": 100 / np.tan(top["camera_angle_x"] / 2)}
    (folder / "transforms.json").write_text(json.dumps({**top, **size, "frames": kept}))


def _changed(change: Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]):
    """A maker that spoils the photos of spot_24."""

    def make(folder: Path) -> None:
        source, draw = folder_of("spot_24"), np.random.default_rng(0)
        for path in sorted((source / "images").glob("*.png")):
            rgb = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
            spoilt = np.clip(change(rgb, draw), 0, 1)
            Image.fromarray(np.rint(255 * spoilt).astype(np.uint8)).save(folder / "images" / path.name)
        shutil.copy(truth_of(source), folder / "transforms.json")

    return make


def _strangers(folder: Path) -> None:
    """The 24 photos of spot_24 and six of other sets."""
    source = folder_of("spot_24")
    shutil.copytree(source / "images", folder / "images", dirs_exist_ok=True)
    others = [*(folder_of("avocado_12") / "images").glob("*.png")]
    others = sorted(others)[:2] + sorted((SHARED / "posed" / "herzjesu_p8" / "images").glob("*"))[:2]
    others += sorted((SHARED / "posed" / "temple_sparse_ring" / "images").glob("*"))[:2]
    for number, path in enumerate(others):
        shutil.copy(path, folder / "images" / f"stranger{number}{path.suffix}")
    shutil.copy(truth_of(source), folder / "transforms.json")


_MADE: dict[str, Callable[[Path], None]] = {
    "lego_white": lego,
    "lego_white_tuning": lambda folder: lego(folder, 1),
    "low_contrast": _changed(
        lambda rgb, draw: 0.5 + 0.3 * (rgb - 0.5) + draw.normal(0, 0.01, rgb.shape).astype(np.float32)
    ),
    "blurred": _changed(lambda rgb, draw: cv2.GaussianBlur(rgb, (0, 0), float(draw.uniform(1.0, 2.5)))),
    "strangers": _strangers,
}
SETS = {
    "real": REAL,
    "lego": ("lego_white",),
    "grey": ("grey_head", "grey_bunny"),
    "renders": tuple(name for name in RENDERS if name[-1].isdigit()),
    "hard": ("low_contrast", "blurred", "strangers", "repeated", "mirrored"),
}
"""Rows of the table."""
