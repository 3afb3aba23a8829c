# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept in the .blend and in the preferences: choices for the next mesh, and where a result came from."""

# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

ROOT_PACKAGE = __package__.rpartition(".")[0]
SCHEMA = 1
"""Version of `SceneState` and below; a later one may rename what it holds."""
FACE_BUDGET = IntProperty(
    name="Face Budget",
    description="Triangles at most: fewer make a lighter and rounder mesh; 0 leaves it to Quality",
    min=0,
    max=10_000_000,
)
"""Of the scene's settings and of Re-Extract, as the next one."""
USE_REGION = BoolProperty(
    name="Limit to Region", description="Mesh only what lies inside the region box", default=True
)


DISPLAY_TYPE = EnumProperty(
    name="Display",
    items=[
        ("DEFAULT", "Default", "As it was the last time", 0),
        ("LIST_VERTICAL", "List", "Names with details", 1),
        ("LIST_HORIZONTAL", "Short List", "Names in columns", 2),
        ("THUMBNAIL", "Thumbnails", "Small pictures", 3),
    ],
    default="THUMBNAIL",
    options={"SKIP_SAVE", "HIDDEN"},
)
"""Of operators that ask for photos: Blender's file browser reads it, and photos are told apart by their looks."""


class MeshOptions(bpy.types.PropertyGroup):
    """`core.settings.MeshSettings` as properties; `operators.mesh_settings` reads them."""

    method: EnumProperty(
        name="Method",
        description="How the mesh is made",
        items=[
            ("auto", "Automatic", "Chosen by the number of photos"),
            (
                "photos",
                "Photos",
                "Cameras and a radiance field are solved from two or more photos of one object",
            ),
            ("lrm", "Single Picture", "A trained model guesses the whole object from one picture"),
        ],
    )
    model: StringProperty(
        name="Model",
        description="Name or file of the model for a single picture; empty: the best that is there",
    )
    quality: EnumProperty(
        name="Quality",
        description="How fine the mesh is and how long it takes: resolution, fitting time and number of faces",
        items=[
            ("draft", "Draft", "A first look within about a minute"),
            ("normal", "Normal", "A few minutes; 50,000 to 200,000 faces"),
            ("high", "High", "Finer detail; several times longer"),
        ],
        default="normal",
    )
    device: EnumProperty(
        name="Device",
        description="Where the engine computes: the time changes, the result hardly does",
        items=[
            ("auto", "Automatic", "The graphics card where there is one, else the processor"),
            ("cpu", "Processor", "Works everywhere"),
            ("cuda", "CUDA", "An NVIDIA graphics card"),
            ("mps", "Metal", "An Apple graphics card"),
        ],
    )
    seed: IntProperty(
        name="Seed",
        description="The same seed, photos and settings give the same mesh; another one gives another guess of what no photo shows",
        min=0,
    )
    cameras: StringProperty(
        name="Cameras",
        description="File or folder with known cameras (transforms.json or COLMAP); empty: they are found from the photos",
        subtype="FILE_PATH",
    )
    masks: StringProperty(
        name="Masks",
        description="Folder with pictures named like the photos, white where the object is; empty: see Background",
        subtype="DIR_PATH",
    )
    matting: StringProperty(
        name="Matting Model",
        description="ONNX file of a model that tells the object of a single picture; needs onnxruntime in the engine",
        subtype="FILE_PATH",
    )
    mask_mode: EnumProperty(
        name="Background",
        description="What belongs to the object when no masks are given",
        items=[
            (
                "auto",
                "Remove",
                "Transparency where photos have it, else the object is told from table and background",
            ),
            ("alpha", "By Transparency", "Only the photos' own transparency decides"),
            ("none", "Keep", "The whole scene is meshed"),
        ],
    )
    use_region: USE_REGION
    region_box: PointerProperty(
        name="Region Box",
        description="Object whose bounds limit the mesh; Add Region Box makes one",
        type=bpy.types.Object,
    )
    texture_size: IntProperty(
        name="Texture Size",
        description="Width and height of the base colour texture: larger keeps finer detail of the photos and takes more memory",
        default=2048,
        min=256,
        max=8192,
        subtype="PIXEL",
    )
    face_budget: FACE_BUDGET
    resolution: IntProperty(
        name="Resolution",
        description="Cells along the longest side when the surface is extracted: more keep finer detail and take longer; 0 leaves it to Quality",
        min=0,
        max=2048,
    )
    height: FloatProperty(
        name="Height",
        description="Height that the object gets in the scene, in metres; 0 makes its longest side one metre",
        min=0.0,
        max=1e6,
        soft_max=10.0,
        unit="LENGTH",
    )


