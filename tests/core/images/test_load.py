# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of file an artist may bring, made here with known pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from maquette.core.errors import InputError
from maquette.core.images.load import distinct_photos, open_photos, read_pixels
from maquette.core.progress import Progress
from PIL import Image, ImageCms

QUADRANTS = np.zeros((24, 40, 3), np.uint8)  # red | green over blue | white: tells turns and flips apart
QUADRANTS[:12, :20] = (255, 0, 0)
QUADRANTS[:12, 20:] = (0, 255, 0)
QUADRANTS[12:, :20] = (0, 0, 255)
QUADRANTS[12:, 20:] = 255


def _one(path: Path, max_side: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    (photo,) = open_photos([path])
    rgb, alpha = read_pixels(photo, max_side)
    if max_side is None:
        assert rgb.shape == (photo.height, photo.width, 3)
    assert rgb.dtype == np.float32
    return rgb, alpha


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".heic"])
def test_formats_give_the_same_pixels(tmp_path: Path, suffix: str) -> None:
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    options = {".jpg": {"quality": 98}, ".webp": {"lossless": True}, ".heic": {"quality": 98}}.get(suffix, {})
    path = tmp_path / f"a{suffix}"
    Image.fromarray(QUADRANTS).save(path, **options)
    rgb, alpha = _one(path)
    assert alpha is None
    assert np.abs(rgb[6, 10] - (1, 0, 0)).max() < 0.03
    assert np.abs(rgb[18, 10] - (0, 0, 1)).max() < 0.03


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int) -> None:
    # What a camera stores for each tag so that showing it gives QUADRANTS: the inverse of the tag's operation.
    stored = {
        1: QUADRANTS,
        2: QUADRANTS[:, ::-1],
        3: QUADRANTS[::-1, ::-1],
        4: QUADRANTS[::-1],
        5: QUADRANTS.swapaxes(0, 1),
        6: np.rot90(QUADRANTS, 1),  # shown after a clockwise quarter turn
        7: QUADRANTS[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(QUADRANTS, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    (photo,) = open_photos([path])
    assert (photo.width, photo.height, photo.exif_orientation) == (40, 24, orientation)
    rgb, _ = read_pixels(photo)
    assert np.array_equal((rgb * 255).astype(np.uint8), QUADRANTS)


def test_sixteen_bit_grey_keeps_its_levels(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    rgb, _ = _one(tmp_path / "a.png")
    assert np.abs(rgb[..., 1] - ramp / 65535.0).max() < 1e-6
    small, _ = _one(tmp_path / "a.png", 4)
    assert small.shape == (4, 4, 3)
    assert abs(small[0, 0, 0] - ramp[:4, :4].mean() / 65535.0) < 1e-5


def test_sixteen_bit_colour_tiff(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    values = np.zeros((8, 8, 3), np.uint16)
    values[..., 0] = 32768  # OpenCV writes blue first
    for name in ("a.png", "a.tif"):
        cv2.imwrite(str(tmp_path / name), values)
        rgb, _ = _one(tmp_path / name)
        assert np.abs(rgb - (0, 0, 0.5)).max() < 0.003


def test_grey_palette_and_palette_with_transparency(tmp_path: Path) -> None:
    grey = Image.fromarray(QUADRANTS).convert("L")
    grey.save(tmp_path / "grey.jpg")
    Image.fromarray(QUADRANTS).quantize(4).save(tmp_path / "palette.png")
    palette = Image.fromarray(QUADRANTS).quantize(4)
    palette.save(tmp_path / "clear.png", transparency=palette.getpixel((0, 0)))
    rgb, _ = _one(tmp_path / "grey.jpg")
    assert np.allclose(rgb[..., 0], rgb[..., 2])
    rgb, alpha = _one(tmp_path / "palette.png")
    assert alpha is None and np.abs(rgb[6, 30] - (0, 1, 0)).max() < 0.02
    rgb, alpha = _one(tmp_path / "clear.png")
    assert alpha is not None and alpha[6, 10] == 0.0 and alpha[18, 30] == 1.0


def test_alpha_is_averaged_with_premultiplied_colour(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0] = ((255, 0, 0, 255), (0, 255, 0, 0))  # an opaque red pixel beside a clear green one
    pixels[1] = pixels[0]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    rgb, alpha = _one(tmp_path / "a.png", 1)
    assert np.allclose(rgb[0, 0], (1, 0, 0)) and alpha is not None and np.isclose(alpha[0, 0], 0.5)
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "b.png")
    assert _one(tmp_path / "b.png")[1] is None  # an alpha of 1 everywhere says nothing


def test_cmyk_and_profiles_become_srgb(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=98)
    rgb, _ = _one(tmp_path / "cmyk.jpg")
    assert np.abs(rgb.mean((0, 1)) - (1, 0, 0)).max() < 0.03
    # A profile with swapped axes would be caught; an sRGB profile must change nothing.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (16, 16), (200, 100, 50)).save(tmp_path / "srgb.png", icc_profile=profile)
    assert np.allclose(_one(tmp_path / "srgb.png")[0][0, 0] * 255, (200, 100, 50), atol=0.01)
    # L* = 100 in a LAB profile is white in sRGB.
    Image.new("LAB", (16, 16), (255, 128, 128)).save(tmp_path / "lab.tif")
    assert _one(tmp_path / "lab.tif")[0].min() > 0.97


def _exif(**tags: float) -> Image.Exif:
    exif = Image.Exif()
    numbers = {"focal": 0x920A, "equivalent": 0xA405, "resolution": 0xA20E, "unit": 0xA210, "width": 0xA002}
    ifd = exif.get_ifd(0x8769)
    for name, value in tags.items():
        ifd[numbers[name]] = value
    return exif


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"equivalent": 26}, 26 / 43.2666 * 500.0),  # 400 x 300 has a diagonal of 500
        ({"focal": 8.0, "resolution": 500.0, "unit": 3}, 400.0),  # 8 mm at 50 pixels a millimetre
        ({"focal": 8.0, "resolution": 500.0, "unit": 3, "width": 800}, 200.0),  # saved at half its size
        ({"equivalent": 2}, None),
        ({"equivalent": 0, "focal": 0.0}, None),
        ({"equivalent": 65535}, None),
        ({}, None),
    ],
)
def test_focal_length_from_exif(tmp_path: Path, tags: dict[str, float], expected: float | None) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (400, 300)).save(path, exif=_exif(**tags))
    (photo,) = open_photos([path])
    assert photo.focal_px == (None if expected is None else pytest.approx(expected, rel=1e-4))


