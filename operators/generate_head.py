# SPDX-License-Identifier: GPL-3.0-or-later
"""Generate Head: from a seed, from the gallery, or on the way between two heads of the scene."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import IntProperty

from ..core.errors import InputError, MaquetteError
from ..core.head_settings import SampleSettings
from ..core.jobs.request import Request
from ..core.results import Result
from . import jobs, previews
from .head_options import CODE, can_make_heads, head_folder, head_options, is_head
from .reports import refuse
from .settings import scene_state

if TYPE_CHECKING:
    from .reports import Outcome


class FromSeed:
    """What the operators that draw heads have in common; without a window they also wait for what was made, and take it in."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Engine and a generator have to be there."""
        return can_make_heads(cls, context.scene)  # type: ignore[arg-type]

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Start the job."""
        options = head_options(context.scene)
        chosen, title = self.asked(options)
        chosen |= {"seed": options.seed, "truncation": options.truncation}
        return start(self, context, chosen, title)

    def asked(self, options: Any) -> tuple[dict[str, Any], str]:
        """Settings beside seed and variety, and the job's title."""
        raise NotImplementedError


class MAQUETTE_OT_generate_head(FromSeed, bpy.types.Operator):
    """Make a head that never was, out of the seed, as a textured mesh"""

    bl_idname = "maquette.generate_head"
    bl_label = "Generate Head"
    bl_options = {"REGISTER"}  # the import that follows is the undo step

    def asked(self, options: Any) -> tuple[dict[str, Any], str]:
        """In full."""
        return camera_of(options), f"Head {options.seed}"


class MAQUETTE_OT_head_gallery(FromSeed, bpy.types.Operator):
    """Show quickly what the next seeds would make, before a head is made in full"""

    bl_idname = "maquette.head_gallery"
    bl_label = "Gallery"
    bl_options = {"REGISTER"}

    def asked(self, options: Any) -> tuple[dict[str, Any], str]:
        """From the seed on."""
        return {"gallery": options.count}, "Heads"


class MAQUETTE_OT_use_head(FromSeed, bpy.types.Operator):
    """Make this head of the gallery in full"""

    bl_idname = "maquette.use_head"
    bl_label = "Make This One"
    bl_options = {"REGISTER"}

    index: IntProperty(name="Head", description="Row of the gallery", min=0, options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Seed and variety are set as if the artist had chosen them."""
        options = head_options(context.scene)
        if self.index >= len(options.gallery):
            self.report({"ERROR"}, "There is no such head. Make a gallery first.")
            return {"CANCELLED"}
        row = options.gallery[self.index]
        options.seed, options.truncation, options.model = row.seed, row.truncation, row.model
        return super().execute(context)

    def asked(self, options: Any) -> tuple[dict[str, Any], str]:
        """In full."""
        return camera_of(options), f"Head {options.seed}"


class MAQUETTE_OT_clear_gallery(bpy.types.Operator):
    """Forget the heads of the gallery; their pictures go too"""

    bl_idname = "maquette.clear_gallery"
    bl_label = "Clear Gallery"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> Outcome:
        """The pictures are ours alone."""
        previews.clear(head_options(context.scene).gallery)
        return {"FINISHED"}


class MAQUETTE_OT_mix_heads(bpy.types.Operator):
    """Make a head between the chosen one and another head of the scene"""

    bl_idname = "maquette.mix_heads"
    bl_label = "Mix Heads"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Two heads have to be chosen: the active object and the one to mix with."""
        active, other = context.active_object, head_options(context.scene).mix_with
        if active is None or not is_head(active):
            cls.poll_message_set("Select a head that Maquette made")
            return False
        if other is None:
            cls.poll_message_set("Choose a head to mix with")
            return False
        if other == active:
            cls.poll_message_set("Choose another head to mix with than the selected one")
            return False
        return can_make_heads(cls, context.scene)

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Start the job; without a window also wait for it and import what it made."""
        options, active = head_options(context.scene), context.active_object
        try:
            first, second = (stored_head(item) for item in (active, options.mix_with))
        except MaquetteError as error:
            return refuse(self, error)
        chosen = {"begin": str(first), "interpolate": str(second), "share": options.share}
        return start(self, context, chosen, f"{active.name} to {options.mix_with.name}")


def stored_head(item: bpy.types.Object) -> Path:
    """The folder of a head with its latent.

    Raises:
        InputError: HEAD_GONE.
    """
    folder = head_folder(item)
    if not (folder / CODE).is_file():
        raise InputError(
            "HEAD_GONE",
            f"The result of {item.name} is not at {folder} any more.",
            "Put its folder back, or make the head anew.",
        )
    return folder


def shared_settings(scene: bpy.types.Scene) -> dict[str, Any]:
    """What heads take from the settings of meshes."""
    mesh, options = scene_state(scene).mesh, head_options(scene)
    return {
        "model": bpy.path.abspath(options.model) if options.model.startswith("//") else options.model,
        "quality": mesh.quality,
        "device": mesh.device,
        "texture_size": mesh.texture_size,
        "face_budget": mesh.face_budget,
        "resolution": mesh.resolution,
    }


def camera_of(options: Any) -> dict[str, float]:
    """Where the head's own camera is to stand, degrees."""
    return {"yaw": math.degrees(options.yaw), "elevation": math.degrees(options.elevation)}


def start(operator: Any, context: bpy.types.Context, chosen: dict[str, Any], title: str) -> Outcome:
    """The job of `head sample` with these settings; without a window it is waited for, and its result taken in."""
    try:
        settings = SampleSettings.from_json(shared_settings(context.scene) | chosen).as_json()
        request = Request("head_sample", (), settings, out=str(jobs.new_result_folder(title)))
    except MaquetteError as error:
        return refuse(operator, error)
    return jobs.start(operator, context.scene, request, title)


def take_in(scene: bpy.types.Scene, folder: Path, result: Result) -> int:
    """A finished job's gallery in place of the earlier one; returns how many heads it shows.

    Raises:
        InputError: RESULT_UNREADABLE; the earlier one stays then.
    """

    def fill(item: Any, row: dict[str, Any]) -> None:
        item.seed, item.truncation = row["seed"], result.metrics["truncation"]
        item.model = result.metrics["model"]

    return previews.take_in(
        head_options(scene).gallery, folder, result.metrics["gallery"], "Head {seed}", fill
    )


CLASSES = (
    MAQUETTE_OT_generate_head,
    MAQUETTE_OT_head_gallery,
    MAQUETTE_OT_use_head,
    MAQUETTE_OT_clear_gallery,
    MAQUETTE_OT_mix_heads,
)
