# SPDX-License-Identifier: GPL-3.0-or-later
"""File name -> check. Each family of fixtures has a module with its own `CHECKS`; add a module here."""

from __future__ import annotations

from . import (
    campari,
    convonet,
    dvr,
    eg3d,
    eg3d_blending,
    giraffe,
    graf,
    lrm_diffusion,
    lrm_keys,
    lrm_matching,
    lrm_objects,
    lrm_one2345,
    mise,
    nerf,
    occupancy_flow,
    onet,
    texture_fields,
)
from .fixture import Check

FAMILIES: tuple[dict[str, Check], ...] = (
    onet.CHECKS,
    convonet.CHECKS,
    dvr.CHECKS,
    texture_fields.CHECKS,
    occupancy_flow.CHECKS,
    nerf.CHECKS,
    graf.CHECKS,
    giraffe.CHECKS,
    campari.CHECKS,
    mise.CHECKS,
    lrm_objects.CHECKS,
    lrm_diffusion.CHECKS,
    lrm_one2345.CHECKS,
    lrm_matching.CHECKS,
    lrm_keys.CHECKS,
    eg3d.CHECKS,
    eg3d_blending.CHECKS,
)
"""The `CHECKS` of each family's module."""

NOT_CHECKED = (
    "README.md",
    "sizes.json",
    "*_config.json",
    "*_weights.safetensors",
    "*_weights_f16.safetensors",
    "*_kwargs.json",
)
"""Files that are given, not expected."""

CHECKS = {name: check for family in FAMILIES for name, check in family.items()}