def test_folders_natural_order_and_unique_names(tmp_path: Path) -> None:
    one, two = tmp_path / "ein Ordner", tmp_path / "два"
    for folder in (one, two):
        folder.mkdir()
        for name in ("p10.png", "p2.png", ".hidden.png"):
            Image.fromarray(QUADRANTS).save(folder / name)
        (folder / "notes.txt").write_text("not a picture")
    Image.fromarray(QUADRANTS).save(two / "P2.jpg")
    names = [photo.name for photo in open_photos([one, two])]
    assert names == ["p2.png", "p10.png", "P2-2.jpg", "p2-3.png", "p10-2.png"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_truncated_files_are_named(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.raises(InputError) as caught:
        open_photos([path])
    assert (
        caught.value.code == "TRUNCATED_IMAGE" and path.name in caught.value.message and caught.value.remedy
    )


def test_mislabelled_and_animated_files_work_with_a_warning(tmp_path: Path) -> None:
    progress = Progress()
    data = io.BytesIO()
    Image.fromarray(QUADRANTS).save(data, "PNG")
    (tmp_path / "really_png.jpg").write_bytes(data.getvalue())
    frames = [Image.fromarray(QUADRANTS), Image.fromarray(255 - QUADRANTS)]
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:], lossless=True)
    photos = open_photos([tmp_path / "really_png.jpg", tmp_path / "film.webp"], progress)
    for photo in photos:
        assert np.abs(read_pixels(photo)[0][6, 10] - (1, 0, 0)).max() < 0.01
    assert ["PNG" in progress.warnings[0], "frame" in progress.warnings[1]] == [True, True]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.jpg", b"hello, I am text\n" * 9, "NOT_AN_IMAGE"),
        ("a.png", b"%PDF-1.4 ...", "NOT_AN_IMAGE"),
        ("a.png", b"", "EMPTY_IMAGE"),
        ("a.cr2", b"II*\0", "UNSUPPORTED_IMAGE"),
    ],
)
def test_files_that_are_no_pictures(tmp_path: Path, name: str, content: bytes, code: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_photos([tmp_path / name])
    assert caught.value.code == code and name in caught.value.message and caught.value.exit_code == 2


def test_nothing_given_and_nothing_there(tmp_path: Path) -> None:
    for paths, code in (([], "NO_IMAGE"), ([tmp_path], "NO_IMAGE"), ([tmp_path / "gone.jpg"], "NOT_FOUND")):
        with pytest.raises(InputError) as caught:
            open_photos(paths)
        assert caught.value.code == code


def test_copies_of_one_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(QUADRANTS).save(tmp_path / name)
    with pytest.raises(InputError) as caught:
        distinct_photos(open_photos([tmp_path]))
    assert caught.value.code == "DUPLICATES_ONLY"
    Image.fromarray(255 - QUADRANTS).save(tmp_path / "c.png")
    assert [photo.name for photo in distinct_photos(open_photos([tmp_path]))] == ["a.png", "c.png"]


def test_large_jpeg_is_decoded_reduced(tmp_path: Path) -> None:
    wide = Image.fromarray(QUADRANTS).resize((4000, 2400), Image.Resampling.NEAREST)
    wide.save(tmp_path / "a.jpg", quality=95)
    rgb, _ = _one(tmp_path / "a.jpg", 401)
    assert rgb.shape == (241, 401, 3)
    assert np.abs(rgb[60, 300] - (0, 1, 0)).max() < 0.02
