# SPDX-License-Identifier: GPL-3.0-or-later
"""The artist's models: a folder each in the data folder, from a download or from a file they have. Standard library only.

`weights/NAME/` holds the files as published and `model.json`, written last. What is not complete lies under
`weights/.incoming/` and is never taken for a model.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FailedError, InputError, MissingError
from ..jobs import places
from ..progress import Progress
from .cards import Card, Model, all_cards, find_model
from .contents import parts_of, read_contents
from .disk import not_written
from .download import DownloadSettings, Wanted, download
from .layouts import network_keys, recognise
from .lock import model_lock

RECORD = "model.json"
COMPANIONS = {"triposr": ("config.yaml",), "openlrm": ("config.json",)}
"""Layout -> configuration files that are taken along when they lie beside the weights."""
_COPY = 1 << 22


@dataclass(frozen=True)
class InstalledModel:
    """One model that is there and complete."""

    name: str
    layout: str
    """Which network it is, one of `layouts.NAMES`."""
    main: str
    """The weight file, below the model's folder; empty: the folder itself (diffusers)."""
    files: dict[str, dict[str, Any]]
    """Path below the folder -> size in bytes and sha256."""
    origin: str
    """Addresses, or the path it was added from."""
    card: dict[str, Any] = field(default_factory=dict)
    """Licence and so on as they stood when it was added; {} where no card describes the system."""

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return store() / self.name

    @property
    def path(self) -> Path:
        """What `networks.load_network` is given."""
        return self.folder / self.main if self.main else self.folder

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(int(entry["size"]) for entry in self.files.values())


def store() -> Path:
    """The folder of all models. Raises InputError DATA_NOT_WRITABLE."""
    return places.folder("weights")


def installed_models() -> list[InstalledModel]:
    """Every complete model, by name. Folders that are not ours are left out."""
    records = (store() / folder / RECORD for folder in sorted(path.name for path in store().iterdir()))
    return [model for model in map(_read, records) if model is not None]


def find_installed(name: str) -> InstalledModel:
    """An installed model by its name.

    Raises:
        MissingError: MODEL_NOT_INSTALLED.
    """
    model = _read(store() / name / RECORD) if Path(name).name == name else None
    if model is None:
        raise MissingError(
            "MODEL_NOT_INSTALLED",
            f"The model {name} is not there.",
            f"Download it (maquette models download {name}), or add a file that you have (maquette models add FILE).",
        )
    return model


def identify(path: Path) -> str:
    """The layout of a weight file or folder, from names alone: seconds, whatever its size.

    Raises:
        MissingError, InputError: see `read_contents` and `recognise`.
    """
    return recognise(network_keys(read_contents(path), path), path)


def download_model(
    name: str, progress: Progress, online: bool, settings: DownloadSettings | None = None
) -> InstalledModel:
    """Download a model of a card; one that is there already is not touched.

    Args:
        name: of a `cards.Model`.
        progress: gets one stage per file; a cancel keeps what has arrived.
        online: whether the network may be used.
        settings: patience with the line.

    Raises:
        InputError: MODEL_UNKNOWN, WEIGHTS_* of a file that is not what its card says.
        MissingError: MODEL_FILE_WANTED where the artist has to supply a file, and as `download.download`.
        FailedError, Cancelled: as `download.download`.
    """
    card, model = find_model(name)
    if (store() / model.name / RECORD).is_file():
        return find_installed(model.name)
    if not model.downloadable:
        wanted = ", ".join(file.name for file in model.files if not file.url)
        raise MissingError(
            "MODEL_FILE_WANTED",
            f"No address is known for {wanted} of {card.title}. {card.note}".strip(),
            "Get it from its publisher and add it (maquette models add FILE).",
        )
    with model_lock(model.name, progress):
        if (store() / model.name / RECORD).is_file():  # another process was faster
            return find_installed(model.name)
        return _fetched(card, model, progress, online, settings)


def _fetched(
    card: Card, model: Model, progress: Progress, online: bool, settings: DownloadSettings | None
) -> InstalledModel:
    """Download, check and install; goes on with what an earlier attempt has left."""
    incoming = store() / ".incoming" / model.name
    hashes: dict[str, str] = {}
    progress.set_plan({file.name: file.size_mb or 1.0 for file in model.files})
    for file in model.files:
        target = incoming / file.name
        with progress.stage(file.name):
            if target.is_file():  # of an earlier attempt, complete
                hashes[file.name] = _sha256(target, progress)
            else:
                hashes[file.name] = download(
                    Wanted(file.url, target, file.size, file.sha256), progress, online, settings
                )
        if not hashes[file.name].startswith(file.sha256_start):
            progress.warning(
                f"{file.name} differs from the start of the hash in its name; its keys are checked instead."
            )
    try:
        main, layout = _weights_among([incoming / file.name for file in model.files])
        if layout != card.layout:
            raise InputError(
                "WEIGHTS_MISMATCH",
                f"{main.name} is {layout}, not {card.title}.",
                "Tell the authors of Maquette.",
            )
    except InputError:
        shutil.rmtree(incoming, ignore_errors=True)
        raise
    return _install(
        incoming, _record(model.name, layout, main.name, incoming, hashes, model.files[0].url, card)
    )


