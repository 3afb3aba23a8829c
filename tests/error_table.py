# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of errors in the manual, out of the source: `python -m tests.error_table` writes docs/manual/errors.md anew."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "manual" / "errors.md"
KINDS = ("InputError", "MissingError", "FailedError", "PartlyDone", "MaquetteError")
ELLIPSIS = "…"
SECTIONS = (
    ("Photos and masks", ("core/images", "operators/inputs.py", "operators/masks.py", "operators/photos.py")),
    ("Cameras", ("core/cameras", "core/poses", "core/scene_geometry.py", "operators/align_camera.py",
                 "operators/animated_camera.py", "operators/cameras.py", "operators/estimate_poses.py",
                 "operators/geometry.py", "operators/orient.py", "core/pipelines/poses.py", "core/pipelines/align.py",
                 "core/pipelines/learned_cameras.py")),
    ("Only on the command line", ("core/cli.py", "core/batch.py", "core/jobs/blend_file.py", "core/jobs/report.py",
                                  "core/weights/verbs.py", "core/pipelines/outputs.py")),
    ("Models", ("core/weights", "core/models", "core/blending", "operators/models.py")),
    ("Engine and disk", ("core/jobs", "core/errors.py", "core/settings.py", "core/progress.py", "operators/tasks.py",
                         "operators/engine.py", "operators/set_up_engine.py", "operators/check_engine.py")),
    ("Meshes and results", ("core", "operators")),
)  # fmt: skip
"""Heading -> beginnings of paths; the first that fits."""
INTRODUCTION = """# Errors and what to do

Every message that Maquette can show, with its code and its remedy. The code stands in reports and logs; the panel shows
message and remedy. An ellipsis stands for a name or a number. This page is written by `python -m tests.error_table` and
checked against the code by `tests/test_error_table.py`.
"""


@dataclass(frozen=True, order=True)
class Raised:
    """One place in the source that makes an error."""

    code: str
    message: str
    remedy: str
    path: str


@cache
def raised() -> tuple[Raised, ...]:
    """Every typed error of core and operators whose code is written out."""
    return tuple(error for error, _ in made() if error is not None)


@cache
def hidden() -> tuple[str, ...]:
    """Places that make an error with a code that is not written out."""
    return tuple(place for error, place in made() if error is None)


def made(root: Path = ROOT) -> Iterator[tuple[Raised | None, str]]:
    """(error, place) of every call that makes a typed error; None where its code is not written out."""
    paths = [path for folder in ("core", "operators") for path in sorted((root / folder).rglob("*.py"))]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    shared = {k: v for tree in trees.values() for k, v in sentences(tree).items() if k.isupper()}
    for path, tree in trees.items():
        name = path.relative_to(root).as_posix()
        words = shared | sentences(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            kind = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            # Cancelled passes its code to the class above it.
            above = kind == "__init__" and name == "core/errors.py" and len(node.args) == 3
            if kind not in KINDS and not above:
                continue
            code = node.args[0] if len(node.args) == 3 else None
            if isinstance(code, ast.Constant) and str(code.value).isupper():
                message, remedy = (text_of(part, words) for part in node.args[1:])
                yield Raised(str(code.value), message, remedy, name), name
            else:
                yield None, f"{name}:{node.lineno}"


@dataclass(frozen=True, order=True)
class Said:
    """A sentence that a button says: its tooltip while it is grey, or its report right after a click."""

    text: str
    button: str
    """Label of the operator."""
    grey: bool


@cache
def said() -> tuple[Said, ...]:
    """Every sentence of an operator that is no typed error."""
    found = []
    for path in sorted((ROOT / "operators").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        words = sentences(tree)
        for kind in (node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)):
            label = sentences(ast.Module(kind.body, [])).get("bl_label", "several")
            for call in ast.walk(kind):
                name = getattr(call.func, "attr", "") if isinstance(call, ast.Call) else ""
                if name == "poll_message_set":
                    found.append(Said(text_of(call.args[0], words), label, True))
                elif (
                    name == "report" and isinstance(kind, ast.ClassDef) and "ERROR" in ast.dump(call.args[0])
                ):
                    found.append(Said(text_of(call.args[1], words), label, False))
    return tuple(item for item in found if item.text.strip(f"{ELLIPSIS} "))


def sentences(tree: ast.Module) -> dict[str, str]:
    """Texts that a module gives a name to."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            text = text_of(node.value, {})
            if text != ELLIPSIS:
                found[node.targets[0].id] = text
    return found


def text_of(node: ast.expr, words: dict[str, str]) -> str:
    """A message as an artist may meet it, with an ellipsis for what is only known then."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return words.get(node.id, ELLIPSIS)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            text_of(part, {}) if isinstance(part, ast.Constant) else ELLIPSIS for part in node.values
        )
    if isinstance(node, ast.BinOp):
        return text_of(node.left, words) + text_of(node.right, words)
    if isinstance(node, ast.IfExp):
        return f"{text_of(node.body, words)} Or: {text_of(node.orelse, words)}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "strip":
        return text_of(node.func.value, words)
    return ELLIPSIS


def section_of(path: str) -> str:
    """Heading under which the errors of a file stand."""
    return next(name for name, starts in SECTIONS if path.startswith(starts))


def table(errors: list[Raised], buttons: tuple[Said, ...] = ()) -> str:
    """The whole page: a code stands where it is raised first, once per message; what buttons say follows."""
    lines, listed = [INTRODUCTION], set[str]()
    for heading, _ in SECTIONS:
        rows = sorted({(e.code, e.message, e.remedy) for e in errors if section_of(e.path) == heading})
        lines.append(f"## {heading}\n\n| Code | What happened | What to do |\n| --- | --- | --- |")
        for code, message, remedy in rows:
            listed.add(code)
            lines.append(f"| `{code}` | {cell(message)} | {cell(remedy)} |")
        lines.append("")
    for heading, grey in (("Why a button is grey", True), ("Said right after a click", False)):
        lines.append(f"## {heading}\n\n| What it says | Buttons |\n| --- | --- |")
        for text in sorted({item.text for item in buttons if item.grey == grey}):
            labels = sorted({item.button for item in buttons if (item.text, item.grey) == (text, grey)})
            lines.append(f"| {cell(text)} | {', '.join(labels)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def cell(text: str) -> str:
    """Without what would end it."""
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(table(list(raised()), said()), encoding="utf-8")
    print(f"{len({error.code for error in raised()})} codes in {TABLE}")
