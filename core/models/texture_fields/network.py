# SPDX-License-Identifier: GPL-3.0-or-later
"""Texture Fields (Oechsle et al., ICCV 2019): the colour of any point of a given shape, from a picture or a code.

Layout of the public checkpoints of texture_fields. Whether a layer is leaky is not visible in the weights; it goes with
the two published decoders: seven blocks for the single view, five for the generative models.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..onet.encoders import ResnetPointnet
from ..parts.key_shapes import Shapes, count, has, under
from ..parts.resnet18 import Resnet18
from ..parts.resnet_blocks import Pointwise
from .image_networks import ImageEncoder, image_widths

SLOPE = 0.2


@dataclass(frozen=True)
class TextureFieldConfig:
    """Widths of a texture field."""

    c_dim: int = 512
    """Code of the shape."""
    z_dim: int = 512
    """Code of the look: of the picture (512), of the VAE (512) or drawn (64)."""
    hidden: int = 128
    n_blocks: int = 7
    geometry_hidden: int = 128
    image: bool = True
    """A ResNet-18 gives z."""
    vae_widths: tuple[int, ...] = ()
    """Channels of the VAE's picture encoder, () without one."""
    vae_side: int = 4
    """Side of its last feature map."""

    @property
    def single_view(self) -> bool:
        """Whether it is the published single view decoder: relu inside the blocks, residual geometry encoder."""
        return self.n_blocks > 5


PUBLISHED = {
    "texfield_singleview_car": TextureFieldConfig(),
    "texfield_gan_car": TextureFieldConfig(z_dim=64, n_blocks=5, image=False),
    "texfield_vae_car": TextureFieldConfig(n_blocks=5, image=False, vae_widths=(32, 64, 128, 256, 512, 1024)),
}


class GeometryEncoder(nn.Module):
    """`simple`: shared perceptron with the mean over the points; leaky."""

    def __init__(self, c_dim: int, hidden: int) -> None:
        super().__init__()
        self.conv_p = Pointwise(6, 2 * hidden)
        for i in range(4):
            self.add_module(f"conv_{i}", Pointwise(2 * hidden, hidden))
        self.fc_c = nn.Linear(hidden, c_dim)

    def forward(self, points: Tensor) -> Tensor:
        """points (B, T, 6): position and normal -> (B, c_dim)."""
        h = self.conv_0(F.leaky_relu(self.conv_p(points), SLOPE))  # (B, T, H)
        for layer in (self.conv_1, self.conv_2, self.conv_3):
            h = layer(F.leaky_relu(torch.cat([h, h.mean(1, keepdim=True).expand_as(h)], -1), SLOPE))
        c: Tensor = self.fc_c(F.leaky_relu(h.mean(1), SLOPE))
        return c