def add_model(path: Path, progress: Progress, name: str = "") -> InstalledModel:
    """Copy a weight file (or a folder of the diffusers library) that the artist has; its system is told from its keys.

    Args:
        path: the file or folder; the configuration file that TripoSR and OpenLRM publish is taken along.
        progress: told how far the copy is; may cancel, which leaves nothing.
        name: for the model; empty: that of the card which describes this file, or the file's.

    Raises:
        MissingError, InputError: as `identify`; MODEL_NAME_TAKEN, BAD_SETTING.
        FailedError: DISK_FULL, MODEL_NOT_WRITTEN.
    """
    path = path.absolute()
    layout = identify(path)
    found = _described(path, layout)
    card = found[0] if found else next((card for card in all_cards() if card.layout == layout), None)
    name = name or (found[1].name if found else _slug(path.stem))
    if not re.fullmatch(r"[\w][\w.-]*", name):
        raise InputError(
            "BAD_SETTING", f"{name!r} cannot be a model's name.", "Use letters, digits, dots and dashes."
        )
    with model_lock(name, progress):
        if (store() / name).exists():
            raise InputError(
                "MODEL_NAME_TAKEN",
                f"There is a model {name} already.",
                "Choose another name, or remove that one first.",
            )
        incoming = store() / ".incoming" / f"{name}.added"
        shutil.rmtree(incoming, ignore_errors=True)
        sources = _sources(path, layout)
        try:
            with progress.stage("copy"):
                hashes = dict(_copied(sources, incoming, progress))
            main = "" if path.is_dir() else path.name
            return _install(incoming, _record(name, layout, main, incoming, hashes, str(path), card))
        except OSError as error:
            raise _not_written(name, error) from error
        finally:
            shutil.rmtree(incoming, ignore_errors=True)


def remove_model(name: str) -> int:
    """Delete a model, or what has arrived of a download that was not finished.

    Returns:
        Bytes freed.

    Raises:
        MissingError: MODEL_NOT_INSTALLED. FailedError: MODEL_NOT_REMOVED.
    """
    if Path(name).name != name or name.startswith("."):
        find_installed(f"/{name}")
    folders = [folder for folder in (store() / name, store() / ".incoming" / name) if folder.is_dir()]
    if not folders:
        find_installed(name)
    freed = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
    try:
        for folder in folders:
            (folder / RECORD).unlink(missing_ok=True)  # first, so that half a model is never taken for one
            shutil.rmtree(folder)
    except OSError as error:
        raise FailedError(
            "MODEL_NOT_REMOVED", f"{name} cannot be deleted: {error.strerror}.", "Close programs that use it."
        ) from error
    return freed


def verify_model(model: InstalledModel, progress: Progress) -> list[str]:
    """Read all files of a model again: what is wrong with them, a sentence each; [] is good."""
    problems = []
    for name, entry in model.files.items():
        path = model.folder / name
        with progress.stage(f"{model.name}/{name}"):
            if not path.is_file():
                problems.append(f"{model.name}: {name} is missing.")
            elif _sha256(path, progress) != entry["sha256"]:
                problems.append(f"{model.name}: {name} has changed since it was added.")
    return problems


def _read(record: Path) -> InstalledModel | None:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return InstalledModel(**{**content, "name": record.parent.name})
    except (OSError, ValueError, TypeError):
        return None


def _record(
    name: str, layout: str, main: str, folder: Path, hashes: dict[str, str], origin: str, card: Card | None
) -> InstalledModel:
    files = {
        file: {"size": (folder / file).stat().st_size, "sha256": digest} for file, digest in hashes.items()
    }
    return InstalledModel(name, layout, main, files, origin, card.as_json() if card else {})


def _install(incoming: Path, model: InstalledModel) -> InstalledModel:
    try:
        (incoming / RECORD).write_text(json.dumps(asdict(model), indent=1), encoding="utf-8")
        incoming.replace(store() / model.name)
    except OSError as error:
        raise _not_written(model.name, error) from error
    return model


def _weights_among(paths: list[Path]) -> tuple[Path, str]:
    """(weight file, its layout): the largest file."""
    main = max(paths, key=lambda path: path.stat().st_size)
    return main, identify(main)


def _described(path: Path, layout: str) -> tuple[Card, Model] | None:
    """The one model of all cards that has this layout and a file of this name."""
    found = [
        (card, model)
        for card in all_cards()
        if card.layout == layout
        for model in card.models
        if any(file.name == path.name for file in model.files)
    ]
    return found[0] if len(found) == 1 else None


def _sources(path: Path, layout: str) -> list[tuple[Path, Path]]:
    """(file, its place below the model's folder)."""
    if path.is_dir():
        return [(part, part.relative_to(path)) for part in parts_of(path)]
    beside = [path.with_name(name) for name in COMPANIONS.get(layout, ())]
    return [(file, Path(file.name)) for file in (path, *beside) if file.is_file()]


def _copied(sources: list[tuple[Path, Path]], folder: Path, progress: Progress) -> Iterator[tuple[str, str]]:
    """Copy; yields (place, sha256)."""
    total, done = sum(source.stat().st_size for source, _ in sources), 0
    for source, place in sources:
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with source.open("rb") as reading, target.open("wb") as writing:
            while data := reading.read(_COPY):
                writing.write(data)
                digest.update(data)
                done += len(data)
                progress.update(done / max(total, 1), f"{done / 1e6:.0f} of {total / 1e6:.0f} MB")
        yield place.as_posix(), digest.hexdigest()


def _sha256(path: Path, progress: Progress) -> str:
    digest, done, total = hashlib.sha256(), 0, max(path.stat().st_size, 1)
    with path.open("rb") as file:
        while data := file.read(_COPY):
            digest.update(data)
            done += len(data)
            progress.update(done / total, "checking")
    return digest.hexdigest()


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "model"


def _not_written(name: str, error: OSError) -> FailedError:
    other = FailedError(
        "MODEL_NOT_WRITTEN",
        f"The model {name} cannot be stored: {error.strerror or error}.",
        "Check the data folder.",
    )
    return not_written(error, f"adding {name}", other)
