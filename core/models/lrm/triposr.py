# SPDX-License-Identifier: GPL-3.0-or-later
"""TripoSR (Tochilkin et al. 2024): one picture -> tri-plane, without cameras.

Loads the public files `config.yaml` and `model.ckpt` (549 tensors) in their own layout. Spec of names and arithmetic:
docs/models/triposr.md. Frame: right-handed, z up, the picture seen from +x; image right = +y.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...fields.triplane import PlaneDecoder, TriplaneField, TriplaneRule
from ..parts.key_layout import KeyLayout, load_public
from ..parts.transformer import DINO_V1, CrossBlock, VisionTransformer, VisionTransformerConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# facebook/dino-vitb16; its configuration is not in the checkpoint.
DINO_B16 = VisionTransformerConfig(eps=1e-12, pooler=True)

LAYOUT = KeyLayout(
    rules=[
        *(
            (pattern.replace("^", r"^encoder\."), "image_tokenizer.model." + name)
            for pattern, name in DINO_V1
        ),
        (r"^tokens$", "tokenizer.embeddings"),
        (r"^(norm|proj_in|proj_out|transformer_blocks)\b", r"backbone.\1"),
        (r"^upsample\.", "post_processor.upsample."),
    ],
    ignored=r"^image_tokenizer\.(image_mean|image_std)$|position_ids$",
)


@dataclass(frozen=True)
class TripoSRConfig:
    """Values of the public `config.yaml`, named by what they are."""

    image: int = 512
    """Side of the picture that the encoder sees, pixels."""
    encoder: VisionTransformerConfig = DINO_B16
    plane: int = 32
    """Side of the learnt planes; the up-sampler doubles it."""
    width: int = 1024
    heads: int = 16
    head_width: int = 64
    layers: int = 16
    norm_groups: int = 32
    features: int = 40
    """Channels of the finished planes."""
    hidden: int = 64
    hidden_layers: int = 9
    activation: str = "silu"
    samples: int = 128
    """Per ray."""
    rule: TriplaneRule = field(default_factory=lambda: TriplaneRule(radius=0.87))

    @classmethod
    def from_public(
        cls, public: Mapping[str, Any], encoder: VisionTransformerConfig = DINO_B16
    ) -> TripoSRConfig:
        """The parsed public configuration; `*_cls` strings are checked against the names known here, never imported.

        Raises:
            InputError: CONFIG_UNKNOWN for a class or an option that the public TripoSR does not have.
        """
        for key, value in public.items():
            if key.endswith("_cls") and value != _CLASSES.get(key):
                raise _unknown(f"{key}: {value}")
        tokenizer, backbone, renderer = public["tokenizer"], public["backbone"], public["renderer"]
        post, decoder = public["post_processor"], public["decoder"]
        activation = renderer.get("density_activation", "trunc_exp")
        if activation not in ("exp", "trunc_exp") or renderer.get("color_activation", "sigmoid") != "sigmoid":
            raise _unknown(
                f"density_activation {activation}, color_activation {renderer.get('color_activation')}"
            )
        return cls(
            image=public["cond_image_size"],
            encoder=encoder,
            plane=tokenizer["plane_size"],
            width=tokenizer["num_channels"],
            heads=backbone["num_attention_heads"],
            head_width=backbone["attention_head_dim"],
            layers=backbone["num_layers"],
            norm_groups=backbone.get("norm_num_groups", 32),
            features=post["out_channels"],
            hidden=decoder["n_neurons"],
            hidden_layers=decoder["n_hidden_layers"],
            activation=decoder.get("activation", "relu"),
            samples=renderer.get("num_samples_per_ray", 128),
            rule=TriplaneRule(
                radius=renderer["radius"],
                reduction=renderer.get("feature_reduction", "concat"),
                density_bias=renderer.get("density_bias", -1.0),
            ),
        )


class TripoSR(nn.Module):
    """Picture -> scene code (three planes); `field` binds the planes to their decoder."""

    def __init__(self, config: TripoSRConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or TripoSRConfig()
        planes = 1 if c.rule.reduction == "mean" else 3
        self.encoder = VisionTransformer(c.encoder)
        self.tokens = nn.Parameter(torch.zeros(3, c.width, c.plane, c.plane))
        self.norm = nn.GroupNorm(c.norm_groups, c.width, eps=1e-6)
        self.proj_in = nn.Linear(c.width, c.heads * c.head_width)
        self.transformer_blocks = nn.ModuleList(
            CrossBlock(c.heads * c.head_width, c.heads, c.head_width, c.encoder.width)
            for _ in range(c.layers)
        )
        self.proj_out = nn.Linear(c.heads * c.head_width, c.width)
        self.upsample = nn.ConvTranspose2d(c.width, c.features, 2, 2)
        self.decoder = PlaneDecoder(planes * c.features, c.hidden, c.hidden_layers, 3, c.activation)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S) RGB 0..1 on grey, S = config.image -> scene codes (B, 3, features, 2 plane, 2 plane)."""
        return self.planes(self.decode(self.encode(image)))

    def encode(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S) 0..1 -> image tokens (B, 1 + N, E), class token included."""
        mean, std = (image.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        return self.encoder(((image - mean) / std).to(self.tokens.dtype))

    def start(self) -> Tensor:
        """The learnt tokens (1, width, 3 plane^2); index = plane * side^2 + row * side + column."""
        return self.tokens.transpose(0, 1).flatten(1)[None]

    def decode(self, image_tokens: Tensor) -> Tensor:
        """image tokens (B, M, E) -> tri-plane tokens (B, width, 3 plane^2), outer residual added."""
        start = self.start()
        x = self.proj_in(self.norm(start).mT).expand(len(image_tokens), -1, -1)  # (B, L, heads * head_width)
        for block in self.transformer_blocks:
            x = block(x, image_tokens)
        return self.proj_out(x).mT + start

    def planes(self, tokens: Tensor) -> Tensor:
        """tri-plane tokens (B, width, 3 plane^2) -> scene codes (B, 3, features, 2 plane, 2 plane) float32."""
        side = self.config.plane
        each = tokens.unflatten(2, (3, side, side)).transpose(1, 2)  # (B, 3, width, side, side)
        return self.upsample(each.flatten(0, 1)).unflatten(0, (-1, 3)).float()

    def field(self, image: Tensor) -> TriplaneField:
        """image (3, S, S) RGB 0..1 on grey -> the field of what it shows."""
        return self.field_of(self(image[None])[0])

    def field_of(self, planes: Tensor) -> TriplaneField:
        """Scene code (3, features, H, W) -> field, with this model's decoder."""
        return TriplaneField(planes, self.decoder, self.config.rule)

    def with_resize(self, modern: bool) -> TripoSR:
        """Choose the resampling of the position table: legacy (the published results) or that of newer libraries."""
        self.encoder.config = replace(self.encoder.config, resize="size" if modern else "legacy")
        return self

    @classmethod
    def from_public(
        cls,
        tensors: Mapping[str, Tensor],
        config: TripoSRConfig | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> TripoSR:
        """The network with the weights of a public `model.ckpt` (name -> tensor).

        `dtype` is that of encoder and decoder transformer; the field's own network always stays in float32.

        Raises:
            InputError: WEIGHTS_MISMATCH when names or shapes differ.
        """
        with torch.device("meta"):
            model = cls(config)
        load_public(model, renamed(tensors), LAYOUT, dtype)
        model.decoder.float()
        return model


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Encoder names of newer transformers libraries -> those of the public checkpoint; other names stay."""
    parts = {
        ".attention.q_proj.": ".attention.attention.query.",
        ".attention.k_proj.": ".attention.attention.key.",
        ".attention.v_proj.": ".attention.attention.value.",
        ".attention.o_proj.": ".attention.output.dense.",
        ".mlp.fc1.": ".intermediate.dense.",
        ".mlp.fc2.": ".output.dense.",
    }
    out = {}
    for name, tensor in tensors.items():
        if name.startswith("image_tokenizer.model."):
            name = name.replace("image_tokenizer.model.layers.", "image_tokenizer.model.encoder.layer.")
            name = name.replace(
                "image_tokenizer.model.encoder.layers.", "image_tokenizer.model.encoder.layer."
            )
            for new, old in parts.items():
                name = name.replace(new, old)
        out[name] = tensor
    return out


_CLASSES = {
    "image_tokenizer_cls": "tsr.models.tokenizers.image.DINOSingleImageTokenizer",
    "tokenizer_cls": "tsr.models.tokenizers.triplane.Triplane1DTokenizer",
    "backbone_cls": "tsr.models.transformer.transformer_1d.Transformer1D",
    "post_processor_cls": "tsr.models.network_utils.TriplaneUpsampleNetwork",
    "decoder_cls": "tsr.models.network_utils.NeRFMLP",
    "renderer_cls": "tsr.models.nerf_renderer.TriplaneNeRFRenderer",
}


def _unknown(what: str) -> InputError:
    return InputError(
        "CONFIG_UNKNOWN",
        f"The configuration asks for something TripoSR does not have: {what}.",
        "Choose its own file.",
    )
