# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs of this Blender: one registry, and one timer that polls it while something is going on.

A modal operator would die when a file is loaded and could not queue; a persistent timer does neither.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from ..core.errors import MaquetteError
from ..core.jobs import places
from ..core.jobs.environment import engine_python
from ..core.jobs.registry import CANCELLED, DONE, Entry, Registry
from ..core.jobs.request import Request
from ..core.jobs.runner import Worker
from . import engine, tasks
from .reports import ours, refuse
from .settings import preferences

if TYPE_CHECKING:
    from .reports import Outcome

log = logging.getLogger(__name__)

INTERVAL_S = 0.25
"""Between two looks while something runs."""
BAR_S = 1.0
"""Between two drawings of the sidebar while only a bar and the time left move; another stage, picture or state is drawn at

once. Our choice: four drawings a second took 40 % of a core from the engine where Blender draws without a graphics card.
"""
IMPORT_PATIENCE_S = 10.0
"""How long an import waits for the artist to finish what the mouse is doing, before it becomes a button."""

make_worker = Worker
"""Starts the engine process; tests put another in its place."""

_registry: Registry | None = None
_origins: dict[str, int] = {}
"""Job -> `session_uid` of the scene it was started in."""
_to_import: dict[str, float] = {}
"""Job -> until when its automatic import may wait."""
_drawn: tuple[object, ...] = ()
"""What of the jobs the sidebars were last asked to draw, bars aside."""
_drawn_at = 0.0
"""When that was, in `time.monotonic`."""
_replaced: dict[str, str] = {}
"""Job -> folder of the result whose meshes its own take the place of."""


def registry() -> Registry:
    """The registry of this session, made at its first use."""
    global _registry
    if _registry is None:
        _registry = Registry(_engine_python, make_worker=lambda python, idle_s: make_worker(python, idle_s))
    return _registry


def entries() -> list[Entry]:
    """All jobs to draw; makes nothing."""
    return _registry.entries if _registry else []


def submit(scene: bpy.types.Scene, request: Request, title: str) -> Entry:
    """Put a job in line; a window's timer takes it from there, `wait` does without a window."""
    chosen = preferences()
    jobs = registry()
    jobs.idle_s = max(60.0 * chosen.idle_minutes, 1.0) if chosen else 1.0
    job = jobs.submit(request, title)
    _origins[job] = scene.session_uid
    watch()
    entry = jobs.find(job)
    assert entry is not None
    return entry


def start(
    operator: bpy.types.Operator, scene: bpy.types.Scene, request: Request, title: str, replaces: str = ""
) -> Outcome:
    """How an operator ends that starts a job; without a window it also waits and imports what the job made.

    Args:
        operator: reports what goes wrong.
        scene: gets the result.
        request: what the engine is asked for.
        title: what the panel calls the job.
        replaces: folder of an imported result whose meshes are hidden then, and in whose place the new one stands.
    """
    try:
        entry = submit(scene, request, title)
        if replaces:
            _replaced[entry.id] = replaces
    except MaquetteError as error:
        return refuse(operator, error)
    if not bpy.app.background:
        ours.listen_for_escape("INVOKE_DEFAULT")
        return {"FINISHED"}
    wait(entry)
    if entry.state != DONE:
        error = entry.error
        text = f"{error['message']} {error['remedy']}" if error else "The job was cancelled"
        operator.report({"ERROR"}, text)
        return {"CANCELLED"}
    ours.import_result(job=entry.id)
    return {"FINISHED"}


def replaced_by(job: str) -> str:
    """Folder of the result that a job's result takes the place of; empty: none."""
    return _replaced.get(job, "")


def start_task(
    operator: bpy.types.Operator,
    title: str,
    work: tasks.Work,
    then: tasks.Then,
    kind: str,
    ended: Callable[[], None] = lambda: None,
) -> Outcome:
    """The same for work without an engine (`operators.tasks`)."""
    task = tasks.start(title, work, then, kind, ended)
    if not bpy.app.background:
        watch()
        return {"FINISHED"}
    task.wait()
    tasks.forget(task)
    return refuse(operator, task.error) if task.error is not None else {"FINISHED"}


def wait(entry: Entry) -> None:
    """Block until the job is over (background mode)."""
    while not entry.over:
        if not registry().poll():
            time.sleep(0.02)


