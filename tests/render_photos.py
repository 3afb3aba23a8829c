# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos of an object on a table, with known cameras, masks and shape: our benchmark scenes and the example photos.

    .venv-bpy-4.5/bin/python tests/render_photos.py MESH.glb OUT [--size 512] [--views 24] [--seed 0] [--up y] [--phone]
        [--room white --grey --ring 20 --no-masks]

Needs a Python with the `bpy` wheel (Cycles, CPU). Writes `images/NNN.png` (with --phone `images/IMG_NNNN.jpg` of 3:4 with
EXIF), `masks/`, `transforms_true.json` (NeRF JSON, OpenGL axes) and `mesh_true.obj` in the same frame: metres, Z up, the
object standing on z = 0 with its longest side 0.2 m.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import struct
import sys
import time
from pathlib import Path

import bpy
from mathutils import Matrix, Vector

LONGEST_SIDE = 0.2
DIAGONAL_35MM = math.hypot(36.0, 24.0)


def main() -> None:
    """Render all views."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mesh", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=512, help="long side in pixels")
    parser.add_argument("--views", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=8, help="per pixel, before the denoiser")
    parser.add_argument(
        "--fill", type=float, default=0.74, help="diameter of the object's ball over the picture's width"
    )
    parser.add_argument("--lens", type=int, default=40, help="35 mm equivalent (by the diagonal), mm")
    parser.add_argument("--up", choices=("x", "y", "z"), default="y", help="axis of the file that points up")
    parser.add_argument("--table", choices=("terrazzo", "wood"), default="terrazzo")
    parser.add_argument(
        "--room", choices=("table", "white"), default="table", help="white: a studio without a floor"
    )
    parser.add_argument(
        "--ring", type=float, default=None, help="degrees above; one ring of cameras, not two"
    )
    parser.add_argument("--grey", action="store_true", help="one grey instead of the object's texture")
    parser.add_argument(
        "--mirror", action="store_true", help="the object's left half is its right half mirrored"
    )
    parser.add_argument(
        "--pattern", action="store_true", help="squares that repeat instead of the object's texture"
    )
    parser.add_argument("--no-masks", action="store_true")
    parser.add_argument("--phone", action="store_true", help="3:4 JPEG with EXIF instead of square PNG")
    parser.add_argument("--only", type=int, default=None, help="render one view, for a look at the scene")
    options = parser.parse_args()

    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    scene = bpy.context.scene
    subject = load_object(options.mesh, options.up)
    if options.mirror:
        mirror(subject)
    if options.grey or options.pattern:
        subject.data.materials.clear()
        subject.data.materials.append(squares() if options.pattern else grey())
    surroundings = build_room(options.table)
    if options.room == "white":
        for item in surroundings:
            item.hide_render = True
        whiten(scene.world)
    set_up_render(scene, options)
    for folder in ("images", "masks"):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
    write_obj(options.out / "mesh_true.obj", subject)
    draw = random.Random(options.seed)
    frames = []
    for i, pose in enumerate(orbit(options.views, subject, options, draw)):
        exposure = draw.uniform(-0.12, 0.12) - (0.2 if options.phone else 0.0)
        if options.only is not None and i != options.only:
            continue
        began = time.monotonic()
        name = f"IMG_{2001 + i}.jpg" if options.phone else f"{i:03d}.png"
        frames.append({"file_path": f"images/{name}", "transform_matrix": [list(row) for row in pose]})
        mask = options.out / "masks" / f"{Path(name).stem}.png"
        if (
            options.out / "images" / name if options.no_masks else mask
        ).exists():  # an interrupted run goes on
            continue
        scene.camera.matrix_world = pose
        scene.view_settings.exposure = exposure
        render(scene, options.out / "images" / name)
        if options.phone:
            insert_exif(options.out / "images" / name, options.lens, i)
        if not options.no_masks:
            render_mask(scene, surroundings, mask)
        sys.stderr.write(f"{name} {time.monotonic() - began:.1f} s\n")
    width, height = scene.render.resolution_x, scene.render.resolution_y
    focal = options.lens * math.hypot(width, height) / DIAGONAL_35MM
    cameras = {"fl_x": focal, "fl_y": focal, "cx": width / 2, "cy": height / 2, "w": width, "h": height}
    (options.out / "transforms_true.json").write_text(json.dumps({**cameras, "frames": frames}, indent=1))


def load_object(path: Path, up: str) -> bpy.types.Object:
    """The file's meshes as one object standing on the origin, Z up."""
    if path.suffix == ".ply":
        bpy.ops.wm.ply_import(filepath=str(path), forward_axis="NEGATIVE_Z", up_axis="Y")
        bpy.ops.object.shade_smooth()
    else:
        bpy.ops.import_scene.gltf(filepath=str(path))
    meshes = [item for item in bpy.data.objects if item.type == "MESH"]
    for item in meshes:
        item.data.transform(item.matrix_world)
        item.parent, item.matrix_world = None, Matrix.Identity(4)
    with bpy.context.temp_override(active_object=meshes[0], selected_editable_objects=meshes):
        if len(meshes) > 1:
            bpy.ops.object.join()
    subject = meshes[0]
    # The importer has turned the file's Y up into Z up.
    turn = {
        "y": Matrix.Identity(4),
        "z": Matrix.Rotation(math.pi / 2, 4, "X").inverted(),
        "x": Matrix.Rotation(-math.pi / 2, 4, "Y"),
    }
    subject.data.transform(turn[up])
    corners = [vertex.co for vertex in subject.data.vertices]
    low = Vector(min(corner[k] for corner in corners) for k in range(3))
    high = Vector(max(corner[k] for corner in corners) for k in range(3))
    foot = Vector(((low.x + high.x) / 2, (low.y + high.y) / 2, low.z))
    scale = LONGEST_SIDE / max(high - low)
    subject.data.transform(Matrix.Scale(scale, 4) @ Matrix.Translation(-foot))
    subject["size"] = list((high - low) * scale)
    for material in subject.data.materials:
        shader = next(
            node for node in material.node_tree.nodes if node.bl_idname == "ShaderNodeBsdfPrincipled"
        )
        shader.inputs["Roughness"].default_value = 0.55
        shader.inputs["Specular IOR Level"].default_value = 0.3
    return subject


