#!/usr/bin/env bash
# Pillow swaps the bytes of compressed big-endian TIFFs of floats and signed integers, without a word.
#
# Versions: Pillow 13.0.0; tifffile 2026.3.3 writes the images.
# Input:    0, 1, 2 and 1000 as float32, int16, int32 and uint16 in TIFFs of both byte orders, once
#           uncompressed, once by deflate.
# Expected: the values that went in. TIFF 6.0, section 2: the first two bytes of a file tell the byte
#           order of all of it (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf).
#           libtiff gives samples in the machine's order, as Pillow's TiffImagePlugin.py knows, which
#           acts on it for unsigned 16 bits alone.
# Seen:     all right in little-endian files and in uncompressed ones, and for uint16. Of deflate and
#           big-endian order, 1 becomes 4.6e-41 as a float, 256 of 16 bits and 16777216 of 32.
#           Seen on a little-endian machine.
# Fails when this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    pillow==13.0.0 tifffile==2026.3.3
cd "$scratch"
"$scratch/venv/bin/python" - <<'END'
import numpy as np
import tifffile
from PIL import Image

for kind in ("float32", "int16", "int32", "uint16"):
    values = np.array([0, 1, 2, 1000], kind).reshape(1, 4).repeat(4, 0)
    for order, packing in (("<", None), ("<", "zlib"), (">", None), (">", "zlib")):
        tifffile.imwrite("x.tif", values, byteorder=order, compression=packing)
        assert np.array_equal(tifffile.imread("x.tif"), values)
        with Image.open("x.tif") as image:
            read = np.asarray(image)
        print(f"{kind} {order} {packing}: {read[0].tolist()}")
        swapped = kind != "uint16" and order == ">" and packing
        expected = values.byteswap() if swapped else values
        assert np.array_equal(read, expected), f"{kind} {order} {packing} has changed"
END
