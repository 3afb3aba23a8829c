# SPDX-License-Identifier: GPL-3.0-or-later
"""Candidates: what several models and seeds make of one picture, side by side; one of them becomes the mesh."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import IntProperty

from ..core.errors import InputError, MaquetteError
from ..core.jobs.request import Request
from ..core.results import Result
from . import engine, inputs, jobs, previews
from .masks import save_painted_masks
from .reports import ours, refuse
from .settings import scene_state

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_candidates(bpy.types.Operator):
    """Show quickly what the models that are there make of the picture, before a mesh is made in full"""

    bl_idname = "maquette.candidates"
    bl_label = "Candidates"
    bl_options = {"REGISTER"}

    seeds: IntProperty(
        name="Seeds",
        description="Per model; 0 makes four candidates in all",
        min=0,
        max=64,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """The engine has to be there."""
        return engine.is_ready(cls)

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Start the job; without a window also wait for it and take in what it made."""
        options = scene_state(context.scene).mesh
        try:
            paths = inputs.photos_at_hand(context)
            if len(paths) != 1:
                raise InputError(
                    "ONE_PICTURE",
                    f"Candidates are made of one picture; {len(paths)} are chosen.",
                    "Leave the picture that shows the object best in the list.",
                )
            save_painted_masks(options)
            settings = {
                "models": [options.model] if options.model else [],
                "seeds": self.seeds,
                "seed": options.seed,
                "masks": bpy.path.abspath(options.masks),
                "matting": bpy.path.abspath(options.matting),
                "mask_mode": options.mask_mode,
                "device": options.device,
            }
            title = f"{paths[0].stem} candidates"
            request = Request(
                "candidates", (str(paths[0]),), settings, out=str(jobs.new_result_folder(title))
            )
        except MaquetteError as error:
            return refuse(self, error)
        return jobs.start(self, context.scene, request, title)


class MAQUETTE_OT_use_candidate(bpy.types.Operator):
    """Make the mesh of this candidate's picture with its model and seed"""

    bl_idname = "maquette.use_candidate"
    bl_label = "Make This One"
    bl_options = {"REGISTER"}

    index: IntProperty(name="Candidate", description="Row of the list", min=0, options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Method, model and seed are set as if the artist had chosen them."""
        state = scene_state(context.scene)
        if self.index >= len(state.candidates):
            self.report({"ERROR"}, "There is no such candidate. Make candidates first.")
            return {"CANCELLED"}
        chosen, options = state.candidates[self.index], state.mesh
        options.method, options.model, options.seed = "lrm", chosen.model, chosen.seed
        picture = Path(chosen.picture)
        try:
            ours.image_to_mesh(directory=str(picture.parent), files=[{"name": picture.name}])
        except RuntimeError as error:
            self.report({"ERROR"}, str(error).removeprefix("Error: ").strip())
            return {"CANCELLED"}
        return {"FINISHED"}


class MAQUETTE_OT_clear_candidates(bpy.types.Operator):
    """Forget the candidates; their pictures go too"""

    bl_idname = "maquette.clear_candidates"
    bl_label = "Clear Candidates"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> Outcome:
        """The pictures are ours alone."""
        previews.clear(scene_state(context.scene).candidates)
        return {"FINISHED"}


def take_in(scene: bpy.types.Scene, folder: Path, result: Result) -> int:
    """A finished job's candidates in place of earlier ones; returns how many.

    Raises:
        InputError: RESULT_UNREADABLE; the earlier ones stay then.
    """

    def fill(item: Any, row: dict[str, Any]) -> None:
        item.model, item.seed, item.licence = row["model"], row["seed"], row["licence"]
        item.picture = result.metrics["picture"]

    rows = result.metrics["candidates"]
    return previews.take_in(scene_state(scene).candidates, folder, rows, "{model} {seed}", fill)


CLASSES = (MAQUETTE_OT_candidates, MAQUETTE_OT_use_candidate, MAQUETTE_OT_clear_candidates)
