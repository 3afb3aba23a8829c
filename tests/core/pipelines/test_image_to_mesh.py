# SPDX-License-Identifier: GPL-3.0-or-later
"""One picture to a Result with tiny models of random weights: every file is there, stands where it should and can be used."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.core.errors import InputError, MissingError
from maquette.core.jobs.execution import execute
from maquette.core.jobs.request import Request
from maquette.core.models.lrm.object_lrm import (
    SIDE,
    ObjectLRM,
    ObjectLRMConfig,
    config_text,
    crop_picture,
)
from maquette.core.models.lrm.one_picture import reconstruct
from maquette.core.models.lrm.openlrm import OpenLRM, OpenLRMConfig
from maquette.core.models.lrm.triposr import TripoSR, TripoSRConfig
from maquette.core.models.parts.transformer import VisionTransformerConfig
from maquette.core.models.stored_field import load_field
from maquette.core.pipelines import PIPELINES, single_image_model
from maquette.core.pipelines.image_to_mesh import standing
from maquette.core.pipelines.mesh import choose_method
from maquette.core.progress import Progress
from maquette.core.results import read_mesh, read_result
from maquette.core.settings import MeshSettings
from maquette.core.types import Photo
from PIL import Image
from safetensors.torch import save_file

TINY = ObjectLRMConfig(
    encoder=VisionTransformerConfig(width=16, depth=1, heads=2, hidden=16, patch=12, image=SIDE),
    layers=1, heads=2, features=4, hidden=8, hidden_layers=1,
)  # fmt: skip
TINY_TRIPOSR = TripoSRConfig(
    image=16, encoder=VisionTransformerConfig(16, 1, 2, 32, 8, 16, pooler=True), plane=4, width=32, heads=2,
    head_width=16, layers=1, features=4, hidden=8, hidden_layers=2,
)  # fmt: skip
TINY_OPENLRM = OpenLRMConfig(
    encoder=VisionTransformerConfig(16, 1, 2, 32, 14, 28, registers=4, layer_scale=True, resize="antialias"),
    camera_width=8, width=32, layers=1, heads=2, plane=4, features=4,
)  # fmt: skip


def random_(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights at random, so that planes and colours vary from place to place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return model.eval()


def ellipse() -> np.ndarray:
    """(320, 400, 4) uint8: a striped ellipse, off the middle, cut out."""
    y, x = np.mgrid[0:320, 0:400]
    inside = ((x - 220) / 100) ** 2 + ((y - 140) / 80) ** 2 < 1
    rgb = np.stack([120 + 80 * np.sin(x / 18), 90 + 60 * np.sin(y / 14), np.full(x.shape, 70)], -1)
    return np.dstack([rgb, 255 * inside]).astype(np.uint8)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "thing.png"
    Image.fromarray(ellipse()).save(path)
    return path


@pytest.fixture
def no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither an installed nor a bundled model; returns where the bundled one would lie."""
    bundled = tmp_path / "bundled.safetensors"
    monkeypatch.setattr(single_image_model, "BUNDLED", bundled)
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    return bundled


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """A tiny model that has learnt one thing: an ellipsoid flatter than the picture's ellipse, red above and blue below."""
    model = random_(ObjectLRM(TINY))
    assert isinstance(model, ObjectLRM)
    generator = torch.Generator().manual_seed(0)
    image = crop_picture(ellipse())
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(200):
        planes, stance = model(image[None])
        points = torch.rand(1024, 3, generator=generator) * 2 - 1
        raw = model.field_of(planes[0]).raw(points)
        solid = 6.0 * (1.0 - (points / torch.tensor([0.75, 0.6, 0.5])).norm(dim=1))
        loss = (raw[:, 0] - solid.clamp(-4, 4)).square().mean() + (
            raw[:, 1] - 3 * points[:, 2]
        ).square().mean()
        loss = loss + raw[:, 2].square().mean() + (raw[:, 3] + 3 * points[:, 2]).square().mean()
        loss = loss + (stance - torch.tensor([0.0, -0.2, 0.98, 0.3])).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def tiny(no_models: Path, weights: dict[str, torch.Tensor]) -> Path:
    """That model as the bundled one."""
    save_file(weights, no_models, {"config": config_text(TINY)})
    return no_models


def mesh(picture: Path, out: Path, **settings: object) -> dict:
    values = asdict(MeshSettings(resolution=64, face_budget=8000, texture_size=256, **settings))  # type: ignore[arg-type]
    execute(Request("mesh", (str(picture),), values, str(out)), Progress(), PIPELINES)
    return json.loads((out / "scene.json").read_text())


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
    before, solved = scene["metrics"]["model_camera_iou"], scene["metrics"]["solved_camera_iou"]
    assert before + 0.02 < solved < camera.metrics["silhouette_iou"] - 0.03  # camera, then field
    assert camera.metrics["silhouette_iou"] > 0.93
    assert camera.metrics["photo_psnr"] > 15
    assert (out / camera.image).is_file()
    assert (scene["method"], scene["model"]["licence"]) == ("lrm", "CC0-1.0")
    assert scene["points"] is None
    assert not (out / "points.npz").exists()
    mask = np.asarray(Image.open(out / "masks" / "thing.png"))
    assert ((mask > 127) == (ellipse()[..., 3] > 127)).mean() > 0.99
    assert len(json.loads((out / "transforms.json").read_text())["frames"]) == 1
    field = load_field(out / "field.safetensors")
    assert float(field.level) == pytest.approx(float(field.rule.level))  # type: ignore[attr-defined]
    again = tmp_path / "again"
    settings = {"resolution": 32, "texture_size": 256, "quality": "draft"}
    execute(Request("extract", (str(out),), settings, str(again)), Progress(), PIPELINES)
    assert 0 < len(read_mesh(again / "mesh.npz").faces) < len(made.faces)


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
    assert made.field.planes.isfinite().all()


def test_standing_keeps_the_longest_side_at_one_metre() -> None:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (0, 3) for z in (2, 2.5)], np.float32)
    world = standing(corners, np.eye(3))
    placed = corners @ world[:3, :3].T + world[:3, 3]
    np.testing.assert_allclose(placed.min(0), [-1 / 3, -0.5, 0], atol=1e-6)
    np.testing.assert_allclose(placed.max(0), [1 / 3, 0.5, 1 / 6], atol=1e-6)
