# SPDX-License-Identifier: GPL-3.0-or-later
"""Decimate and Quads: Blender's own remeshers on a copy of a result's mesh, and the photos baked onto it anew."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty

from ..core.errors import FailedError, InputError, MaquetteError
from . import engine, jobs
from .mesh_report import measure
from .re_bake import bake_request, shape_of
from .reports import refuse
from .settings import result_info, scene_state
from .versions import choose, chosen_mesh, set_shown

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_remesh(bpy.types.Operator):
    """A lighter version of this mesh beside it, with a texture of its own; the old one is hidden"""

    bl_idname = "maquette.remesh"
    bl_label = "Remesh"
    bl_options = {"UNDO"}  # not REGISTER: changing a value afterwards would start another job

    method: EnumProperty(
        name="Method",
        items=[
            ("DECIMATE", "Decimate", "Fewer triangles by Blender's Decimate modifier; details go last"),
            (
                "QUADS",
                "Quads",
                "Even quads that follow the shape by Blender's QuadriFlow; for sculpting and rigging",
            ),
        ],
    )
    faces: IntProperty(
        name="Faces",
        description="So many faces, about: fewer are lighter and lose detail, the texture keeps it",
        default=10_000,
        min=12,
        soft_max=200_000,
    )
    use_re_bake: BoolProperty(
        name="Re-Bake", description="Make the texture anew from the photos; needs the engine", default=True
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        """By button."""
        if properties.method == "QUADS":
            return "A version of even quads beside this mesh (QuadriFlow), textured anew from the photos"
        return "A version with fewer triangles beside this mesh (Decimate), textured anew from the photos"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """As every new object."""
        if context.mode != "OBJECT":
            cls.poll_message_set("Switch to Object mode first")
            return False
        if chosen_mesh(context) is None:
            cls.poll_message_set("Select a mesh of a result")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Outcome:
        """Ask how many."""
        return context.window_manager.invoke_props_dialog(self, title=self._label())

    def draw(self, context: bpy.types.Context) -> None:
        """The method is that of the button."""
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(self, "faces")
        row = layout.row()
        row.enabled = engine.engine_status().problem is None
        row.prop(self, "use_re_bake")

    def execute(self, context: bpy.types.Context) -> Outcome:
        """The new mesh at once; its texture when the engine has made it."""
        old = chosen_mesh(context)
        try:
            new = self._made(context, old)
        except MaquetteError as error:
            return refuse(self, error)
        result_info(new).report = json.dumps(measure(new.data))
        set_shown(old, False)
        scene_state(context.scene).compare_with = old
        choose(context, new)
        if not self.use_re_bake:
            return {"FINISHED"}
        problem = engine.engine_status().problem
        try:
            if problem is not None:
                raise problem
            request = bake_request(context, new, scene_state(context.scene).mesh.texture_size)
        except MaquetteError as error:
            self.report(
                {"WARNING"}, f"The mesh is there without a new texture: {error.message} {error.remedy}"
            )
            return {"FINISHED"}
        jobs.start(self, context.scene, request, new.name)
        return {"FINISHED"}  # the mesh is there, whatever becomes of its texture

    def _label(self) -> str:
        return "Quads" if self.method == "QUADS" else "Decimate"

    def _made(self, context: bpy.types.Context, old: Any) -> Any:
        """A copy of the mesh as it is shown, remeshed, or nothing.

        Raises:
            InputError: FEW_FACES. FailedError: NOT_MANIFOLD.
        """
        graph = context.evaluated_depsgraph_get()
        data = bpy.data.meshes.new_from_object(
            old.evaluated_get(graph), preserve_all_data_layers=True, depsgraph=graph
        )
        triangles = sum(len(face.vertices) - 2 for face in data.polygons)
        if self.method == "DECIMATE" and triangles <= self.faces:
            bpy.data.meshes.remove(data)
            raise InputError(
                "FEW_FACES",
                f"{old.name} has {triangles:,} triangles already.",
                "Ask for fewer faces than it has.",
            )
        new = old.copy()
        new.modifiers.clear()
        new.data = data
        new.name = data.name = f"{old.name} {self._label()}"
        own = [collection for collection in old.users_collection if collection.library is None]
        for collection in own or [context.scene.collection]:
            collection.objects.link(new)
        choose(context, new)
        try:
            if self.method == "QUADS":
                self._quads(new)
            else:
                self._decimate(context, new, self.faces / triangles)
        except MaquetteError:
            bpy.data.meshes.remove(new.data)  # its object goes with it
            choose(context, old)
            raise
        return new

    def _decimate(self, context: bpy.types.Context, new: Any, ratio: float) -> None:
        """By the modifier, which is applied at once."""
        modifier = new.modifiers.new("Decimate", "DECIMATE")
        modifier.ratio = ratio
        modifier.use_collapse_triangulate = True
        graph = context.evaluated_depsgraph_get()
        before, name = new.data, new.data.name
        data = bpy.data.meshes.new_from_object(
            new.evaluated_get(graph), preserve_all_data_layers=True, depsgraph=graph
        )
        new.modifiers.clear()
        new.data = data
        bpy.data.meshes.remove(before)
        data.name = name
        if self.use_re_bake and engine.engine_status().problem is None:
            _forget_uvs(data)  # corners of islands have moved: the engine unwraps anew

    def _quads(self, new: Any) -> None:
        """By QuadriFlow, which wants a closed surface."""
        before = shape_of(new.data)
        with contextlib.suppress(RuntimeError):  # it warns of some causes, and raises for others
            bpy.ops.object.quadriflow_remesh(mode="FACES", target_faces=self.faces, seed=0)
        if not len(new.data.polygons) or shape_of(new.data) == before:
            raise FailedError(
                "NOT_MANIFOLD",
                f"QuadriFlow made no quads of {new.name.removesuffix(' Quads')}.",
                "It needs a closed mesh without loose parts: fill its holes (Mesh > Clean Up), or use Decimate.",
            )
        new.data.shade_smooth()


def _forget_uvs(data: Any) -> None:
    while data.uv_layers:
        data.uv_layers.remove(data.uv_layers[0])


CLASSES = (MAQUETTE_OT_remesh,)
