# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundled model's recipe: records against closed forms, the network's frame, training that resumes, export."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.core.errors import InputError
from maquette.core.models.lrm.object_lrm import (
    FILL,
    SIDE,
    THINNEST,
    ObjectLRM,
    ObjectLRMConfig,
    Stance,
    crop_picture,
    inflation,
    spread,
    upright,
)
from maquette.core.types import Camera

from training.object_lrm.dataset import Records, augmented, halved
from training.object_lrm.export import write
from training.object_lrm.generate import write_shards
from training.object_lrm.objects import ColouredMesh, family, held_out
from training.object_lrm.procedural import procedural_object
from training.object_lrm.records import SIDE as FINE
from training.object_lrm.records import VIEWS, Draw, framed_camera, layers, make_record
from training.object_lrm.train import Run, train
from training.object_lrm.validate import validate

TINY = ObjectLRMConfig((4, 8, 16), depth=1, heads=2, hidden=16)


def box(half: tuple[float, float, float]) -> ColouredMesh:
    """A box with red faces, its longest side 1 where the largest of `half` is 0.5."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    colours = np.broadcast_to(np.float32([0.8, 0.1, 0.1]), (12, 3, 3))
    return ColouredMesh("box", corners.astype(np.float32), faces, colours.astype(np.float32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of three boxes to train on, two to validate with."""
    out = tmp_path_factory.mktemp("records")
    shapes = [(0.5, 0.5, 0.5), (0.5, 0.3, 0.2), (0.1, 0.2, 0.5)]
    write_shards(out, "packs", [lambda half=half: box(half) for half in shapes], seed=0)
    write_shards(out, "validation", [lambda half=half: box(half) for half in shapes[:2]], seed=0)
    return out


def test_layers_of_a_box_are_its_near_and_far_faces() -> None:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.stack([[1, 0, 0], [0, 0, -1], [0, 1, 0]], 1), [0, -3, 0]  # from -y, z up
    camera = Camera("", 32, 32, 64, 64, 16, 16, pose)
    red = box((0.5, 0.3, 0.2))
    red.corner_rgb[:] = np.where(red.vertices[red.faces][..., 1:2] > 0, (0.2, 0.4, 0.8), (0.8, 0.1, 0.1))
    first, last, colour = layers(red, camera)
    hit = np.isfinite(first)
    rows, columns = np.nonzero(hit)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (4, 27, 11, 20)
    np.testing.assert_allclose(first[hit], 2.7, atol=1e-5)
    inner = (np.abs(columns - 15.5) < 9) & (np.abs(rows - 15.5) < 3)
    np.testing.assert_allclose(last[rows[inner], columns[inner]], 3.3, atol=1e-5)
    np.testing.assert_allclose(colour[rows[inner], columns[inner]] - (0.2, 0.4, 0.8), 0, atol=1e-5)
    on_side = 0.5 * 64 / (columns.max() + 0.5 - 16)  # rays that leave through x = 0.5
    np.testing.assert_allclose(last[15, 27], on_side, rtol=1e-5)


def test_an_open_box_has_both_layers_all_the_same() -> None:
    closed = box((0.5, 0.5, 0.5))
    below = (closed.vertices[closed.faces][..., 2] < 0).all(1)
    open_below = ColouredMesh("open", closed.vertices, closed.faces[~below], closed.corner_rgb[~below])
    record = make_record(open_below, np.random.default_rng(0))
    seen = ~np.isnan(record["front"].astype(float))
    assert (np.isnan(record["back"]) == ~seen).all()
    assert (record["back"][seen] >= record["front"][seen]).all()
    assert (seen == (record["pictures"][..., 3] > 127)).mean() > 0.99
    assert np.abs(record["behind"][seen] - [204.0, 26, 26]).max() <= 1


def test_a_point_of_the_field_projects_by_the_frame_formula() -> None:
    vertices = box((0.5, 0.3, 0.2)).vertices
    camera, frame, up, nearness = framed_camera(vertices, Draw(30, 20, 3, 2.5))
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3))
    pixels, _ = camera.project(points)
    x, y, z = (points @ frame[:, :3].T + frame[:, 3]).T
    window = np.stack([x, -z], 1) / (1 + nearness * y[:, None])
    # Off-centre crops shift the perspective's centre; the object's own middle stays where it is.
    shift = (np.array([camera.cx, camera.cy]) / (FINE / 2) - 1) * (1 - 1 / (1 + nearness * y[:, None]))
    np.testing.assert_allclose(pixels, (1 + window + shift) * FINE / 2, atol=1e-6)
    assert up[1] == pytest.approx(-np.sin(np.radians(20)))
    corners, _ = camera.project(vertices.astype(float))
    assert (corners.max(0) - corners.min(0)).max() == pytest.approx(FILL * FINE)


