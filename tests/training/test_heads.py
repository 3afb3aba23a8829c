# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered heads: shapes, drawing through hair, frames, pairs whose truth is exact, batches, the parser's training and use."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.core.cameras.rotations import angle_deg
from maquette.core.errors import InputError
from maquette.core.models.eg3d.cameras import FOCAL, STANDARD_LANDMARKS, camera_of, frontal_label
from maquette.core.models.heads.codes import STYLES, WIDTH, codes, groups, settle
from maquette.core.models.heads.encoder import portrait_code
from maquette.core.models.heads.faces import (
    FILLS,
    POSE_WEIGHTS,
    WEIGHTS,
    Face,
    aligned_crop,
    all_windows,
    distinct,
    face_parts,
    find_faces,
    portrait_face,
    read_closely,
)
from maquette.core.models.heads.parser import ANGLE, PARTS, SIDE, HeadParser, ParserConfig
from maquette.core.models.heads.pose_reader import NUMBERS, PoseConfig, PoseReader
from maquette.core.types import Camera
from PIL import Image

from tests.bench_blending import held_out
from training.heads import train_pose
from training.heads.averaged import write
from training.heads.dataset import Records, made
from training.heads.drawing import Layer, Light, draw
from training.heads.generate import write_shard
from training.heads.heads import SHIFT, UNITS_PER_DM, Wardrobe, head_frame
from training.heads.ict import IctHeads
from training.heads.looks import Look
from training.heads.makehuman import BROWS, EYES, HAIR, NOSE, SKIN
from training.heads.pairs import make_pair, on_grey
from training.heads.records import RECORD, VIEWS, View, make_record
from training.heads.records import SIDE as FINE
from training.heads.train_parser import code_loss, losses, new_run, train_parser
from training.heads.validate_parser import code_scores, rotations, validate

PACKS = Path(__file__).parents[3] / "shared/training_packs"
needs_packs = pytest.mark.skipif(not PACKS.exists(), reason="needs ../shared/training_packs")
TINY = ParserConfig((8, 8, 8, 8), 4, 8)
PLAIN = Light(1.0, 0.0, np.zeros((0, 3), np.float32), np.zeros(0, np.float32), np.zeros(3, np.float32), 0.0)


@pytest.fixture(scope="module")
def wardrobe() -> Wardrobe:
    made_of = Wardrobe(PACKS / "makehuman_head")
    made_of.body.__dict__["openness"] = np.ones(len(made_of.body.base), np.float32)  # occlusion takes seconds
    return made_of


def square(z: float, rgba: tuple[float, ...], label: int, opaque: bool) -> Layer:
    corners = np.float32([[-1, -1, z], [1, -1, z], [1, 1, z], [-1, 1, z]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])

    def paint(face: np.ndarray, _weights: np.ndarray, _uv: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.float32(rgba), (len(face), 4)).copy()

    return Layer(corners, faces, np.zeros((2, 3, 2), np.float32), np.full(2, label, np.uint8), paint, opaque)


def test_transparent_layers_composite_front_to_back_in_any_order() -> None:
    camera = Camera("", 8, 8, 4, 4, 4, 4, np.eye(4))
    layers = [
        square(2.0, (1, 0, 0, 0.25), HAIR, False),
        square(4.0, (0, 0, 1, 1), SKIN, True),
        square(3.0, (0, 1, 0, 0.5), HAIR, False),
        square(5.0, (1, 1, 1, 1), HAIR, False),  # behind the opaque one
    ]
    drawn = draw(layers, camera, PLAIN, np.ones(9, np.float32))
    expected = np.array([0.25, 0.75 * 0.5, 0.75 * 0.5, 1]) * 255
    np.testing.assert_allclose(drawn.rgba[4, 4], expected, atol=1)
    assert drawn.labels[4, 4] == HAIR  # 0.625 of the pixel
    assert drawn.depth[4, 4] == pytest.approx(4)  # what is solid
    assert np.isnan(draw(layers[:1], camera, PLAIN, np.ones(9, np.float32)).depth).all()


