# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that touches bpy.data: reading an artist's choices, running jobs, bringing results in."""

from __future__ import annotations


def register() -> None:
    """Add settings and operators to Blender."""
    from . import settings

    settings.register()


def unregister() -> None:
    """The reverse; running jobs are stopped."""
    from . import settings

    settings.unregister()