def whiten(world: bpy.types.World) -> None:
    """White where the camera looks past the object, the same soft light as before on it."""
    sky = world.node_tree.nodes["Background"]
    sky.inputs["Color"].default_value = (1, 1, 1, 1)
    path = world.node_tree.nodes.new("ShaderNodeLightPath")
    sum_up = world.node_tree.nodes.new("ShaderNodeMath")
    sum_up.operation = "ADD"
    sum_up.inputs[1].default_value = sky.inputs["Strength"].default_value
    world.node_tree.links.new(path.outputs["Is Camera Ray"], sum_up.inputs[0])
    world.node_tree.links.new(sum_up.outputs[0], sky.inputs["Strength"])


def mirror(subject: bpy.types.Object) -> None:
    """The half at x > 0 and its mirror image, textures too."""
    with bpy.context.temp_override(active_object=subject, object=subject):
        bisect = subject.modifiers.new("Mirror", "MIRROR")
        bisect.use_bisect_axis[0] = True
        bpy.ops.object.modifier_apply(modifier="Mirror")


def grey() -> bpy.types.Material:
    """Matt clay."""
    material = bpy.data.materials.new("Grey")
    material.use_nodes = True
    surface = next(n for n in material.node_tree.nodes if n.bl_idname == "ShaderNodeBsdfPrincipled")
    surface.inputs["Base Color"].default_value = (0.45, 0.45, 0.45, 1)
    surface.inputs["Roughness"].default_value = 0.7
    return material


