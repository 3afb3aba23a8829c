# SPDX-License-Identifier: GPL-3.0-or-later
"""Maquette in a Blender without a window, as a plain script: no add-on has to be enabled.

    blender -b --factory-startup -P operators/headless.py -- VERB ...     every verb of the command line, and:
    blender -b --factory-startup -P operators/headless.py -- import RESULT --blend FILE.blend
    blender -b --factory-startup -P operators/headless.py -- render RESULT [--camera NAME] --out PNG_OR_FOLDER

A Python with the `bpy` wheel serves as well: `python operators/headless.py import RESULT --blend FILE.blend`.
`render` shows the base colour unlit (Cycles on the processor, view transform Standard, transparent background), so a
picture can be compared with the photo that its camera belongs to.
"""

from __future__ import annotations

import argparse
import importlib
import runpy
import sys
from pathlib import Path
from typing import Any

import bpy

SAMPLES = 16
"""Camera samples a pixel: antialiasing only, an emission has no noise."""


def _load(module: str) -> Any:
    """A module of ours: of the enabled add-on where there is one, else of the folder this script lies in."""
    suffix = ".maquette.operators"
    enabled = next(
        (name for name in sys.modules if name.startswith("bl_ext.") and name.endswith(suffix)), None
    )
    if enabled and hasattr(bpy.types.Scene, "maquette"):
        return importlib.import_module(f"{enabled.removesuffix('.operators')}.{module}")
    root = Path(__file__).resolve().parents[1]
    runpy.run_path(str(root / "core" / "jobs" / "bootstrap.py"))["load_package"]()
    return importlib.import_module(f"maquette.{module}")


def import_to_blend(folder: Path, blend: Path) -> None:
    """Write a .blend that holds the result with everything packed."""
    scene = _empty_scene()
    imported = _load("operators.results").import_result(folder, scene)
    _load("operators.presentation").present(scene, imported.meshes)
    blend.parent.mkdir(parents=True, exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(blend.resolve()), compress=True)


def render_views(folder: Path, camera: str | None, out: Path) -> list[Path]:
    """Render the result through one of its cameras to the PNG `out`, or through all of them into the folder `out`.

    Args:
        folder: the Result.
        camera: name of a photo, with or without suffix; None: all.
        out: 8-bit RGBA PNG with straight alpha, or the folder for `STEM.png`.
    """
    scene = _empty_scene()
    imported = _load("operators.results").import_result(folder, scene)
    cameras = _load("operators.cameras")
    _unlit(scene)
    written = []
    for item in imported.cameras:
        photo = Path(item.data.maquette.photo)
        if camera not in (None, photo.name, photo.stem):
            continue
        cameras.look_through(scene, item)
        path = out if camera else out / f"{photo.stem}.png"
        scene.render.filepath = str(path.resolve())
        bpy.ops.render.render(write_still=True)
        written.append(path)
    if not written:
        raise _load("core.errors").InputError(
            "NO_CAMERA", f"{folder} has no camera {camera or ''}.", "Name a photo of this result."
        )
    return written


def _empty_scene() -> bpy.types.Scene:
    """An empty file with a light grey world, so that a first render shows something."""
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    scene = bpy.context.scene
    scene.world = bpy.data.worlds.new("World")
    tree = _load("operators.compat").node_tree_of(scene.world)
    background = next(node for node in tree.nodes if node.bl_idname == "ShaderNodeBackground")
    background.inputs["Color"].default_value = (0.8, 0.8, 0.8, 1.0)
    return scene


def _unlit(scene: Any) -> None:
    """Every material emits its base colour as it is; nothing else is in the light."""
    import addon_utils

    addon_utils.enable("cycles")  # the bpy wheel starts without it
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.samples = SAMPLES
    cycles.use_denoising = False
    cycles.use_adaptive_sampling = False
    cycles.max_bounces = 0
    scene.view_settings.view_transform = "Standard"
    scene.render.film_transparent = True
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    for material in bpy.data.materials:
        tree = material.node_tree
        source = next(
            (n for n in tree.nodes if n.bl_idname in ("ShaderNodeTexImage", "ShaderNodeVertexColor")), None
        )
        emission = tree.nodes.new("ShaderNodeEmission")
        if source is not None:
            tree.links.new(source.outputs["Color"], emission.inputs["Color"])
        output = next(node for node in tree.nodes if node.bl_idname == "ShaderNodeOutputMaterial")
        tree.links.new(emission.outputs["Emission"], output.inputs["Surface"])


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="headless.py")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("import", help="result folder -> packed .blend")
    verb.add_argument("result", type=Path)
    verb.add_argument("--blend", type=Path, required=True)
    verb = verbs.add_parser("render", help="unlit pictures through the result's cameras")
    verb.add_argument("result", type=Path)
    verb.add_argument("--camera")
    verb.add_argument("--out", type=Path, required=True)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run one verb; exit codes of DESIGN section 6."""
    if arguments[:1] not in (["import"], ["render"]):
        return int(_load("core.cli").main(arguments, online=bpy.app.online_access))
    options = _parse(arguments)
    errors, operators = _load("core.errors"), _load("operators")
    ours = not hasattr(bpy.types.Scene, "maquette")
    if ours:
        operators.register()
    try:
        if options.verb == "import":
            import_to_blend(options.result, options.blend)
        else:
            render_views(options.result, options.camera, options.out)
    except errors.MaquetteError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return int(error.exit_code)
    finally:
        if ours:
            operators.unregister()  # classes left at exit crash Blender 4.2
    return 0


if __name__ == "__main__":
    after = sys.argv.index("--") + 1 if "--" in sys.argv else 1
    sys.exit(main(sys.argv[after:]))
