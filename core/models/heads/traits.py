# SPDX-License-Identifier: GPL-3.0-or-later
"""Traits of one head given to another through our generator's code, whose groups are known (`codes`).

A latent that an inversion found belongs to no code exactly. The nearest code is looked for, some of its groups are exchanged, and what
that changes of the latent is added to it; so all that is this head's own stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..eg3d.generator import Eg3d
from .codes import groups

STEPS = 100
"""Of the search for a code, quasi-Newton. Latents agree to a thousandth of their spread by then; what of an inverted latent no code
explains would drive a longer search into extreme traits (our choice)."""
SCALED = 100.0
"""Factor on the mean square difference of latents, which is a few hundredths, so that the search's own limits do not end it early."""


def nearest_code(network: Eg3d, ws: Tensor, label: Tensor) -> Tensor:
    """The code (1, z_width) of unit mean square whose latent comes nearest to the mean of rows (1, rows, w_width).

    Args:
        network: whose codes are ours.
        ws: the latent.
        label: (1, 25) on which the mapping is conditioned (ours ignores it).
    """
    wanted = ws.mean(1)
    code = torch.full((1, network.config.z_width), 0.01, device=ws.device, requires_grad=True)
    search = torch.optim.LBFGS([code], max_iter=STEPS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        apart: Tensor = SCALED * (network.mapping(code, label)[:, 0] - wanted).square().mean()
        # The mapping does not see a code's length: it is held near that of real ones.
        apart = apart + 1e-4 * (code.square().mean() - 1) ** 2
        apart.backward()
        return apart

    with torch.enable_grad():
        search.step(loss)
    found = code.detach()
    return found * torch.rsqrt(found.square().mean())


def with_traits(network: Eg3d, ws: Tensor, other: Tensor, label: Tensor, names: Sequence[str]) -> Tensor:
    """The latent (1, rows, w_width) with some groups of another head's code.

    Args:
        network: whose codes are ours.
        ws: the head that changes.
        other: the head whose traits it gets.
        label: (1, 25), see `nearest_code`.
        names: of the groups (`codes.NORMAL`, `codes.STYLES`).
    """
    own, theirs = (nearest_code(network, rows, label) for rows in (ws, other))
    changed, where = own.clone(), groups()
    for name in names:
        changed[:, where[name]] = theirs[:, where[name]]
    with torch.no_grad():
        return ws + network.mapping(changed, label) - network.mapping(own, label)
