# SPDX-License-Identifier: GPL-3.0-or-later
"""One picture to a Result with tiny models of random weights: every file is there, stands where it should and can be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.core.errors import InputError, MissingError
from maquette.core.fields.depth_layers import DepthLayers
from maquette.core.fields.triplane import PlaneDecoder, TriplaneField, TriplaneRule
from maquette.core.jobs.execution import execute
from maquette.core.jobs.request import Request
from maquette.core.models.lrm.object_lrm import ObjectLRM
from maquette.core.models.lrm.one_picture import Reconstruction, reconstruct
from maquette.core.models.lrm.openlrm import OpenLRM
from maquette.core.models.lrm.triposr import LAYOUT, TripoSR
from maquette.core.models.stored_field import load_field
from maquette.core.pipelines import PIPELINES, image_to_mesh
from maquette.core.pipelines.image_to_mesh import standing
from maquette.core.pipelines.mesh import choose_method
from maquette.core.progress import Progress
from maquette.core.results import read_mesh, read_result
from maquette.core.settings import MeshSettings
from maquette.core.types import Photo
from maquette.core.weights import networks
from PIL import Image
from safetensors.torch import save_file

from tests.core.pipelines.small_lrm import TINY, TINY_OPENLRM, TINY_TRIPOSR, ellipse, mesh, random_


def test_a_picture_becomes_a_standing_textured_mesh_with_its_camera(
    tiny: Path, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    scene = mesh(picture, out, height=0.4)
    result = read_result(out)
    made = read_mesh(out / "mesh.npz")
    world = made.vertices @ result.world_from_result[:3, :3].T + result.world_from_result[:3, 3]
    assert world[:, 2].min() == pytest.approx(0, abs=1e-5)
    assert world[:, 2].max() == pytest.approx(0.4, abs=1e-5)
    assert result.objects[0].report["holes"] == 0
    assert made.uvs is not None
    assert 0 < made.attributes["seen"].mean() < 1
    assert Image.open(out / "base_color.png").size == (256, 256)
    (camera,) = result.cameras
    assert camera.view is not None
    assert (camera.source.width, camera.source.height) == (400, 320)
    assert (camera.source.cx, camera.source.cy) == (200, 160)
    assert scene["metrics"]["model_camera_iou"] > 0.97  # the layers have the mask's outline
    assert camera.metrics["silhouette_iou"] > 0.97
    assert camera.metrics["photo_psnr"] > 15
    assert (out / camera.image).is_file()
    assert (scene["method"], scene["model"]["licence"]) == ("lrm", "CC0-1.0")
    assert scene["points"] is None
    assert not (out / "points.npz").exists()
    mask = np.asarray(Image.open(out / "masks" / "thing.png"))
    assert ((mask > 127) == (ellipse()[..., 3] > 127)).mean() > 0.99
    assert len(json.loads((out / "transforms.json").read_text())["frames"]) == 1
    field = load_field(out / "field.safetensors")
    assert isinstance(field, DepthLayers)
    again = tmp_path / "again"
    settings = {"resolution": 32, "texture_size": 256, "quality": "draft"}
    execute(Request("extract", (str(out),), settings, str(again)), Progress(), PIPELINES)
    assert 0 < len(read_mesh(again / "mesh.npz").faces) < len(made.faces)


def ellipsoid_planes() -> TriplaneField:
    """An ellipsoid of half sides 0.75, 0.6, 0.5 in closed form: raw density 6 (1 - sum of squares)."""
    axis = (torch.arange(64) + 0.5) / 32 - 1
    columns, rows = torch.meshgrid(axis, axis, indexing="xy")
    squares = torch.stack([(columns / 0.75) ** 2, (columns / 0.75) ** 2, (columns / 0.6) ** 2]) + torch.stack(
        [(rows / 0.6) ** 2, (rows / 0.5) ** 2, (rows / 0.5) ** 2]
    )
    decoder = PlaneDecoder(1, 1, 0)
    with torch.no_grad():
        decoder.layers[0].weight[:], decoder.layers[0].bias[:] = 0.0, 0.0
        decoder.layers[0].weight[0], decoder.layers[0].bias[0] = (
            -9.0,
            6.0,
        )  # mean of the planes is 2/3 of the sum
    rule = TriplaneRule(reduction="mean", density_bias=0.0, level=1.0)
    return TriplaneField(squares[:, None].float(), decoder.requires_grad_(False), rule)


def test_a_tri_plane_gets_a_camera_and_then_the_outline(
    tiny: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = reconstruct(ObjectLRM(TINY).eval(), ellipse(), "thing.png")
    away = ours.camera.cam_to_world.copy()
    away[:3, 3] *= 1.25
    made = Reconstruction(ellipsoid_planes(), replace(ours.camera, cam_to_world=away), np.eye(3))
    monkeypatch.setattr(image_to_mesh, "reconstruct", lambda *_: made)
    scene = mesh(picture, tmp_path / "out")
    (camera,) = read_result(tmp_path / "out").cameras
    before, solved = scene["metrics"]["model_camera_iou"], scene["metrics"]["solved_camera_iou"]
    assert before + 0.02 < solved < camera.metrics["silhouette_iou"] - 0.02  # camera, then field
    assert camera.metrics["silhouette_iou"] > 0.93


def test_without_a_model_the_way_out_is_told(no_models: Path, picture: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        mesh(picture, tmp_path / "out")
    assert caught.value.code == "ONE_PHOTO"
    with pytest.raises(MissingError) as lacking:
        mesh(picture, tmp_path / "out", method="lrm")
    assert lacking.value.code == "MODEL_MISSING"
    assert "maquette models" in lacking.value.remedy
    with pytest.raises(MissingError) as unknown:
        mesh(picture, tmp_path / "out", model="nobody")
    assert unknown.value.code == "MODEL_NOT_INSTALLED"


def test_the_method_follows_from_the_number_of_pictures(tiny: Path) -> None:
    one, two = [Photo("a", Path("a"), 9, 9)], [Photo(n, Path(n), 9, 9) for n in "ab"]
    assert choose_method(one, MeshSettings()) == "lrm"
    assert choose_method(two, MeshSettings()) == "photos"
    for photos, method, code in (
        (one, "photos", "ONE_PHOTO"),
        (two, "lrm", "SEVERAL_PHOTOS"),
        (two, "latent", "METHOD_MISSING"),
    ):
        with pytest.raises(InputError) as caught:
            choose_method(photos, MeshSettings(method=method))
        assert caught.value.code == code


@pytest.mark.parametrize(
    "network",
    [TripoSR(TINY_TRIPOSR), OpenLRM(TINY_OPENLRM), ObjectLRM(TINY)],
    ids=["triposr", "openlrm", "ours"],
)
def test_every_model_sees_its_crop_where_the_picture_has_it(network: torch.nn.Module) -> None:
    """The field's middle lies in the middle of the crop; what is up and left in the field is so in the picture."""
    made = reconstruct(random_(network), ellipse(), "thing.png")
    pixels, depth = made.camera.project(np.zeros((1, 3)))
    np.testing.assert_allclose(pixels[0], [220, 140], atol=2)
    assert depth[0] > 0
    up, right = np.linalg.inv(made.upright) @ [0, 0, 0.05], made.camera.cam_to_world[:3, 0] * 0.05
    if not isinstance(network, ObjectLRM):  # whose up is what its head says
        assert made.camera.project(up[None])[0][0, 1] < pixels[0, 1] - 1
        np.testing.assert_allclose(made.upright @ right, [0.05, 0, 0], atol=1e-12)
        np.testing.assert_allclose(
            (made.upright @ made.camera.centre) / np.linalg.norm(made.camera.centre), [0, -1, 0], atol=1e-12
        )
    assert made.field.geometry(torch.rand(9, 3)).isfinite().all()