def test_landmarks_come_to_the_mean_faces() -> None:
    target = STANDARD_LANDMARKS * UNITS_PER_DM + SHIFT
    frame = head_frame((target - [0.1, -0.2, 0.3]) / 0.4)
    np.testing.assert_allclose(frame, np.c_[0.4 * np.eye(3), [0.1, -0.2, 0.3]], atol=1e-12)


@needs_packs
def test_an_axis_moves_vertices_by_its_targets(wardrobe: Wardrobe) -> None:
    body = wardrobe.body
    names = [axis.name for axis in body.axes]
    assert len(names) == len(set(names)) and "nose/nose-hump-incr" in names
    macros = np.float32([0, 0, 1, 0.5, 0, 0.5, 0.5])
    axes = np.zeros(len(body.axes) + len(body.lopsided), np.float32)
    still = np.zeros(len(body.units), np.float32)
    plain = body.shape(macros, axes, still)
    axes[names.index("nose/nose-hump-incr")] = -0.5
    moved = body.shape(macros, axes, still) - plain
    target = body.names.index("nose/nose-hump-decr")
    part = slice(body.offsets[target], body.offsets[target + 1])
    expected = np.zeros_like(plain)
    expected[body.index[part]] = 0.5 * body.delta[part]
    np.testing.assert_allclose(moved, expected, atol=1e-5)


@needs_packs
def test_eyes_sit_in_their_sockets_and_looks_survive_as_vectors(wardrobe: Wardrobe) -> None:
    rng = np.random.default_rng(3)
    for _ in range(4):
        traits = wardrobe.traits(rng)
        assert Look.of(traits.look.vector()).vector() == pytest.approx(traits.look.vector())
        head = wardrobe.shape(traits)
        eyes = wardrobe.body.garments["eyes"].on(head)
        corners = wardrobe.body.landmarks(head)[:2]
        for corner, side in zip(corners, (eyes[:, 0] < 0, eyes[:, 0] > 0), strict=True):
            ball = (eyes[side].min(0) + eyes[side].max(0)) / 2
            assert (
                np.linalg.norm(ball[:2] - corner[:2]) < 0.06 and 0.05 < corner[2] - ball[2] < 0.25
            )  # decimetres


@needs_packs
@pytest.mark.parametrize("pack", ["makehuman", "ict"])
def test_a_record_is_repeatable_and_its_maps_agree(wardrobe: Wardrobe, pack: str) -> None:
    source = wardrobe
    if pack == "ict":
        source = IctHeads(PACKS / "ict_facekit", wardrobe)
        source.__dict__["openness"] = np.ones(len(source.base), np.float32)
    record, again = (make_record(source, (9, 4)) for _ in range(2))
    assert record.tobytes() == again.tobytes()
    for i in range(VIEWS):
        solid = record["pictures"][i, ..., 3] > 250
        depth = record["depth"][i].astype(float) + 2.7
        assert np.isfinite(depth[solid]).mean() > 0.995
        assert (record["parts"][i][record["pictures"][i, ..., 3] == 0] == 0).all()
        camera = camera_of(record["cameras"][i], FINE)
        rows, columns = np.nonzero(np.isfinite(depth) & (record["parts"][i] == NOSE))
        z = depth[rows, columns]
        local = np.stack(
            [(columns + 0.5 - camera.cx) / camera.fx * z, (rows + 0.5 - camera.cy) / camera.fy * z, z], 1
        )
        points = local @ camera.cam_to_world[:3, :3].T + camera.centre
        # The nose of the mean face: its tip 0.0033, -0.0462, 0.552 decimetres from the origin before scale and shift.
        assert np.abs(points.mean(0) - [0, 0.02, 0.29]).max() < 0.04
    shown = {part for i in range(VIEWS) for part in np.unique(record["parts"][i])}
    assert shown >= set(range(len(PARTS))) - {7}  # hair may hide the ears


