"""Small valid sets, made by code, that a reader can get wrong without a word.

Every set is a folder of classes. Where pixels are the question the same pixels lie beside it as
`image.tif`, for readers of single files, and as `pathmnist.npz` in MedMNIST's layout.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 16
BANDS = (10, 20, 30, 40, 50, 60)
LEVELS = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 16  # 12 bits: 0 to 4080
ACCENTED = "caf\u00e9"
_QUARTER = np.add.outer(np.arange(SIDE) // (SIDE // 2) * 2, np.arange(SIDE) // (SIDE // 2))
_ORIENTATION, _TURN_RIGHT = 0x0112, 6  # what a camera held upright writes

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Case:
    """A set of images in files.

    Attributes:
        title: what it has, in a few words.
        files: bytes by path in the folder.
        links: symbolic links in the folder, path -> target.
        array: the pixels that MedMNIST's layout holds, [h, w] or [h, w, c].
        tiff: the same as a TIFF file.
    """

    title: str
    files: Files
    links: Mapping[str, str] = field(default_factory=dict)
    array: np.ndarray | None = None
    tiff: bytes | None = None

    def write(self, folder: Path) -> None:
        """Writes set, links and twins below `folder`."""
        (folder / "set").mkdir(parents=True)
        for name, data in self.files.items():
            file = folder / "set" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        for name, target in self.links.items():
            (folder / "set" / name).symlink_to(target)
        if self.tiff is not None:
            (folder / "image.tif").write_bytes(self.tiff)
        if self.array is not None:
            _write_npz(folder / "pathmnist.npz", self.array)


def _write_npz(file: Path, array: np.ndarray) -> None:
    labels = {"train": [[0], [1]], "val": [[0], [1]], "test": [[-1], [-1]]}
    arrays: dict[str, Any] = {f"{split}_images": np.stack([array, array]) for split in labels}
    arrays.update({f"{split}_labels": np.array(rows) for split, rows in labels.items()})
    np.savez(file, **arrays)


def make() -> dict[str, Case]:
    """Every case by name, in the page's order."""
    return {**_pixels(), **_classes(), **_splits(), **_files()}


def _pixels() -> dict[str, Case]:
    quarters = np.array([0, 80, 160, 240], np.uint8)[_QUARTER]
    turned = Image.Exif()
    turned[_ORIENTATION] = _TURN_RIGHT
    colour16 = np.stack([LEVELS, LEVELS[::-1], np.zeros_like(LEVELS)], -1)
    floats = (LEVELS / 4080).astype(np.float32)
    bands = np.broadcast_to(np.array(BANDS, np.uint8), (SIDE, SIDE, 6)).copy()
    extra: dict[str, Any] = {"photometric": "rgb", "extrasamples": ["unspecified"] * 3}
    # One grey everywhere; the shape, a clear square, is in the alpha channel alone.
    shape = np.full((SIDE, SIDE, 4), 100, np.uint8)
    shape[..., 3] = np.where(_QUARTER == 0, 0, 255)
    palette = Image.fromarray((_QUARTER > 0).astype(np.uint8), "P")
    palette.putpalette([100] * 6)
    coloured = Image.fromarray(_QUARTER.astype(np.uint8), "P")
    coloured.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255])
    on_its_side = tiff(quarters, extratags=[(_ORIENTATION, "H", 1, _TURN_RIGHT, True)])
    white8 = tiff(quarters, photometric="miniswhite")
    white16 = tiff(quarters.astype(np.uint16) * 256, photometric="miniswhite")

    return {
        "orientation_jpeg": Case(
            "JPEG, EXIF orientation 6",
            everywhere("x.jpg", saved(Image.fromarray(quarters), "JPEG", exif=turned, quality=95)),
        ),
        "orientation_tiff": Case(
            "TIFF, orientation 6",
            everywhere("x.tif", on_its_side),
            tiff=on_its_side,
        ),
        "depth_grey16": _alike("16-bit grey PNG, 12 bits used", "x.png", png16(LEVELS), LEVELS),
        "depth_rgb16": _alike("16-bit RGB PNG, 12 bits used", "x.png", png16(colour16), colour16),
        "depth_float": _alike("32-bit float TIFF, 0 to 1", "x.tif", tiff(floats), floats),
        "depth_jp2": Case("JPEG 2000 of 12 bits", everywhere("x.jp2", jpeg2000(LEVELS))),
        "white_8": Case("8-bit TIFF where 0 is white", everywhere("x.tif", white8), tiff=white8),
        "white_16": Case(
            "16-bit TIFF where 0 is white", everywhere("x.tif", white16), tiff=white16
        ),
        "bands_grey": _alike("TIFF of six bands", "x.tif", tiff(bands), bands),
        "bands_rgb": _alike("TIFF of RGB and three more", "x.tif", tiff(bands, **extra), bands),
        "bands_pages": _alike("TIFF of six pages, a band each", "x.tif", tiff_pages(bands), bands),
        "alpha_rgba": _alike(
            "RGBA PNG, one grey, shape in alpha",
            "x.png",
            saved(Image.fromarray(shape), "PNG"),
            shape,
        ),
        "alpha_palette": Case(
            "palette PNG, one entry transparent",
            everywhere("x.png", saved(palette, "PNG", transparency=0)),
        ),
        "palette_bmp": Case("palette BMP in colours", everywhere("x.bmp", saved(coloured, "BMP"))),
        "cmyk": Case(
            "CMYK JPEG of pure cyan",
            everywhere("x.jpg", saved(Image.new("CMYK", (SIDE, SIDE), (255, 0, 0, 0)), "JPEG")),
        ),
        "gif": Case("animated GIF, red then blue", everywhere("x.gif", _animation())),
    }


