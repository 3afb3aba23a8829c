# SPDX-License-Identifier: GPL-3.0-or-later
"""Codes of our head generator, its file, and what a loaded one offers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.core.errors import InputError
from maquette.core.fields.triplane import TriplaneField
from maquette.core.models.eg3d.configuration import Eg3dConfig, RenderingConfig, SuperResolutionConfig
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.models.heads.codes import NORMAL, SCALE, STYLES, WIDTH, codes, groups, settle
from maquette.core.models.heads.generator import WEIGHTS, HeadGenerator, left_out, load_generator
from maquette.core.pipelines.field_to_result import surface_field
from maquette.core.progress import Progress
from maquette.core.settings import MeshSettings
from maquette.core.surface.report import mesh_report
from safetensors.torch import save_file


def small(bend: float = 0.0) -> Eg3d:
    rendering = RenderingConfig(
        depth_resolution=8, depth_resolution_importance=4, ray_start=2.2, ray_end=3.2, c_gen_conditioning_zero=True
    )  # fmt: skip
    config = Eg3dConfig(
        z_width=WIDTH, w_width=16, embed_width=4, mapping_widths=(16,), channels=(8, 8, 8), plane_features=8, bend=bend, bend_side=8, details=bend > 0, fovea=((0.0, 0.2), (0.1, 0.2), (0.2, 0.3)) if bend else (),
        decoder_hidden=8, neural_resolution=8, plane_axes="xy_xz_zy",
        superresolution=SuperResolutionConfig(8, (True, True), (8, 4), clamp=None), rendering=rendering,
    )  # fmt: skip
    torch.manual_seed(3)
    network = Eg3d(config)
    network.backbone.mapping.w_avg.normal_()
    return network


def written(path: Path, network: Eg3d, config: Eg3dConfig | None = None) -> Path:
    tensors = {k: v.contiguous() for k, v in network.state_dict().items() if not left_out(k)}
    save_file(tensors, path, {"config": json.dumps((config or network.config).as_json())})
    return path


def test_codes_repeat_and_styles_do_not_mix() -> None:
    many = codes(11, 400)
    assert torch.equal(codes(11, 3), many[:3]) and not torch.equal(codes(12, 3), many[:3])
    torch.testing.assert_close(settle(many), many)
    normal = many[:, : sum(NORMAL.values())]
    torch.testing.assert_close(normal.square().mean(1), torch.ones(400))
    for name, width in STYLES.items():
        part = many[:, groups()[name]]
        assert ((part == 0).sum(1) == width - 1).all() and ((part == SCALE).sum(1) == 1).all()
        shares = (part > 0).float().mean(0)
        assert (shares > 0.005).all()
    assert 0.005 < (many[:, groups()["hair"]][:, -1] > 0).float().mean() < 0.08  # bald
    assert groups()["pack"].stop == WIDTH


@pytest.mark.parametrize("bend", [0.0, 0.3])
def test_a_file_holds_the_network_and_its_sizes(tmp_path: Path, bend: float) -> None:
    network = small(bend)
    loaded = load_generator(written(tmp_path / "g.safetensors", network))
    assert isinstance(loaded, HeadGenerator) and loaded.config == network.config
    z = loaded.z(5, 2)
    ws = loaded.ws(z)
    torch.testing.assert_close(ws, network.mapping(z, torch.zeros(2, 25)))
    assert ws.shape == (2, network.config.rows, 16)
    torch.testing.assert_close(loaded.ws(z, 0.0)[:1], loaded.mean_ws)
    torch.testing.assert_close(loaded.sample(5), loaded.ws(loaded.z(5)))
    planes = loaded.planes(ws)
    rgb, opacity, depth = loaded.picture(ws, planes, loaded.frontal.expand(2, -1))
    assert rgb.shape == (2, 3, 32, 32) and opacity.shape == depth.shape == (2, 1, 8, 8)
    field = loaded.field(planes[0])
    points = torch.rand(50, 3) - 0.5
    raw = network.query(planes[0], points)[0]
    torch.testing.assert_close(
        field.geometry(points), torch.nn.functional.softplus(raw - 1), atol=1e-4, rtol=1e-4
    )
    field.save(tmp_path / "field.safetensors")
    again = TriplaneField.load(tmp_path / "field.safetensors")
    torch.testing.assert_close(again.geometry(points), field.geometry(points), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again.appearance(points), field.appearance(points))


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are not at"):
        load_generator(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="does not hold"):
        load_generator(tmp_path / "broken.safetensors")
    network = small()
    del network.decoder
    with pytest.raises(InputError, match="does not hold"):
        load_generator(written(tmp_path / "part.safetensors", network))


@pytest.mark.skipif(not WEIGHTS.exists(), reason="needs the bundled generator")
def test_bundled_heads_are_whole_and_differ() -> None:
    """Closed, in one piece, of a head's size; other seeds are other heads; the mean head lies between them."""
    generator = load_generator()
    bounds, depths = [], []
    for seed in (1, 2):
        ws = generator.sample(seed)
        planes = generator.planes(ws)
        progress = Progress()
        progress.set_plan({"surface": 1.0})
        mesh = surface_field(
            generator.field(planes[0]), MeshSettings(quality="draft", resolution=72), progress
        )
        report = mesh_report(mesh)
        assert report["watertight"] and report["parts"] == 1
        bounds.append(np.array(report["bounds"]))
        rendered = generator.network.render(planes, generator.frontal, 32)
        depths.append(torch.where(rendered.opacity > 0.5, rendered.depth, torch.nan))
        assert 0.3 < float((rendered.opacity > 0.5).float().mean()) < 0.95
    height = [b[1][1] - b[0][1] for b in bounds]
    assert all(0.6 < h <= 1.0 for h in height), height  # with the bust, in units of 0.37 m
    assert float((depths[0] - depths[1]).abs().nanmean()) > 0.003
    means = generator.mean_ws[0, 0]
    apart = (generator.sample(1) - generator.sample(2))[0, 0].norm()
    assert (generator.sample(1)[0, 0] - means).norm() < apart
