# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos from disk: what they are, and their pixels in one form (upright, sRGB, straight alpha).

Nothing is decoded in full twice: `open_photos` reads headers and checks that each file is whole, `read_pixels` decodes
at the size that is asked for. Colour of more than 8 bits is read with 8 (Pillow), greyscale with all 16.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import InputError, MissingError
from ..progress import Progress
from ..types import Photo
from .exif import focal_px, orientation, turn_upright
from .pixels import as_arrays, scaled_size

# What Pillow may try. Left out on purpose: EPS and PDF (they start Ghostscript), icons, sprites, movie formats.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "HEIF", "AVIF", "BMP", "GIF", "JPEG2000", "PPM")
SUFFIXES: dict[str, tuple[str, ...]] = {
    ".jpg": ("JPEG", "MPO"), ".jpeg": ("JPEG", "MPO"), ".jpe": ("JPEG", "MPO"), ".mpo": ("JPEG", "MPO"),
    ".png": ("PNG",), ".webp": ("WEBP",), ".tif": ("TIFF",), ".tiff": ("TIFF",), ".heic": ("HEIF",),
    ".heif": ("HEIF",), ".avif": ("AVIF",), ".bmp": ("BMP",), ".gif": ("GIF",), ".jp2": ("JPEG2000",),
    ".ppm": ("PPM",), ".pgm": ("PPM",),
}  # fmt: skip
RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".exr", ".hdr")

# Pillow's own limit (179 megapixels: error, half of that: warning) is against archives that unpack into all memory.
# Photos of 100 megapixels are real, so the limit is ours: 300 megapixels are 0.9 GB in 8 bits, which still fits.
MAX_PIXELS = 300_000_000
Image.MAX_IMAGE_PIXELS = None


def open_photos(paths: list[Path], progress: Progress | None = None) -> list[Photo]:
    """Find out what the given files are; folders stand for the pictures directly inside them, in natural order.

    Args:
        paths: files or folders.
        progress: receives one warning per file that is not what its name says or has more than one frame.

    Returns:
        One `Photo` per file, in order. Names are unique, stems too (without regard to case).

    Raises:
        InputError: NO_IMAGE, NOT_FOUND, NOT_AN_IMAGE, UNSUPPORTED_IMAGE, TRUNCATED_IMAGE, IMAGE_TOO_LARGE, EMPTY_IMAGE.
        MissingError: HEIC_MISSING when a HEIC file meets an engine without pillow-heif.
    """
    progress = progress or Progress()
    files = _list_files(paths)
    if not files:
        where = f" in {paths[0]}" if len(paths) == 1 else ""
        raise InputError("NO_IMAGE", f"There is no picture{where}.", "Choose at least one photo.")
    photos, stems = [], set()
    for i, path in enumerate(files):
        photo = _open_photo(path, progress)
        stem, number = path.stem, 1
        while stem.casefold() in stems:
            number += 1
            stem = f"{path.stem}-{number}"
        stems.add(stem.casefold())
        photos.append(photo if number == 1 else Photo(**{**vars(photo), "name": stem + path.suffix}))
        progress.update((i + 1) / len(files))
    return photos


def distinct_photos(photos: list[Photo], progress: Progress | None = None) -> list[Photo]:
    """Drop photos that repeat another one byte for byte: they say nothing about depth and mislead camera estimation.

    Raises:
        InputError: DUPLICATES_ONLY when several photos were given and all are the same file.
    """
    seen: dict[str, Photo] = {}
    for photo in photos:
        digest = hashlib.sha1(photo.path.read_bytes(), usedforsecurity=False).hexdigest()
        first = seen.setdefault(digest, photo)
        if first is not photo and progress is not None:
            progress.warning(f"{photo.name} is the same picture as {first.name} and was left out.")
    if len(seen) == 1 and len(photos) > 1:
        raise InputError(
            "DUPLICATES_ONLY",
            f"All {len(photos)} photos are the same picture ({photos[0].name}).",
            "Take photos from different places around the object.",
        )
    return list(seen.values())


