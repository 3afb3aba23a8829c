# SPDX-License-Identifier: GPL-3.0-or-later
"""Save Result: the folder behind a result copied to where the artist keeps it, so that it can be imported anywhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import BoolProperty, StringProperty

from ..core.errors import InputError, MaquetteError
from ..core.progress import Progress
from ..core.results import new_folder, read_result
from . import jobs
from .reports import refuse
from .settings import result_info
from .versions import chosen_info

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_save_result(bpy.types.Operator):
    """Copy this result with its photos, cameras and field into a folder of your choice; Import Result reads it anywhere"""

    bl_idname = "maquette.save_result"
    bl_label = "Save Result"

    directory: StringProperty(
        name="Folder",
        description="Gets a folder named like the result",
        subtype="DIR_PATH",
        options={"SKIP_SAVE"},
    )
    filter_folder: BoolProperty(default=True, options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A result has to be chosen."""
        if chosen_info(context) is None:
            cls.poll_message_set("Select an object of a result")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Outcome:
        """Ask where to."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Copy without holding Blender up; the objects then point to the copy."""
        source = Path(chosen_info(context).folder)
        try:
            read_result(source)
            target = self._target(source)
        except MaquetteError as error:
            return refuse(self, error)

        def work(progress: Progress) -> Path:
            copy_result(source, target, progress)
            return target

        return jobs.start_task(
            self, f"Saving {target.name}", work, lambda saved: point_to(source, saved), f"save {target}"
        )

    def _target(self, source: Path) -> Path:
        """The folder to be made.

        Raises:
            InputError: OUT_NOT_EMPTY, OUT_NOT_WRITABLE.
        """
        if not self.directory:
            raise InputError("OUT_NOT_WRITABLE", "No folder is chosen.", "Choose one.")
        target = Path(bpy.path.abspath(self.directory)) / source.name
        if target.exists():
            raise InputError(
                "OUT_NOT_EMPTY", f"{target} exists already.", "Choose another folder, or rename that one."
            )
        return target


def copy_result(source: Path, target: Path, progress: Progress) -> None:
    """A whole folder, or nothing of it.

    Raises:
        InputError: OUT_NOT_WRITABLE. FailedError: DISK_FULL. Cancelled.
    """
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    total, done = sum(path.stat().st_size for path in files), 0
    with progress.stage("copying"), new_folder(target) as folder:
        for path in files:
            progress.update(done / max(total, 1), f"{done / 1e6:.0f} of {total / 1e6:.0f} MB")
            copy = folder / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            done += path.stat().st_size
        progress.check()


def point_to(source: Path, saved: Path) -> None:
    """All objects of a result look for it in its new place from now on."""
    items: Any = bpy.data.objects
    for item in items:
        info = result_info(item)
        if info.schema and info.folder and Path(info.folder) == source:
            info.folder = str(saved)


CLASSES = (MAQUETTE_OT_save_result,)
