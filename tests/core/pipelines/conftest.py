# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny bundled model that has learnt an ellipsoid, a picture for it, and what it makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from maquette.core.models.lrm.object_lrm import SIDE, ObjectLRM, crop_picture
from maquette.core.pipelines import single_image_model
from PIL import Image
from safetensors.torch import save_file

from tests.core.pipelines.small_lrm import TINY, ellipse, mesh, random_


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


@pytest.fixture(scope="session")
def weights() -> dict[str, torch.Tensor]:
    """A tiny model that has learnt one thing: an ellipsoid flatter than the picture's ellipse, blue behind."""
    torch.manual_seed(0)  # of the layers' own first weights
    model = random_(ObjectLRM(TINY), 0.05)
    assert isinstance(model, ObjectLRM)
    image = crop_picture(ellipse())[None]
    middle = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    half = 0.6 * (1 - (middle / 0.78).square() - (middle[:, None] / 0.62).square()).clamp(min=0).sqrt()
    blue = torch.tensor([0.1, 0.1, 0.9])[:, None, None]
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(150):
        said = model(image)
        wrong = (said.depth[0] - torch.stack([-half, half])).square().mean()
        wrong = wrong + (said.behind[0] - blue).square().mean()
        loss = wrong + (said.stance - torch.tensor([0.0, -0.2, 0.98, 0.3])).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def tiny(no_models: Path, weights: dict[str, torch.Tensor]) -> Path:
    """That model as the bundled one."""
    save_file(weights, no_models, {"config": TINY.text})
    return no_models


@pytest.fixture(scope="session")
def ellipsoid_result(weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Result folder that `mesh` leaves for the picture; not to be changed."""
    folder = tmp_path_factory.mktemp("ellipsoid")
    model = folder / "bundled.safetensors"
    save_file(weights, model, {"config": TINY.text})
    Image.fromarray(ellipse()).save(folder / "thing.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single_image_model, "BUNDLED", model)
        patch.setenv("MAQUETTE_DATA", str(folder / "data"))
        mesh(folder / "thing.png", folder / "out", height=0.4, quality="draft")
    return folder / "out"