@needs_packs
@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_pairs_truth_is_the_original_outside_the_region(wardrobe: Wardrobe, number: int) -> None:
    pair = make_pair(wardrobe, number, side=96)
    outside, gap = ~pair.region, np.abs(on_grey(pair.truth).astype(int) - on_grey(pair.original)).max(-1)
    assert gap[outside].max() <= 2
    assert gap[pair.region].mean() > 4
    assert 0.003 < pair.region.mean() < 0.5
    label = {"hair": HAIR, "eyes": EYES, "nose": NOSE, "mouth": 6}[pair.part]
    assert pair.region[pair.truth.labels == label].all()
    if pair.part != "hair":  # brows and hair stay
        for kept in (BROWS, HAIR):
            assert ((pair.truth.labels == kept) == (pair.original.labels == kept))[outside].all()


def marked(side: int = FINE) -> np.ndarray:
    """Two records whose heads are a red square in the middle and a green one above it."""
    shard = np.zeros(2, RECORD)
    a = side // 2
    for rows, colour, part in (
        (slice(a - 4, a + 4), (255, 0, 0), 5),
        (slice(a - 40, a - 32), (0, 255, 0), 2),
    ):
        shard["pictures"][:, :, rows, a - 4 : a + 4, :3] = colour
        shard["pictures"][:, :, rows, a - 4 : a + 4, 3] = 255
        shard["parts"][:, :, rows, a - 4 : a + 4] = part
    for view in range(VIEWS):
        shard["cameras"][:, view] = View(20, 5, 0.75).label
        shard["angles"][:, view] = 20, 5
    return shard


def test_batches_know_where_they_moved_the_head(tmp_path: Path) -> None:
    np.save(tmp_path / "train-0000.npy", marked())
    records = Records(tmp_path, "train")
    batch = made(*records.rows(np.arange(8).repeat(4)), torch.Generator().manual_seed(0))
    checked = 0
    for parts, view in zip(batch.parts.numpy(), batch.view.numpy(), strict=True):
        if view[0] == 0 or not (parts == 5).any() or not (parts == 2).any():
            continue
        middle, top = ((np.argwhere(parts == k).mean(0)[::-1] + 0.5) / SIDE * 2 - 1 for k in (5, 2))
        np.testing.assert_allclose(middle, view[1:3], atol=0.03)
        lean = np.degrees(np.arctan2(top[0] - middle[0], middle[1] - top[1]))
        assert lean == pytest.approx(view[4] * 30, abs=2.5)
        apart = np.linalg.norm(top - middle)  # 36 of the source's pixels
        assert apart == pytest.approx(36 / FINE * 2 * np.exp(view[3]) / 0.75, rel=0.05)
        assert abs(view[5] * 30) == pytest.approx(20)
        checked += 1
    assert checked > 15
    easy = made(*records.rows(np.arange(4)), torch.Generator().manual_seed(0), easy=True)
    assert (easy.view[:, 1:5] == 0).all() and torch.equal(easy.parts, easy.parts.flip(2))


def test_codes_are_told_where_the_picture_shows_them(tmp_path: Path) -> None:
    """Not of mirrored pictures, nor of heads whose code nobody knows; their loss is that of the rows that count."""
    shard = marked()
    code = codes(3)
    shard["traits"][:, :WIDTH] = code.numpy()
    np.save(tmp_path / "train-0000.npy", shard)
    np.save(tmp_path / "train_coded-0000.npy", shard)
    records = Records(tmp_path, "train")
    assert records.names == ["train-0000.npy", "train_coded-0000.npy"]
    rows = records.rows(np.repeat(np.arange(len(records)), 4))
    batch = made(*rows, torch.Generator().manual_seed(2))
    known = ~batch.code[:, 0].isnan()
    half = len(known) // 2
    assert not known[:half].any() and known[half:].any()
    shown = (batch.view[:, 0] > 0) & (batch.view[:, 5] > 0)  # seen from 20 degrees, its mirror image from -20
    assert torch.equal(known[half:], shown[half:])
    torch.testing.assert_close(batch.code[known], code.expand(int(known.sum()), -1))
    right = torch.where(known[:, None], code, torch.randn(len(known), WIDTH))
    for name in STYLES:
        right[:, groups()[name]] *= 20
    assert float(code_loss(right, batch.code)) < 1e-4 < float(code_loss(right + 0.3, batch.code))
    scores = code_scores(right, batch.code)["code"]
    assert set(scores.values()) == {1.0} and scores.keys() == groups().keys()


