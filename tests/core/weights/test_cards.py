# SPDX-License-Identifier: GPL-3.0-or-later
"""Every model card parses, and a faulty one is told by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from maquette.core.errors import FailedError, InputError
from maquette.core.weights.cards import FOLDER, all_cards, find_model, read_card
from maquette.core.weights.layouts import NAMES
from maquette.core.weights.networks import NETWORKS

GOOD = """
title = "T"
task = "a to b"
layout = "onet"
paper = "P"
licence = "MIT"
commercial = "yes"
territory = "none stated"
memory_gb = 2

[[models]]
name = "t"
files = [{ name = "a.pt", url = "https://x.org/a.pt", sha256_start = "f786b04a" }]
"""


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_card_parses_and_its_layout_is_known(path: Path) -> None:
    card = read_card(path)
    assert card.name == path.stem and card.layout in NAMES
    assert card.title and card.task and card.paper and card.licence and card.territory
    for model in card.models:
        assert model.downloadable or card.note, "an artist must be told where the file comes from"
        for file in model.files:
            assert not file.sha256_start or file.sha256_start in file.name


def test_every_system_has_a_card_and_every_layout_a_network() -> None:
    cards = all_cards()
    assert {card.layout for card in cards} == NAMES
    assert NETWORKS.keys() == NAMES


def test_what_the_specification_states() -> None:
    card, model = find_model("triposr")
    assert (card.licence, card.commercial) == ("MIT", "yes")
    assert [file.name for file in model.files] == ["config.yaml", "model.ckpt"]
    assert model.files[1].sha256.startswith("429e2c6b22a0") and model.size_mb == 1677
    assert find_model("openlrm-obj-small-1.1")[0].commercial == "no"
    assert find_model("onet-image")[1].files[0].sha256_start == "f786b04a"
    assert not find_model("eg3d-ffhq")[1].downloadable
    assert find_model("da3-small")[0].licence == "Apache-2.0"


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('layout = "onet"', 'layout = "onett"', "onett"),
        ('commercial = "yes"', 'commercial = "perhaps"', "perhaps"),
        ('commercial = "yes"', "commercial = true", "commercial is True"),
        ('title = "T"\n', "", "title"),
        ("memory_gb = 2", 'memory_gb = "2 GB"', "memory_gb"),
        ("memory_gb = 2", "memori = 2", "memori"),
        ("https://x", "http://x", "https"),
        ('"a.pt"', '"../a.pt"', "plain name"),
        ("f786b04a", "notahash", "sha256_start"),
        ('[[models]]\nname = "t"', '[[models]]\nname = "T t"', "plain name"),
        ("memory_gb = 2", "memory_gb = ", "faulty"),
    ],
)
def test_a_faulty_card_is_told(tmp_path: Path, old: str, new: str, word: str) -> None:
    assert old in GOOD
    (tmp_path / "t.toml").write_text(GOOD)
    assert read_card(tmp_path / "t.toml").memory_gb == 2
    (tmp_path / "t.toml").write_text(GOOD.replace(old, new))
    with pytest.raises(FailedError, match=word) as caught:
        read_card(tmp_path / "t.toml")
    assert caught.value.code == "CARD_UNREADABLE" and "t.toml" in caught.value.message


def test_the_same_model_in_two_cards_is_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(GOOD)
    with pytest.raises(FailedError, match="two models are named t"):
        all_cards(tmp_path)


def test_an_unknown_model_and_a_family_name_the_choices() -> None:
    with pytest.raises(InputError, match="No model is called nothing"):
        find_model("nothing")
    with pytest.raises(InputError, match=r"several models.*giraffe-cars256"):
        find_model("giraffe")