def test_halves_keep_the_object_where_it_was() -> None:
    record = make_record(box((0.5, 0.3, 0.2)), np.random.default_rng(0))
    views = halved(np.stack([record]))
    assert views.image.shape == (VIEWS, 4, SIDE, SIDE)
    view = views.unpacked()
    alpha = record["pictures"][2][..., 3].reshape(SIDE, 2, SIDE, 2).mean((1, 3)) / 255
    np.testing.assert_allclose(view.image[2, 3], alpha, atol=0.01)
    assert ((alpha > 0.5) == view.hit[2].numpy()).mean() > 0.98
    front = record["front"][2].astype(float)
    whole = ~np.isnan(front).reshape(SIDE, 2, SIDE, 2).any((1, 3))
    np.testing.assert_allclose(
        view.depth[2, 0].numpy()[whole], front.reshape(SIDE, 2, SIDE, 2).mean((1, 3))[whole], atol=1e-3
    )
    assert (view.depth[2][:, ~view.hit[2]] == 0).all()


def test_families_stay_on_one_side() -> None:
    assert family("kit/a/Tree_4_Snow.glb") == family("kit/a/Tree_Snow_11.glb") == "tree snow"
    assert family("pmndrs/low-poly-tree/model.gltf") == "low poly"
    sides = {held_out(f"quaternius/pack/Rock_{i}.glb") for i in range(20)}
    assert len(sides) == 1


@pytest.mark.parametrize("seed", range(6))
def test_procedural_objects_are_closed_face_outwards_and_repeat(seed: int) -> None:
    mesh, again = procedural_object(seed), procedural_object(seed)
    np.testing.assert_array_equal(mesh.vertices, again.vertices)
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2).astype(float)
    volume = (a * np.cross(b, c)).sum() / 6
    assert 1e-4 < volume < 1
    np.testing.assert_allclose(
        np.cross(b - a, c - a).sum(0), 0, atol=1e-4
    )  # a closed surface has no area vector


def test_a_disc_inflates_to_a_ball() -> None:
    middle = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    away = torch.hypot(middle[None], middle[:, None])
    distance, half = inflation((away < 0.6).float()[None])[0]
    inside, pixel = away < 0.55, 2 / SIDE
    assert (distance - (0.6 - away))[inside | (away > 0.65)].abs().max() < pixel
    assert (half[inside] - (0.36 - away[inside].square()).sqrt()).abs().max() < 2 * pixel
    assert (half[away > 0.65] < -0.2).all()
    everything = inflation(torch.ones(1, SIDE, SIDE))[0, 0]
    assert everything[0, 0] == pytest.approx(0.5 / (SIDE / 2))
    assert everything.max() == pytest.approx(1, abs=pixel)
    assert (inflation(torch.zeros(1, SIDE, SIDE)) < 0).all()


def disc() -> np.ndarray:
    """(200, 200, 4) uint8: a grey disc."""
    y, x = np.mgrid[:200, :200] + 0.5
    inside = np.hypot(x - 90, y - 120) < 60
    return np.dstack([np.full((200, 200, 3), 128), 255 * inside]).astype(np.uint8)


def test_an_untrained_network_gives_the_inflated_mask() -> None:
    field, stance = ObjectLRM(TINY).eval().field(disc())
    axis = torch.linspace(-1, 1, 41)
    points = torch.cartesian_prod(axis, axis, axis)
    from_middle = points.norm(dim=1)
    density = field.geometry(points)
    assert (density[from_middle < FILL - 0.08] > 1).all()
    assert (density[from_middle > FILL + 0.12] < 1).all()
    assert stance.elevation == 0
    on_axis = torch.tensor([[0.0, y, 0.0] for y in (-0.9, -0.6, 0.6)])
    torch.testing.assert_close(
        field.inside(on_axis), torch.tensor([-0.12, 0.18, 0.18]), atol=1.2 / SIDE * 2, rtol=0
    )
    torch.testing.assert_close(field.appearance(on_axis), torch.full((3, 3), 0.5), atol=0.02, rtol=0)


def test_layers_keep_a_least_distance_and_the_last_stays_behind() -> None:
    model = ObjectLRM(TINY).eval()
    with torch.no_grad():
        model.last.bias[1] = -1.0  # much thinner than the mask inflated
        depth = model(crop_picture(disc())[None]).depth
    assert (depth[:, 1] - depth[:, 0]).min() >= THINNEST
    assert (depth[:, 1] - depth[:, 0])[0, SIDE // 2, SIDE // 2] == pytest.approx(
        2 * (FILL - 1 / SIDE) - 1 + THINNEST, abs=2 / SIDE
    )


def test_unknown_pixels_take_the_nearest_known_value() -> None:
    maps = torch.arange(12.0).view(1, 3, 4)
    known = torch.zeros(3, 4, dtype=torch.bool)
    known[1, 0] = known[0, 3] = True
    assert spread(maps, known)[0, :2].tolist() == [[4, 4, 3, 3], [4, 4, 3, 3]]
    assert torch.equal(spread(maps, known & False), maps)


