# SPDX-License-Identifier: GPL-3.0-or-later
"""Method diffusion of the verb `poses`: what the Result folder holds. The training itself is cut to a few steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from maquette.core.cameras import nerf_json
from maquette.core.errors import InputError
from maquette.core.images.load import open_photos
from maquette.core.jobs.request import Request
from maquette.core.models.stored_field import load_field
from maquette.core.pipelines.poses import run
from maquette.core.poses.diffusion import estimate as module
from maquette.core.progress import Progress
from PIL import Image

from .balls import TINY, photos


def shoot(folder: Path, views: int, scale: int = 4) -> None:
    folder.mkdir()
    for number, picture in enumerate(photos(views)[0]):
        rgba = (picture.permute(1, 2, 0).numpy() * 255).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
        Image.fromarray(rgba).save(folder / f"{number:02d}.png")


def test_result_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(module, "preset", lambda orbit, quality, seed: TINY)
    monkeypatch.setattr(module, "SHAKY", 0.0)  # five steps teach nobody
    shoot(tmp_path / "photos", 6)
    (tmp_path / "out").mkdir()
    request = Request("poses", (str(tmp_path / "photos"),), {"method": "diffusion", "quality": "draft"})
    sent: list[dict[str, object]] = []
    progress = Progress(sent.append)
    result = run(request, tmp_path / "out", progress)
    assert [camera.source.name for camera in result.cameras] == [f"{k:02d}.png" for k in range(6)]
    assert result.method == "diffusion" and result.metrics["grade"] in ("C", "D")
    seen = [message["progress"] for message in sent if "progress" in message]
    assert seen == sorted(seen)  # type: ignore[type-var]
    source = result.cameras[0].source
    assert (source.width, source.fx, source.cx) == (
        128,
        pytest.approx(1.2 * 128),
        64,
    )  # no photo tells its focal
    assert set(result.cameras[0].metrics) >= {"confidence", "probability", "entropy", "spread_deg", "psnr"}
    assert result.field_file == "field.safetensors"
    field = load_field(tmp_path / "out" / result.field_file)
    assert field.kind == "density" and field.box.shape == (2, 3)
    new, _ = nerf_json.read(tmp_path / "out" / "novel_views" / "transforms.json")
    assert len(new) == 8 + 4
    assert Image.open(tmp_path / "out" / "novel_views" / "noise_3.png").size == (128, 128)
    assert Image.open(tmp_path / "out" / "masks" / "00.png").size == (128, 128)


def test_plain_backgrounds_become_masks(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(photos(4)[0]):
        white = (picture[:3] * picture[3:] + 1 - picture[3:]).permute(1, 2, 0).numpy()
        pixels = (white * 255).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    planes = module._load(open_photos([tmp_path / "photos"]), None, 128)
    for plane, picture in zip(planes, photos(4)[0], strict=True):
        true = picture[3].numpy().repeat(4, 0).repeat(4, 1)
        assert np.abs((plane[..., 3] > 0.5) - true).mean() < 0.01


def test_three_photos_are_too_few(tmp_path: Path) -> None:
    shoot(tmp_path / "photos", 3)
    with pytest.raises(InputError) as error:
        module.learn(open_photos([tmp_path / "photos"]), None, Progress(), tmp_path, "draft", 0)
    assert error.value.code == "FEW_PHOTOS"