class PoseOptions(bpy.types.PropertyGroup):
    """Choices of Estimate Poses; photos, masks, quality and device are those of the mesh."""

    method: EnumProperty(
        name="Method",
        description="How the cameras are found",
        items=[
            ("auto", "Automatic", "What suits the photos; every camera gets a grade"),
            ("sfm", "Features", "Structure from motion with matched features"),
            (
                "diffusion",
                "Diffusion Field",
                "A field learned while the cameras are guessed: slow, for photos whose features fail",
            ),
        ],
    )
    use_sequence: BoolProperty(
        name="Numbered Sequence",
        description="The photos are the frames of one take: one camera moves through all of them",
    )


class AlignOptions(bpy.types.PropertyGroup):
    """Choices of Align Camera."""

    use_selected: BoolProperty(
        name="Selected Only", description="Match the selected meshes only, not everything that is visible"
    )
    use_anywhere: BoolProperty(
        name="From Anywhere",
        description="The camera's present place is no hint at all: look from all sides, which takes longer",
    )
    lens: EnumProperty(
        name="Lens",
        description="What is known of the focal length",
        items=[
            ("solve", "Solve", "From the photo's file where it says so, else it is found with the camera"),
            ("keep", "Keep", "The camera's own focal length is right"),
        ],
    )
    mask_mode: EnumProperty(
        name="Background",
        description="Whether the object is told from the photo's background",
        items=[
            ("auto", "Remove", "The outline of the object helps to find the camera"),
            ("alpha", "By Transparency", "Only the photo's own transparency tells the object"),
            ("none", "Keep", "The geometry is the whole scene: its outline tells nothing"),
        ],
    )


class PhotoItem(bpy.types.PropertyGroup):
    """One photo of the list."""

    path: StringProperty(name="Path", description="File of the photo", subtype="FILE_PATH")
    grade: StringProperty(name="Grade", description="How far its camera could be trusted in the last result")
    reason: StringProperty(name="Reason", description="Why its camera is not graded good")
    has_mask: BoolProperty(name="Mask", description="The last result has a mask of this photo")


class CandidateItem(bpy.types.PropertyGroup):
    """One candidate for a picture's mesh."""

    model: StringProperty(name="Model", description="Name or file of the model")
    licence: StringProperty(name="Licence", description="Licence of the model's weights")
    seed: IntProperty(name="Seed", description="Seed of this candidate")
    picture: StringProperty(name="Picture", description="File of the picture", subtype="FILE_PATH")
    image: PointerProperty(name="Preview", description="What it would look like", type=bpy.types.Image)


def _redraw_viewports(self: Any, context: bpy.types.Context) -> None:
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def _is_version(self: Any, item: bpy.types.Object) -> bool:
    return item.type == "MESH" and bool(result_info(item).schema)


class SceneState(bpy.types.PropertyGroup):
    """`Scene.maquette`."""

    schema: IntProperty(default=SCHEMA)
    photos: CollectionProperty(type=PhotoItem)
    active_photo: IntProperty(name="Photo", description="Photo chosen in the list")
    active_camera: IntProperty(name="Camera", description="Camera chosen in the list")
    mesh: PointerProperty(type=MeshOptions)
    candidates: CollectionProperty(type=CandidateItem)
    poses: PointerProperty(type=PoseOptions)
    show_invented: BoolProperty(
        name="Show Invented",
        description="Cover in orange what of the mesh no photo shows, in all viewports; nothing of the mesh is changed",
        update=_redraw_viewports,
    )
    compare_with: PointerProperty(
        name="Other Version",
        description="Mesh of a result that Compare shows in turns or beside the chosen one",
        type=bpy.types.Object,
        poll=_is_version,
    )
    align: PointerProperty(type=AlignOptions)


class ResultInfo(bpy.types.PropertyGroup):
    """`Object.maquette`, on the root and the meshes of a result; `schema` 0 means: not one of ours."""

    schema: IntProperty()
    folder: StringProperty(
        name="Folder", description="Where the result lay when it was imported", subtype="DIR_PATH"
    )
    method: StringProperty(name="Method", description="Method that made it")
    seed: StringProperty(name="Seed", description="Seed of its random draws")
    device: StringProperty(name="Device", description="Where it was computed")
    model: StringProperty(name="Model", description="Model that made it, where one did")
    licence: StringProperty(name="Licence", description="Licence of the model's weights")
    settings: StringProperty(name="Settings", description="Settings of the run, as JSON")
    metrics: StringProperty(name="Metrics", description="Measured quality, as JSON")
    timings: StringProperty(name="Timings", description="Seconds by stage, as JSON")
    report: StringProperty(name="Report", description="Faces, parts, holes of the mesh, as JSON")
    failed: StringProperty(name="Failed", description="Photos without a camera and why, as JSON")
    has_field: BoolProperty(
        name="Field",
        description="A field lies with the result, from which Re-Extract makes meshes",
        default=True,
    )
    warnings: StringProperty(name="Warnings", description="What the engine warned of, one a line")