def test_a_portraits_code_is_settled_whatever_its_size() -> None:
    torch.manual_seed(0)
    reader = HeadParser(TINY).eval()
    crop = torch.rand(2, 3, SIDE, SIDE) * 2 - 1
    code = portrait_code(reader, crop)
    torch.testing.assert_close(settle(code), code)
    with torch.no_grad():
        said = reader((crop + 1) / 2).code
    torch.testing.assert_close(code, settle(said))
    twice = torch.nn.functional.interpolate(crop, scale_factor=2, mode="nearest")
    torch.testing.assert_close(portrait_code(reader, twice), code, atol=0.05, rtol=0.05)


def test_training_learns_goes_on_and_exports(tmp_path: Path) -> None:
    for kind in ("train", "validation"):
        np.save(tmp_path / f"{kind}-0000.npy", marked())
    run = new_run(2e-3, 6, TINY)
    train_parser(run, tmp_path, tmp_path, batch=8)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 6 and lines[-1]["pictures"] == 8 and lines[-1]["dice_loss"] > 0
    other = new_run(2e-3, 12, TINY)
    other.load(tmp_path / "checkpoint.pt")
    batch = made(*Records(tmp_path, "train").rows(np.arange(8)), torch.Generator())
    assert other.step == 6 and other.advance(batch, losses)
    write(run.average.module.eval(), tmp_path / "w.safetensors", {})
    kept = HeadParser.from_file(tmp_path / "w.safetensors")
    image = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        gap = kept(image).parts - run.average.module(image).parts
    assert gap.abs().max() < 0.05
    with pytest.raises(InputError, match="not the weights"):
        HeadParser.from_tensors(kept.state_dict(), ParserConfig(channels=(8, 16, 24, 32)))


