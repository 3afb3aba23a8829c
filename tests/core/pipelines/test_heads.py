# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads from a seed to a Result folder, mixed, made again, blended; what cannot be used is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from maquette.core import cli
from maquette.core.errors import InputError, MaquetteError, MissingError
from maquette.core.head_settings import BlendSettings, InvertSettings, SampleSettings
from maquette.core.jobs.execution import execute
from maquette.core.jobs.request import Request
from maquette.core.models.eg3d.files import save_generator
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.pipelines import PIPELINES, head_model
from maquette.core.pipelines.head_code import code_of, portrait_of, read_code
from maquette.core.pipelines.head_model import find_head_model, fingerprint
from maquette.core.pipelines.pictures import read_pictures
from maquette.core.progress import Progress
from maquette.core.results import read_mesh
from maquette.core.weights.networks import load_network
from PIL import Image

from tests.core.pipelines.small_heads import FILE

QUICK = {"quality": "draft", "resolution": 40, "texture_size": 256, "face_budget": 4000, "model": str(FILE)}


def run(verb: str, inputs: tuple[Path, ...], out: Path, **settings: Any) -> dict[str, Any]:
    """The scene of a result."""
    request = Request(f"head_{verb}", tuple(str(path) for path in inputs), QUICK | settings, str(out))
    execute(request, Progress(), PIPELINES)
    return json.loads((out / "scene.json").read_text())


def error(verb: str, inputs: tuple[Path, ...], out: Path, **settings: Any) -> str:
    """The code of the error that this ends with; nothing is left."""
    with pytest.raises(MaquetteError) as caught:
        run(verb, inputs, out, **settings)
    assert not out.exists()
    return caught.value.code


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two heads; not to be changed."""
    folder = tmp_path_factory.mktemp("heads")
    for seed in (3, 8):
        run("sample", (), folder / f"head {seed}", seed=seed, truncation=1.0)
    return folder / "head 3", folder / "head 8"


def test_a_heads_camera_stands_where_it_is_asked_for(tmp_path: Path) -> None:
    """90 degrees around: at the head's left, which is +x where the face looks towards -y; 30 up."""
    scene = run("sample", (), tmp_path / "aside", seed=3, yaw=90.0, elevation=30.0)
    world = np.array(scene["world_from_result"])
    pose = world @ np.array(scene["cameras"][0]["source"]["cam_to_world"])
    looks = pose[:3, 2] / np.linalg.norm(pose[:3, 2])
    np.testing.assert_allclose(looks, [-np.cos(np.radians(30)), 0, -np.sin(np.radians(30))], atol=0.02)


def test_an_orbit_shows_the_head_from_all_sides(tmp_path: Path) -> None:
    scene = run("sample", (), tmp_path / "orbit", seed=3, orbit=4)
    rows = scene["metrics"]["orbit"]
    assert scene["method"] == "head_orbit" and len(rows) == 12 and not scene["objects"]
    around = [row["yaw"] for row in rows[:4]]
    # The small network is a public one, which has seen faces: from one side to the other, both included.
    np.testing.assert_allclose(around, [-45, -15, 15, 45])
    assert [row["elevation"] for row in rows[::4]] == [-20, 0, 25]
    pictures = [np.asarray(Image.open(tmp_path / "orbit" / row["preview"])) for row in rows]
    assert np.abs(pictures[0].astype(int) - pictures[3]).mean() > 1


def test_a_seed_becomes_a_head_on_the_floor(two: tuple[Path, Path], tmp_path: Path) -> None:
    scene = json.loads((two[0] / "scene.json").read_text())
    assert (scene["method"], scene["seed"], scene["active_camera"]) == ("head_sample", 3, "front.png")
    mesh = read_mesh(two[0] / "mesh.npz")
    world = np.array(scene["world_from_result"])
    placed = mesh.vertices @ world[:3, :3].T + world[:3, 3]
    assert placed[:, 2].min() == pytest.approx(0, abs=1e-6)
    assert scene["metrics"]["height_m"] == pytest.approx(np.ptp(placed[:, 2]), abs=1e-4)
    assert 0.15 < scene["metrics"]["height_m"] < 0.2  # an egg of 0.48 units, each 0.37 m
    # The camera stands before the face, which looks towards -y, and sees the middle of the head.
    pose = world @ np.array(scene["cameras"][0]["source"]["cam_to_world"])
    assert pose[1, 3] < -0.8 and abs(pose[0, 3]) < 0.02
    assert scene["metrics"]["photo_psnr"] > 24
    pictures = read_pictures(two[0])
    assert len(pictures) == 2  # of three views, the one in front is the camera's own
    valid = pictures[0].valid
    assert valid is not None and (valid[0].max(), valid[1, 1], valid[:, -1].max()) == (
        0,
        1,
        0,
    )  # the rim of 48 pixels
    again = run("sample", (), tmp_path / "again", seed=3, truncation=1.0)
    assert np.array_equal(read_mesh(tmp_path / "again" / "mesh.npz").vertices, mesh.vertices)
    assert again["metrics"] == scene["metrics"]


