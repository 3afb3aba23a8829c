# SPDX-License-Identifier: GPL-3.0-or-later
"""Words for panels: wrapped sentences, durations, numbers out of stored JSON."""

from __future__ import annotations

import json
import textwrap
from functools import lru_cache
from typing import Any

import bpy

LETTER_PX = 7.0
"""Mean width of a letter of Blender's interface font at scale 1. Our choice: a little wide, so no line is cut."""


def draw_text(layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: str = "NONE") -> None:
    """A sentence over as many lines as the region's width asks for; the icon stands at the first.

    It is translated whole, for a translation of its lines there is none.
    """
    scale = context.preferences.system.ui_scale
    letters = max(int((context.region.width / scale - 50) / LETTER_PX), 16)
    column: Any = layout.column(align=True)
    column.scale_y = 0.8
    for number, line in enumerate(textwrap.wrap(words(text), letters)):
        shown = icon if number == 0 else "BLANK1" if icon != "NONE" else "NONE"
        column.label(text=line, icon=shown, translate=False)


def words(text: str) -> str:
    """In the language of the interface, where a translation is registered; for texts that are put together from parts."""
    translated: Any = bpy.app.translations.pgettext_iface(text)  # type: ignore[func-returns-value]
    return str(translated)


def progress_text(stage: str, share: float, seconds_left: float | None = None) -> str:
    """What stands in a bar: stage, per cent, and the time left where one is known."""
    parts = [words(stage.capitalize()), f"{100 * share:.0f} %", *time_left(seconds_left)]
    return ", ".join(part for part in parts if part)


def time_left(seconds: float | None) -> list[str]:
    """`1:05 left`, or nothing where no time is known."""
    return [] if seconds is None else [words("{time} left").format(time=duration(seconds))]


def duration(seconds: float) -> str:
    """1:05 for 65 s, 1:01:01 for an hour and more."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@lru_cache(maxsize=64)
def stored(text: str) -> dict[str, Any]:
    """What a JSON property of `ResultInfo` holds; panels ask in every draw."""
    try:
        data = json.loads(text or "{}")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
