# SPDX-License-Identifier: GPL-3.0-or-later
"""`blender --command maquette VERB ...`: the command line inside Blender, same parser and exit codes."""

from __future__ import annotations

from typing import Any

import bpy

_handle: Any = None


def _run(arguments: list[str]) -> int:
    from ..core.cli import main  # only when asked for

    return main(arguments, online=bpy.app.online_access)


def register() -> None:
    """Blender keeps the name as long as the handle lives."""
    global _handle
    _handle = bpy.utils.register_cli_command("maquette", _run)  # type: ignore[func-returns-value]


def unregister() -> None:
    """The reverse."""
    global _handle
    if _handle is not None:
        bpy.utils.unregister_cli_command(_handle)
        _handle = None