def test_the_texture_comes_from_pictures_and_bake_finds_them_again(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    seen = read_mesh(two[0] / "mesh.npz").attributes["seen"]
    assert 0.2 < (seen > 0.3).mean() < 0.9  # from in front and both sides; nobody saw its back
    request = Request("bake", (str(two[0]),), {"texture_size": 256}, str(tmp_path / "baked"))
    execute(request, Progress(), PIPELINES)
    first, second = (np.asarray(Image.open(p / "base_color.png")) for p in (two[0], tmp_path / "baked"))
    assert np.abs(first.astype(int) - second).mean() < 0.5


def test_between_two_heads(two: tuple[Path, Path], tmp_path: Path) -> None:
    codes = [read_code(folder) for folder in two]
    run("sample", (), tmp_path / "mix", begin=str(two[0]), interpolate=str(two[1]), share=0.25)
    mixed = read_code(tmp_path / "mix")
    torch.testing.assert_close(mixed.ws, 0.75 * codes[0].ws + 0.25 * codes[1].ws)
    run("sample", (), tmp_path / "seeds", seed=3, interpolate="8", share=0.25, truncation=1.0)
    torch.testing.assert_close(read_code(tmp_path / "seeds").ws, mixed.ws, rtol=1e-4, atol=1e-5)
    assert error("sample", (), tmp_path / "no", interpolate="nobody") == "BAD_SETTING"


def test_a_gallery(tmp_path: Path) -> None:
    scene = run("sample", (), tmp_path / "gallery", seed=5, gallery=3)
    rows = scene["metrics"]["gallery"]
    assert [row["seed"] for row in rows] == [5, 6, 7]
    pictures = [np.asarray(Image.open(tmp_path / "gallery" / row["preview"])).astype(int) for row in rows]
    assert np.abs(pictures[0] - pictures[1]).mean() > 1
    assert not (tmp_path / "gallery" / "mesh.npz").exists()


def mask(path: Path, box: tuple[int, int, int, int], size: tuple[int, int] = (48, 48)) -> Path:
    plane = np.zeros(size, np.uint8)
    top, left, bottom, right = box
    plane[top:bottom, left:right] = 255
    Image.fromarray(plane).save(path)
    return path


def test_a_blend_is_a_head_of_its_own(two: tuple[Path, Path], tmp_path: Path) -> None:
    painted = mask(tmp_path / "hair.png", (0, 0, 20, 48))
    scene = run(
        "blend", two, tmp_path / "blend", mask=str(painted), steps=25, poisson=True, align="part", colour=5.0
    )
    pictures = {
        name: np.asarray(Image.open(tmp_path / "blend" / f"{name}.png")).astype(np.float64)
        for name in ("before", "after", "reference", "region")
    }
    inside = pictures["region"][..., 0] > 127
    assert inside.sum() == 20 * 48
    far = [np.abs(pictures[name] - pictures["reference"])[inside].mean() for name in ("before", "after")]
    assert far[1] < far[0]
    assert scene["metrics"]["outside_psnr"] > 30  # the clone leaves all but a ring as it was
    blend, original = read_code(tmp_path / "blend"), read_code(two[0])
    assert blend.fingerprint == original.fingerprint and not torch.equal(blend.ws, original.ws)
    assert len(read_mesh(tmp_path / "blend" / "mesh.npz").faces) > 500


def test_what_cannot_be_blended(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, quick = tmp_path / "out", {"steps": 2}
    painted = mask(tmp_path / "m.png", (0, 0, 20, 48))
    assert error("blend", two[:1], out, mask=str(painted), **quick) == "TWO_HEADS"
    assert error("blend", two, out, **quick) == "REGION_OR_MASK"
    assert error("blend", two, out, region="nose", mask=str(painted), **quick) == "REGION_OR_MASK"
    assert (
        error("blend", two, out, mask=str(mask(tmp_path / "e.png", (0, 0, 0, 0))), **quick)
        == "HEAD_MASK_EMPTY"
    )
    beside = mask(tmp_path / "b.png", (0, 0, 2, 2))
    assert error("blend", two, out, mask=str(beside), **quick) in ("MASK_OUTSIDE_HEAD",)
    wide = mask(tmp_path / "w.png", (0, 0, 20, 48), (48, 70))
    assert error("blend", two, out, mask=str(wide), **quick) == "HEAD_MASK_SIZE"
    assert error("blend", two, out, region="mouth", **quick) == "REGION_NOT_SEEN"  # a toy has none
    assert error("blend", (two[0], tmp_path), out, region="nose", **quick) == "NOT_A_HEAD"
    network = load_network(FILE)[1]
    assert isinstance(network, Eg3d)
    network.backbone.mapping.w_avg += 1
    save_generator(network, tmp_path / "other.safetensors")
    assert (
        error("blend", two, out, mask=str(painted), model=str(tmp_path / "other.safetensors"))
        == "HEAD_OTHER_MODEL"
    )


def test_a_tuned_head_is_kept_as_a_difference(tmp_path: Path) -> None:
    opened = find_head_model(str(FILE)).open(torch.device("cpu"))
    tuned = load_network(FILE)[1]
    assert isinstance(tuned, Eg3d)
    with torch.no_grad():
        tuned.decoder.net[0].bias += 0.125
    code = code_of(opened, opened.mean_ws, opened.frontal, tuned)
    assert list(code.delta) == ["decoder.net.0.bias"]
    code.save(tmp_path)
    again = read_code(tmp_path)
    whole = again.tuned(opened.network)
    torch.testing.assert_close(whole.decoder.net[0].bias, tuned.decoder.net[0].bias)
    assert whole is not opened.network and portrait_of(again) is None
    half = again.mixed(code_of(opened, opened.latent(3), opened.frontal), 0.5)
    torch.testing.assert_close(half.delta["decoder.net.0.bias"], torch.full((16,), 0.0625))


def test_which_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_model, "BUNDLED", tmp_path / "none.safetensors")
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    with pytest.raises(MissingError) as caught:
        find_head_model()
    assert caught.value.code == "HEAD_MODEL_MISSING"
    with pytest.raises(MissingError) as caught:
        find_head_model("nobody")
    assert caught.value.code == "MODEL_NOT_INSTALLED"
    shelf = tmp_path / "other.safetensors"
    from safetensors.torch import save_file

    save_file({f"layers_xyz.{i}.weight": torch.zeros(8, 8) for i in range(8)}, shelf)
    with pytest.raises(InputError):
        find_head_model(str(shelf))
    model = find_head_model(str(FILE))
    assert fingerprint(model.open(torch.device("cpu")).network) == fingerprint(load_network(FILE)[1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (SampleSettings, {"truncation": 2.0}),
        (SampleSettings, {"share": -0.1}),
        (SampleSettings, {"colour": 1.0}),
        (InvertSettings, {"steps": -1}),
        (BlendSettings, {"region": "ears"}),
        (BlendSettings, {"region": "hair", "shape_only": True, "colour_only": True}),
        (BlendSettings, {"region": "hair", "align": "sideways"}),
    ],
)
def test_settings_out_of_range(kind: Any, values: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        kind.from_json(values)
    assert caught.value.code == "BAD_SETTING"


def test_the_command_line(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    shared = ["--report", str(report), "--out", str(tmp_path / "out"), "--model", str(FILE)]
    made = ["--quality", "draft", "--resolution", "40", "--texture-size", "256"]
    assert cli.main(["head", "sample", "--seed", "4", "--truncation", "0.5", *made, *shared]) == 0
    told = json.loads(report.read_text())
    assert (told["method"], told["seed"]) == ("head_sample", 4)
    assert read_code(tmp_path / "out").model == str(FILE)
    for arguments, code in (
        (["invert"], "NO_IMAGE"),
        (["invert", str(FILE), str(FILE)], "ONE_PICTURE"),
        (["invert", str(tmp_path / "none.jpg")], "NOT_FOUND"),
        (["blend", str(tmp_path / "out")], "TWO_HEADS"),
        (["blend", str(tmp_path / "out"), str(tmp_path / "out")], "REGION_OR_MASK"),
        (["blend", str(tmp_path / "out"), str(tmp_path / "out"), "--mask", "none.png"], "NOT_FOUND"),
        (["sample", "--truncation", "7"], "BAD_SETTING"),
        (["juggle"], "BAD_ARGUMENT"),
    ):
        assert cli.main(["head", *arguments, *shared]) == 2
        assert json.loads(report.read_text())["error"]["code"] == code, arguments