def squares() -> bpy.types.Material:
    """A chessboard with a dot in every square: features everywhere, all alike."""
    shader = Shader("Squares", 0.6)
    board = shader.node(
        "TexChecker",
        {
            "Vector": shader.position,
            "Scale": 60.0,
            "Color1": (0.75, 0.7, 0.6, 1),
            "Color2": (0.1, 0.2, 0.3, 1),
        },
    )
    cells = shader.node("TexVoronoi", {"Vector": shader.position, "Scale": 60.0, "Randomness": 0.0})
    near = shader.node("Math", {0: cells.outputs["Distance"], 1: 0.25}, operation="LESS_THAN")
    return shader.finish(shader.mix("MIX", near.outputs[0], board.outputs["Color"], (0.6, 0.1, 0.05)))


def build_room(table: str) -> list[bpy.types.Object]:
    """Table, floor, walls and lamps. Walls and floor let the sky's soft light through."""
    bpy.ops.mesh.primitive_cylinder_add(vertices=96, radius=0.42, depth=0.03, location=(0.03, -0.02, -0.015))
    top = bpy.context.active_object
    top.data.materials.append(terrazzo() if table == "terrazzo" else wood())
    bpy.ops.mesh.primitive_plane_add(size=5.0, location=(0, 0, -0.72))
    floor = bpy.context.active_object
    floor.data.materials.append(bricks("Floor", 9.0, (0.30, 0.24, 0.20), (0.16, 0.12, 0.10)))
    room = [top, floor]
    for k in range(4):
        angle = k * math.pi / 2 + 0.2
        place = (2.4 * math.cos(angle), 2.4 * math.sin(angle), 0.5)
        bpy.ops.mesh.primitive_plane_add(
            size=5.0, location=place, rotation=(math.pi / 2, 0, angle + math.pi / 2)
        )
        wall = bpy.context.active_object
        tint = [(0.42, 0.47, 0.52), (0.55, 0.50, 0.40), (0.38, 0.45, 0.38), (0.52, 0.44, 0.44)][k]
        wall.data.materials.append(bricks(f"Wall {k}", 5.0 + k, tint, tuple(0.45 * value for value in tint)))
        room.append(wall)
    for item in room[1:]:
        item.visible_shadow = item.visible_diffuse = False
    for location, size, power, colour in (
        ((0.9, -0.7, 1.3), 0.7, 22.0, (1.0, 0.93, 0.85)),
        ((-1.1, 0.5, 1.0), 1.0, 9.0, (0.85, 0.92, 1.0)),
    ):
        lamp = bpy.data.lights.new("Lamp", "AREA")
        lamp.size, lamp.energy, lamp.color = size, power, colour
        holder = bpy.data.objects.new("Lamp", lamp)
        holder.location = location
        holder.rotation_euler = (-Vector(location)).to_track_quat("-Z", "Y").to_euler()
        holder.visible_camera = False
        bpy.context.collection.objects.link(holder)
    world = bpy.data.worlds.new("Sky")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.75, 0.82, 0.95, 1)
    world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.55
    bpy.context.scene.world = world
    return room