def _alike(title: str, name: str, data: bytes, array: np.ndarray) -> Case:
    """The same pixels as files of a folder, as a TIFF and in MedMNIST's layout."""
    grey = array.ndim == 2 or array.shape[-1] == 6
    plain = tiff(array) if grey else tiff(array, photometric="rgb")
    return Case(title, everywhere(name, data), array=array, tiff=data if "tif" in name else plain)


def _classes() -> dict[str, Case]:
    pair = (ACCENTED, unicodedata.normalize("NFD", ACCENTED))
    dogs = ("beagle", "0001_golden_retriever", "husky")
    return {
        "classes_dogs": Case(", ".join(dogs), of_classes(dogs)),
        "classes_numbers": Case("9, 10", of_classes(("9", "10"))),
        "classes_case": Case("apple, Zebra", of_classes(("apple", "Zebra"))),
        "classes_unicode": Case("one name in NFC and in NFD", of_classes((*pair, "tea"))),
        "classes_train": Case(
            "bus, car, train, no split folders",
            {f"{name}/{i}.png": dot(i) for name in ("bus", "car", "train") for i in (1, 2)},
        ),
        "classes_dev": Case("board, dev-board", of_classes(("board", "dev-board"))),
    }


def _splits() -> dict[str, Case]:
    train = {f"train/{name}/{i}.png": dot(i) for name in "ab" for i in range(5)}
    val = {f"val/{name}/{i}.png": dot(i) for name in "ab" for i in (5, 6)}
    return {
        "hidden_loose": Case(
            "test/ of loose images", {**train, **val, "test/7.png": dot(7), "test/8.png": dot(8)}
        ),
        "hidden_folder": Case(
            "test/unlabelled/; in an NPZ label -1",
            {**train, **val, **{f"test/unlabelled/{i}.png": dot(i) for i in (7, 8)}},
            array=np.zeros((SIDE, SIDE), np.uint8),
        ),
        "nested_some": Case(
            "two of six images a level deeper",
            {**both("0.png", "1.png"), "train/a/far/2.png": dot(2), "train/b/far/2.png": dot(2)},
        ),
        "nested_all": Case(
            "all a level deeper, in left/ and right/", both("left/0.png", "right/1.png")
        ),
    }


