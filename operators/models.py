# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights of published models: what each needs and allows, download with a pause, files that the artist has, removal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import BoolProperty, StringProperty

from ..core.errors import MaquetteError
from ..core.progress import Progress
from ..core.weights import store
from ..core.weights.cards import Card, Model, all_cards, find_model
from ..core.weights.layouts import LAYOUTS
from . import jobs, tasks
from .reports import refuse

if TYPE_CHECKING:
    from .reports import Outcome

COMMERCIAL = {
    "yes": "Commercial use: allowed",
    "no": "Commercial use: not allowed",
    "unstated": "Commercial use: not stated, ask the authors",
}
ADDING = "add a model"


@dataclass(frozen=True)
class Shelf:
    """What lies in the data folder, as panels draw it."""

    there: dict[str, store.InstalledModel]
    begun: dict[str, int]
    """Model whose download was begun -> bytes that are there."""


_shelf: Shelf | None = None


def shelf() -> Shelf:
    """Remembered, as panels ask in every draw; `look_again` renews it."""
    return _shelf or look_again()


def look_again() -> Shelf:
    """Read the data folder anew; what cannot be read is not there."""
    global _shelf
    try:
        there = {model.name: model for model in store.installed_models()}
        incoming = store.store() / ".incoming"
        begun = {folder.name: _bytes(folder) for folder in incoming.iterdir()} if incoming.is_dir() else {}
    except (MaquetteError, OSError):
        there, begun = {}, {}
    _shelf = Shelf(there, begun)
    return _shelf


def download_kind(name: str) -> str:
    """Of the task that downloads a model."""
    return f"model {name}"


def facts(card: Card, model: Model) -> Iterator[str]:
    """What an artist has to know before a download, a sentence each."""
    size = f"{model.size_mb:,} MB to download" if model.size_mb else "Size not known"
    memory = f", about {card.memory_gb:g} GB of memory to run" if card.memory_gb else ""
    yield f"{size}{memory}"
    yield f"Licence: {card.licence}"
    yield COMMERCIAL[card.commercial]
    yield f"Territory: {card.territory}"


def title_of(layout: str) -> str:
    """How people call the system that has a layout."""
    return next((item.title for item in LAYOUTS if item.name == layout and item.title), layout)


class MAQUETTE_OT_download_model(bpy.types.Operator):
    """Download this model; goes on where an earlier download stopped"""

    bl_idname = "maquette.download_model"
    bl_label = "Download"

    model: StringProperty(name="Model", description="Name of a model", options={"SKIP_SAVE"})

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        """Licence and all, in the tooltip too."""
        try:
            card, model = find_model(properties.model)
        except MaquetteError:
            return "Download this model"
        return ". ".join([f"{card.title}: {card.task}", *facts(card, model)])

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """The network has to be allowed."""
        if not bpy.app.online_access:
            cls.poll_message_set(
                "Allow Online Access in Preferences > System > Network, or take a file that you have: Use Local File"
            )
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Outcome:
        """Size, licence and the rest are to be read first; one that was begun goes on at once."""
        if self.model in shelf().begun:
            return self.execute(context)
        return context.window_manager.invoke_props_dialog(
            self, width=420, title="Download", confirm_text="Download"
        )

    def draw(self, context: bpy.types.Context) -> None:
        """The card."""
        try:
            card, model = find_model(self.model)
        except MaquetteError:
            return
        column = self.layout.column()
        column.label(text=f"{card.title}: {model.name}", icon="IMPORT", translate=False)
        for sentence in facts(card, model):
            column.label(text=sentence, icon="BLANK1", translate=False)

    def execute(self, context: bpy.types.Context) -> Outcome:
        """In a thread; the panel shows how far it is."""
        name, online = self.model, bpy.app.online_access
        try:
            card, _ = find_model(name)
        except MaquetteError as error:
            return refuse(self, error)
        if tasks.running(download_kind(name)) is not None:
            self.report({"WARNING"}, f"{name} is being downloaded")
            return {"CANCELLED"}

        def work(progress: Progress) -> Any:
            return store.download_model(name, progress, online)

        return jobs.start_task(
            self, f"{card.title}: {name}", work, lambda model: None, download_kind(name), _ended
        )


