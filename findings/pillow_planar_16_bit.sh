#!/usr/bin/env bash
# Pillow takes each byte of a planar 16-bit RGB TIFF for a pixel: stripes arrive, without a word.
#
# Versions: Pillow 13.0.0; tifffile 2026.3.3 writes the images.
# Input:    one flat colour, (1000, 2000, 3000) of 65535, as an RGB TIFF of 16 bits: once interleaved,
#           once in planes (PlanarConfiguration 2), as microscopes and satellites write it.
# Expected: one flat picture from both, or an error. TIFF 6.0, section 8, PlanarConfiguration: planes
#           hold the same samples, stored apart; a baseline reader need not take them
#           (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf). Of 16 bits Pillow keeps the
#           high byte: (3, 7, 11).
# Seen:     (3, 7, 11) everywhere where samples are interleaved. In planes the columns alternate
#           between low and high bytes.
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

planes = np.full((3, 4, 4), 1000, np.uint16) * np.array([1, 2, 3], np.uint16)[:, None, None]
tifffile.imwrite("planes.tif", planes, photometric="rgb", planarconfig="separate")
tifffile.imwrite("pixels.tif", planes.transpose(1, 2, 0), photometric="rgb", planarconfig="contig")
read = {}
for name in ("pixels", "planes"):
    assert (np.unique(tifffile.imread(f"{name}.tif")) == [1000, 2000, 3000]).all()
    with Image.open(f"{name}.tif") as image:
        read[name] = np.asarray(image)
    print(f"{name}: first row {read[name][0].tolist()}")
assert (read["pixels"] == [3, 7, 11]).all(), "interleaved samples have changed"
low_and_high = [[232, 208, 184], [3, 7, 11]]
assert (read["planes"] == low_and_high * 2).all(), "planes have changed"
END