class Shader:
    """A material's node tree, built line by line."""

    def __init__(self, name: str, roughness: float) -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.tree = self.material.node_tree
        self.surface = next(n for n in self.tree.nodes if n.bl_idname == "ShaderNodeBsdfPrincipled")
        self.surface.inputs["Roughness"].default_value = roughness
        self.surface.inputs["Specular IOR Level"].default_value = 0.2
        self.position = self.tree.nodes.new("ShaderNodeTexCoord").outputs["Object"]

    def node(self, kind: str, inputs: dict[str, object], **settings: object) -> bpy.types.Node:
        """A node; inputs are numbers, colours or sockets."""
        node = self.tree.nodes.new(f"ShaderNode{kind}")
        for key, value in settings.items():
            setattr(node, key, value)
        for key, value in inputs.items():
            socket = node.inputs[key]
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, socket)
            else:
                socket.default_value = value
        return node

    def ramp(
        self, factor: bpy.types.NodeSocket, stops: list[tuple[float, tuple[float, float, float]]]
    ) -> bpy.types.NodeSocket:
        """Value -> colour."""
        node = self.node("ValToRGB", {"Fac": factor})
        elements = node.color_ramp.elements
        while len(elements) < len(stops):
            elements.new(0.5)
        for element, (place, colour) in zip(elements, stops, strict=True):
            element.position, element.color = place, (*colour, 1)
        return node.outputs["Color"]

    def mix(self, kind: str, factor: object, a: object, b: object) -> bpy.types.NodeSocket:
        """Two colours -> one."""
        node = self.tree.nodes.new("ShaderNodeMix")
        node.data_type, node.blend_type = "RGBA", kind
        colours = {socket.name: socket for socket in node.inputs if socket.type == "RGBA"}
        for socket, value in ((node.inputs[0], factor), (colours["A"], a), (colours["B"], b)):
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, socket)
            else:
                socket.default_value = value if isinstance(value, float) else (*value, 1)
        return next(socket for socket in node.outputs if socket.type == "RGBA")

    def finish(self, colour: bpy.types.NodeSocket) -> bpy.types.Material:
        """Colour -> base colour."""
        self.tree.links.new(colour, self.surface.inputs["Base Color"])
        return self.material


def terrazzo() -> bpy.types.Material:
    """Stone chips of three sizes in a cloudy ground: corners everywhere, nothing repeats."""
    shader = Shader("Terrazzo", 0.6)
    clouds = shader.node("TexNoise", {"Vector": shader.position, "Scale": 9.0, "Detail": 6.0})
    colour = shader.ramp(clouds.outputs["Fac"], [(0.35, (0.24, 0.17, 0.12)), (0.65, (0.40, 0.30, 0.22))])
    for scale, size in ((38.0, 0.30), (85.0, 0.26), (190.0, 0.24)):
        cells = {"Vector": shader.position, "Scale": scale, "Randomness": 1.0}
        chips = shader.node("TexVoronoi", cells)
        near = shader.node("Math", {0: chips.outputs["Distance"], 1: size}, operation="LESS_THAN")
        grey = shader.node("RGBToBW", {"Color": chips.outputs["Color"]})
        tint = shader.ramp(
            grey.outputs["Val"],
            [
                (0.2, (0.05, 0.05, 0.06)),
                (0.42, (0.35, 0.16, 0.10)),
                (0.55, (0.16, 0.22, 0.20)),
                (0.75, (0.80, 0.76, 0.68)),
            ],
        )
        colour = shader.mix("MIX", near.outputs[0], colour, tint)
    return shader.finish(colour)


def wood() -> bpy.types.Material:
    """Planks with grain, knots and scratches."""
    shader = Shader("Wood", 0.55)
    bend = shader.node("TexNoise", {"Vector": shader.position, "Scale": 7.0, "Detail": 3.0})
    bent = shader.mix("LINEAR_LIGHT", 0.035, shader.position, bend.outputs["Color"])
    planks = shader.node(
        "TexBrick",
        {
            "Vector": shader.position, "Scale": 1.0, "Color1": (0.55, 0.55, 0.55, 1), "Color2": (1, 1, 1, 1),
            "Mortar": (0.05, 0.04, 0.03, 1), "Mortar Size": 0.0012, "Brick Width": 0.55, "Row Height": 0.085,
        },
    )  # fmt: skip
    stretched = shader.node("Mapping", {"Vector": bent, "Scale": (9.0, 110.0, 9.0)})
    grain = shader.node(
        "TexNoise", {"Vector": stretched.outputs["Vector"], "Scale": 1.0, "Detail": 9.0, "Roughness": 0.7}
    )
    brown = [
        (0.30, (0.10, 0.045, 0.018)),
        (0.48, (0.30, 0.15, 0.065)),
        (0.58, (0.42, 0.24, 0.11)),
        (0.72, (0.58, 0.37, 0.19)),
    ]
    colour = shader.ramp(grain.outputs["Fac"], brown)
    colour = shader.mix("MULTIPLY", 0.75, colour, planks.outputs["Color"])
    knots = shader.node("TexVoronoi", {"Vector": bent, "Scale": 16.0})
    dark = shader.node("Math", {0: knots.outputs["Distance"], 1: 0.11}, operation="LESS_THAN")
    colour = shader.mix("MIX", dark.outputs[0], colour, (0.07, 0.035, 0.018))
    pores = shader.node("TexVoronoi", {"Vector": shader.position, "Scale": 120.0})
    dots = shader.node("Math", {0: pores.outputs["Distance"], 1: 0.2}, operation="LESS_THAN")
    return shader.finish(shader.mix("MULTIPLY", dots.outputs[0], colour, (0.45, 0.4, 0.36)))


