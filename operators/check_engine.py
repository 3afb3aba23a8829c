# SPDX-License-Identifier: GPL-3.0-or-later
"""Check: what the engine has, where it computes and how much memory is free, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from ..core.jobs import doctor
from ..core.progress import Progress
from . import engine, jobs

if TYPE_CHECKING:
    from .reports import Outcome

KIND = "check"

_findings: list[tuple[str, str]] = []
"""(icon, sentence) of the last check in this session."""


class MAQUETTE_OT_check_engine(bpy.types.Operator):
    """Start the engine once and say what is there, where it computes and how much memory is free; takes some seconds"""

    bl_idname = "maquette.check_engine"
    bl_label = "Check"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """There has to be something to check."""
        return engine.is_ready(cls)

    def execute(self, context: bpy.types.Context) -> Outcome:
        """In a thread; the panel shows what comes."""
        python = engine.engine_status().python
        assert python is not None  # `poll` has asked

        def work(progress: Progress) -> dict[str, Any]:
            def is_cancelled() -> bool:
                progress.check()
                return False

            with progress.stage("asking the engine"):
                return doctor.examine(python, is_cancelled)

        outcome = jobs.start_task(self, "Checking the engine", work, _keep, KIND)
        if bpy.app.background:
            for _, sentence in _findings:
                self.report({"INFO"}, sentence)
        return outcome


def findings() -> list[tuple[str, str]]:
    """(icon, sentence) each, to draw."""
    return _findings


def in_words(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What `core.jobs.doctor.examine` answered as (icon, sentence)."""
    libraries, missing = found.get("libraries", {}), found.get("missing", {})
    rows = [
        ("CHECKMARK", f"Python {found['python']}, torch {libraries.get('torch', 'missing')}, "
                      f"{len(libraries)} libraries")
    ]  # fmt: skip
    if missing:
        rows.append(("CANCEL", f"Missing: {', '.join(sorted(missing))}. Press Set Up Engine again."))
    cards = [name for name in found.get("devices", []) if name != "cpu"]
    free = found.get("graphics_free_bytes", {})
    for name in cards:
        kind, _, title = name.partition(" ")
        memory = f", {free[kind] / 2**30:.1f} GB free" if kind in free else ""
        rows.append(("CHECKMARK", f"Computes on {title or kind}{memory}"))
    if not cards:
        rows.append(("INFO", f"Computes on the processor with {found.get('threads', 1)} threads"))
    memory_bytes = found.get("memory_bytes", {})
    if memory_bytes:
        total, left = (memory_bytes[name] / 2**30 for name in ("total", "free"))
        icon = "CHECKMARK" if left > 4 else "ERROR"
        rows.append((icon, f"Memory: {left:.1f} of {total:.1f} GB free"))
    return rows


def _keep(found: dict[str, Any]) -> None:
    _findings[:] = in_words(found)


CLASSES = (MAQUETTE_OT_check_engine,)
