# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIP's picture tower (Radford et al. 2021, ViT-L/14), on the shared vision transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.key_layout import Rule
from ..parts.transformer import VisionTransformer, VisionTransformerConfig

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
VIT_L14 = VisionTransformerConfig(
    1024, 24, 16, 4096, patch=14, image=224, eps=1e-5, quick_gelu=True, norm_before=True
)

OPENAI: list[Rule] = [
    (r"^vision\.cls_token", "class_embedding"),
    (r"^vision\.pos_embed", "positional_embedding"),
    (r"^vision\.patch_embed\.proj\.", "conv1."),
    (r"^vision\.norm_pre\.", "ln_pre."),
    (r"^vision\.norm\.", "ln_post."),
    (r"^vision\.blocks\.(\d+)\.", r"transformer.resblocks.\1."),
    (r"\.attn\.qkv\.(weight|bias)", r".attn.in_proj_\1"),
    (r"\.attn\.proj\.", ".attn.out_proj."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
]
"""Our names -> the original ones (below `visual.`)."""

DIFFUSERS: list[Rule] = [
    (r"^proj$", "visual_projection.weight"),
    (r"^vision\.cls_token", "vision_model.embeddings.class_embedding"),
    (r"^vision\.pos_embed", "vision_model.embeddings.position_embedding.weight"),
    (r"^vision\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^vision\.norm_pre\.", "vision_model.pre_layrnorm."),
    (r"^vision\.norm\.", "vision_model.post_layernorm."),
    (r"^vision\.blocks\.(\d+)\.", r"vision_model.encoder.layers.\1."),
    (r"\.attn\.qkv\.", ".self_attn.{q_proj,k_proj,v_proj}."),
    (r"\.attn\.proj\.", ".self_attn.out_proj."),
    (r"\.norm([12])\.", r".layer_norm\1."),
]
"""Our names -> those of the transformers library (`image_encoder`); `visual_projection.weight` is stored transposed."""


class ClipVision(nn.Module):
    """Picture -> one embedding."""

    def __init__(self, config: VisionTransformerConfig = VIT_L14, out: int = 768) -> None:
        super().__init__()
        self.vision = VisionTransformer(config)
        self.proj = nn.Parameter(torch.zeros(config.width, out))

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) -> (B, out): the class token after the last norm, projected."""
        return self.vision(pixels)[:, 0] @ self.proj

    def pixels(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W) in -1..1 -> normalised (B, 3, S, S): bicubic, aligned corners, as Zero123 does it."""
        side = self.vision.config.image
        resized = F.interpolate(image, (side, side), mode="bicubic", align_corners=True)
        mean, std = (image.new_tensor(v)[:, None, None] for v in (MEAN, STD))
        return ((resized + 1) / 2 - mean) / std
