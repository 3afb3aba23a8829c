# SPDX-License-Identifier: GPL-3.0-or-later
"""The point network that ConvONet, DVR and Occupancy Flow share: residual blocks, codes added before each of them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .key_shapes import Shapes, count
from .resnet_blocks import ResnetBlockFC


class ConditionedMlp(nn.Module):
    """h = fc_p(p); h = block_i(h + fc_c_i(c) + fc_z_i(z)); out = fc_out(relu(h)).

    Args:
        dim: numbers per point.
        hidden: width of the trunk.
        out_dim: width of the output.
        c_dim, z_dim: widths of the codes, 0: none.
        n_blocks: residual blocks.
        leaky: slope 0.2 before the last layer.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        out_dim: int,
        c_dim: int = 0,
        z_dim: int = 0,
        n_blocks: int = 5,
        leaky: bool = False,
    ) -> None:
        super().__init__()
        self.leak = 0.2 * leaky
        self.fc_p = nn.Linear(dim, hidden)
        if c_dim:
            self.fc_c = nn.ModuleList(nn.Linear(c_dim, hidden) for _ in range(n_blocks))
        if z_dim:
            self.fc_z = nn.ModuleList(nn.Linear(z_dim, hidden) for _ in range(n_blocks))
        self.blocks = nn.ModuleList(ResnetBlockFC(hidden) for _ in range(n_blocks))
        self.fc_out = nn.Linear(hidden, out_dim)

    def forward(self, p: Tensor, c: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        """p (B, T, dim), codes (B, width), or c (B, T, width) of each point -> (B, T, out_dim)."""
        h = self.fc_p(p)  # (B, T, H)
        for i, block in enumerate(self.blocks):
            if c is not None and hasattr(self, "fc_c"):
                h = h + (self.fc_c[i](c) if c.ndim == p.ndim else self.fc_c[i](c)[:, None])
            if z is not None and hasattr(self, "fc_z"):
                h = h + self.fc_z[i](z)[:, None]
            h = block(h)
        out: Tensor = self.fc_out(F.leaky_relu(h, self.leak))
        return out


def conditioned_mlp_from(shapes: Shapes, leaky: bool = False) -> ConditionedMlp:
    """The network whose key shapes these are."""
    hidden, dim = shapes["fc_p.weight"]
    return ConditionedMlp(
        dim,
        hidden,
        shapes["fc_out.weight"][0],
        shapes.get("fc_c.0.weight", (0, 0))[1],
        shapes.get("fc_z.0.weight", (0, 0))[1],
        count(shapes, "blocks.{}.fc_0.weight"),
        leaky,
    )