class MAQUETTE_OT_stop_download(bpy.types.Operator):
    """Stop this download; what has arrived is kept and Resume goes on from there"""

    bl_idname = "maquette.stop_download"
    bl_label = "Pause"

    model: StringProperty(name="Model", options={"SKIP_SAVE", "HIDDEN"})

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Within a tenth of a second."""
        task = tasks.running(download_kind(self.model))
        if task is None:
            return {"CANCELLED"}
        task.cancel()
        jobs.watch()
        return {"FINISHED"}


class MAQUETTE_OT_remove_model(bpy.types.Operator):
    """Delete this model, or what has arrived of it, from Maquette's data folder"""

    bl_idname = "maquette.remove_model"
    bl_label = "Remove"

    model: StringProperty(name="Model", options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Outcome:
        """It may have taken an hour to fetch."""
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context: bpy.types.Context) -> Outcome:
        """A download that runs is stopped first."""
        task = tasks.running(download_kind(self.model))
        if task is not None:
            task.cancel()
            task.wait()
            tasks.forget(task)
        try:
            freed = store.remove_model(self.model)
        except MaquetteError as error:
            return refuse(self, error)
        finally:
            look_again()
        self.report({"INFO"}, f"{self.model}: {freed / 1e6:.0f} MB freed")
        return {"FINISHED"}


class MAQUETTE_OT_add_model(bpy.types.Operator):
    """Take a weight file that you have: its system is told from the names of its tensors, nothing in it is run"""

    bl_idname = "maquette.add_model"
    bl_label = "Use Local File"

    filepath: StringProperty(name="File", subtype="FILE_PATH", options={"SKIP_SAVE"})
    use_folder: BoolProperty(
        name="Whole Folder",
        description="Take the folder of the chosen file: models of the diffusers library are folders",
        options={"SKIP_SAVE"},
    )
    filter_glob: StringProperty(
        default="*.safetensors;*.ckpt;*.pt;*.pth;*.pkl;*.bin;*.tar;*.json", options={"SKIP_SAVE", "HIDDEN"}
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Outcome:
        """Ask for the file."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> Outcome:
        """In a thread: reading the names takes seconds, copying minutes."""
        path = Path(bpy.path.abspath(self.filepath))
        if self.use_folder:
            path = path if path.is_dir() else path.parent

        def work(progress: Progress) -> Any:
            with progress.stage("recognising"):
                layout = store.identify(path)
            progress.update(0.0, f"recognised: {title_of(layout)}")
            return store.add_model(path, progress)

        def then(model: store.InstalledModel) -> None:
            if bpy.app.background:
                self.report({"INFO"}, f"{model.name}: {title_of(model.layout)}")

        return jobs.start_task(self, f"Adding {path.name}", work, then, ADDING, _ended)


class MAQUETTE_OT_use_model(bpy.types.Operator):
    """Take this model for the next mesh of a single picture"""

    bl_idname = "maquette.use_model"
    bl_label = "Use for Single Pictures"
    bl_options = {"REGISTER", "UNDO"}

    model: StringProperty(name="Model", options={"SKIP_SAVE", "HIDDEN"})

    def execute(self, context: bpy.types.Context) -> Outcome:
        """As if it had been written into the settings."""
        context.scene.maquette.mesh.model = self.model  # type: ignore[attr-defined]
        return {"FINISHED"}


def known_models() -> list[Card]:
    """All cards: those that make meshes of pictures first, then by title."""
    return sorted(all_cards(), key=lambda card: ("one picture" not in card.task, card.title.lower()))


def _ended() -> None:
    look_again()


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


CLASSES = (
    MAQUETTE_OT_download_model,
    MAQUETTE_OT_stop_download,
    MAQUETTE_OT_remove_model,
    MAQUETTE_OT_add_model,
    MAQUETTE_OT_use_model,
)
