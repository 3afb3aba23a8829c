# SPDX-License-Identifier: GPL-3.0-or-later
"""Multi-head attention (Vaswani et al. 2017, section 3.2) in the two storage forms that published checkpoints use.

Softmax of q k^T / sqrt(head width), times v. Torch's fused kernel never holds the N x N matrix, which for TripoSR's
3072 tokens would be 604 MB a layer.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .rows import RowLinear


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """q (B, N, heads*d), k and v (B, M, heads*d) -> (B, N, heads*d)."""
    split = [t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v)]  # 3 x (B, heads, tokens, d)
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Self- or cross-attention with separate q, k and v matrices; `context` None means self-attention.

    Args:
        width: width of the tokens that ask, and of the result.
        heads: number of heads.
        head_width: width per head; None: width / heads.
        context_width: width of the tokens that answer; None: width.
        bias: q, k and v have a bias.
        out_bias: the output matrix has a bias.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int | None = None,
        context_width: int | None = None,
        bias: bool = False,
        out_bias: bool = True,
    ) -> None:
        super().__init__()
        inner = heads * (head_width or width // heads)
        self.heads = heads
        self.to_q = RowLinear(width, inner, bias)
        self.to_k = RowLinear(context_width or width, inner, bias)
        self.to_v = RowLinear(context_width or width, inner, bias)
        self.to_out = nn.ModuleList([RowLinear(inner, width, out_bias)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B, N, width), context (B, M, context_width) -> (B, N, width)."""
        context = x if context is None else context
        if context.shape[1] == 1:  # the softmax over one token is 1, whatever asks
            return self.to_out[0](self.to_v(context)).expand(-1, x.shape[1], -1)
        return self.to_out[0](attend(self.to_q(x), self.to_k(context), self.to_v(context), self.heads))


class PackedSelfAttention(nn.Module):
    """Self-attention whose q, k and v rows lie in one matrix `qkv` (vision transformers)."""

    def __init__(self, width: int, heads: int, bias: bool = True, out_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = RowLinear(width, 3 * width, bias)
        self.proj = RowLinear(width, width, out_bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, width) -> (B, N, width)."""
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.proj(attend(q, k, v, self.heads))
