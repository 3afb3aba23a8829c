# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the house (DESIGN section 2). Each rule is run on this repository and on a sample that breaks it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

BLENDER = {"bpy", "mathutils", "bpy_extras", "gpu", "bmesh", "blf", "bl_ext", "addon_utils"}
HEAVY = {"torch", "scipy", "trimesh", "PIL", "cv2", "skimage", "pycolmap"}
ROOMS = ("operators", "panels", "core")
ROOT = Path(__file__).resolve().parent.parent

# What each room of core may not import: the arrows of DESIGN section 2 go one way.
ABOVE_MODELS = {"pipelines"}
ABOVE_FIELDS = {"models", "fit", "poses", *ABOVE_MODELS, "jobs"}
ABOVE_CAMERAS = {"fields", "render", "surface", *ABOVE_FIELDS}
ABOVE = {
    "cameras": ABOVE_CAMERAS,
    "images": ABOVE_CAMERAS,
    "fields": ABOVE_FIELDS,
    "render": ABOVE_FIELDS,
    "surface": ABOVE_FIELDS,
    "models": ABOVE_MODELS,
    "fit": ABOVE_MODELS,
    "poses": ABOVE_MODELS,
    "weights": ABOVE_MODELS,
}


def modules(root: Path) -> Iterator[tuple[Path, str]]:
    """(path below the root, text) of every module that ships."""
    for path in sorted([*root.glob("*.py"), *(p for room in ROOMS for p in (root / room).rglob("*.py"))]):
        yield path.relative_to(root), path.read_text(encoding="utf-8")


def imports(text: str) -> Iterator[tuple[str, int]]:
    """(dotted module, line) of absolute imports, wherever they stand."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node.lineno


def resolved(path: Path, text: str) -> Iterator[tuple[str, int]]:
    """(dotted module below the root, line) of relative imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level > 0:
            package = list(path.with_suffix("").parts[:-1])
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            yield from ((".".join([*base, name.name]), node.lineno) for name in node.names)


def blender_below_operators(root: Path) -> list[str]:
    return [
        f"{path}:{line} imports {name}"
        for path, text in modules(root)
        if path.parts[0] not in ("operators", "panels")
        for name, line in imports(text)
        if name.split(".")[0] in BLENDER
    ]


def heavy_in_blenders_process(root: Path) -> list[str]:
    return [
        f"{path}:{line} imports {name}"
        for path, text in modules(root)
        if path.parts[0] in ("operators", "panels")
        for name, line in imports(text)
        if name.split(".")[0] in HEAVY
    ]


def absolute_imports(root: Path) -> list[str]:
    return [
        f"{path}:{line} imports {name}"
        for path, text in modules(root)
        for name, line in imports(text)
        if name.split(".")[0] in ("maquette", *ROOMS)
    ]


def arrows_backwards(root: Path) -> list[str]:
    found = []
    for path, text in modules(root):
        for name, line in resolved(path, text):
            parts = name.split(".")
            room = path.parts[1] if path.parts[0] == "core" and len(path.parts) > 2 else ""
            if (
                (path.parts[0] == "core" and parts[0] in ("operators", "panels"))
                or (path.parts[0] == "operators" and parts[0] == "panels")
                or (
                    path.parts[0] == "panels"
                    and parts[:2] in (["core", "models"], ["core", "fit"], ["core", "pipelines"])
                )
                or (parts[0] == "core" and len(parts) > 1 and parts[1] in ABOVE.get(room, ()))
            ):
                found.append(f"{path}:{line} imports {name}")
    return found


def long_modules(root: Path) -> list[str]:
    return [
        f"{path} has {text.count(chr(10))} lines" for path, text in modules(root) if text.count("\n") > 600
    ]


def vague_names(root: Path) -> list[str]:
    vague = ("util", "utils", "helper", "helpers", "misc", "common", "manager", "stuff", "tool", "tools")
    return [str(path) for path, _ in modules(root) if path.stem in vague]


def missing_licence(root: Path) -> list[str]:
    line = "# SPDX-License-Identifier: GPL-3.0-or-later\n"
    return [str(path) for path, text in modules(root) if text and not text.startswith(line)]


RULES: dict[Callable[[Path], list[str]], tuple[str, str]] = {
    blender_below_operators: ("core/cameras/x.py", "def f():\n    import bpy"),
    heavy_in_blenders_process: ("panels/x.py", "def draw():\n    from torch import nn"),
    absolute_imports: ("core/x.py", "from maquette.core import types"),
    arrows_backwards: ("core/render/x.py", "from ..models import lrm"),
    long_modules: ("core/x.py", "\n" * 601),
    vague_names: ("core/utils.py", "# SPDX-License-Identifier: GPL-3.0-or-later\n"),
    missing_licence: ("operators/x.py", "import bpy"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule):
    assert rule(ROOT) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_can_be_broken(rule, tmp_path):
    name, text = RULES[rule]
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert len(rule(tmp_path)) == 1


def test_arrows_between_the_outer_rooms(tmp_path):
    samples = {
        "core/jobs/a.py": "from ...operators import results",
        "operators/b.py": "from ..panels import sidebar",
        "panels/c.py": "from ..core.pipelines import poses",
        "panels/d.py": "from ..core import models",
        "core/fit/e.py": "from .. import pipelines",
        "core/pipelines/fine.py": "from ..models import lrm\nfrom ..jobs import request",
    }
    for name, text in samples.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert sorted(line.split(":")[0] for line in arrows_backwards(tmp_path)) == sorted(list(samples)[:-1])


IMPORT_ALL = """
import importlib, pkgutil, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError(name + " is out of bounds")

sys.meta_path.insert(0, Wall())
import maquette.core
for module in pkgutil.walk_packages(maquette.core.__path__, "maquette.core."):
    importlib.import_module(module.name)
print(len([name for name in sys.modules if name.startswith("maquette.core")]))
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.timeout(120)
def test_every_core_module_loads_without_blender():
    done = python(IMPORT_ALL.format(blocked=BLENDER))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".core",
        ".core.cli",
        ".core.errors",
        ".core.progress",
        ".core.results",
        ".core.settings",
        ".core.types",
        ".core.jobs",
        ".core.jobs.environment",
        ".core.jobs.registry",
        ".core.jobs.runner",
    ],
)
def test_what_blender_imports_is_light(name):
    forbidden = sorted(HEAVY | {"bpy"})
    done = python(f"import sys, maquette{name}; print([m for m in {forbidden} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_light_check_sees_a_heavy_import():
    done = python("import sys, scipy; print([m for m in ['scipy'] if m in sys.modules])")
    assert done.stdout.strip() == "['scipy']"
