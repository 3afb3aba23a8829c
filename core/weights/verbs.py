# SPDX-License-Identifier: GPL-3.0-or-later
"""`maquette models ...`: list, show, download, add, remove, verify. Runs in any Python, in Blender's too."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import EXIT_DONE, EXIT_PARTLY, InputError
from ..jobs.report import Report
from ..progress import Progress, Send
from . import store
from .cards import Card, Model, all_cards, find_model

ACTIONS = ("list", "show", "download", "add", "remove", "verify")
TERMS = {
    "yes": "commercial use allowed",
    "no": "no commercial use",
    "unstated": "commercial use not stated: ask",
}


def add_parser(verb: argparse.ArgumentParser) -> None:
    """Describe the arguments; the parsers of the actions are of the same class as `verb`."""
    actions = verb.add_subparsers(dest="action", required=True, metavar="ACTION")
    texts = {
        "list": "all systems and models, and which are there",
        "show": "a system or model: licence, files, sizes",
        "download": "fetch a model; goes on where an earlier try stopped",
        "add": "keep a weight file that you have; its system is told from its keys",
        "remove": "delete a model",
        "verify": "read the files of a model, or of all, again",
    }
    for name in ACTIONS:
        action = actions.add_parser(name, allow_abbrev=False, help=texts[name])
        if name in ("show", "download", "remove"):
            action.add_argument("name", metavar="NAME")
        if name == "verify":
            action.add_argument("name", metavar="NAME", nargs="?", default="")
        if name == "add":
            action.add_argument(
                "file", metavar="FILE", help="a weight file, or a folder of the diffusers library"
            )
            action.add_argument("--name", default="", metavar="NAME", help="how the model shall be called")
        action.add_argument("--report", metavar="FILE.json")


def run(options: argparse.Namespace, report: Report, send: Send, online: bool) -> Iterator[str]:
    """Carry out one action and fill in the report; yields lines for standard output.

    Raises:
        MaquetteError: see `store`.
    """
    actions: dict[str, Callable[..., Iterator[str]]] = {
        "list": _list, "show": _show, "download": _download, "add": _add, "remove": _remove, "verify": _verify,
    }  # fmt: skip
    report.method = options.action
    progress = Progress(send)
    report.status, report.exit_code = "done", EXIT_DONE
    try:
        yield from actions[options.action](options, report, progress, online)
    finally:
        report.timings_s = {name: round(value, 3) for name, value in progress.timings_s.items()}
        report.warnings = list(progress.warnings)


def _list(options: argparse.Namespace, report: Report, progress: Progress, online: bool) -> Iterator[str]:
    there = {model.name: model for model in store.installed_models()}
    known = [(card, model) for card in all_cards() for model in card.models]
    for card, model in known:
        state = "there" if model.name in there else "downloadable" if model.downloadable else "add a file"
        yield f"{model.name:28} {state:13} {_size(model):>8}  {card.title}: {model.about or card.task}; {TERMS[card.commercial]}"
    others = [model for name, model in there.items() if name not in {model.name for _, model in known}]
    for own in others:
        yield f"{own.name:28} {'there':13} {own.size / 1e6:5.0f} MB  {own.layout}: added from {own.origin}"
    report.metrics = {"models": [model.name for _, model in known], "installed": sorted(there)}


def _show(options: argparse.Namespace, report: Report, progress: Progress, online: bool) -> Iterator[str]:
    there = {model.name: model for model in store.installed_models()}
    card = next((card for card in all_cards() if card.name == options.name), None)
    if card is None and options.name in there:
        model = there[options.name]
        report.model = {**model.card, "name": model.name, "layout": model.layout}
        yield from _described(report.model)
        yield f"there: {model.path} ({model.size / 1e6:.0f} MB), from {model.origin}"
        return
    models = card.models if card else (find_model(options.name)[1],)
    card = card or find_model(options.name)[0]
    report.model = card.as_json()
    yield from _described(report.model)
    for known in models:
        yield f"{known.name}: {known.about or card.task}" + (" (there)" if known.name in there else "")
        for file in known.files:
            yield f"  {file.name}  {file.url or 'you supply this file'}" + (
                f"  sha256 {file.sha256}" if file.sha256 else ""
            )


def _described(card: dict[str, Any]) -> Iterator[str]:
    for name in (
        "title",
        "task",
        "layout",
        "paper",
        "source",
        "licence",
        "commercial",
        "territory",
        "memory_gb",
        "note",
    ):
        if card.get(name):
            yield f"{name}: {card[name]}"


def _download(options: argparse.Namespace, report: Report, progress: Progress, online: bool) -> Iterator[str]:
    card, model = find_model(options.name)
    report.model = card.as_json()
    for line in _terms(card, model):
        progress.warning(line)
    done = store.download_model(options.name, progress, online)
    yield from _stored(done, report)


def _add(options: argparse.Namespace, report: Report, progress: Progress, online: bool) -> Iterator[str]:
    path = Path(options.file).expanduser().absolute()
    report.inputs = [str(path)]
    yield from _stored(store.add_model(path, progress, options.name), report)


def _stored(model: store.InstalledModel, report: Report) -> Iterator[str]:
    report.outputs = {"folder": str(model.folder)}
    report.model = {**model.card, "name": model.name, "layout": model.layout}
    report.metrics = {"bytes": model.size, "layout": model.layout}
    yield str(model.folder)


def _remove(options: argparse.Namespace, report: Report, progress: Progress, online: bool) -> Iterator[str]:
    report.metrics = {"bytes_freed": store.remove_model(options.name)}
    yield f"removed {options.name}: {report.metrics['bytes_freed'] / 1e6:.0f} MB"


def _verify(options: argparse.Namespace, report: Report, progress: Progress, online: bool) -> Iterator[str]:
    models = [store.find_installed(options.name)] if options.name else store.installed_models()
    problems = [problem for model in models for problem in store.verify_model(model, progress)]
    report.metrics = {"models": [model.name for model in models]}
    yield from problems or [f"{len(models)} models are as they were added"]
    if problems and len(problems) < sum(len(model.files) for model in models):
        report.metrics["partly"] = problems
        report.status, report.exit_code = "partly", EXIT_PARTLY
    elif problems:
        raise InputError("MODEL_DAMAGED", " ".join(problems), "Remove the model and get it again.")


def _terms(card: Card, model: Model) -> Iterator[str]:
    """What an artist has to know before a download."""
    size = f", {_size(model)}" if model.size_mb else ""
    yield f"{card.title}{size}. Licence: {card.licence}; {TERMS[card.commercial]}; territory: {card.territory}."


def _size(model: Model) -> str:
    return f"{model.size_mb} MB" if model.size_mb else ""