def test_standing_keeps_the_longest_side_at_one_metre() -> None:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (0, 3) for z in (2, 2.5)], np.float32)
    world = standing(corners, np.eye(3))
    placed = corners @ world[:3, :3].T + world[:3, 3]
    np.testing.assert_allclose(placed.min(0), [-1 / 3, -0.5, 0], atol=1e-6)
    np.testing.assert_allclose(placed.max(0), [1 / 3, 0.5, 1 / 6], atol=1e-6)


def odd_picture(kind: str, folder: Path) -> Path:
    """The ellipse before white, as artists' files have it."""
    rgba = Image.fromarray(ellipse())
    before_white = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    path = folder / f"thing.{'gif' if kind == 'animated' else 'jpg' if kind == 'CMYK' else 'png'}"
    if kind == "animated":
        before_white.save(path, save_all=True, append_images=[Image.new("RGB", rgba.size, "red")])
    elif kind == "transparent":
        Image.new("RGBA", rgba.size, (200, 90, 90, 0)).save(path)
    elif kind == "no foreground":
        Image.new("RGB", rgba.size, (200, 90, 90)).save(path)
    elif kind == "16 x 16":
        rgba.resize((16, 16)).save(path)
    else:
        before_white.convert(kind).save(path)
    return path


@pytest.mark.parametrize("kind", ["L", "CMYK", "animated"])
def test_odd_pictures_give_a_mesh(kind: str, tiny: Path, tmp_path: Path) -> None:
    scene = mesh(odd_picture(kind, tmp_path), tmp_path / "out", quality="draft")
    assert scene["metrics"]["silhouette_iou"] > 0.8
    with Image.open(tmp_path / "out" / "base_color.png") as texture:
        colours = np.asarray(texture.convert("RGB")).reshape(-1, 3)
    assert (colours.std(0) > 5).all()
    assert any("more than one frame" in text for text in scene["warnings"]) == (kind == "animated")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("16 x 16", "IMAGE_TOO_SMALL"),
        ("transparent", "FULLY_TRANSPARENT"),
        ("no foreground", "NO_FOREGROUND"),
    ],
)
def test_pictures_that_show_nothing_are_told(kind: str, code: str, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        mesh(odd_picture(kind, tmp_path), tmp_path / "out")
    assert caught.value.code == code
    assert caught.value.remedy
    assert not (tmp_path / "out").exists()


def bad_checkpoint(kind: str, folder: Path) -> Path:
    """A weight file of the tiny TripoSR, spoilt."""
    shapes = LAYOUT.public_shapes(TripoSR(TINY_TRIPOSR))
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    path = folder / ("model.ckpt" if kind == "code" else "model.safetensors")
    if kind == "missing":
        del tensors["backbone.proj_in.bias"]
    elif kind == "extra":
        tensors["optimizer.state"] = torch.zeros(1)
    elif kind == "not finite":
        tensors["backbone.proj_in.bias"][0] = float("nan")
    elif kind == "other":
        tensors = {"fc_p.weight": torch.zeros(3, 3)}
    if kind == "code":
        torch.save(tensors | {"run": Evil(folder / "ran")}, path)
    else:
        save_file(tensors, path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


class Evil:
    """Unpickled by a careless reader it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.target), "w")


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [
        ("other", "WEIGHTS_UNKNOWN", "model.safetensors"),
        ("truncated", "WEIGHTS_DAMAGED", "model.safetensors"),
        ("missing", "WEIGHTS_MISMATCH", "1 missing (backbone.proj_in.bias)"),
        ("extra", "WEIGHTS_MISMATCH", "1 not expected (optimizer.state)"),
        ("not finite", "WEIGHTS_NOT_FINITE", "proj_in.bias"),
        ("code", "WEIGHTS_UNSAFE", "model.ckpt"),
    ],
)
def test_a_bad_checkpoint_is_refused_and_never_run(
    kind: str,
    code: str,
    word: str,
    no_models: Path,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(networks, "TRIPOSR", TINY_TRIPOSR)
    with pytest.raises(InputError) as caught:
        mesh(picture, tmp_path / "out", model=str(bad_checkpoint(kind, tmp_path)))
    assert caught.value.code == code
    assert word in caught.value.message
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_a_matting_model_masks_a_picture_without_alpha(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = (ellipse()[..., 3] > 0).astype(np.float32)
    monkeypatch.setattr(image_to_mesh, "matted", lambda model, rgb: truth)
    path = odd_picture("L", tmp_path)
    picture = image_to_mesh.masked_picture(
        Photo("thing.png", path, 400, 320), MeshSettings(matting="mine.onnx"), Progress()
    )
    np.testing.assert_array_equal(picture.mask, truth)
    monkeypatch.setattr(image_to_mesh, "matted", lambda model, rgb: 0 * truth)
    with pytest.raises(InputError, match="no object"):
        mesh(path, tmp_path / "out", matting="mine.onnx")
