# SPDX-License-Identifier: GPL-3.0-or-later
"""The place of our panels."""

from __future__ import annotations


class Sidebar:
    """Where all our panels are."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Maquette"
