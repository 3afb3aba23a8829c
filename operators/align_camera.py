# SPDX-License-Identifier: GPL-3.0-or-later
"""Align Camera: a scene camera solved so that it shows the existing geometry as a photo does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import BoolProperty, StringProperty
from mathutils import Matrix

from ..core.cameras.blender import to_blender
from ..core.errors import InputError, MaquetteError
from ..core.jobs.request import Request, new_job_folder
from ..core.results import Result, SceneCamera, camera_as_json
from . import engine, inputs, jobs
from .cameras import fill_camera, look_through, scene_lens, show_photo
from .geometry import write_geometry
from .meshes import pack_image
from .reports import refuse
from .settings import scene_state

if TYPE_CHECKING:
    from .reports import Outcome


def chosen_camera(context: bpy.types.Context) -> Any:
    """The active object where it is a camera, else the scene's camera; None without one."""
    active = context.active_object
    if active is not None and active.type == "CAMERA":
        return active
    camera = context.scene.camera
    return camera if camera is not None and camera.type == "CAMERA" else None


def background_photo(camera: Any) -> Any:
    """The image behind a camera that is a picture, else None."""
    shown = (item.image for item in camera.data.background_images if item.source == "IMAGE")
    return next(
        (image for image in shown if image is not None and image.source in ("FILE", "GENERATED")), None
    )


class MAQUETTE_OT_align_camera(bpy.types.Operator):
    """Move this camera and set its lens so that it shows the scene's geometry as its photo does"""

    bl_idname = "maquette.align_camera"
    bl_label = "Align Camera"
    bl_options = {"REGISTER"}  # the import that follows is the undo step

    filepath: StringProperty(
        name="Photo",
        description="Photo to match; empty: the picture behind the camera",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    filter_image: BoolProperty(default=True, options={"SKIP_SAVE", "HIDDEN"})
    filter_folder: BoolProperty(default=True, options={"SKIP_SAVE", "HIDDEN"})
    use_browser: BoolProperty(
        name="Choose File", description="Ask for the photo first", options={"SKIP_SAVE", "HIDDEN"}
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        """By button."""
        if properties.use_browser:
            return "Choose a photo file and align the camera to it"
        return str(cls.__doc__)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A camera and the engine have to be there."""
        if context.mode != "OBJECT":
            cls.poll_message_set("Switch to Object mode first")
            return False
        if chosen_camera(context) is None:
            cls.poll_message_set("Select a camera, or make one the scene's camera")
            return False
        return engine.is_ready(cls)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Outcome:
        """Ask for a file where the camera has no picture."""
        if not self.filepath and (self.use_browser or background_photo(chosen_camera(context)) is None):
            context.window_manager.fileselect_add(self)
            return {"RUNNING_MODAL"}
        return self.execute(context)

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Start the job; without a window also wait for it and set the camera."""
        camera, scene = chosen_camera(context), context.scene
        options = scene_state(scene).align
        try:
            folder = new_job_folder()
            photo = self._photo(camera, folder)
            chosen = [
                item for item in context.selected_objects if item.type not in ("CAMERA", "LIGHT", "EMPTY")
            ]
            geometry = write_geometry(context, chosen if options.use_selected else [], folder)
            settings = {
                "geometry": str(geometry),
                "start": camera_as_json(scene_lens(scene, camera)),
                "within_deg": 180.0 if options.use_anywhere else 80.0,
                "lens": options.lens,
                "masks": bpy.path.abspath(scene_state(scene).mesh.masks),
                "mask_mode": options.mask_mode,
                "camera": camera.name,
                "camera_uid": camera.session_uid,
                "background": "" if self.filepath else background_photo(camera).name,
                "device": "cpu",
            }
            title = f"{camera.name} to {photo.name}"
            request = Request("align", (str(photo),), settings, out=str(jobs.new_result_folder(title)))
        except MaquetteError as error:
            return refuse(self, error)
        return jobs.start(self, scene, request, title)

    def _photo(self, camera: Any, folder: Path) -> Path:
        if self.filepath:
            return Path(bpy.path.abspath(self.filepath))
        image = background_photo(camera)
        if image is None:
            raise InputError(
                "NO_IMAGE",
                f"{camera.name} has no picture behind it.",
                "Choose a photo, or add a background image to the camera.",
            )
        return inputs.files_of_images([image], folder)[0]


def take_in(scene: bpy.types.Scene, folder: Path, result: Result) -> Any:
    """Set the camera that was asked for as the engine solved it; the caller's undo step brings the old one back.

    Raises:
        InputError: CAMERA_GONE, RESULT_UNREADABLE; nothing was changed then.
    """
    item, settings = result.cameras[0], result.settings
    camera = _camera_of(scene, settings)
    image: Any = bpy.data.images.get(settings.get("background") or "")
    if image is None and item.image:
        image = bpy.data.images.new(item.source.name, 1, 1)
        try:
            pack_image(image, folder / item.image)
        except InputError:
            bpy.data.images.remove(image)
            raise
    _set(camera, item, float(result.metrics["distance"]))
    if image is not None and background_photo(camera) != image:
        show_photo(camera.data, image)
    look_through(scene, camera)
    return camera


def _camera_of(scene: bpy.types.Scene, settings: dict[str, Any]) -> Any:
    """By its number of this session, else by its name: an undo in between gives objects new numbers."""
    cameras = [item for item in scene.objects if item.type == "CAMERA"]
    for key, value in (("session_uid", settings.get("camera_uid")), ("name", settings.get("camera"))):
        found = next((item for item in cameras if getattr(item, key) == value), None)
        if found is not None:
            return found
    raise InputError(
        "CAMERA_GONE",
        f"The camera {settings.get('camera')} is not in this scene any more.",
        "Align another camera.",
    )


def _set(camera: Any, item: SceneCamera, distance: float) -> None:
    clip = camera.data.clip_start, camera.data.clip_end, camera.data.display_size
    fill_camera(camera, item, distance)
    camera.data.clip_start, camera.data.clip_end = min(clip[0], 0.05 * distance), max(clip[1], 4.0 * distance)
    camera.data.display_size = clip[2]
    camera.data.type = "PERSP"
    placed = Matrix(to_blender(item.view or item.source).matrix.tolist())
    camera.matrix_world = placed


CLASSES = (MAQUETTE_OT_align_camera,)
