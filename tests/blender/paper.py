# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for a panel's layout where there is no window: notes what is drawn and refuses what Blender would not draw."""

from __future__ import annotations

from types import FunctionType, MethodType, SimpleNamespace

import bpy

ICONS = set(bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items.keys())


class Paper:
    """`texts` and `buttons` are shared with every row and column of it."""

    def __init__(self, notes=None):
        self.__dict__["notes"] = notes or SimpleNamespace(texts=[], buttons=[], props=[])

    @property
    def texts(self):
        return self.notes.texts

    @property
    def buttons(self):
        return self.notes.buttons

    def _part(self, **_):
        return Paper(self.notes)

    row = column = box = split = column_flow = grid_flow = _part

    def panel(self, idname, default_closed=False):
        return Paper(self.notes), Paper(self.notes)

    def separator(self, **_):
        pass

    def label(self, text="", icon="NONE", icon_value=0, translate=True):
        assert icon in ICONS, icon
        self.texts.append(text)

    def prop(self, data, name, **options):
        assert name in data.bl_rna.properties, name
        assert options.get("icon", "NONE") in ICONS
        self.notes.props.append(name)

    def operator(self, idname, text="", icon="NONE", emboss=True):
        assert icon in ICONS, icon
        group, name = idname.split(".")
        kind = getattr(getattr(bpy.ops, group), name).get_rna_type()
        self.buttons.append((idname, text or kind.name))
        return _Properties(kind)

    def operator_menu_enum(self, *_, **__):
        pass

    def progress(self, factor=0.0, text="", type="BAR"):  # noqa: A002 - Blender's name
        assert 0 <= factor <= 1
        self.texts.append(text)

    def template_icon(self, icon_value=0, scale=1.0):
        assert icon_value >= 0  # 0 without a window: nothing reads pictures there

    def template_list(self, kind, list_id, data, name, active_data, active_name, **_):
        items = getattr(data, name)
        assert hasattr(active_data, active_name)
        drawn = _Self(getattr(bpy.types, kind), None)
        for number, item in enumerate(items):
            if name != "objects" or (item.type == "CAMERA" and item.data.maquette.photo):
                drawn.draw_item(bpy.context, self, data, item, 0, active_data, active_name, number)


class _Properties:
    """Of an operator's button: only what the operator has can be set."""

    def __init__(self, kind):
        self.__dict__["kind"] = kind

    def __setattr__(self, name, value):
        assert name in self.kind.properties, name
        wanted = self.kind.properties[name]
        if wanted.type == "ENUM":
            assert value in wanted.enum_items, value


def draw(panel):
    """What a registered panel class draws in this context; None where its poll says no."""
    if hasattr(panel, "poll") and not panel.poll(bpy.context):
        return None
    paper = Paper()
    region = SimpleNamespace(width=300)
    context = _Context(region)
    panel.draw(_Self(panel, paper), context)
    return paper


class _Self:
    """An instance of a panel, which only Blender can make."""

    def __init__(self, panel, layout):
        self.panel, self.layout = panel, layout

    def __getattr__(self, name):
        found = getattr(self.panel, name)
        return MethodType(found, self) if isinstance(found, FunctionType) else found


class _Context:
    """Blender's own, with a region and a scale."""

    def __init__(self, region):
        self.region = region
        self.preferences = SimpleNamespace(system=SimpleNamespace(ui_scale=1.0))  # 0 without a window

    def __getattr__(self, name):
        return getattr(bpy.context, name)
