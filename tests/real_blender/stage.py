# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside the windowed Blender (`-P stage.py -- FOLDER`): opens our sidebar tab, puts the stand-in engine in place,

fills the photo list, and writes what is going on to FOLDER/state.json four times a second for the test outside.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
import traceback
import types
from pathlib import Path

import bpy

FOLDER = Path(sys.argv[sys.argv.index("--") + 1])
ORDERS = FOLDER / "orders"
"""Python files that the test puts here are run in order, inside a window's context, and renamed to *.done."""
STAND_IN = FOLDER / "stand_in_engine.py"
HELD_MS: dict[str, float] = {}
"""What of ours ran in Blender's main thread -> milliseconds of its longest call."""
_inner: dict[str, float] = {}
MARK: dict[str, object] = {}
"""Which button is marked: its panel, and (operator, how many of it stand before this one)."""
ALL_CLASSES: dict[str, tuple] = {}
"""Module of panels -> its classes, while `show_only` hides some."""
PACKAGE = "bl_ext.user_default.maquette"


def module(name):
    return sys.modules[f"{PACKAGE}.{name}"]


def viewport():
    window = bpy.context.window_manager.windows[0]
    area = max((a for a in window.screen.areas if a.type == "VIEW_3D"), key=lambda a: a.width)
    return window, area, next(r for r in area.regions if r.type == "UI")


def timed(name, function):
    """The same function; how long its longest call held Blender's main thread is noted."""

    @functools.wraps(function)
    def call(*arguments, **options):
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            took = 1000 * (time.perf_counter() - started)
            inner = _inner.pop(name, 0.0)
            HELD_MS[name] = max(HELD_MS.get(name, 0.0), took - inner)
            if name == "import":
                _inner["timer"] = _inner.get("timer", 0.0) + took

    return call


def timed_drawing(draw):
    """Blender counts a method's arguments, so they have to be written out."""

    def call(self, context):
        draw(Marked(self, {"panel": type(self).__name__}) if MARK else self, context)

    return call


def time_ourselves():
    """The timer without the imports that it makes, each of those, and every drawing of a panel with its lists."""
    jobs = module("operators.jobs")
    jobs._import_finished = timed("import", jobs._import_finished)
    jobs._tick = timed("timer", jobs._tick)
    for part in module("panels")._modules():
        for kind in part.CLASSES:
            if issubclass(kind, bpy.types.Panel):
                kind.draw = timed_drawing(timed(kind.__name__, kind.draw))


def open_sidebar():
    _, area, _ = viewport()
    time_ourselves()
    area.spaces[0].show_region_ui = True
    if STAND_IN.is_file():
        jobs, runner = module("operators.jobs"), module("core.jobs.runner")
        jobs.make_worker = functools.partial(runner.Worker, script=STAND_IN)
    photos = sorted((FOLDER / "photos").iterdir())
    module("operators.inputs").list_photos(bpy.context.scene, photos)


def choose_tab():
    _, _, region = viewport()
    try:
        region.active_panel_category = "Maquette"
    except AttributeError:  # not drawn yet, so it has no tabs
        return 0.5
    region.tag_redraw()
    return None


def show_only(*names):
    """Of our panels only these, open and each at the top level, so that all of their buttons are in sight."""
    for part in module("panels")._modules():
        there = ALL_CLASSES.setdefault(part.__name__, part.CLASSES)
        for kind in reversed(part.CLASSES):
            if issubclass(kind, bpy.types.Panel):
                bpy.utils.unregister_class(kind)
        part.CLASSES = tuple(
            k
            for k in there
            if not issubclass(k, bpy.types.Panel) or k.__name__.removeprefix("MAQUETTE_PT_") in names
        )
        for kind in part.CLASSES:
            if issubclass(kind, bpy.types.Panel):
                if "bl_parent_id" in vars(kind):
                    del kind.bl_parent_id
                kind.bl_options, kind.bl_idname = set(), f"{kind.__name__}_open"
                bpy.utils.register_class(kind)
    bpy.app.timers.register(choose_tab, first_interval=0.5)  # it fell to another tab meanwhile


