# SPDX-License-Identifier: GPL-3.0-or-later
"""A windowed Blender on a virtual screen, driven from outside by mouse and keys; `stage.py` runs inside it."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).resolve().parent
DISPLAY = ":77"
HEIGHT = 1000  # of the window, pixels
ACCEPT = (1031, 22)
"""The button of a file browser, in its window (`Window.in_second`)."""
PATIENCE = float(os.environ.get("MAQUETTE_TEST_PATIENCE", "1"))
"""Times every wait, for a machine that is busy with other work; what is measured is not changed by it."""


class Window:
    """Starts with the built zip installed in a user folder of its own; ends with all its processes.

    Args:
        tool: `real-blender`.
        version: 4.3 or 5.2.
        folder: gets the user folder, logs and pictures; holds `photos` and `result` (the stand-in's).
        archive: the extension's zip.
        seconds: how long the stand-in engine works; None: the real engine.
        engine: whether one is named to Blender; False: a fresh machine, where nothing is set up, and no network either.
    """

    def __init__(
        self,
        tool: Path,
        version: str,
        folder: Path,
        archive: Path,
        seconds: float | None,
        engine: bool = True,
    ) -> None:
        self.tool, self.version, self.folder = tool, version, folder
        self.environment = {
            **os.environ,
            "BLENDER_USER_RESOURCES": str(folder / "user"),
            "MAQUETTE_DATA": str(folder / "data"),
            "MAQUETTE_ENGINE_PYTHON": sys.executable,
            "MAQUETTE_TEST_RESULT": str(folder / "result"),
            "MAQUETTE_TEST_SECONDS": str(seconds),
            "MAQUETTE_TEST_ADDON": str(folder / "user" / "extensions" / "user_default" / "maquette"),
        }
        offline = []
        if not engine:
            del self.environment["MAQUETTE_ENGINE_PYTHON"]
            roots = Path.home() / ".cache" / "real-blender"
            self.environment.setdefault("REAL_BLENDER_HOME", str(roots))
            self.environment["HOME"] = str(folder / "home")  # where file browsers open
            (folder / "home").mkdir(exist_ok=True)
            offline = ["unshare", "--net"]
        (folder / "user").mkdir()
        (folder / "orders").mkdir()
        if seconds is not None:
            shutil.copy(HERE.parent / "blender" / "stand_in_engine.py", folder)
        self._run(
            "run", "--command", "extension", "install-file", "-r", "user_default", "--enable", str(archive)
        )
        self._lock = open(  # noqa: SIM115 - held until the end
            Path(tempfile.gettempdir()) / "maquette-display.lock", "w"
        )  # one virtual screen for all
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        with open(folder / "blender.log", "w") as log:
            self._process = subprocess.Popen(
                [*offline, tool, "screen", version, "-P", HERE / "stage.py", "--", folder],
                env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._orders = self.clicks = 0
        self._last_click = (0, 0)
        try:
            self._wait_for_sidebar()
        except BaseException:
            self._kill()
            raise

    def _wait_for_sidebar(self) -> None:
        """It has tabs once it was drawn, and a still mouse draws nothing."""
        for _ in range(round(60 * PATIENCE)):
            with contextlib.suppress(
                OSError, ValueError, subprocess.CalledProcessError
            ):  # no screen, no state yet
                self.mouse(600, 700)
                self.mouse(620, 710)
                if self.state()["tab"] == "Maquette":
                    return
            time.sleep(0.5)
        raise AssertionError((self.folder / "blender.log").read_text())

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._lock.close()

    def _run(self, verb: str, *arguments: str) -> str:
        command = [str(self.tool), verb, self.version, *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60 * PATIENCE, check=True
        )
        return done.stdout

    def _xdo(self, *arguments: str) -> None:
        self._run("shell", "env", f"DISPLAY={DISPLAY}", "xdotool", *arguments)

    def state(self) -> dict:
        """What stage.py last wrote."""
        return json.loads((self.folder / "state.json").read_text())

    def wait(self, condition, seconds: float = 30.0) -> dict:
        """Until a condition on the state holds."""
        ends = time.monotonic() + seconds * PATIENCE
        while True:
            state = self.state()
            if condition(state):
                return state
            assert self._process.poll() is None, (self.folder / "blender.log").read_text()
            assert time.monotonic() < ends, state
            time.sleep(0.1)

    def mouse(self, x: int, y: int) -> None:
        """Move the pointer; pixels from the top left."""
        self._xdo("mousemove", str(x), str(y), "sleep", "0.2")

    def click(self, x: int, y: int) -> None:
        """Move there and press the left button; slow, as software OpenGL draws slowly. `clicks` counts them."""
        self.clicks += 1
        self._last_click = (x, y)
        self._xdo(
            "mousemove", str(x - 3), str(y), "sleep", "0.3", "mousemove", str(x), str(y), "sleep", "0.7"
        )
        self._xdo("mousedown", "1", "sleep", "0.15", "mouseup", "1", "sleep", "0.3")

    def click_panel(self, down: int) -> None:
        """Click in the middle of the sidebar, so many pixels below its upper edge."""
        x, y, width, height = self.state()["panel"]
        self.click(x + width // 2, HEIGHT - (y + height) + down)

    def show_only(self, *panels: str) -> None:
        """Of our panels these, open, so that all of their buttons are in sight."""
        self.order(f"show_only(*{panels!r})")
        self.mouse(600, 700)
        time.sleep(1.5)

    def place_of(self, panel: str, name: str, number: int = 0) -> tuple[int, int]:
        """Middle of a button on the screen: it is drawn in the colour of alerts once, and a screenshot is searched for that.

        Args:
            panel: e.g. `result` for MAQUETTE_PT_result.
            name: e.g. `re_bake` for maquette.re_bake.
            number: how many buttons of that operator stand before it in the panel.
        """
        self.mouse(600, 700)
        self.order("mark()")
        time.sleep(1.0)
        plain = self._screen()
        self.order(f"mark({panel!r}, {name!r}, {number})")
        for _ in range(5):  # the drawing may take its time
            time.sleep(1.0)
            redder = self._screen() - plain
            change = redder[..., 0] - redder[..., 1:].mean(-1)
            rows, columns = np.nonzero(change > 20)
            if len(rows) > 100:
                return round(float(np.median(columns))), round(float(np.median(rows)))
        self.shot("not found")
        raise AssertionError(f"{name} is not to be seen in {panel}")

    def press(self, panel: str, name: str, number: int = 0, until=None, seconds: float = 15.0) -> dict:
        """Click a button and wait for what follows; once more if nothing does, for right after the panels have changed

        Blender may take a first click for hovering.
        """
        place = self.place_of(panel, name, number)
        self.click(*place)
        state = self.state()
        if until is not None:
            try:
                state = self.wait(until, seconds / 2)
            except AssertionError:
                self.mouse(600, 700)
                self.click(*place)
                state = self.wait(until, seconds)
        return state

    def press_default(self) -> None:
        """Click the blue button of the dialog that has just opened beside the pointer."""
        picture = np.asarray(Image.open(self.shot("search")).convert("RGB"), np.float32)
        x, y = self._last_click
        beside = np.zeros(picture.shape[:2], bool)
        beside[max(y - 300, 0) : y + 300, max(x - 450, 0) : x + 450] = True
        rows, columns = np.nonzero(beside & (picture[..., 2] - picture[..., 0] > 70))
        assert len(rows) > 500, "no dialog"
        self.click(round(float(np.median(columns))), round(float(np.median(rows))))

    def _screen(self) -> NDArray[np.float32]:
        """(H, W, 3) of the sidebar's part of the screen, 0..255; the rest is 0."""
        x, y, width, height = self.state()["panel"]
        whole = np.asarray(Image.open(self.shot("search")).convert("RGB"), np.float32)
        kept = np.zeros_like(whole)
        top = HEIGHT - (y + height)
        kept[top : top + height, x : x + width] = whole[top : top + height, x : x + width]
        return kept

    def key(self, *keys: str) -> None:
        """Press keys with the pointer where it is."""
        for name in keys:
            self._xdo("key", name, "sleep", "0.7")

    def type(self, text: str) -> None:
        """Type into the field that has the pointer."""
        self._xdo("type", "--delay", "40", text)

    def order(self, code: str) -> None:
        """Run Python inside Blender and wait until it is done."""
        self._orders += 1
        name = f"{self._orders:03}"
        part = self.folder / f"{name}.part"
        part.write_text(code)
        part.rename(self.folder / "orders" / f"{name}.py")
        ends = time.monotonic() + 30 * PATIENCE
        while not (self.folder / "orders" / f"{name}.done").exists():
            assert time.monotonic() < ends, code
            time.sleep(0.05)
        error = self.folder / f"{name}.error"
        assert not error.exists(), error.read_text()

    def value(self, expression: str) -> Any:
        """What an expression is inside Blender."""
        path = self.folder / "value.txt"
        self.order(f"open({str(path)!r}, 'w').write(repr({expression}))")
        return ast.literal_eval(path.read_text())

    def undo(self, redo: bool = False) -> dict:
        """By its keys, in the viewport."""
        self.mouse(400, 700)
        self.key("ctrl+shift+z" if redo else "ctrl+z")
        time.sleep(1.0)
        return self.state()

    def in_second(self, right: int, up: int) -> tuple[int, int]:
        """Pixels of the screen of a place in Blender's newest window, from its lower left corner: versions open it at different places."""
        left, bottom = self.value("(lambda w: (w.x, w.y))(bpy.context.window_manager.windows[-1])")
        return left + right, HEIGHT - bottom - up

    def close_second(self) -> None:
        """Of Blender's windows the newest: an editor that was opened."""
        self.order(
            "w = bpy.context.window_manager.windows[-1]\n"
            "with bpy.context.temp_override(window=w): bpy.ops.wm.window_close()"
        )

    def picture(self, name: str) -> Path:
        """The same once all is drawn, with no button in the colour of alerts and the pointer out of the way."""
        self.order("mark()")
        for step in (0, 20):  # a still mouse draws nothing
            self.mouse(600 + step, 700)
            time.sleep(1)
        return self.shot(name)

    def shot(self, name: str) -> Path:
        """A picture of the screen, for people to look at."""
        path = self.folder / f"{name}.png"
        self._run("shell", "env", f"DISPLAY={DISPLAY}", "import", "-window", "root", str(path))
        return path

    def close(self) -> int:
        """Quit as an artist does; returns Blender's exit status."""
        if self._process.poll() is not None:
            return self._process.returncode
        with contextlib.suppress(AssertionError):
            self.order(
                "bpy.app.timers.register(lambda: bpy.ops.wm.quit_blender() and None, first_interval=0.3)"
            )
        try:
            return self._process.wait(timeout=60 * PATIENCE)
        finally:
            self._kill()
