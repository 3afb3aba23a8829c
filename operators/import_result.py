# SPDX-License-Identifier: GPL-3.0-or-later
"""Import Result: a finished job's folder, or any Result folder, into the scene as one undo step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import BoolProperty, StringProperty

from ..core.errors import InputError, MaquetteError
from ..core.jobs.request import Request
from ..core.results import Result, read_result
from . import align_camera, animated_camera, candidates, generate_head, jobs, orbit_head, re_bake
from .compat import as_point_cloud
from .photos import note_outcome
from .presentation import hide_meshes, present
from .reports import refuse
from .results import import_result
from .settings import result_info, scene_state

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_import_result(bpy.types.Operator):
    """Bring a finished result into the scene: mesh, material, cameras and photos"""

    bl_idname = "maquette.import_result"
    bl_label = "Import Result"
    bl_options = {"REGISTER", "UNDO"}

    job: StringProperty(
        name="Job", description="Finished job of this session", options={"SKIP_SAVE", "HIDDEN"}
    )
    directory: StringProperty(
        name="Folder", description="Folder with a scene.json", subtype="DIR_PATH", options={"SKIP_SAVE"}
    )
    filter_folder: BoolProperty(default=True, options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Undo steps of other modes do not hold new objects."""
        if context.mode != "OBJECT":
            cls.poll_message_set("Switch to Object mode first")
            return False
        if context.scene.library is not None:
            cls.poll_message_set("This scene belongs to another file; nothing can be put into it")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Outcome:
        """Ask for a folder where no job is named."""
        if self.job or self.directory:
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> Outcome:
        """All of it or nothing."""
        try:
            folder, name = self._source()
            result = read_result(folder)
            if result.method == "candidates":
                return self._take_candidates(context.scene, folder, result)
            if result.method in ("head_gallery", "head_orbit"):
                return self._take_heads(context.scene, folder, result)
            if result.method == "align":
                return self._take_alignment(context.scene, folder, result)
            if self._take_texture(context.scene, folder, result):
                return {"FINISHED"}
            imported = import_result(folder, context.scene, name)
        except MaquetteError as error:
            return refuse(self, error)
        note_outcome(context.scene, folder, result)
        shown = imported.meshes or [imported.root]
        present(context.scene, shown)
        if not result.objects and imported.meshes:
            as_point_cloud(imported.meshes[0])
        if result.settings.get("sequence"):
            self._animate(context.scene, imported.root)
        if self.job:
            before = self._same_frame(context.scene, imported.root)
            if before is not None:
                imported.root.matrix_world = before.matrix_world
            if before is not None and (self._request().verb == "extract" or jobs.replaced_by(self.job)):
                hide_meshes(before)
                old = next((child for child in before.children if child.type == "MESH"), None)
                scene_state(context.scene).compare_with = old
            jobs.forget(self.job)
        self.report({"INFO"}, f"{imported.collection.name}: {len(imported.cameras)} cameras")
        return {"FINISHED"}

    def _take_candidates(self, scene: bpy.types.Scene, folder: Path, result: Result) -> Outcome:
        count = candidates.take_in(scene, folder, result)
        if self.job:
            jobs.forget(self.job)
        self.report({"INFO"}, f"{count} candidates")
        return {"FINISHED"}

    def _take_heads(self, scene: bpy.types.Scene, folder: Path, result: Result) -> Outcome:
        """A gallery, or a head from all sides."""
        kind = generate_head if result.method == "head_gallery" else orbit_head
        count = kind.take_in(scene, folder, result)
        if self.job:
            jobs.forget(self.job)
        self.report({"INFO"}, f"{count} pictures")
        return {"FINISHED"}

    def _take_alignment(self, scene: bpy.types.Scene, folder: Path, result: Result) -> Outcome:
        camera = align_camera.take_in(scene, folder, result)
        if self.job:
            jobs.forget(self.job)
        solved = result.cameras[0]
        told = f"{camera.name}: {solved.source.grade}, {solved.metrics['reprojection_px']:.1f} pixels off"
        if solved.source.reason:
            self.report({"WARNING"}, f"{told}; {solved.source.reason}")
        else:
            self.report({"INFO"}, told)
        return {"FINISHED"}

    def _take_texture(self, scene: bpy.types.Scene, folder: Path, result: Result) -> bool:
        """Re-Bake's texture on the mesh it was made for; False where this is no such job, or that mesh is another by now."""
        if not self.job or self._request().verb != "bake":
            return False
        mesh = re_bake.take_in(scene, folder, result, self._request().settings)
        if mesh is None:
            self.report({"WARNING"}, "The mesh was edited meanwhile: its texture comes on a mesh of its own")
            return False
        jobs.forget(self.job)
        self.report({"INFO"}, f"{mesh.name} has its new texture")
        return True

    def _request(self) -> Request:
        """What this import's job was asked for."""
        entry = jobs.registry().find(self.job)
        assert entry is not None  # `_source` has found it
        return entry.request

    def _animate(self, scene: bpy.types.Scene, root: bpy.types.Object) -> None:
        """The single cameras are there already: where they make no sequence, that is said and nothing is lost."""
        try:
            _, frames = animated_camera.animate(root, scene, use_range=True)
        except MaquetteError as error:
            self.report({"WARNING"}, f"{error.message} {error.remedy}")
            return
        self.report({"INFO"}, animated_camera.told(frames))

    def _same_frame(self, scene: bpy.types.Scene, new: bpy.types.Object) -> bpy.types.Object | None:
        """The root of the result whose field or cameras this job was given: wherever that was moved to, the new one belongs."""
        request = self._request()
        source = jobs.replaced_by(self.job)
        if not source:
            of_result = request.verb in ("extract", "bake")
            source = request.inputs[0] if of_result else request.settings.get("cameras") or ""
        roots = (item for item in scene.objects if item.type == "EMPTY" and result_info(item).schema)
        return next((root for root in roots if root != new and result_info(root).folder == source), None)

    def _source(self) -> tuple[Path, str]:
        """Folder and name: a job's result is called as the job was in the sidebar."""
        if not self.job:
            return Path(bpy.path.abspath(self.directory)), ""
        entry = jobs.registry().find(self.job)
        if entry is None or entry.result is None:
            raise InputError("NO_RESULT", "This job has no result.", "Wait for it, or start it again.")
        return entry.result, entry.title


CLASSES = (MAQUETTE_OT_import_result,)
