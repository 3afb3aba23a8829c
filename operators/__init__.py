# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that touches bpy.data: reading an artist's choices, running jobs, bringing results in."""

from __future__ import annotations

from types import ModuleType


def _modules() -> list[ModuleType]:
    """Those with operators, in any order."""
    from . import (
        align_camera,
        animated_camera,
        blend_heads,
        cancel_job,
        candidates,
        check_engine,
        compare,
        estimate_poses,
        generate_head,
        head_from_photo,
        head_options,
        image_to_mesh,
        import_result,
        mark_as_asset,
        masks,
        mesh_report,
        models,
        orbit_head,
        orient,
        photos,
        re_bake,
        re_extract,
        regenerate,
        region_box,
        remesh,
        save_result,
        set_up_engine,
        view_through_photo,
    )

    return [
        head_options,
        photos,
        image_to_mesh,
        candidates,
        generate_head,
        orbit_head,
        head_from_photo,
        blend_heads,
        estimate_poses,
        align_camera,
        animated_camera,
        orient,
        cancel_job,
        import_result,
        re_extract,
        re_bake,
        remesh,
        regenerate,
        compare,
        mesh_report,
        save_result,
        mark_as_asset,
        view_through_photo,
        masks,
        region_box,
        set_up_engine,
        check_engine,
        models,
    ]


def register() -> None:
    """Settings first: operators read them."""
    import bpy

    from . import commands, head_options, jobs, keymap, seen_overlay, settings, viewport_render

    settings.register()
    for module in _modules():
        for kind in module.CLASSES:
            bpy.utils.register_class(kind)
    head_options.register()
    jobs.register()
    seen_overlay.register()
    viewport_render.register()
    keymap.register()
    commands.register()


def unregister() -> None:
    """The reverse; running jobs are stopped first."""
    import bpy

    from . import commands, head_options, jobs, keymap, seen_overlay, settings, viewport_render

    commands.unregister()
    keymap.unregister()
    viewport_render.unregister()
    seen_overlay.unregister()
    jobs.unregister()
    head_options.unregister()
    for module in reversed(_modules()):
        for kind in reversed(module.CLASSES):
            bpy.utils.unregister_class(kind)
    settings.unregister()
