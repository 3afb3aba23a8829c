# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pictures of files as icons. Blender reads them in a thread of its own and keeps them in its thumbnail cache."""

from __future__ import annotations

from typing import Any

import bpy.utils.previews

MOST = 600
"""Pictures kept; our choice: a long list of photos and the live previews of some jobs."""

_pictures: Any = None


def icon_of(path: str) -> int:
    """The icon of a picture file; an empty one while it is being read, and for good where it cannot be."""
    if _pictures is None:
        return 0
    if path not in _pictures:
        if len(_pictures) >= MOST:
            _pictures.clear()
        _pictures.load(path, path, "IMAGE")
    return int(_pictures[path].icon_id)


def register() -> None:
    """An empty collection."""
    global _pictures
    _pictures = bpy.utils.previews.new()


def unregister() -> None:
    """The reverse."""
    global _pictures
    bpy.utils.previews.remove(_pictures)
    _pictures = None