class CameraInfo(bpy.types.PropertyGroup):
    """`Camera.maquette`: the photo behind a solved camera; an empty `photo` means: not one of ours."""

    photo: StringProperty(name="Photo", description="File name of the photo")
    photo_path: StringProperty(
        name="Photo Path", description="Where the original photo lay", subtype="FILE_PATH"
    )
    lens: StringProperty(
        name="Lens", description="Cameras of the original photo and of its undistorted view, as JSON"
    )
    width: IntProperty(name="Width", description="Width of the undistorted photo", subtype="PIXEL")
    height: IntProperty(name="Height", description="Height of the undistorted photo", subtype="PIXEL")
    pixel_aspect: FloatVectorProperty(size=2, default=(1.0, 1.0))
    grade: EnumProperty(
        name="Grade",
        description="How far the camera can be trusted",
        items=[
            ("good", "Good", "Agrees with the other photos"),
            ("doubtful", "Doubtful", "May be off"),
            ("failed", "Failed", "Not usable"),
        ],
    )
    reason: StringProperty(name="Reason", description="Why the camera is not graded good")
    silhouette_iou: FloatProperty(
        name="Silhouette Match",
        description="Overlap of the mesh's outline with the photo's mask, 1 is perfect, -1 unmeasured",
        default=-1.0,
    )
    photo_psnr: FloatProperty(
        name="Photo Match",
        description="PSNR between the mesh's render and the photo inside the mask in decibels, -1 unmeasured",
        default=-1.0,
    )
    reprojection_px: FloatProperty(
        name="Reprojection Error",
        description="How far matched points or outlines lie from where the photo shows them, in its pixels, -1 unmeasured",
        default=-1.0,
    )


def _look_for_engine(self: Any, context: bpy.types.Context) -> None:
    from . import engine  # reads these preferences itself

    engine.look_again()


class MaquettePreferences(bpy.types.AddonPreferences):
    """Edit > Preferences > Add-ons > Maquette."""

    bl_idname = ROOT_PACKAGE

    engine_python: StringProperty(
        name="Engine Python",
        description="Python with the engine's packages; empty: the environment that Set Up Engine makes",
        subtype="FILE_PATH",
        update=_look_for_engine,
    )
    base_python: StringProperty(
        name="Base Python",
        description="Python that Set Up Engine makes the environment from; empty: Blender's own, or one that is found",
        subtype="FILE_PATH",
    )
    wheel_folder: StringProperty(
        name="Wheel Folder",
        description="Folder with the engine's wheels, to set it up without a network",
        subtype="DIR_PATH",
    )
    idle_minutes: IntProperty(
        name="Idle Minutes",
        description="The engine is closed, and its memory freed, after this many minutes without work",
        default=10,
        min=0,
        soft_max=60,
    )
    import_when_done: BoolProperty(
        name="Import When Done",
        description="Bring a finished result into the scene at once; otherwise it waits in the sidebar",
        default=True,
    )

    def draw(self, context: bpy.types.Context) -> None:
        """Engine first."""
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "engine_python")
        layout.prop(self, "base_python")
        layout.prop(self, "wheel_folder")
        layout.operator("maquette.set_up_engine", icon="IMPORT")
        layout.separator()
        layout.prop(self, "idle_minutes")
        layout.prop(self, "import_when_done")


def scene_state(scene: bpy.types.Scene) -> Any:
    """The `SceneState` of a scene."""
    return scene.maquette  # type: ignore[attr-defined]


def result_info(target: bpy.types.Object) -> Any:
    """The `ResultInfo` of an object."""
    return target.maquette  # type: ignore[attr-defined]


def camera_info(camera: bpy.types.Object) -> Any:
    """The `CameraInfo` of a camera object."""
    data: Any = camera.data
    return data.maquette


def preferences() -> Any:
    """Our `MaquettePreferences`; None when the package was loaded without being enabled (headless import)."""
    addon: Any = bpy.context.preferences.addons.get(ROOT_PACKAGE)
    return addon.preferences if addon else None


CLASSES = (
    MeshOptions,
    PoseOptions,
    AlignOptions,
    PhotoItem,
    CandidateItem,
    SceneState,
    ResultInfo,
    CameraInfo,
    MaquettePreferences,
)
POINTERS: tuple[tuple[Any, Any], ...] = (
    (bpy.types.Scene, SceneState),
    (bpy.types.Object, ResultInfo),
    (bpy.types.Camera, CameraInfo),
)


def register() -> None:
    """Classes first, then `maquette` on scenes, objects and cameras."""
    for kind in CLASSES:
        bpy.utils.register_class(kind)
    for owner, kind in POINTERS:
        owner.maquette = PointerProperty(type=kind)


def unregister() -> None:
    """The reverse."""
    for owner, _ in reversed(POINTERS):
        del owner.maquette
    for kind in reversed(CLASSES):
        bpy.utils.unregister_class(kind)