class ColourBlock(nn.Module):
    """y = x + conv_1(a(conv_0(a(x)))) without shortcut."""

    def __init__(self, hidden: int, slope: float) -> None:
        super().__init__()
        self.conv_0, self.conv_1, self.slope = Pointwise(hidden, hidden), Pointwise(hidden, hidden), slope

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, H)."""
        dx: Tensor = self.conv_1(F.leaky_relu(self.conv_0(F.leaky_relu(x, self.slope)), self.slope))
        return x + dx


class ColourDecoder(nn.Module):
    """The texture field t(p, c, z) (equation 3): codes are added before every block."""

    def __init__(self, config: TextureFieldConfig) -> None:
        super().__init__()
        self.n_blocks = config.n_blocks
        self.conv_p = Pointwise(3, config.hidden)
        for i in range(config.n_blocks):
            self.add_module(f"block{i}", ColourBlock(config.hidden, 0.0 if config.single_view else SLOPE))
        for i in range(config.n_blocks):
            self.add_module(f"fc_cz_{i}", nn.Linear(config.c_dim + config.z_dim, config.hidden))
        self.conv_out = Pointwise(config.hidden, 3)

    def forward(self, p: Tensor, c: Tensor, z: Tensor) -> Tensor:
        """p (B, T, 3), c (B, c_dim), z (B, z_dim) -> colours (B, T, 3) in 0..1."""
        codes = torch.cat([c, z], -1)[:, None]
        h = self.conv_p(p)  # (B, T, H)
        for i in range(self.n_blocks):
            h = self.get_submodule(f"block{i}")(h + self.get_submodule(f"fc_cz_{i}")(codes))
        return torch.sigmoid(self.conv_out(F.leaky_relu(h, SLOPE)))


class TextureField(nn.Module):
    """Geometry encoder, picture or VAE encoder, colour decoder."""

    def __init__(self, config: TextureFieldConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = ColourDecoder(config)
        self.geometry_encoder: nn.Module = (
            ResnetPointnet(config.c_dim, config.geometry_hidden, 6, pointwise=True)
            if config.single_view
            else GeometryEncoder(config.c_dim, config.geometry_hidden)
        )
        if config.image:
            self.encoder = Resnet18(config.z_dim)
        if config.vae_widths:
            self.vae_encoder = ImageEncoder(config.vae_widths, config.vae_side, config.z_dim, config.c_dim)

    def encode_shape(self, points: Tensor, normals: Tensor) -> Tensor:
        """points, normals (B, T, 3), published T = 2048 -> (B, c_dim)."""
        c: Tensor = self.geometry_encoder(torch.cat([points, normals], -1))
        return c

    def forward(self, p: Tensor, c: Tensor, z: Tensor) -> Tensor:
        """Colours (B, T, 3) at p (B, T, 3)."""
        colours: Tensor = self.decoder(p, c, z)
        return colours


def unproject_depth(depth: Tensor, camera: Tensor, world: Tensor) -> tuple[Tensor, Tensor]:
    """Depth map to points of the object.

    Args:
        depth: (B, 1, M, M) z-depth; infinite where there is background.
        camera, world: (B, 3, 4) K and world to camera.

    Returns:
        points (B, 3, M, M), the camera's centre on the background, and mask (B, 1, M, M) bool.
    """
    side = depth.shape[-1]
    mask = torch.isfinite(depth)
    d = torch.where(mask, depth, 0.0)
    line = torch.arange(side, dtype=depth.dtype, device=depth.device)
    q = torch.stack(
        torch.meshgrid(2 * line / side, 2 * (side - line) / side, indexing="xy")
    )  # (2, M, M): x, y
    scaled = q * camera[:, 2, 2, None, None, None] - camera[:, :2, 2, None, None]  # q K33 - K_xy3
    xy = torch.einsum("bij,bjhw->bihw", torch.linalg.inv(camera[:, :2, :2]), scaled * -d)
    local = torch.cat([xy, -d], 1).flatten(2)  # (B, 3, M^2)
    points = torch.linalg.solve(world[:, :, :3], local - world[:, :, 3:])
    return points.unflatten(2, (side, side)), mask


def render(field: TextureField, points: Tensor, mask: Tensor, c: Tensor, z: Tensor) -> Tensor:
    """Colours at unprojected points (B, 3, M, M) on white, (B, 3, M, M)."""
    colours = field(points.flatten(2).mT, c, z).mT.reshape(points.shape)
    return torch.where(mask, colours, 1.0)


def vae_loss(colours: Tensor, target: Tensor, mean: Tensor, logstd: Tensor, weight: float = 10.0) -> Tensor:
    """Squared error over the picture and the KL term per pixel and channel (supplementary 1.3).

    Args:
        colours, target: (B, 3, M, M).
        mean, logstd: (B, z_dim) of the VAE encoder.
        weight: of the squared error.
    """
    kl = (0.5 * (torch.exp(2.0 * logstd) + mean.square() - 1.0) - logstd).sum()
    return weight * F.mse_loss(colours, target) + kl / target.numel()


def config_from(shapes: Shapes) -> TextureFieldConfig:
    """Settings from the key shapes of a checkpoint."""
    geometry = under(shapes, "geometry_encoder.")
    c_dim, geometry_hidden = geometry["fc_c.weight"]
    hidden, codes = shapes["decoder.fc_cz_0.weight"]
    vae = under(shapes, "vae_encoder.")
    widths, side = image_widths(vae, "fc_mean.weight") if vae else ((), TextureFieldConfig.vae_side)
    return TextureFieldConfig(
        c_dim,
        codes - c_dim,
        hidden,
        count(shapes, "decoder.block{}.conv_0.weight"),
        geometry_hidden,
        has(shapes, "encoder.features."),
        widths,
        side,
    )