def bricks(name: str, scale: float, light: tuple[float, ...], dark: tuple[float, ...]) -> bpy.types.Material:
    """Rows of bricks of uneven colour, for floor and walls."""
    shader = Shader(name, 0.8)
    rows = shader.node(
        "TexBrick",
        {
            "Vector": shader.position,
            "Scale": scale,
            "Color1": (*light, 1),
            "Color2": (*dark, 1),
            "Mortar": (0.6, 0.58, 0.55, 1),
        },
    )
    clouds = shader.node(
        "TexNoise", {"Vector": shader.position, "Scale": 3.0, "Detail": 10.0, "Roughness": 0.75}
    )
    spots = shader.ramp(clouds.outputs["Fac"], [(0.35, (0.25, 0.25, 0.25)), (0.65, (1, 1, 1))])
    return shader.finish(shader.mix("MULTIPLY", 0.8, rows.outputs["Color"], spots))


def set_up_render(scene: bpy.types.Scene, options: argparse.Namespace) -> None:
    """Cycles on the CPU with few samples and the denoiser; one camera."""
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = options.samples
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.max_bounces = 3
    scene.cycles.seed = options.seed
    scene.cycles.denoiser = "OPENIMAGEDENOISE"
    scene.render.use_persistent_data = True
    scene.render.threads_mode, scene.render.threads = "FIXED", 2
    scene.render.resolution_x = options.size * 3 // 4 if options.phone else options.size
    scene.render.resolution_y = options.size
    scene.render.resolution_percentage = 100
    scene.view_settings.view_transform = "Standard"
    scene.render.image_settings.quality = 88
    plain = bpy.data.materials.new("Plain")
    plain.use_nodes = True
    plain.node_tree.nodes.clear()
    output = plain.node_tree.nodes.new("ShaderNodeOutputMaterial")
    emission = plain.node_tree.nodes.new("ShaderNodeEmission")
    plain.node_tree.links.new(emission.outputs[0], output.inputs["Surface"])
    camera = bpy.data.cameras.new("Camera")
    camera.sensor_fit = "VERTICAL"
    width, height = scene.render.resolution_x, scene.render.resolution_y
    camera.sensor_height = 24.0
    camera.lens = options.lens * math.hypot(width, height) / DIAGONAL_35MM * camera.sensor_height / height
    camera.clip_start = 0.01
    scene.camera = bpy.data.objects.new("Camera", camera)
    scene.collection.objects.link(scene.camera)


