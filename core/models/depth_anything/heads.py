# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera decoder and dense head (dual DPT, after Ranftl et al. 2021) of Depth Anything 3. Names as in the checkpoints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

UV_BASE = 100.0
UV_WEIGHT = 0.1
RAY_NUMBERS = 6
"""Direction and origin of a pixel's ray."""
_AUX = 3
"""Of four auxiliary outputs the file holds, the one that is used."""


class CameraDecoder(nn.Module):
    """Camera token -> translation, quaternion and fields of view of camera-to-world."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.fc_t, self.fc_qvec = nn.Linear(width, 3), nn.Linear(width, 4)
        self.fc_fov = nn.Sequential(nn.Linear(width, 2), nn.ReLU())

    def forward(self, token: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """token (S, width) -> translation (S, 3), quaternion x y z w (S, 4), field of view (S, 2) vertical, horizontal."""
        h = self.backbone(token)
        return self.fc_t(h), self.fc_qvec(h), self.fc_fov(h)


class ResidualUnit(nn.Module):
    """x + conv(relu(conv(relu(x)))); the raw x is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, 1, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(S, width, h, w) -> (S, width, h, w)."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Fusion(nn.Module):
    """Adds a finer level to a coarser one and enlarges the result; the coarsest has nothing to add."""

    def __init__(self, width: int, lateral: bool) -> None:
        super().__init__()
        self.lateral = lateral
        if lateral:
            self.resConfUnit1 = ResidualUnit(width)
        self.resConfUnit2 = ResidualUnit(width)
        self.out_conv = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, level: Tensor | None, size: tuple[int, int]) -> Tensor:
        """x (S, width, h, w), level of the same shape or None -> (S, width, *size)."""
        if level is not None:
            x = x + self.resConfUnit1(level)
        return self.out_conv(enlarge(self.resConfUnit2(x), size))


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with aligned corners."""
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def uv_embedding(channels: int, h: int, w: int, aspect: float, like: Tensor) -> Tensor:
    """Sine-cosine embedding (channels, h, w) of a grid that is normalised by the picture's diagonal.

    Args:
        channels: half of them for x, half for y, of each half sines first.
        h: rows.
        w: columns.
        aspect: width over height of the picture.
        like: tensor whose dtype and device the result has.
    """
    diagonal = (aspect**2 + 1) ** 0.5
    half_x, half_y = aspect / diagonal * (w - 1) / w, 1 / diagonal * (h - 1) / h
    x = torch.linspace(-half_x, half_x, w, device=like.device).expand(h, w)
    y = torch.linspace(-half_y, half_y, h, device=like.device)[:, None].expand(h, w)
    quarter = channels // 4
    rates = UV_BASE ** (-torch.arange(quarter, device=like.device, dtype=torch.float32) / quarter)
    angles = [rates[:, None, None] * axis for axis in (x, y)]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)]).to(like)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a picture."""

    def forward(self, x: Tensor) -> Tensor:
        """(S, C, h, w) -> (S, C, h, w)."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Scratch(nn.Module):
    """Everything of the dense head after its four maps have their sizes; the name is the checkpoint's."""

    def __init__(self, widths: tuple[int, ...], width: int) -> None:
        super().__init__()
        half = width // 2
        for i, channels in enumerate(widths, 1):
            self.add_module(f"layer{i}_rn", nn.Conv2d(channels, width, 3, 1, 1, bias=False))
            for chain in ("", "_aux"):
                self.add_module(f"refinenet{i}{chain}", Fusion(width, lateral=i < len(widths)))
        self.output_conv1 = nn.Conv2d(width, half, 3, 1, 1)
        self.output_conv2 = nn.Sequential(nn.Conv2d(half, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 2, 1))
        self.output_conv1_aux = nn.ModuleList(
            nn.Sequential(
                *(nn.Conv2d(*((half, width) if k % 2 else (width, half)), 3, 1, 1) for k in range(5))
            )
            for _ in widths
        )
        norm = ChannelNorm(
            32
        )  # one and the same for the four levels: the published count of parameters says so
        self.output_conv2_aux = nn.ModuleList(
            nn.Sequential(nn.Conv2d(half, 32, 3, 1, 1), norm, nn.ReLU(), nn.Conv2d(32, RAY_NUMBERS + 1, 1))
            for _ in widths
        )

    def fuse(self, maps: list[Tensor], chain: str) -> Tensor:
        """Four maps, finest first -> (S, width, 2 h, 2 w) of the finest."""
        levels = [self.get_submodule(f"layer{i}_rn")(level) for i, level in enumerate(maps, 1)]
        x = levels[-1]
        for i in range(len(levels), 0, -1):
            finer = levels[i - 2].shape[2:] if i > 1 else [2 * n for n in levels[0].shape[2:]]
            lateral = levels[i - 1] if i < len(levels) else None
            x = self.get_submodule(f"refinenet{i}{chain}")(x, lateral, tuple(finer))
        return x


class DenseHead(nn.Module):
    """Features of four depths -> depth and rays per pixel."""

    def __init__(self, width: int, widths: tuple[int, ...], fused: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.projects = nn.ModuleList(nn.Conv2d(width, channels, 1) for channels in widths)
        a, b, _, d = widths
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(a, a, 4, 4),
                nn.ConvTranspose2d(b, b, 2, 2),
                nn.Identity(),
                nn.Conv2d(d, d, 3, 2, 1),
            ]
        )
        self.scratch = Scratch(widths, fused)

    def forward(self, features: list[Tensor], size: tuple[int, int], patch: int) -> tuple[Tensor, Tensor]:
        """features 4 x (S, N, width), size (H, W) of the pictures -> (S, 2, H, W) and (S, 7, 8 H/patch, 8 W/patch), raw."""
        height, width = size
        h, w = height // patch, width // patch
        maps = []
        for feature, project, resize in zip(features, self.projects, self.resize_layers, strict=True):
            x = project(self.norm(feature).mT.unflatten(2, (h, w)))
            maps.append(resize(self.placed(x, width / height)))
        main = enlarge(self.scratch.output_conv1(self.scratch.fuse(maps, "")), size)
        depth = self.scratch.output_conv2(self.placed(main, width / height))
        aux = self.scratch.output_conv1_aux[_AUX](self.scratch.fuse(maps, "_aux"))
        return depth, self.scratch.output_conv2_aux[_AUX](self.placed(aux, width / height))

    @staticmethod
    def placed(x: Tensor, aspect: float) -> Tensor:
        """x (S, C, h, w) with a tenth of the uv embedding added."""
        return x + UV_WEIGHT * uv_embedding(x.shape[1], x.shape[2], x.shape[3], aspect, x)
