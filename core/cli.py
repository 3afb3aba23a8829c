# SPDX-License-Identifier: GPL-3.0-or-later
"""One command line for `python -m maquette`, `blender --command maquette` and `blender -b -P run.py -- ...`.

In an engine's Python the pipeline runs in this process; in Blender, or a Python without torch, it runs in the engine's.
Results' paths go to standard output, everything for people to standard error. Exit codes: DESIGN section 6, core/errors.py.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from . import VERSION, batch, head_verbs
from .errors import EXIT_DONE, InputError, MaquetteError, MissingError
from .jobs import blend_file, doctor, environment, failures, foreground, places
from .jobs.console import Console
from .jobs.report import Report, check_target
from .jobs.request import Request
from .jobs.runner import Worker
from .settings import DEVICES, MASK_MODES, METHODS, QUALITIES, MeshSettings
from .weights import verbs as model_verbs

log = logging.getLogger(__name__)

POSE_METHODS = ("auto", "sfm", "diffusion")
FORMATS = ("json", "colmap", "blend")


def main(
    arguments: Sequence[str] | None = None, blender: Path | None = None, engine: str = "", online: bool = True
) -> int:
    """Run one command line.

    Args:
        arguments: without the program's name; None: those of this process.
        blender: the Blender that we run in, for `--blend`; None: look for one.
        engine: the engine's Python in Blender's preferences; empty: look for one.
        online: whether `models download` may use the network (in Blender: `bpy.app.online_access`).

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    session = _Session(Console(sys.stderr), blender, engine, online)
    try:
        with _interruptible():
            report = session.attempt(arguments)
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    finally:
        session.close()
    return report.exit_code


@dataclass
class _Session:
    """What the runs of one process share: the terminal and the warm worker."""

    console: Console
    blender: Path | None
    engine: str
    online: bool = True
    worker: Worker | None = None
    isolated: bool = False
    """Run pipelines in a worker even where this process could: a batch outlives a job that takes its process down."""
    _parser: argparse.ArgumentParser = field(default_factory=lambda: build_parser())

    def attempt(self, arguments: list[str]) -> Report:
        """One command line to its report, written where `--report` says; raises nothing but SystemExit."""
        report = Report()
        began = time.monotonic()
        report_file = _report_file(arguments)
        try:
            options = self._parser.parse_args(arguments)
            if report_file is not None:
                check_target(report_file)
            others = {"doctor": self._doctor, "batch": self._batch, "models": self._models}
            run = others.get(options.verb, self._job)
            run(options, report)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the border of the program
            report.fail(failures.typed(error, _crash_log(error)))
        report.timings_s["total"] = round(time.monotonic() - began, 3)
        self.console.clear()
        if report.error is not None:
            self.console.line(f"{report.error['code']}: {report.error['message']}\n{report.error['remedy']}")
        for text in report.metrics.get("partly", []):
            self.console.line(f"not done: {text}")
        if report_file is not None:
            try:
                report.write(report_file)
            except OSError as error:
                self.console.line(f"The report {report_file} cannot be written: {error}")
        return report

    def close(self) -> None:
        """End the worker, if one was started."""
        if self.worker is not None:
            self.worker.kill(grace_s=0.5)

    def _job(self, options: argparse.Namespace, report: Report) -> None:
        """mesh, poses, align, candidates, extract, bake."""
        request = _request(options)
        report.inputs = list(request.inputs)
        report.seed, report.device = options.seed, options.device
        report.method = request.settings.get("method")
        blend = _absolute(options.blend)
        if not blend and request.settings.get("format") == "blend":
            blend = str(Path(request.out) / "cameras.blend")
        for target in (request.out, request.glb, request.preview, blend):
            if target:
                check_target(Path(target))
        # Before the work: minutes of it would be lost on a user who wants nothing but the .blend.
        command = blend_file.find_blender(self.blender) if blend else []
        if foreground.is_engine() and not self.isolated:
            foreground.run_here(request, self.console.take, report)
        else:
            foreground.run_in_worker(self._warm_worker(), request, self.console.take, report)
        report.outputs = {"folder": request.out}
        report.outputs |= {
            k: v for k, v in (("glb", request.glb), ("preview", request.preview)) if Path(v).is_file()
        }
        self.console.clear()
        _say(request.out)
        if blend:
            began = time.monotonic()
            self.console.line(f"writing {blend}")
            blend_file.write_blend(command, Path(request.out), Path(blend))
            report.outputs["blend"] = blend
            report.timings_s["blend"] = round(time.monotonic() - began, 3)

    def _warm_worker(self) -> Worker:
        if self.worker is None:
            self.worker = Worker(self._engine_python())
        return self.worker

    def _engine_python(self) -> Path:
        return Path(sys.executable) if foreground.is_engine() else environment.engine_python(self.engine)

    def _batch(self, options: argparse.Namespace, report: Report) -> None:
        jobs, folder = Path(_absolute(options.jobs)), Path(_absolute(options.out))
        report.inputs, report.outputs = [str(jobs)], {"folder": str(folder)}
        self.isolated = True
        batch.run(jobs, folder, options.resume, self.attempt, self.console.line, report)
        _say(report.outputs["summary"])

    def _models(self, options: argparse.Namespace, report: Report) -> None:
        """Model cards, downloads and files; no engine is needed."""
        for line in model_verbs.run(options, report, self.console.take, self.online):
            self.console.clear()
            _say(line)

    def _doctor(self, options: argparse.Namespace, report: Report) -> None:
        """What can be found out without running a job; the engine's own part runs in the engine."""
        python = self._engine_python()
        found = {
            "maquette": VERSION,
            "data": str(places.data_folder()),
            "engine": str(python),
            **doctor.examine(python),
        }
        try:
            found["blender"] = blend_file.find_blender(self.blender)[0]
        except MissingError as error:
            report.warnings.append(str(error))
        report.metrics = found
        for name, value in found.items():
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            _say(f"{name}: {', '.join(text) if isinstance(text, list) else text}")
        for text in report.warnings:
            _say(f"warning: {text}")
        if found["missing"]:
            raise MissingError(
                "LIBRARY_MISSING",
                f"The engine lacks {', '.join(found['missing'])}.",
                "Set up the engine again.",
            )
        report.status, report.exit_code = "done", EXIT_DONE


