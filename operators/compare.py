# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare: the chosen mesh and another version of it in turns, or side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import EnumProperty
from mathutils import Vector

from .settings import scene_state
from .versions import choose, chosen_mesh, is_version, set_shown

if TYPE_CHECKING:
    from .reports import Outcome

GAP = 0.15
"""Between two versions side by side, as a share of the wider one."""


class MAQUETTE_OT_compare(bpy.types.Operator):
    """Compare this mesh with the version chosen below"""

    bl_idname = "maquette.compare"
    bl_label = "Compare"
    bl_options = {"REGISTER", "UNDO"}

    mode: EnumProperty(
        name="Mode",
        items=[
            ("TOGGLE", "Toggle", "Show one in the other's place"),
            ("SIDE", "Side by Side", "Show both, the other one to the right; again: back in its place"),
        ],
        options={"SKIP_SAVE"},
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        """By button."""
        if properties.mode == "SIDE":
            return "Show the other version to the right of this one; again brings it back to its place"
        return "Hide this version and show the other one in its place"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Two versions have to be there."""
        if context.mode != "OBJECT":
            cls.poll_message_set("Switch to Object mode first")
            return False
        here, other = chosen_mesh(context), other_version(context)
        if here is None or other is None:
            cls.poll_message_set(
                "Choose another version first: Regenerate, Re-Extract, Decimate or Quads makes one"
            )
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Which is chosen changes with Toggle only."""
        here, other = chosen_mesh(context), other_version(context)
        if self.mode == "TOGGLE":
            self._toggle(context, here, other)
        elif _is_aside(other):
            other.delta_location = (0.0, 0.0, 0.0)
            set_shown(other, False)
        else:
            set_shown(here, True)
            set_shown(other, True)
            context.view_layer.update()
            _put_aside(other, here)
        return {"FINISHED"}

    def _toggle(self, context: bpy.types.Context, here: Any, other: Any) -> None:
        for mesh in (here, other):
            mesh.delta_location = (0.0, 0.0, 0.0)
        set_shown(here, False)
        set_shown(other, True)
        scene_state(context.scene).compare_with = here
        choose(context, other)


def other_version(context: bpy.types.Context) -> Any:
    """The version to compare the chosen mesh with; None where none was chosen or made."""
    other = scene_state(context.scene).compare_with
    usable = is_version(other) and other != chosen_mesh(context) and other.name in context.scene.objects
    return other if usable else None


def _is_aside(mesh: Any) -> bool:
    return any(abs(value) > 1e-9 for value in mesh.delta_location)


def _put_aside(other: Any, here: Any) -> None:
    """To the right of what is chosen, by its delta location: its own location stays."""
    widths = [_extent(mesh) for mesh in (here, other)]
    shift = Vector((widths[0][1] - widths[1][0] + GAP * max(high - low for low, high in widths), 0.0, 0.0))
    if other.parent is not None:
        shift = (other.parent.matrix_world @ other.matrix_parent_inverse).to_3x3().inverted() @ shift
    other.delta_location = shift


def _extent(mesh: Any) -> tuple[float, float]:
    """Least and greatest x of its bounds in the world."""
    along = [(mesh.matrix_world @ Vector(corner)).x for corner in mesh.bound_box]
    return min(along), max(along)


CLASSES = (MAQUETTE_OT_compare,)