def _files() -> dict[str, Case]:
    plain = Image.fromarray(np.full((SIDE, SIDE, 3), 100, np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    whole = saved(Image.fromarray(noise), "JPEG", quality=95)
    kinds = {"bmp": "BMP", "jfif": "JPEG", "pgm": "PPM", "tif": "TIFF", "webp": "WEBP"}
    other = {f"2.{end}": saved(plain.convert("L") if end == "pgm" else plain, kind)
             for end, kind in kinds.items()}  # fmt: skip
    mac = {f"{split}/{name}/._0.png": b"\0\5\26\7" for split in ("train", "test")
           for name in ("__MACOSX", "a")}  # fmt: skip
    return {
        "cut": Case(
            "JPEG cut in half",
            {**both("0.png", "1.png"), "train/a/2.jpg": whole[: len(whole) // 2]},
        ),
        "hidden_files": Case(
            "._ files and __MACOSX of a Mac's archive", {**both("0.png", "1.png"), **mac}
        ),
        "endings": Case(
            "a .png and " + ", ".join(f".{end}" for end in kinds),
            {**both("0.png"), **{f"train/a/{name}": data for name, data in other.items()}},
        ),
        "links": Case(
            "a linked image, a linked class folder",
            {**both("0.png", "1.png"), "../far/3.png": dot(3), "../far/4.png": dot(4)},
            links={
                "train/a/2.png": "../../../far/3.png",
                "train/c": "../../far",
                "test/c": "../../far",
            },
        ),
    }


def everywhere(name: str, data: bytes) -> dict[str, bytes]:
    """One image in both classes of both splits."""
    return {f"{split}/{label}/{name}": data for split in ("train", "test") for label in "ab"}


def both(*names: str) -> dict[str, bytes]:
    """PNG images, each named `[FOLDER/]NUMBER.png`, in both classes of both splits."""
    parts = [everywhere(name, dot(int(Path(name).stem))) for name in names]
    return {path: data for part in parts for path, data in part.items()}


def of_classes(names: tuple[str, ...]) -> dict[str, bytes]:
    """One image of each class in both splits; its grey is 10 times the class's place in `names`."""
    return {f"{split}/{name}/{i}.png": dot(i) for split in ("train", "test")
            for i, name in enumerate(names)}  # fmt: skip


def dot(number: int) -> bytes:
    """A PNG of one grey, 10 times `number`."""
    return saved(Image.fromarray(np.full((SIDE, SIDE, 3), 10 * number, np.uint8)), "PNG")


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _animation() -> bytes:
    red, blue = (Image.new("RGB", (SIDE, SIDE), name) for name in ("red", "blue"))
    return saved(red, "GIF", save_all=True, append_images=[blue])


def png16(array: np.ndarray) -> bytes:
    """A PNG of 16 bits a value, grey or RGB, which Pillow cannot write in colour."""
    height, width = array.shape[:2]
    rows = array.astype(">u2").reshape(height, -1)
    colour = 2 if array.ndim == 3 else 0
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0),
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)),
        b"IEND": b"",
    }
    chunks = []
    for kind, data in parts.items():
        check = struct.pack(">I", zlib.crc32(kind + data))
        chunks.append(struct.pack(">I", len(data)) + kind + data + check)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(array: np.ndarray, **options: Any) -> bytes:
    """A TIFF of one page, with its bands beside each other."""
    import tifffile

    file = io.BytesIO()
    plain = {"photometric": "minisblack"} | ({"planarconfig": "contig"} if array.ndim == 3 else {})
    tifffile.imwrite(file, array, metadata=None, **{**plain, **options})
    return file.getvalue()


def jpeg2000(array: np.ndarray) -> bytes:
    """A lossless JPEG 2000 file of 12 bits a value, as scanners and satellites write them."""
    from imagecodecs import jpeg2k_encode

    return jpeg2k_encode(array, level=0, codecformat="jp2", bitspersample=12, reversible=True)


def tiff_pages(array: np.ndarray) -> bytes:
    """A TIFF of one page a band."""
    import tifffile

    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for band in np.moveaxis(array, -1, 0):
            writer.write(np.ascontiguousarray(band), photometric="minisblack", metadata=None)
    return file.getvalue()


def main(folder: Path) -> None:
    """Writes every case into a folder of its own name; needs Pillow, tifffile and imagecodecs."""
    cases = make()
    for name, case in cases.items():
        case.write(folder / name)
    titles = {name: case.title for name, case in cases.items()}
    (folder / "titles.json").write_text(json.dumps(titles))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