class Marked:
    """A panel or a layout of its; one button is drawn in the colour of alerts, so that a screenshot tells where it lies."""

    def __init__(self, real, counts):
        self.__dict__.update(real=real, counts=counts)

    def __getattr__(self, name):
        if name == "operator":
            return self._operator
        found = getattr(type(self.real), name, None)
        if isinstance(found, types.FunctionType):  # a method of the panel itself: goes on being marked
            return types.MethodType(found, self)
        found = getattr(self.real, name)
        if isinstance(found, bpy.types.UILayout):
            return Marked(found, self.counts)
        if callable(found):
            return lambda *arguments, **options: self._wrapped(found(*arguments, **options))
        return found

    def __setattr__(self, name, value):
        setattr(self.real, name, value)

    def _wrapped(self, made):
        if isinstance(made, tuple):  # header and body of a folding part
            return tuple(self._wrapped(part) for part in made)
        return Marked(made, self.counts) if isinstance(made, bpy.types.UILayout) else made

    def _operator(self, idname, **options):
        number = self.counts[idname] = self.counts.get(idname, -1) + 1
        layout = self.real
        if (idname, number) == MARK.get("button") and self.counts["panel"] == MARK["panel"]:
            layout = self.real.row(align=True)
            layout.alert = True
        return layout.operator(idname, **options)


def mark(panel="", name="", number=0):
    """Of one panel the button of an operator, the first or a later one; nothing any more where no panel is named."""
    MARK.clear()
    if panel:
        MARK.update(panel=f"MAQUETTE_PT_{panel}", button=(f"maquette.{name}", number))
    module("operators.jobs").redraw()


def peak_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def processor_seconds(pid):
    """What a process and its children that have ended used of the processors; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def report():
    jobs = module("operators.jobs")
    setup = module("operators.engine").engine_setup()
    _, area, region = viewport()
    worker = jobs._registry._worker.pid if jobs._registry and jobs._registry._worker else None
    state = {
        "time": time.time(),
        "pid": os.getpid(),
        "jobs": [
            {"title": e.title, "state": e.state, "stage": e.stage, "progress": e.progress, "error": e.error}
            for e in jobs.entries()
        ],
        "worker": worker,
        "worker_cpu_s": processor_seconds(worker) if worker else 0.0,
        "objects": sorted(o.name for o in bpy.data.objects),
        "datablocks": {
            k: len(getattr(bpy.data, k)) for k in ("meshes", "images", "materials", "cameras", "collections")
        },
        "camera": bpy.context.scene.camera.name if bpy.context.scene.camera else None,
        "render": [bpy.context.scene.render.resolution_x, bpy.context.scene.render.resolution_y],
        "view": area.spaces[0].region_3d.view_perspective,
        "tab": region.active_panel_category,
        "panel": [region.x, region.y, region.width, region.height],
        "modal": [o.bl_idname for o in bpy.context.window_manager.windows[0].modal_operators],
        "version": list(bpy.app.version),
        "peak_bytes": peak_bytes(),
        "held_ms": {name: round(longest, 2) for name, longest in sorted(HELD_MS.items())},
        "photos": len(bpy.context.scene.maquette.photos),
        "engine": str(module("operators.engine").engine_status().python or ""),
        "setting_up": bool(setup and setup.running),
        "setup_error": setup.error.message if setup and setup.error else "",
    }
    temporary = FOLDER / "state.part"
    temporary.write_text(json.dumps(state))
    temporary.replace(FOLDER / "state.json")
    obey()
    return 0.25


def obey():
    for order in sorted(ORDERS.glob("*.py")):
        window, area, _ = viewport()
        region = next(r for r in area.regions if r.type == "WINDOW")
        try:
            with bpy.context.temp_override(window=window, area=area, region=region):
                given = {"bpy": bpy, "module": module, "show_only": show_only, "mark": mark}
                exec(compile(order.read_text(), order.name, "exec"), given)
        except Exception:  # noqa: BLE001 - told to the test
            (FOLDER / f"{order.stem}.error").write_text(traceback.format_exc())
        order.rename(order.with_suffix(".done"))


ORDERS.mkdir(exist_ok=True)
bpy.context.preferences.view.show_splash = False
bpy.app.timers.register(open_sidebar, first_interval=0.5)
bpy.app.timers.register(choose_tab, first_interval=1.5)
bpy.app.timers.register(report, first_interval=3.5, persistent=True)