def new_result_folder(title: str) -> Path:
    """A path for a result, not there yet: beside a saved .blend, else in the user's data folder."""
    blend = bpy.data.filepath
    parent = Path(blend).parent / "maquette" if blend else places.folder("results")
    name = "".join(c if c.isalnum() or c in " -_." else "_" for c in title).strip(" .") or "result"
    path = parent / name
    return path if not path.exists() else parent / f"{name} {uuid.uuid4().hex[:6]}"


def watch() -> None:
    """Start the timer unless it runs; without a window there are no timers."""
    if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, persistent=True)


def forget(job: str) -> None:
    """Take a job that is over off the list."""
    registry().forget(job)
    _origins.pop(job, None)
    _to_import.pop(job, None)
    _replaced.pop(job, None)


def _engine_python() -> Path:
    chosen = preferences()
    return engine_python(chosen.engine_python if chosen else "")


def _tick() -> float | None:
    """Take in what the engine says, import what is done, redraw; None when nothing is going on any more."""
    changed = registry().poll()
    chosen = preferences()
    for entry in changed:
        if entry.state == DONE and chosen and chosen.import_when_done:
            _to_import[entry.id] = time.monotonic() + IMPORT_PATIENCE_S
        elif entry.state == CANCELLED:
            forget(entry.id)
    imported = _import_finished()
    setup = engine.engine_setup()
    setup_spoke = setup is not None and setup.poll()
    setup_runs = setup is not None and setup.running
    if setup is not None and not setup_runs:
        engine.look_again()
    task_spoke = tasks.poll()
    going_on = registry().busy or bool(_to_import) or setup_runs or tasks.busy()
    moved = bool(changed) or setup_spoke or task_spoke or registry().busy
    if imported or not going_on or _looks() != _drawn or (moved and time.monotonic() - _drawn_at >= BAR_S):
        redraw()
    return INTERVAL_S if going_on else None


def _import_finished() -> bool:
    """Import results where the artist can be given them now; whether any was."""
    imported = False
    for job, until in list(_to_import.items()):
        window = _window_for(job)
        if window is None and time.monotonic() < until and _scene_of(job) is not None:
            continue
        del _to_import[job]
        if window is None:  # edit mode, another file ...: it waits as a button
            continue
        with bpy.context.temp_override(window=window, screen=window.screen, scene=window.scene):
            try:
                # True asks for the undo step, which a call from Python does not make by itself.
                ours.import_result("EXEC_DEFAULT", True, job=job)
                imported = True
            except RuntimeError as error:  # reported already; the job stays on the list with its button
                log.warning("import of %s: %s", job, error)
    return imported


def _window_for(job: str) -> Any:
    """A window that shows the job's scene in Object mode with no tool and no render at work, else None."""
    scene = _scene_of(job)
    if bpy.app.is_job_running("RENDER"):  # type: ignore[func-returns-value]
        return None
    for window in bpy.context.window_manager.windows:
        at_work = [
            item.bl_idname for item in window.modal_operators if not item.bl_idname.startswith("MAQUETTE_")
        ]
        active = window.view_layer.objects.active
        if window.scene == scene and not at_work and (active is None or active.mode == "OBJECT"):
            return window
    return None


def _scene_of(job: str) -> Any:
    """The scene a job was started in; None when it is gone, e.g. because another file was opened."""
    return next((scene for scene in bpy.data.scenes if scene.session_uid == _origins.get(job)), None)


def redraw() -> None:
    """Sidebars, and preferences while they are open."""
    global _drawn, _drawn_at
    _drawn, _drawn_at = _looks(), time.monotonic()
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()
            elif area.type == "PREFERENCES":
                area.tag_redraw()


def _looks() -> tuple[object, ...]:
    """What of the jobs should be seen without delay."""
    shown = tuple((e.id, e.state, e.stage, e.preview, e.cancelling, len(e.warnings)) for e in entries())
    return shown, tuple((task.id, task.over, task.cancelling) for task in tasks.tasks())


def release_engine() -> None:
    """Ask the engine for memory and GPU: at once when it is idle, else after the running job."""
    if _registry is not None:
        _registry.release()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _on_render(*_: object) -> None:
    """A render needs the memory and the GPU more than an idle engine does."""
    release_engine()


def register() -> None:
    """The timer starts with the first job."""
    bpy.app.handlers.render_init.append(_on_render)


def unregister() -> None:
    """Stop everything that was started."""
    global _registry
    bpy.app.handlers.render_init.remove(_on_render)
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    if _registry is not None:
        _registry.shutdown()
        _registry = None
    engine.stop_setup()
    tasks.stop_all()
    for known in (_origins, _to_import, _replaced):
        known.clear()
