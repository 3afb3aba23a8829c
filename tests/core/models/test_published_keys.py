# SPDX-License-Identifier: GPL-3.0-or-later
"""The published configurations are those that the key tables of the public checkpoints imply."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from maquette.core.models.campari import generator as campari
from maquette.core.models.dvr import network as dvr
from maquette.core.models.giraffe import generator as giraffe
from maquette.core.models.nerf import network as nerf
from maquette.core.models.occupancy_flow import network as occupancy_flow
from maquette.core.models.onet import network as onet
from maquette.core.models.parts.key_shapes import under
from maquette.core.models.texture_fields import network as texture_fields

FOLDER = Path(__file__).parents[3].parent / "shared" / "fixtures" / "implicit"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the shared fixtures are not there")


def tables(name: str) -> dict[str, dict[str, tuple[int, ...]]]:
    content: dict[str, Any] = json.loads((FOLDER / f"keys_{name}.json").read_text())
    return {
        case.removesuffix(".yaml").split(" ")[0]: {key: tuple(shape) for key, shape, _ in entry["keys"]}
        for case, entry in content.items()
    }


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("onet", onet),
        ("dvr", dvr),
        ("texturefields", texture_fields),
        ("occflow", occupancy_flow),
        ("nerf", nerf),
    ],
)
def test_networks(name: str, module: Any) -> None:
    found = tables(name)
    assert module.PUBLISHED.keys() <= found.keys()
    for case, config in module.PUBLISHED.items():
        assert module.config_from(found[case]) == config, case


def test_generators() -> None:
    for case, shapes in tables("giraffe").items():
        assert giraffe.config_from(under(shapes, "generator.")) == giraffe.PUBLISHED[case], case
    for case, shapes in tables("campari").items():
        config = campari.PUBLISHED[case]
        found = campari.config_from(under(shapes, "generator."), config.fov, config.white)
        assert found == replace(config), case
