# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenLRM 1.0 and 1.1 (He and Wang 2023, after LRM, Hong et al. 2023): picture and camera -> tri-plane.

Loads the public files (`config.json` + `model.safetensors`, or `model.pth` of 1.0) in their own layouts. Names and
arithmetic: docs/models/openlrm.md. Frame: z up, the picture seen from -y (Blender's front view), box -1..1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...fields.triplane import PlaneDecoder, TriplaneField, TriplaneRule
from ..parts.attention import Attention, PackedSelfAttention
from ..parts.key_layout import KeyLayout, load_public
from ..parts.transformer import DINO_V1, ModulatedNorm, VisionTransformer, VisionTransformerConfig
from .cameras import openlrm_source
from .triposr import IMAGENET_MEAN, IMAGENET_STD

_EPS = 1e-6
DINOV2 = VisionTransformerConfig(patch=14, image=518, registers=4, layer_scale=True, resize="antialias")
ENCODERS = {
    "dinov2_vits14_reg": replace(DINOV2, width=384, heads=6, hidden=1536),
    "dinov2_vitb14_reg": DINOV2,
    "dinov2_vitl14_reg": replace(DINOV2, width=1024, depth=24, heads=16, hidden=4096),
    "facebook/dino-vitb16": VisionTransformerConfig(eps=1e-12),
    "facebook/dino-vits16": VisionTransformerConfig(width=384, heads=6, hidden=1536, eps=1e-12),
}
"""Public encoder name -> sizes, for the names that occur in public configurations."""


@dataclass(frozen=True)
class OpenLRMConfig:
    """Constructor arguments of the public models, named by what they are."""

    version: str = "1.1"
    """"1.0" (DINO v1, other names) or "1.1"."""
    encoder: VisionTransformerConfig = ENCODERS["dinov2_vits14_reg"]
    camera_width: int = 1024
    width: int = 512
    layers: int = 12
    heads: int = 8
    plane: int = 32
    """Side of the learnt planes; the up-sampler doubles it."""
    features: int = 32
    """Channels of the finished planes."""
    samples: int = 96
    """Per ray, coarse and fine together."""
    rule: TriplaneRule = field(
        default_factory=lambda: TriplaneRule(
            axes=((0, 1), (0, 2), (2, 1)), density="softplus", colour_margin=0.001, level=3.0
        )
    )

    @classmethod
    def from_public(
        cls, public: Mapping[str, Any], encoder: VisionTransformerConfig | None = None
    ) -> OpenLRMConfig:
        """The parsed `config.json` of 1.1, or the `kwargs["model"]` of 1.0 (which has no `encoder_type`).

        Raises:
            InputError: CONFIG_UNKNOWN for an encoder whose sizes are not known.
        """
        name = public["encoder_model_name"]
        if encoder is None and name not in ENCODERS:
            raise InputError(
                "CONFIG_UNKNOWN",
                f"OpenLRM's encoder {name} is not known.",
                "Choose one of the released models.",
            )
        return cls(
            version="1.1" if str(public.get("encoder_type", "dino")).startswith("dinov2") else "1.0",
            encoder=encoder or ENCODERS[name],
            camera_width=public["camera_embed_dim"],
            width=public["transformer_dim"],
            layers=public["transformer_layers"],
            heads=public["transformer_heads"],
            plane=public["triplane_low_res"],
            features=public["triplane_dim"],
            samples=public["rendering_samples_per_ray"],
        )

    @property
    def outside(self) -> float:
        """Raw density that the published renderer puts outside the cube."""
        return -torch.finfo(torch.float32).max / (8 if self.version == "1.1" else 3)


class ModulatedBlock(nn.Module):
    """Cross-attention to the picture, self-attention, MLP, each on a norm modulated by the camera (LRM, section 3.2)."""

    def __init__(self, config: OpenLRMConfig) -> None:
        super().__init__()
        width, camera = config.width, config.camera_width
        self.norm1, self.norm2, self.norm3 = (ModulatedNorm(width, camera, _EPS) for _ in range(3))
        self.cross_attn = Attention(width, config.heads, context_width=config.encoder.width, out_bias=False)
        self.self_attn = PackedSelfAttention(width, config.heads, bias=False, out_bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, image_tokens: Tensor, camera: Tensor) -> Tensor:
        """x (B, N, width), image_tokens (B, M, E), camera (B, C) -> (B, N, width)."""
        x = x + self.cross_attn(self.norm1(x, camera), image_tokens)
        x = x + self.self_attn(self.norm2(x, camera))
        return x + self.mlp(self.norm3(x, camera))


class OpenLRM(nn.Module):
    """Picture and camera -> three planes; `field` binds the planes to their decoder."""

    def __init__(self, config: OpenLRMConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or OpenLRMConfig()
        self.encoder = VisionTransformer(c.encoder)
        self.camera_embedder = nn.Sequential(
            nn.Linear(16, c.camera_width), nn.SiLU(), nn.Linear(c.camera_width, c.camera_width)
        )
        self.tokens = nn.Parameter(torch.zeros(1, 3 * c.plane**2, c.width))
        self.layers = nn.ModuleList(ModulatedBlock(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width, _EPS)
        self.upsample = nn.ConvTranspose2d(c.width, c.features, 2, 2)
        self.decoder = PlaneDecoder(3 * c.features, 64, 3, 3, "relu")

    def forward(self, image: Tensor, camera: Tensor) -> Tensor:
        """image (B, 3, S, S) RGB 0..1 on white, camera (B, 16) -> planes (B, 3, features, 2 plane, 2 plane)."""
        embedding = self.camera_embedder(camera.to(self.tokens.dtype))  # (B, camera_width)
        image_tokens = self.encode(image, embedding)  # (B, 1 + M, E)
        x = self.tokens.expand(len(image), -1, -1)  # (B, 3 plane^2, width)
        for layer in self.layers:
            x = layer(x, image_tokens, embedding)
        side = self.config.plane
        each = self.norm(x).mT.unflatten(2, (3, side, side)).transpose(1, 2)  # (B, 3, width, side, side)
        return self.upsample(each.flatten(0, 1)).unflatten(0, (-1, 3)).float()

    def encode(self, image: Tensor, embedding: Tensor | None = None) -> Tensor:
        """image (B, 3, S, S) 0..1 -> image tokens; 1.1 feeds the raw picture to DINOv2, 1.0 normalises it."""
        if self.config.version == "1.0":
            mean, std = (image.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
            image = (image - mean) / std
        modulation = embedding if self.config.encoder.modulation else None
        return self.encoder(image.to(self.tokens.dtype), modulation)

    def field(self, image: Tensor, camera: Tensor | None = None) -> TriplaneField:
        """image (3, S, S) RGB 0..1 on white -> the field of what it shows; canonical camera unless one is given."""
        camera = openlrm_source().to(image) if camera is None else camera
        return self.field_of(self(image[None], camera[None])[0])

    def field_of(self, planes: Tensor) -> TriplaneField:
        """Planes (3, features, H, W) -> field, with this model's decoder."""
        return TriplaneField(planes, self.decoder, self.config.rule)

    @classmethod
    def from_public(
        cls, tensors: Mapping[str, Tensor], config: OpenLRMConfig, dtype: torch.dtype = torch.float32
    ) -> OpenLRM:
        """The network with the weights of a public file (name -> tensor); 1.0: its `weights` dictionary.

        `dtype` is that of everything but the field's own network, which always stays in float32.

        Raises:
            InputError: WEIGHTS_MISMATCH when names or shapes differ.
        """
        if any(re.search(r"encoder\.model\.blocks\.\d+\.norm1\.mlp\.", name) for name in tensors):
            config = replace(config, encoder=replace(config.encoder, modulation=config.camera_width))
        with torch.device("meta"):
            model = cls(config)
        load_public(model, tensors, layout_of(config), dtype)
        model.decoder.float()
        return model


def layout_of(config: OpenLRMConfig) -> KeyLayout:
    """Names of the public file: they depend on the version and on whether encoder and decoder are equally wide."""
    cross = r"layers.\1.cross_attn."
    fused = (
        config.encoder.width == config.width
    )  # one input projection, as torch's multi-head attention stores it
    old = config.version == "1.0"
    encoder = [(p.replace("^", r"^encoder\."), "encoder.model." + name) for p, name in DINO_V1]
    prefix = "transformer." if old else ""
    return KeyLayout(
        rules=[
            *(encoder if old else [(r"^encoder\.", "encoder.model.")]),
            *(
                (
                    rf"^layers\.(\d+)\.cross_attn\.to_{letter}\.weight",
                    cross + (f"in_proj_weight[{i}/3]" if fused else f"{letter}_proj_weight"),
                )
                for i, letter in enumerate("qkv")
            ),
            (r"^layers\.(\d+)\.cross_attn\.to_out\.0\.", cross + "out_proj."),
            (r"^layers\.(\d+)\.self_attn\.qkv\.weight", r"layers.\1.self_attn.in_proj_weight"),
            (r"^layers\.(\d+)\.self_attn\.proj\.", r"layers.\1.self_attn.out_proj."),
            (r"^(layers|norm)\.", r"transformer.\1."),
            (r"^tokens$", prefix + "pos_embed"),
            (r"^upsample\.", "transformer.deconv." if old else "upsampler."),
            (r"^camera_embedder\.", "camera_embedder.mlp."),
            (r"^decoder\.layers\.", "synthesizer.decoder.net."),
        ],
        ignored=r"mask_token$|\.pooler\.",
    )