def _say(line: str) -> None:
    """A line on standard output. A reader that has left (`| head`) ends no work: the rest goes nowhere."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """Tells bad arguments as a typed error, so that they stand in the report too."""

    def error(self, message: str) -> NoReturn:
        raise InputError("BAD_ARGUMENT", f"{message[:1].upper()}{message[1:]}.", f"See {self.prog} --help.")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs; bad arguments raise InputError BAD_ARGUMENT."""
    parser = _Parser(
        prog="maquette", description="Photos in; textured meshes and matched cameras out.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"maquette {VERSION}")
    common = _Parser(add_help=False, allow_abbrev=False)
    group = common.add_argument_group("common options")
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="every random draw derives from it (0)"
    )
    group.add_argument("--device", choices=DEVICES, default="auto")
    group.add_argument("--quality", choices=QUALITIES, default="normal")
    group.add_argument(
        "--report", metavar="FILE.json", help="leave a report of the run, also of a failed one"
    )
    group.add_argument("--blend", metavar="FILE.blend", help="write a .blend with everything packed")
    group.add_argument("--glb", metavar="FILE.glb", help="write the textured mesh as glTF")
    group.add_argument("--preview", metavar="FILE.png", help="write a picture of photos beside the result")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_mesh(
        verbs.add_parser("mesh", parents=[common], allow_abbrev=False, help="photos to a textured mesh")
    )
    _add_poses(verbs.add_parser("poses", parents=[common], allow_abbrev=False, help="photos to cameras"))
    _add_align(
        verbs.add_parser(
            "align", parents=[common], allow_abbrev=False, help="one photo's camera, solved against geometry"
        )
    )
    _add_candidates(
        verbs.add_parser(
            "candidates",
            parents=[common],
            allow_abbrev=False,
            help="previews of what models make of one picture",
        )
    )
    _add_extract(
        verbs.add_parser(
            "extract", parents=[common], allow_abbrev=False, help="another mesh from a result's field"
        )
    )
    _add_bake(
        verbs.add_parser("bake", parents=[common], allow_abbrev=False, help="another texture for a result")
    )
    head_verbs.add_parser(
        verbs.add_parser("head", allow_abbrev=False, help="generate, invert and blend heads"), common
    )
    several = verbs.add_parser("batch", allow_abbrev=False, help="jobs from a file, one after the other")
    several.add_argument(
        "jobs", metavar="JOBS.jsonl",
        help='one JSON object a line: {"verb": "mesh", "inputs": ["a.jpg", ...], "name": "chair", "quality": "draft", ...}; '
        "paths are relative to this file",
    )  # fmt: skip
    several.add_argument("--out", required=True, metavar="DIR", help="a folder per job, and summary.json")
    several.add_argument(
        "--resume", action="store_true", help="skip jobs whose report says that they are done"
    )
    several.add_argument("--report", metavar="FILE.json")
    model_verbs.add_parser(
        verbs.add_parser(
            "models", allow_abbrev=False, help="weights of published models: list, download, add"
        )
    )
    check = verbs.add_parser("doctor", allow_abbrev=False, help="what the engine can do here")
    check.add_argument("--report", metavar="FILE.json")
    return parser


