# SPDX-License-Identifier: GPL-3.0-or-later
"""A generator of toy heads that runs in a blink: an egg with a nose, whose size, colours and nose the latent says.

`python -m tests.core.pipelines.small_heads` trains it anew (half a minute) into `tests/data/toy_heads.safetensors`.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from maquette.core.models.eg3d.configuration import Eg3dConfig, RenderingConfig, SuperResolutionConfig
from maquette.core.models.eg3d.files import save_generator
from maquette.core.models.eg3d.generator import Eg3d
from torch import Tensor

FILE = Path(__file__).parents[2] / "data" / "toy_heads.safetensors"
TOY = Eg3dConfig(
    5, 12, embed_width=4, mapping_widths=(12, 12), mapping_rate=1.0, channels=(12, 12, 12, 12), plane_features=6,
    decoder_hidden=16, neural_resolution=24, plane_axes="xy_xz_zy",
    superresolution=SuperResolutionConfig(24, (False, True), (6, 4)),
    rendering=RenderingConfig(24, 16, avg_camera_pivot=(0.0, 0.0, 0.0), c_gen_conditioning_zero=True),
)  # fmt: skip


def wanted(z: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Raw density (N,) and colours (N, 3) of the head of z (5,): size, skin, hair, nose, tilt of the hair line."""
    s = torch.tanh(z)
    radius = 0.24 + 0.02 * s[0]
    egg = (points * torch.tensor([1.25, 1.0, 1.1])).norm(dim=1)
    nose = (points - torch.tensor([0.0, -0.02, 0.22])).norm(dim=1) - 0.05 - 0.02 * s[3]
    inside = torch.maximum(radius - egg, -nose)
    skin = torch.stack([0.75 + 0.15 * s[1], 0.55 + 0.2 * s[1], 0.45 + 0.2 * s[1]])
    hair = torch.stack([0.3 + 0.25 * s[2], 0.25 + 0.1 * s[2], 0.2 - 0.15 * s[2]])
    line = 0.07 + 0.3 * points[:, 2].clamp(min=0) + 0.3 * s[4] * points[:, 0]
    above = torch.sigmoid((points[:, 1] - line) * 80)[:, None]
    eyes = torch.stack([torch.tensor([x, 0.05, 0.19]) for x in (-0.08, 0.08)])
    near = torch.sigmoid((0.035 - torch.cdist(points, eyes).amin(1)) * 200)[:, None]
    colour = skin * (1 - above) + hair * above
    return 10 + 300 * inside, colour * (1 - near) + torch.tensor([0.1, 0.15, 0.5]) * near


def toy_heads(steps: int = 250) -> Eg3d:
    """Trained at points; the super-resolution doubles the picture and adds nothing."""
    torch.manual_seed(0)
    with torch.enable_grad():
        made = Eg3d(TOY)
        with torch.no_grad():
            for name, weight in made.superresolution.named_parameters():
                if "torgb" in name and "affine" not in name:
                    weight.zero_()
        learnt = [*made.backbone.parameters(), *made.decoder.parameters()]
        optimiser = torch.optim.Adam(learnt, 1e-2, betas=(0.0, 0.99))
        label = torch.zeros(1, 25)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = 1e-2 * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            z = torch.randn(1, TOY.z_width)
            points = torch.cat([torch.rand(500, 3) - 0.5, 0.27 * F.normalize(torch.randn(700, 3), dim=1)])
            points[500:] *= 1 + 0.15 * torch.randn(700, 1)
            sigma, colours = made.query(made.planes(made.mapping(z, label))[0], points)
            target, rgb = wanted(z[0], points)
            loss = (sigma - target.clamp(-20, 40)).abs().mean() / 10
            loss = loss + ((colours[:, :3] - rgb).abs().mean(1) * (target > -5)).mean() * 2
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        z = torch.randn(500, TOY.z_width)
        made.backbone.mapping.w_avg.copy_(made.mapping(z, label.expand(500, -1))[:, 0].mean(0))
    return made.eval().requires_grad_(False)


if __name__ == "__main__":
    save_generator(toy_heads(600), FILE, torch.float16)