def test_mirrored_samples_stay_true(folder: Path) -> None:
    batch = Records(folder, "packs").shards["packs"]["packs-0000.npy"].rows([VIEWS]).unpacked()
    assert batch.hit.any() and (batch.depth[~batch.hit.expand(2, -1, -1)[None]] == 0).all()
    signs = set()
    for seed in range(6):
        changed = augmented(batch, torch.Generator().manual_seed(seed))
        sign = float(changed.stance[0, 0] / batch.stance[0, 0])
        signs.add(sign)
        expected = batch.depth if sign > 0 else batch.depth.flip(3)
        assert torch.equal(changed.depth, expected)
        solid = changed.image[0, 3] > 0.5
        assert (solid == changed.hit[0]).float().mean() > 0.97
        both = solid & changed.hit[0]  # one colour all over, in the picture's truth too
        assert changed.behind[0][:, both].std(1).max() < 2e-3
    assert signs == {-1.0, 1.0}


def test_a_resumed_run_equals_one_that_was_never_stopped(folder: Path, tmp_path: Path) -> None:
    def ran(out: Path, stops: list[int]) -> dict[str, torch.Tensor]:
        out.mkdir()
        for steps in stops:
            run = Run(1e-3, 2, torch.device("cpu"), TINY)
            if (out / "checkpoint.pt").exists():
                run.load(out / "checkpoint.pt")
            options = argparse.Namespace(
                data=folder, out=out, batch=2, steps=steps, cooldown=0, save_every=1e9
            )
            train(run, options, out / "checkpoint.pt")
        return run.model.state_dict()

    straight, stopped = ran(tmp_path / "a", [4]), ran(tmp_path / "b", [2, 4])
    for name, tensor in straight.items():
        assert torch.equal(tensor, stopped[name]), name
    lines = [json.loads(line) for line in (tmp_path / "b/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [2, 4]


def test_loss_falls_on_three_boxes(folder: Path) -> None:
    run, records = Run(1e-2, 5, torch.device("cpu"), TINY), Records(folder, "packs")
    batch = records.batch(6, np.random.default_rng(0))
    first = run.advance(batch)
    for _ in range(60):
        last = run.advance(batch)
    assert last["shape"] < 0.8 * first["shape"]  # which is that of the inflated masks
    assert last["front"] < first["front"]


def test_an_untrained_network_validates_as_its_inflated_mask(folder: Path) -> None:
    scores = validate(ObjectLRM(TINY).eval(), Records(folder, "validation"))
    assert scores["close"] == pytest.approx(scores["inflated"], abs=0.05)
    assert 0.05 < scores["inflated"] < 0.9
    assert 0.05 < scores["front"] < 0.5


def test_weights_come_back_from_their_file(tmp_path: Path) -> None:
    model = ObjectLRM(TINY).eval()
    with torch.no_grad():
        model.last.weight.normal_(generator=torch.Generator().manual_seed(0))
    write(model, tmp_path / "w.safetensors", {})
    loaded = ObjectLRM.from_file(tmp_path / "w.safetensors")
    field, stance = loaded.field(disc())
    torch.testing.assert_close(field.layers, model.field(disc())[0].layers, atol=2e-2, rtol=2e-2)
    assert np.linalg.norm(stance.up) == pytest.approx(1)
    tensors = dict(model.state_dict())
    del tensors["last.bias"]
    with pytest.raises(InputError, match="last") as caught:
        ObjectLRM.from_tensors(tensors, TINY)
    assert caught.value.code == "WEIGHTS_MISMATCH"


def test_upright_stands_the_object_up_and_keeps_the_seen_side_in_front() -> None:
    e = np.radians(25)
    turn = upright(Stance(np.array([0, -np.sin(e), np.cos(e)]), 0.3))
    np.testing.assert_allclose(turn @ [0, -np.sin(e), np.cos(e)], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(turn @ [0, -1, 0], [0, -np.cos(e), np.sin(e)], atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    overhead = upright(Stance(np.array([0, -1.0, 0]), 0.3))
    np.testing.assert_allclose(overhead @ [0, 0, 1], [0, 1, 0], atol=1e-12)


def test_a_crop_is_centred_and_fills_its_share() -> None:
    rgba = np.zeros((200, 300, 4), np.uint8)
    rgba[50:150, 20:70] = (255, 0, 0, 255)
    crop = crop_picture(rgba)
    rows, columns = torch.nonzero(crop[3] > 0.5, as_tuple=True)
    assert (rows.max() - rows.min() + 1) / SIDE == pytest.approx(FILL, abs=0.02)
    assert float(rows.float().mean()) == pytest.approx((SIDE - 1) / 2, abs=1)
    assert float(columns.float().mean()) == pytest.approx((SIDE - 1) / 2, abs=1)
    assert torch.allclose(crop[:, SIDE // 2, SIDE // 2], torch.tensor([1.0, 0, 0, 1]), atol=1e-3)
    with pytest.raises(InputError):
        crop_picture(rgba * 0)
