# SPDX-License-Identifier: GPL-3.0-or-later
"""What artists really bring, through `python -m maquette mesh`: a clear error with a remedy and nothing half-made, or a mesh."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="needs the engine's packages"
)
ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "tests" / "data" / "example_photos"


@dataclass
class Run:
    """What a run of the command line left."""

    code: int
    report: dict
    text: str

    @property
    def error(self) -> str:
        return self.report["error"]["code"]


def _mesh(out: Path, *arguments: Path | str) -> Run:
    report = out.parent / f"{out.name} report.json"
    command = [
        sys.executable,
        "-m",
        "maquette",
        "mesh",
        *map(str, arguments),
        "--out",
        str(out),
        "--report",
        str(report),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", timeout=1800, cwd=ROOT.parent
    )
    return Run(done.returncode, json.loads(report.read_text(encoding="utf-8")), done.stderr)


def _refused(run: Run, out: Path, code: str, names: str = "") -> None:
    """Exit code 2, the right error in report and text, a remedy, and no trace of a result."""
    assert (run.code, run.error) == (2, code), run.text
    assert run.report["error"]["remedy"] and run.report["error"]["remedy"] in run.text
    assert names in run.report["error"]["message"]
    assert "Traceback" not in run.text
    assert not out.exists() and not [p for p in out.parent.iterdir() if p.name.startswith(".")]


def _photo(path: Path, seed: int, size: tuple[int, int] = (320, 240)) -> Path:
    """Coloured blots: a picture with features that overlaps with no other."""
    small = np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def test_no_image_and_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    _refused(_mesh(tmp_path / "out", tmp_path / "empty"), tmp_path / "out", "NO_IMAGE", "empty")
    _refused(_mesh(tmp_path / "out", tmp_path / "gone.jpg"), tmp_path / "out", "NOT_FOUND", "gone.jpg")


def test_one_photo_is_told_which_path_takes_it(tmp_path: Path) -> None:
    run = _mesh(tmp_path / "out", _photo(tmp_path / "a.jpg", 0), "--method", "photos")
    _refused(run, tmp_path / "out", "ONE_PHOTO")
    assert "single picture" in run.report["error"]["remedy"]


@pytest.mark.parametrize(
    ("content", "code"), [("cut", "TRUNCATED_IMAGE"), ("text", "NOT_AN_IMAGE"), ("none", "EMPTY_IMAGE")]
)
def test_damaged_and_mislabelled_files_are_named(tmp_path: Path, content: str, code: str) -> None:
    photos = [_photo(tmp_path / f"{i}.jpg", i) for i in range(3)]
    data = {"cut": photos[1].read_bytes()[:4000], "text": b"not a picture at all\n" * 20, "none": b""}[
        content
    ]
    photos[1].write_bytes(data)
    _refused(_mesh(tmp_path / "out", *photos), tmp_path / "out", code, "1.jpg")


def test_copies_of_one_photo(tmp_path: Path) -> None:
    photos = [_photo(tmp_path / f"{i}.png", 0) for i in range(4)]
    _refused(_mesh(tmp_path / "out", *photos), tmp_path / "out", "DUPLICATES_ONLY")


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    photos = [_photo(tmp_path / f"{i}.png", i) for i in range(2)]
    (tmp_path / "file").write_text("I am a file")
    out = tmp_path / "file" / "out"
    command = [sys.executable, "-m", "maquette", "mesh", *map(str, photos), "--out", str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", timeout=600, cwd=ROOT.parent
    )
    assert done.returncode == 2 and "OUT_NOT_WRITABLE" in done.stderr and "Choose another" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk(tmp_path: Path, small_disk: Path) -> None:
    frames = []
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 255, (600, 800, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
        pose = np.eye(4)
        pose[:3, 3] = (0.1 * i, 0.0, 2.0)
        frames.append({"file_path": f"{i}.png", "transform_matrix": pose.tolist()})
    lens = {"fl_x": 800, "fl_y": 800, "cx": 400, "cy": 300, "w": 800, "h": 600}
    (tmp_path / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    photos = [tmp_path / f"{i}.png" for i in range(4)]
    report = tmp_path / "report.json"
    arguments = [*map(str, photos), "--cameras", str(tmp_path / "transforms.json"), "--quality", "draft"]
    command = [
        sys.executable,
        "-m",
        "maquette",
        "mesh",
        *arguments,
        "--out",
        str(small_disk / "out"),
        "--report",
        str(report),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", timeout=900, cwd=ROOT.parent
    )
    error = json.loads(report.read_text())["error"]
    assert (done.returncode, error["code"]) == (5, "DISK_FULL"), done.stderr
    assert error["remedy"] and not list(small_disk.iterdir())


@pytest.mark.slow
def test_photos_without_overlap(tmp_path: Path) -> None:
    photos = [_photo(tmp_path / f"{i}.jpg", i, (640, 480)) for i in range(5)]
    run = _mesh(tmp_path / "out", *photos, "--quality", "draft")
    assert run.code in (2, 3) and run.report["error"]["remedy"], run.text
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_mixed_photos_of_one_object(tmp_path: Path) -> None:
    """A folder as artists have them: odd names, sizes and turns, one of 100 megapixels, two photos of something else."""
    sources = sorted(EXAMPLE.glob("*.jpg"))
    assert len(sources) == 24
    folder = tmp_path / "Fotos für Ирина – ça va"
    folder.mkdir()
    for i, source in enumerate(sources):
        picture = Image.open(source)
        exif = picture.getexif()
        if i == 2:
            picture = picture.resize((8700, 11600), Image.Resampling.BICUBIC)  # 100.9 megapixels
        elif i % 6 == 3:
            picture = picture.resize((450, 600), Image.Resampling.LANCZOS)
        elif i % 6 == 5:
            picture, exif[0x0112] = (
                picture.transpose(Image.Transpose.ROTATE_90),
                6,
            )  # as a phone held upright stores it
        picture.save(folder / f"Kuh {i:02d} é.jpg", quality=92, exif=exif)
    strangers = {_photo(folder / f"stranger {i}.jpg", 90 + i, (600, 800)).name for i in range(2)}
    out = tmp_path / "résultat"
    run = _mesh(out, folder, "--quality", "draft")
    assert run.code == 3, run.text  # the report lists what failed
    scene = json.loads((out / "scene.json").read_text(encoding="utf-8"))
    assert set(scene["failed"]) == strangers
    cameras = {camera["source"]["name"]: camera["source"] for camera in scene["cameras"]}
    assert len(cameras) == 24
    large = cameras["Kuh 02 é.jpg"]
    assert (large["width"], large["height"]) == (8700, 11600)
    usual = cameras["Kuh 01 é.jpg"]
    assert large["fx"] / large["width"] == pytest.approx(usual["fx"] / usual["width"], rel=0.02)
    turned = cameras["Kuh 05 é.jpg"]
    assert (turned["width"], turned["height"]) == (600, 800)
    with np.load(out / "mesh.npz") as mesh:
        assert len(mesh["faces"]) > 1000
    assert run.report["peak_memory_bytes"] < 4 * 2**30