def orbit(
    views: int, subject: bpy.types.Object, options: argparse.Namespace, draw: random.Random
) -> list[Matrix]:
    """Hand-held poses in two rings around the object (or one), camera to world, OpenGL axes."""
    size = Vector(subject["size"])
    centre, radius = Vector((0, 0, size.z / 2)), size.length / 2
    width = 3 / 4 * options.size if options.phone else options.size
    focal = options.lens * math.hypot(width, options.size) / DIAGONAL_35MM
    low = round(views * 0.58) if options.ring is None else views
    first = 22.0 if options.ring is None else options.ring
    poses = []
    for i in range(views):
        count, index, elevation = (low, i, first) if i < low else (views - low, i - low, 44.0)
        azimuth = 2 * math.pi * (index + draw.uniform(-0.22, 0.22)) / count + (0.2 if i < low else 0.45)
        elevation = math.radians(elevation + draw.uniform(-5.0, 5.0))
        distance = 2 * radius * focal / (options.fill * width) * draw.uniform(0.93, 1.1)
        ray = Vector(
            (
                math.cos(elevation) * math.cos(azimuth),
                math.cos(elevation) * math.sin(azimuth),
                math.sin(elevation),
            )
        )
        target = centre + 0.08 * radius * Vector([draw.uniform(-1, 1) for _ in range(3)])
        turn = ray.to_track_quat("Z", "Y").to_matrix().to_4x4()
        turn = turn @ Matrix.Rotation(math.radians(draw.uniform(-3.0, 3.0)), 4, "Z")
        poses.append(Matrix.Translation(target + distance * ray) @ turn)
    return poses


def render(scene: bpy.types.Scene, path: Path) -> None:
    """The photo."""
    scene.cycles.use_denoising = True
    scene.render.film_transparent = False
    scene.render.image_settings.file_format = "JPEG" if path.suffix == ".jpg" else "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def render_mask(scene: bpy.types.Scene, surroundings: list[bpy.types.Object], path: Path) -> None:
    """Coverage of the object alone, with the pixel filter of the photo; nothing of the room stands before it."""
    samples, scene.cycles.samples = scene.cycles.samples, 8
    scene.view_layers[0].material_override = bpy.data.materials["Plain"]
    for item in surroundings:
        item.visible_camera = False
    scene.cycles.use_denoising = False
    scene.render.film_transparent = True
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGBA"
    scene.render.filepath = str(path)
    exposure, scene.view_settings.exposure = scene.view_settings.exposure, 0.0
    bpy.ops.render.render(write_still=True)
    picture = bpy.data.images.load(str(path))
    values = list(picture.pixels)
    alpha = values[3::4]
    values[0::4] = values[1::4] = values[2::4] = alpha
    values[3::4] = [1.0] * len(alpha)
    picture.colorspace_settings.name = "Non-Color"
    picture.pixels.foreach_set(values)
    picture.save()
    bpy.data.images.remove(picture)
    for item in surroundings:
        item.visible_camera = True
    scene.view_layers[0].material_override = None
    scene.cycles.samples, scene.view_settings.exposure = samples, exposure


def insert_exif(path: Path, lens: int, index: int) -> None:
    """What a phone writes: maker, model, time, focal length and its 35 mm equivalent (EXIF 2.3)."""
    texts = {0x010F: b"Maquette\0", 0x0110: b"Render phone\0"}
    taken = f"2024:05:01 12:{index // 60:02d}:{index % 60:02d}\0".encode()
    tail, start = b"", 8 + 2 + 12 * 3 + 4
    first = struct.pack("<H", 3)
    for tag, text in texts.items():
        first += struct.pack("<HHII", tag, 2, len(text), start + len(tail))
        tail += text
    first += struct.pack("<HHII", 0x8769, 4, 1, start + len(tail)) + struct.pack("<I", 0)
    values = start + len(tail) + 2 + 12 * 3 + 4
    second = struct.pack("<H", 3)
    second += struct.pack("<HHII", 0x9003, 2, len(taken), values)
    second += struct.pack("<HHII", 0x920A, 5, 1, values + len(taken))
    second += struct.pack("<HHIHH", 0xA405, 3, 1, lens, 0) + struct.pack("<I", 0)
    block = b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + tail + second + taken
    block += struct.pack("<II", round(lens / 6.4 * 100), 100)
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:])


def write_obj(path: Path, subject: bpy.types.Object) -> None:
    """Vertices and triangles, Z up, no material."""
    subject.data.calc_loop_triangles()
    lines = [f"v {v.co.x:.7f} {v.co.y:.7f} {v.co.z:.7f}" for v in subject.data.vertices]
    lines += ["f " + " ".join(str(index + 1) for index in t.vertices) for t in subject.data.loop_triangles]
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