def read_pixels(
    photo: Photo, max_side: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Decode a photo upright, scaled by area averaging so that its long side is at most `max_side`.

    Returns:
        rgb (H, W, 3) float32 0..1, sRGB-encoded (embedded profiles are converted), and alpha (H, W) float32 0..1,
        straight; None where the file has no alpha or an alpha of 1 everywhere.

    Raises:
        InputError: NOT_FOUND, TRUNCATED_IMAGE, NOT_AN_IMAGE.
    """
    image = _open(photo.path)
    try:
        size = scaled_size(image.size, max_side)
        if image.format in ("JPEG", "MPO"):
            image.draft(image.mode, size)  # decodes at 1/2, 1/4 or 1/8, never below `size`
        image.load()
        picture = as_arrays(image, size)
    except (OSError, SyntaxError, ValueError) as error:
        raise _truncated(photo.path) from error
    finally:
        image.close()
    rgb, alpha = (None if plane is None else turn_upright(plane, photo.exif_orientation) for plane in picture)
    assert rgb is not None
    if alpha is not None and alpha.min() >= 1.0:
        alpha = None
    return rgb, alpha


def _list_files(paths: list[Path]) -> list[Path]:
    """Files in order; a folder contributes its pictures (hidden files left out), the same file counts once."""
    files: dict[Path, None] = {}
    for path in paths:
        path = Path(path)
        if path.is_dir():
            inside = [p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
            inside = [p for p in inside if p.suffix.lower() in SUFFIXES or p.suffix.lower() in RAW_SUFFIXES]
            files.update(dict.fromkeys(sorted(inside, key=_natural_key)))
        elif path.is_file():
            files[path] = None
        else:
            raise InputError("NOT_FOUND", f"{path} does not exist.", "Check the path.")
    return list(files)


def _natural_key(path: Path) -> list[tuple[int, int, str]]:
    """photo_2 before photo_10."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def _open(path: Path) -> Image.Image:
    """Header only. Raises the typed errors of `open_photos`."""
    if path.suffix.lower() in RAW_SUFFIXES:
        raise InputError(
            "UNSUPPORTED_IMAGE",
            f"{path.name} is a camera raw or high dynamic range file, which Maquette does not read.",
            "Save it as TIFF, PNG or JPEG and use that file.",
        )
    try:
        head = path.open("rb").read(32)
    except OSError as error:
        raise InputError(
            "NOT_FOUND", f"{path} cannot be read.", "Check the path and the permissions."
        ) from error
    if not head:
        raise InputError(
            "EMPTY_IMAGE", f"{path.name} is empty.", "Remove it or copy it again from the camera."
        )
    if head[4:8] == b"ftyp" and head[8:12] != b"avif":
        _register_heif(path)
    Image.init()
    try:
        image = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError as error:
        raise InputError(
            "NOT_AN_IMAGE",
            f"{path.name} is not a picture that Maquette can read{_true_nature(head)}.",
            "Remove it, or save it again as PNG, JPEG or TIFF.",
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise _truncated(path) from error
    if image.width * image.height > MAX_PIXELS:
        raise InputError(
            "IMAGE_TOO_LARGE",
            f"{path.name} has {image.width * image.height / 1e6:.0f} megapixels; {MAX_PIXELS / 1e6:.0f} are the limit.",
            "Scale it down.",
        )
    return image


def _open_photo(path: Path, progress: Progress) -> Photo:
    _check_whole(_open(path), path)
    image = _open(path)
    format_name = image.format or ""
    expected = SUFFIXES.get(path.suffix.lower())
    if expected is None or format_name not in expected:
        progress.warning(f"{path.name} is really a {format_name} picture; it was read as that.")
    if getattr(image, "n_frames", 1) > 1 and format_name not in ("MPO", "HEIF"):
        progress.warning(f"{path.name} has more than one frame; the first one was taken.")
    turn = orientation(image)
    width, height = image.size if turn < 5 else image.size[::-1]
    photo = Photo(
        name=path.name,
        path=path,
        width=width,
        height=height,
        focal_px=focal_px(image),
        has_alpha=image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info,
        exif_orientation=turn,
    )
    image.close()
    return photo


def _check_whole(image: Image.Image, path: Path) -> None:
    """Read the file to its end in the cheapest way its format has."""
    try:
        if image.format == "PNG":
            image.verify()  # check sums of all chunks
        else:
            image.draft(
                "RGB", (image.width // 8 or 1, image.height // 8 or 1)
            )  # JPEG: an eighth; others: no effect
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise _truncated(path) from error
    finally:
        image.close()


def _truncated(path: Path) -> InputError:
    if not path.is_file():
        return InputError(
            "NOT_FOUND", f"{path} does not exist any more.", "Put it back or choose other photos."
        )
    return InputError(
        "TRUNCATED_IMAGE",
        f"{path.name} is damaged or not complete.",
        "Remove it or copy it again from the camera.",
    )


def _true_nature(head: bytes) -> str:
    """A hint for the message, from the first bytes."""
    for start, nature in (
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"<", "a web page or SVG"),
    ):
        if head.lstrip().startswith(start):
            return f" (it is {nature})"
    if head[4:8] == b"ftyp":
        return " (it is a movie)"
    printable = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    return " (it is a text file)" if printable else ""


def _register_heif(path: Path) -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingError(
            "HEIC_MISSING",
            f"{path.name} is a HEIC photo and the engine has no library for it.",
            "Install pillow-heif into the engine, or save the photo as JPEG.",
        ) from error
    pillow_heif.register_heif_opener()
