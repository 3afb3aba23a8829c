# SPDX-License-Identifier: GPL-3.0-or-later
"""Model cards: what a published system is for, where its weights are, and on which terms. Standard library only.

One TOML file per system in `cards/`. What was not known when a card was written is left out, never guessed: a file without
an address is one that the artist supplies.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import FailedError, InputError
from .layouts import NAMES

FOLDER = Path(__file__).with_name("cards")
COMMERCIAL = ("yes", "no", "unstated")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class ModelFile:
    """One file of a model."""

    name: str
    """As it is kept."""
    url: str = ""
    """https address; empty: the artist supplies the file."""
    size: int = 0
    """Bytes, exactly; 0: not known."""
    size_mb: int = 0
    """About so many million bytes; 0: not known."""
    sha256: str = ""
    """64 hexadecimal digits; empty: not known."""
    sha256_start: str = ""
    """First digits, where the file's published name carries them by the convention of its library (not stated, so a
    difference is a warning)."""


@dataclass(frozen=True)
class Model:
    """One set of weights of a system."""

    name: str
    """What `models download` is told; unique among all cards."""
    files: tuple[ModelFile, ...]
    about: str = ""
    """What sets it off against the system's other models."""

    @property
    def downloadable(self) -> bool:
        """Whether every file has an address."""
        return all(file.url for file in self.files)

    @property
    def size_mb(self) -> int:
        """About so many million bytes in all; 0: not known."""
        return sum(file.size_mb or file.size // 1_000_000 for file in self.files)


@dataclass(frozen=True)
class Card:
    """One published system."""

    name: str
    """Of the card's file."""
    title: str
    task: str
    """What goes in and what comes out."""
    layout: str
    """A name of `layouts.NAMES`."""
    paper: str
    licence: str
    """Of the weights."""
    commercial: str
    """yes | no | unstated: whether results of the weights may be used commercially by their licence."""
    territory: str
    """Countries in which the licence does not hold, or `none stated`."""
    models: tuple[Model, ...]
    source: str = ""
    """Page of the publisher."""
    memory_gb: float = 0.0
    """Main memory that running it takes; 0: not measured."""
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """What stands in reports and beside installed weights, without the files."""
        names = [item.name for item in fields(self) if item.name != "models"]
        return {name: getattr(self, name) for name in names}


@cache
def all_cards(folder: Path = FOLDER) -> tuple[Card, ...]:
    """Every card, by name.

    Raises:
        FailedError: CARD_UNREADABLE.
    """
    cards = tuple(read_card(path) for path in sorted(folder.glob("*.toml")))
    names = [model.name for card in cards for model in card.models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _unreadable(folder.name, f"two models are named {twice}")
    return cards


def find_model(name: str) -> tuple[Card, Model]:
    """A model by its own name, or by its card's where that has one model only.

    Raises:
        InputError: MODEL_UNKNOWN.
    """
    for card in all_cards():
        for model in card.models:
            if name == model.name or (name == card.name and len(card.models) == 1):
                return card, model
    card_of = next((card for card in all_cards() if card.name == name), None)
    choices = ", ".join(model.name for model in card_of.models) if card_of else ""
    raise InputError(
        "MODEL_UNKNOWN",
        f"{name} has several models." if card_of else f"No model is called {name}.",
        f"Choose one of {choices}." if card_of else "See the list of models (maquette models list).",
    )


def read_card(path: Path) -> Card:
    """Read and check one card.

    Raises:
        FailedError: CARD_UNREADABLE naming file and entry: cards ship with the program.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path.name, str(error)) from error
    models = tuple(_model(path.name, entry) for entry in content.pop("models", []))
    card = _made(Card, path.name, {**content, "name": path.stem, "models": models})
    if not models:
        raise _unreadable(path.name, "it names no models")
    if card.layout not in NAMES:
        raise _unreadable(path.name, f"the layout {card.layout} is not known")
    if card.commercial not in COMMERCIAL:
        raise _unreadable(path.name, f"commercial is {card.commercial!r}, not one of {', '.join(COMMERCIAL)}")
    return card


def _model(card: str, content: Mapping[str, Any]) -> Model:
    files = tuple(_file(card, entry) for entry in content.get("files", ()))
    model = _made(Model, card, {**content, "files": files})
    if not files or not _NAME.fullmatch(model.name):
        raise _unreadable(card, f"the model {model.name!r} has no files or no plain name")
    return model


def _file(card: str, content: Mapping[str, Any]) -> ModelFile:
    file = _made(ModelFile, card, content)
    if Path(file.name).name != file.name or (file.url and not file.url.startswith("https://")):
        raise _unreadable(card, f"{file.name}: no plain name, or no https address")
    if file.sha256 and not re.fullmatch("[0-9a-f]{64}", file.sha256):
        raise _unreadable(card, f"{file.name}: sha256 is not 64 hexadecimal digits")
    if file.sha256_start and not re.fullmatch("[0-9a-f]{6,63}", file.sha256_start):
        raise _unreadable(card, f"{file.name}: sha256_start is not hexadecimal")
    return file


def _made(kind: type[Any], card: str, content: Mapping[str, Any]) -> Any:
    """A frozen record from a TOML table, with names and types checked."""
    kinds: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
    for item in fields(kind):
        value = content.get(item.name, "")
        wanted = kinds.get(str(item.type))
        if item.name in content and wanted and (isinstance(value, bool) or not isinstance(value, wanted)):
            raise _unreadable(card, f"{item.name} is {value!r}")
    try:
        return kind(**content)
    except TypeError as error:
        raise _unreadable(card, str(error).replace(f"{kind.__name__}.__init__() ", "")) from error


def _unreadable(card: str, what: str) -> FailedError:
    return FailedError(
        "CARD_UNREADABLE", f"The model card {card} is faulty: {what}.", "Install Maquette again."
    )
