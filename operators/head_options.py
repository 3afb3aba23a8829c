# SPDX-License-Identifier: GPL-3.0-or-later
"""Choices for heads, kept in the .blend: `Scene.maquette_heads`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from . import engine, models
from .settings import result_info

BUNDLED = Path(__file__).parents[1] / "core/weights/heads/generator.safetensors"
"""The same file as `core.models.heads.generator.WEIGHTS`, which cannot be asked here: it needs torch."""
METHODS = ("head_sample", "head_invert", "head_blend")
"""`Result.method` of heads."""
CODE = "head.safetensors"
"""In the folder of a head's result: its latent."""


def is_head(item: bpy.types.Object) -> bool:
    """Whether an object is the mesh of a head that Maquette made."""
    return item.type == "MESH" and result_info(item).method in METHODS


def head_folder(item: bpy.types.Object) -> Path:
    """Where a head's result lies."""
    return Path(bpy.path.abspath(result_info(item).folder))


def can_make_heads(operator: type[bpy.types.Operator], scene: bpy.types.Scene) -> bool:
    """Whether engine and a generator are there; where one is not, the operator's button says which."""
    if not engine.is_ready(operator):
        return False
    installed = any(model.layout == "eg3d" for model in models.shelf().there.values())
    if head_options(scene).model or installed or BUNDLED.is_file():
        return True
    operator.poll_message_set(
        "No generator of heads is installed: add an EG3D file, or choose one as Generator"
    )
    return False


def _may_be_picked(self: Any, item: bpy.types.Object) -> bool:
    return is_head(item)


class HeadPreview(bpy.types.PropertyGroup):
    """One head of the gallery."""

    seed: IntProperty(name="Seed", description="Seed that makes this head")
    truncation: FloatProperty(name="Variety", description="How far from the mean head it was drawn")
    model: StringProperty(name="Model", description="Generator that drew it; empty: the bundled one")
    image: PointerProperty(
        name="Preview", description="What it looks like from in front and aside", type=bpy.types.Image
    )


class HeadSide(bpy.types.PropertyGroup):
    """A head from one side."""

    yaw: FloatProperty(name="Yaw", description="Around the head; 0: in front", subtype="ANGLE")
    elevation: FloatProperty(name="Elevation", description="Above the head's level", subtype="ANGLE")
    image: PointerProperty(name="Preview", description="What is seen from there", type=bpy.types.Image)


class HeadOptions(bpy.types.PropertyGroup):
    """`core.head_settings` as properties."""

    model: StringProperty(
        name="Generator",
        description="Name or file of an EG3D generator; empty: the one that comes with Maquette",
    )
    seed: IntProperty(
        name="Seed", description="Another seed makes another head; the same one the same head", min=0
    )
    truncation: FloatProperty(
        name="Variety",
        description="0 is the mean head; towards 1 heads differ more, and more of them look odd",
        default=0.7, min=0.0, max=1.5, soft_max=1.0,
    )  # fmt: skip
    count: IntProperty(
        name="Previews",
        description="How many heads the gallery shows, from the seed on",
        default=6,
        min=1,
        max=64,
    )
    yaw: FloatProperty(
        name="Around",
        description="Where the head's own camera stands: 0 in front, positive towards the head's left",
        subtype="ANGLE", min=-math.pi, max=math.pi,
    )  # fmt: skip
    elevation: FloatProperty(
        name="Above",
        description="How far above the head's level its own camera stands",
        subtype="ANGLE", min=-math.radians(80), max=math.radians(80),
    )  # fmt: skip
    orbit: CollectionProperty(type=HeadSide)
    orbit_of: StringProperty(description="Seed, variety and generator that the orbit preview shows")
    mix_with: PointerProperty(
        name="Mix With", description="A head in the scene to mix the chosen one with", type=bpy.types.Object,
        poll=_may_be_picked,
    )  # fmt: skip
    share: FloatProperty(
        name="Share",
        description="Of the other head in the mix",
        default=0.5,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    original: PointerProperty(
        name="Original", description="The head that is changed", type=bpy.types.Object, poll=_may_be_picked
    )
    original_photo: StringProperty(
        name="Original Photo",
        description="A portrait, where no head of the scene is the original",
        subtype="FILE_PATH",
    )
    reference: PointerProperty(
        name="Reference",
        description="The head that gives the part",
        type=bpy.types.Object,
        poll=_may_be_picked,
    )
    reference_photo: StringProperty(
        name="Reference Photo",
        description="A portrait, where no head of the scene is the reference",
        subtype="FILE_PATH",
    )
    region: EnumProperty(
        name="Region",
        description="What is taken from the reference",
        items=[
            ("hair", "Hair", "Hair with its outline"),
            ("eyes", "Eyes", "Both eyes with their lids"),
            ("nose", "Nose", "The nose with its wings"),
            ("mouth", "Mouth", "The lips"),
            ("face", "Face", "Skin, eyes, brows, nose and mouth, without ears and hair"),
            ("brows", "Brows", "Both brows"),
            ("MASK", "Painted", "What is opaque in a painted picture"),
        ],
    )
    mask: PointerProperty(
        name="Mask",
        description="Picture of the original whose opaque part is the region",
        type=bpy.types.Image,
    )
    density: FloatProperty(
        name="Shape", description="How firmly shapes are held to those of both heads; 0 looks at pictures alone",
        default=1.0, min=0.0, max=100.0, soft_max=3.0,
    )  # fmt: skip
    colour: FloatProperty(
        name="Colour", description="How much the reference's colours count in the region",
        default=1.0, min=0.0, max=100.0, soft_max=5.0,
    )  # fmt: skip
    take: EnumProperty(
        name="Take",
        description="What of the reference comes over",
        items=[
            ("BOTH", "Shape and Colour", "The part as the reference has it"),
            ("SHAPE", "Shape", "The reference's shape in the original's colours"),
            ("COLOUR", "Colour", "The reference's colours on the original's shape"),
        ],
    )
    align: EnumProperty(
        name="Alignment",
        description="How the reference is laid over the original before they are blended",
        items=[
            (
                "head",
                "By Head",
                "The part lies where it belongs on the original's head: hair takes the head's shape, other parts keep theirs",
            ),
            ("camera", "By Camera", "Both heads seen by the original's camera"),
            ("part", "By Part", "The part is also moved and scaled onto the original's"),
        ],
    )
    use_poisson: BoolProperty(
        name="Seamless Finish",
        description="Clone the blended picture into the original's, so that no seam is left",
    )
    gallery: CollectionProperty(type=HeadPreview)


def head_options(scene: bpy.types.Scene) -> Any:
    """The `HeadOptions` of a scene."""
    return scene.maquette_heads  # type: ignore[attr-defined]


CLASSES = (HeadPreview, HeadSide, HeadOptions)


def register() -> None:
    """The scene's pointer; the classes are registered with the operators' (`operators._modules`)."""
    bpy.types.Scene.maquette_heads = PointerProperty(type=HeadOptions)  # type: ignore[attr-defined,func-returns-value]


def unregister() -> None:
    """The reverse."""
    del bpy.types.Scene.maquette_heads  # type: ignore[attr-defined]