def _add_mesh(verb: argparse.ArgumentParser) -> None:
    default = MeshSettings()
    _add_photos(verb)
    verb.add_argument("--method", choices=METHODS, default=default.method)
    verb.add_argument(
        "--model", default=default.model, metavar="NAME|FILE", help="for methods that use a model"
    )
    _add_matting(verb)
    _add_extraction(verb)
    verb.add_argument(
        "--height", type=float, default=default.height, metavar="M", help="height in metres (longest side 1)"
    )


def _add_candidates(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("inputs", nargs="*", metavar="PICTURE", help="one picture of the object")
    verb.add_argument(
        "--out", required=True, metavar="DIR", help="gets candidates.png and one picture per candidate"
    )
    verb.add_argument(
        "--models", nargs="+", default=[], metavar="NAME|FILE", help="models to try (all that are there)"
    )
    verb.add_argument("--seeds", type=int, default=0, metavar="N", help="per model (four candidates in all)")
    _add_masks(verb)
    _add_matting(verb)


def _add_poses(verb: argparse.ArgumentParser) -> None:
    _add_photos(verb)
    verb.add_argument("--method", choices=POSE_METHODS, default="auto")
    verb.add_argument(
        "--format", choices=FORMATS, default="json",
        help="blend: also write cameras.blend; JSON and COLMAP files are in the result in any case",
    )  # fmt: skip
    verb.add_argument(
        "--hint",
        default="",
        metavar="FILE",
        help="one or two cameras placed by hand: the result's world is theirs",
    )


def _add_align(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("inputs", nargs="*", metavar="PHOTO", help="one photo")
    verb.add_argument("--out", required=True, metavar="DIR", help="the result's folder")
    verb.add_argument(
        "--geometry",
        required=True,
        metavar="FILE",
        help="what it shows: PLY, OBJ, GLB (turned Z up), or a result's mesh.npz",
    )
    verb.add_argument(
        "--cameras", default="", metavar="FILE",
        help="NeRF JSON or a result's folder with a rough camera of the photo; none: it is looked for all round",
    )  # fmt: skip
    verb.add_argument(
        "--within",
        dest="within_deg",
        type=float,
        default=80.0,
        metavar="DEG",
        help="how wrong the rough camera may be (80)",
    )
    verb.add_argument(
        "--lens", choices=("solve", "keep"), default="solve", help="keep: that of the rough camera"
    )
    _add_masks(verb)


def _add_photos(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("inputs", nargs="*", metavar="PHOTO", help="pictures, or folders of pictures")
    verb.add_argument(
        "--out", required=True, metavar="DIR", help="the result's folder; an older result there is replaced"
    )
    verb.add_argument(
        "--cameras",
        default="",
        metavar="FILE",
        help="given cameras: NeRF JSON, a COLMAP folder or an earlier result's folder; else they are solved",
    )
    _add_masks(verb)


def _add_masks(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--masks", default="", metavar="DIR", help="masks named like the photos")
    verb.add_argument(
        "--mask-mode", choices=MASK_MODES, default="auto",
        help="auto: alpha if there is any, else found; alpha: alpha only; none: keep the whole scene",
    )  # fmt: skip


def _add_matting(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--matting",
        default="",
        metavar="FILE.onnx",
        help="a model that masks a single picture (needs onnxruntime)",
    )


def _add_result(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("inputs", nargs=1, metavar="RESULT", help="a result's folder")
    verb.add_argument(
        "--out", default="", metavar="DIR", help="the new result's folder (in place of the old one)"
    )


def _add_extraction(verb: argparse.ArgumentParser, texture: int = MeshSettings.texture_size) -> None:
    verb.add_argument(
        "--resolution", type=int, default=0, metavar="N", help="cells along the longest side (by quality)"
    )
    verb.add_argument(
        "--face-budget", type=int, default=0, metavar="N", help="triangles at most (by quality)"
    )
    verb.add_argument("--texture-size", type=int, default=texture, metavar="PX", help="256 .. 8192 (2048)")
    verb.add_argument(
        "--region", type=float, nargs=6, default=(), metavar=("X0", "Y0", "Z0", "X1", "Y1", "Z1"),
        help="keep what lies in this box of the result's world, metres; for a box around an earlier result give its cameras too",
    )  # fmt: skip


def _add_extract(verb: argparse.ArgumentParser) -> None:
    _add_result(verb)
    _add_extraction(verb)
    verb.add_argument(
        "--threshold",
        type=float,
        default=None,
        metavar="T",
        help="value of the field on the surface (its own)",
    )


def _add_bake(verb: argparse.ArgumentParser) -> None:
    _add_result(verb)
    verb.add_argument(
        "--onto", default="", metavar="MESH", help="npz, ply, obj or glb; its vertices do not change"
    )
    verb.add_argument(
        "--size",
        dest="texture_size",
        type=int,
        default=MeshSettings.texture_size,
        metavar="N",
        help="pixels (2048)",
    )


def _request(options: argparse.Namespace) -> Request:
    """The request for the engine, with absolute paths.

    Raises:
        InputError: NO_IMAGE, NOT_FOUND, BAD_SETTING; those of `head_verbs.request`.
    """
    if options.verb == "head":
        return head_verbs.request(options, _absolute)
    if not options.inputs:
        raise InputError(
            "NO_IMAGE", "There is no picture.", "Name at least one photo, or a folder of photos."
        )
    inputs = tuple(_absolute(path) for path in options.inputs)
    given = [
        getattr(options, name, "") for name in ("masks", "matting", "cameras", "onto", "geometry", "hint")
    ]
    for path in (*inputs, *(_absolute(path) for path in given if path)):
        if not Path(path).exists():
            raise InputError("NOT_FOUND", f"{path} does not exist.", "Check the path.")
    shared = {"seed": options.seed, "device": options.device, "quality": options.quality}
    if options.verb == "mesh":
        names = set(MeshSettings().as_json())
        chosen = {name: value for name, value in vars(options).items() if name in names}
        chosen |= {name: _absolute(chosen[name]) for name in ("masks", "matting", "cameras")}
        if chosen["model"] and Path(chosen["model"]).exists():
            chosen["model"] = _absolute(chosen["model"])
        settings = MeshSettings.from_json(chosen).as_json()
    else:
        own = {
            "poses": ("method", "format", "cameras", "masks", "mask_mode", "hint"),
            "candidates": ("models", "seeds", "masks", "mask_mode", "matting"),
            "align": ("geometry", "cameras", "within_deg", "lens", "masks", "mask_mode"),
            "extract": ("resolution", "threshold", "face_budget", "texture_size", "region"),
            "bake": ("onto", "texture_size"),
        }[options.verb]
        settings = shared | {name: getattr(options, name) for name in own}
        settings |= {
            name: _absolute(settings[name])
            for name in ("masks", "matting", "cameras", "onto", "geometry", "hint")
            if name in settings
        }
        if "models" in settings:
            settings["models"] = [_absolute(m) if Path(m).exists() else m for m in settings["models"]]
        _check_ranges(settings)
    out = _absolute(options.out) or inputs[0]
    return Request(options.verb, inputs, settings, out, _absolute(options.glb), _absolute(options.preview))


def _check_ranges(settings: dict[str, object]) -> None:
    """The ranges of MeshSettings hold for the same settings of other verbs."""
    names = ("resolution", "face_budget", "texture_size", "region", "mask_mode", "quality", "device")
    MeshSettings.from_json({name: settings[name] for name in names if name in settings})
    seeds = settings.get("seeds", 0)
    if not (isinstance(seeds, int) and 0 <= seeds <= 64):
        raise InputError("BAD_SETTING", f"seeds is {seeds}.", "Use a value from 0 to 64.")


def _absolute(path: str | None) -> str:
    return os.path.abspath(Path(path).expanduser()) if path else ""  # noqa: PTH100 - resolve() would follow links


def _report_file(arguments: Sequence[str]) -> Path | None:
    """Where `--report` points, found without the parser: bad arguments are to stand in the report too."""
    for index, argument in enumerate(arguments):
        if argument.startswith("--report="):
            return Path(_absolute(argument.partition("=")[2]))
        if argument == "--report" and index + 1 < len(arguments):
            return Path(_absolute(arguments[index + 1]))
    return None


def _crash_log(error: BaseException) -> Path | None:
    """Keep the traceback of a fault of ours; artists' errors have none."""
    if isinstance(error, MaquetteError | KeyboardInterrupt):
        return None
    text = "".join(traceback.format_exception(error))
    try:
        path = places.folder("logs") / f"maquette-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        path.write_text(text, encoding="utf-8")
    except (OSError, InputError):
        log.error("%s", text)
        return None
    return path


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and a polite end by the system become KeyboardInterrupt, also inside Blender."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