def test_a_faces_camera_is_its_crops_turned_and_moved() -> None:
    face = Face(310.0, 220.0, 180.0, 20.0, 25.0, -10.0)
    photo, crop = face.camera("p", 640, 480), camera_of(face.label, 100)
    points = np.random.default_rng(0).uniform(-0.3, 0.3, (20, 3))
    pixels, _ = photo.project(points)
    inside, _ = crop.project(points)
    turn = np.radians(20.0)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    np.testing.assert_allclose(pixels, (inside - 50) / 100 * 180 @ matrix.T + [310, 220], atol=1e-6)
    np.testing.assert_allclose(Face(0, 0, 1, 0, 0, 0).label, frontal_label(), atol=1e-6)
    ramp = np.zeros((480, 640, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(640) * 255 / 639, (np.arange(480) * 255 / 479)[:, None]
    cut = aligned_crop(ramp, face, 60)
    np.testing.assert_allclose(cut[30, 30, :2], [310 / 640, 220 / 480], atol=0.01)
    up = cut[0, 30, :2] * [640, 480] - [310, 220]
    np.testing.assert_allclose(up, np.array([np.sin(turn), -np.cos(turn)]) * 90, atol=4)


def test_windows_cover_a_photo_and_faces_are_told_apart() -> None:
    windows = all_windows(900, 600)
    places = np.random.default_rng(0).uniform([60, 60], [840, 540], (50, 2))
    for x, y in places:
        inside = [w for w in windows if max(abs(x - w.x), abs(y - w.y)) < 0.41 * w.side]
        assert len({round(w.side) for w in inside}) >= 3
    one, two = Face(100, 100, 80, 0, 0, 0, 0.9), Face(110, 95, 90, 0, 0, 0, 0.8)
    assert distinct([one, two, Face(300, 100, 80, 0, 0, 0, 0.7)]) == [one, Face(300, 100, 80, 0, 0, 0, 0.7)]


def test_the_pose_encoder_learns_goes_on_and_exports(tmp_path: Path) -> None:
    for kind in ("train", "validation"):
        np.save(tmp_path / f"{kind}-0000.npy", marked())
    run = train_pose.new_run(1e-3, 3)
    train_pose.train_pose(run, tmp_path, tmp_path, batch=8)
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert line["step"] == 3 and line["pictures"] == 8
    other = train_pose.new_run(1e-3, 6)
    other.load(tmp_path / "checkpoint.pt")
    assert other.step == 3
    torch.testing.assert_close(other.average.state_dict(), run.average.state_dict())
    write(run.average.module.eval(), tmp_path / "pose.safetensors", {})
    kept = PoseReader.from_file(tmp_path / "pose.safetensors")
    image = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(kept(image), run.average.module(image), atol=5e-3, rtol=0)
    with pytest.raises(InputError, match="not the weights"):
        PoseReader.from_tensors(kept.state_dict(), PoseConfig(hidden=8))
    begun = train_pose.new_run(1e-3, 6)
    begun.start(WEIGHTS)
    parser, own = HeadParser.from_file(WEIGHTS).state_dict(), begun.model.state_dict()
    torch.testing.assert_close(own["stem.2.0.0.weight"], parser["stem.2.0.0.weight"])


def test_windows_found_are_nearly_upright_and_in_the_middle(tmp_path: Path) -> None:
    np.save(tmp_path / "train-0000.npy", marked())
    records = Records(tmp_path, "train")
    batch = made(*records.rows(np.arange(8).repeat(20)), torch.Generator().manual_seed(1), found=True)
    _, x, y, size, roll, yaw, _ = batch.view.unbind(1)
    assert batch.view[:, 0].all() and x.abs().max() < 0.15 and y.abs().max() < 0.15
    assert size.exp().min() >= 0.74 and size.exp().max() <= 0.98 and roll.abs().max() * 30 < 25
    assert set((yaw * 30).round().int().tolist()) == {-20, 20}  # half of them are mirror images


def test_a_found_face_is_read_in_several_windows_and_their_mirror_images() -> None:
    """A reader that says the same of every window: what mirroring turns round cancels, the rest is measured in each window."""

    class Steady(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.tensor([0.01, 0.0, np.log(0.9), 0.02, 0.03, -0.5]).expand(len(image), NUMBERS)

    face = Face(50.0, 40.0, 30.0, 10.0, 1.0, 2.0, 0.9, 3.0)
    seen = read_closely(Steady(), np.zeros((90, 100, 3), np.uint8), face)  # type: ignore[arg-type]
    assert (seen.x, seen.y, seen.roll) == pytest.approx((50, 40, 10))
    assert seen.side == pytest.approx(0.9 * 30 / FILLS[1]) and (seen.yaw, seen.elevation) == pytest.approx(
        (0, -15)
    )
    assert (seen.score, seen.doubt) == (0.9, 3.0)


def test_a_pose_encoder_that_contradicts_itself_leaves_a_face_alone() -> None:
    """It says so many degrees of yaw whatever it sees, so the mirror image is as much on the other side: twice that is its doubt."""

    class Lopsided(torch.nn.Module):
        def __init__(self, degrees: float) -> None:
            super().__init__()
            self.degrees = degrees

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.tensor([0.0, 0, 0, 0, self.degrees / ANGLE, 0.1]).expand(len(image), NUMBERS)

    rgb = np.zeros((90, 100, 3), np.uint8)
    for degrees, doubt, left_alone in ((1.9, 1.0, False), (2.1, 1.0, True), (2.1, 5.0, False)):
        face = Face(50.0, 40.0, 30.0, 10.0, 1.0, 2.0, 0.9, doubt)
        assert (read_closely(Lopsided(degrees), rgb, face) == face) is left_alone  # type: ignore[arg-type]


@needs_packs
@pytest.mark.skipif(not POSE_WEIGHTS.exists(), reason="needs the bundled weights")
def test_the_pose_encoder_sees_better_than_the_finder(tmp_path: Path) -> None:
    parser, reader = HeadParser.from_file(WEIGHTS), PoseReader.from_file(POSE_WEIGHTS)
    wrong = []
    for number in range(6):
        shown = held_out(number, 77, tmp_path)
        rgb = np.asarray(Image.open(shown.path).convert("RGB"))
        face = portrait_face(parser, rgb)
        true = shown.camera.cam_to_world[:3, :3]
        cameras = [
            f.camera("p", 400, 400).cam_to_world[:3, :3] for f in (face, read_closely(reader, rgb, face))
        ]
        wrong.append([angle_deg(solved.T @ true) for solved in cameras])
    finder, closely = np.array(wrong).T
    assert closely.mean() < finder.mean() and closely.max() < 5


@needs_packs
@pytest.mark.skipif(not WEIGHTS.exists(), reason="needs the bundled weights")
def test_the_finder_does_not_walk_away_from_a_face(tmp_path: Path) -> None:
    """Of these photos two were taken from 60 degrees beside the truth before doubt was asked for."""
    parser = HeadParser.from_file(WEIGHTS)
    for number in (1, 5, 19):
        shown = held_out(number, 77, tmp_path)
        face = portrait_face(parser, np.asarray(Image.open(shown.path).convert("RGB")))
        camera = shown.camera
        solved = face.camera("p", camera.width, camera.height)
        assert angle_deg(solved.cam_to_world[:3, :3].T @ camera.cam_to_world[:3, :3]) < 9
        assert face.side * FOCAL == pytest.approx(camera.fx, rel=0.12) and 0 < face.doubt < 6


def test_rotation_errors_are_angles() -> None:
    views = torch.tensor([[0, 0, 0, 0, 1.0, 0, 0], [0, 0, 0, 0, 0, 1.0, 0], [0, 0, 0, 0, 0, 0, 0]])
    turned = rotations(views)
    for k in (0, 1):
        angle = ((turned[k] * turned[2]).sum() - 1) / 2
        assert float(torch.rad2deg(angle.acos())) == pytest.approx(30, abs=1e-3)


@needs_packs
@pytest.mark.skipif(not WEIGHTS.exists(), reason="needs the bundled weights")
def test_the_bundled_parser_reads_heads_that_it_has_not_seen(wardrobe: Wardrobe, tmp_path: Path) -> None:
    write_shard(tmp_path / "validation-0000.npy", wardrobe, 1, range(1000, 1006))
    parser = HeadParser.from_file(WEIGHTS)
    scores = validate(parser, Records(tmp_path, "validation"), easy=True)
    assert scores["mean_iou"] > 0.75
    record = np.load(tmp_path / "validation-0000.npy")[0]
    picture = np.full((300, 420, 3), (40, 90, 60), np.uint8)
    alpha = record["pictures"][0, ..., 3:] / 255
    picture[80:208, 200:328] = record["pictures"][0, ..., :3] * alpha + picture[80:208, 200:328] * (1 - alpha)
    face = portrait_face(parser, picture)
    assert (face.x, face.y) == pytest.approx((264, 144), abs=12)
    assert face.side == pytest.approx(96, rel=0.2)
    parts = face_parts(parser, picture, face)
    truth = np.zeros(picture.shape[:2], np.uint8)
    truth[80:208, 200:328] = record["parts"][0]
    assert ((parts == SKIN) & (truth == SKIN)).sum() / ((parts == SKIN) | (truth == SKIN)).sum() > 0.6
    assert not find_faces(parser, np.full((200, 200, 3), 90, np.uint8))
    with pytest.raises(InputError, match="No face"):
        portrait_face(parser, np.full((200, 200, 3), 90, np.uint8))
