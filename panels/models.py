# SPDX-License-Identifier: GPL-3.0-or-later
"""Cards of the models: what each needs and allows is to be read before its button is pressed."""

from __future__ import annotations

from typing import Any

import bpy

from ..core.weights.cards import Card, Model
from ..operators import models, tasks
from .sidebar import Sidebar
from .tasks import draw_task
from .text import draw_text, time_left, words


class MAQUETTE_PT_models(Sidebar, bpy.types.Panel):
    """All systems, each folded."""

    bl_label = "Models"
    bl_idname = "MAQUETTE_PT_models"
    bl_parent_id = "MAQUETTE_PT_engine"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """The artist's own files first, then the cards."""
        layout: Any = self.layout
        shelf = models.shelf()
        column = layout.column(align=True)
        column.operator("maquette.add_model", icon="FILE_FOLDER")
        task = tasks.running(models.ADDING) or next(
            (t for t in tasks.tasks() if t.kind == models.ADDING), None
        )
        if task is not None:
            draw_task(layout, context, task)
        cards = models.known_models()
        known = {model.name for card in cards for model in card.models}
        for own in (model for name, model in shelf.there.items() if name not in known):
            row = layout.row()
            row.label(text=f"{own.name} ({models.title_of(own.layout)})", icon="CHECKMARK", translate=False)
            row.operator("maquette.remove_model", text="", icon="TRASH").model = own.name
        for card in cards:
            header, body = layout.panel(f"MAQUETTE_card_{card.name}", default_closed=True)
            count = sum(model.name in shelf.there for model in card.models)
            header.label(text=card.title, icon="CHECKMARK" if count else "NONE", translate=False)
            if body is not None:
                _draw_card(body, context, card, shelf)


def _draw_card(layout: Any, context: bpy.types.Context, card: Card, shelf: models.Shelf) -> None:
    """What holds for the whole system, then each of its models."""
    draw_text(layout, context, card.task.capitalize())
    column = layout.column(align=True)
    column.label(text=words("Licence: {name}").format(name=card.licence), translate=False)
    icon = "CHECKMARK" if card.commercial == "yes" else "ERROR"
    column.label(text=models.COMMERCIAL[card.commercial], icon=icon)
    column.label(text=words("Territory: {name}").format(name=card.territory), translate=False)
    if card.memory_gb:
        needed = words("Memory to run: about {size:g} GB").format(size=card.memory_gb)
        column.label(text=needed, translate=False)
    if card.note:
        draw_text(layout, context, card.note)
    if card.source:
        layout.operator("wm.url_open", text="Publisher", icon="URL").url = card.source
    for model in card.models:
        _draw_model(layout.box(), context, card, model, shelf)


def _draw_model(box: Any, context: bpy.types.Context, card: Card, model: Model, shelf: models.Shelf) -> None:
    """Name and size, then what can be done with it now."""
    size = f"{model.size_mb:,} MB" if model.size_mb else words("size not known")
    row = box.row()
    row.label(text=f"{model.name}, {size}", translate=False)
    if model.about:
        box.label(text=model.about, translate=False)
    task = next((t for t in tasks.tasks() if t.kind == models.download_kind(model.name)), None)
    if task is not None and not task.over:
        parts = [task.note or words(task.stage), *time_left(task.seconds_left)]
        box.progress(factor=task.progress, text=", ".join(parts), type="BAR")
        row = box.row(align=True)
        row.enabled = not task.cancelling
        row.operator("maquette.stop_download", icon="PAUSE").model = model.name
        row.operator("maquette.remove_model", text="Cancel", icon="X").model = model.name
        return
    if task is not None and task.error is not None:
        draw_text(box, context, f"{task.error.message} {task.error.remedy}", icon="CANCEL")
    row = box.row(align=True)
    if model.name in shelf.there:
        if "one picture" in card.task:
            row.operator("maquette.use_model", icon="CHECKMARK").model = model.name
        row.operator("maquette.remove_model", icon="TRASH").model = model.name
    elif model.name in shelf.begun:
        text = words("Resume ({size:.0f} MB there)").format(size=shelf.begun[model.name] / 1e6)
        row.operator("maquette.download_model", text=text, icon="PLAY").model = model.name
        row.operator("maquette.remove_model", text="", icon="TRASH").model = model.name
    elif model.downloadable:
        row.operator("maquette.download_model", icon="IMPORT").model = model.name
    else:
        row.label(text="Its publisher gives it out; take it with Use Local File", icon="INFO")


CLASSES = (MAQUETTE_PT_models,)
