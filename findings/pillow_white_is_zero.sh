#!/usr/bin/env bash
# Pillow turns a TIFF's WhiteIsZero into black-is-zero at 8 bits, and not at 16: a negative arrives.
#
# Versions: Pillow 13.0.0; tifffile 2026.3.3 writes the images.
# Input:    one ramp from white to black with PhotometricInterpretation 0 (WhiteIsZero), of 8 and of
#           16 bits, little-endian.
# Expected: white first from both. TIFF 6.0, section 8, PhotometricInterpretation: with WhiteIsZero 0
#           is imaged as white, and 2**BitsPerSample-1 as black, whatever BitsPerSample is
#           (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf).
# Seen:     8 bits are inverted, so that large is white; 16 bits come as stored, and nothing in mode or
#           image tells them apart. torchvision's ImageFolder and Hugging Face's imagefolder read
#           through Pillow, so a set of both depths mixes positives and negatives.
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

eight = np.array([[0, 51, 102, 204, 255]], np.uint8)
read = {}
for ramp in (eight, eight.astype(np.uint16) * 257):
    tifffile.imwrite("ramp.tif", ramp, photometric="miniswhite")
    with Image.open("ramp.tif") as image:
        assert image.tag_v2[262] == 0  # PhotometricInterpretation: WhiteIsZero
        read[ramp.dtype.itemsize * 8] = np.asarray(image).ravel().tolist()
for bits, row in read.items():
    print(f"{bits} bits, from white to black: {row}")
assert read[8] == [255, 204, 153, 51, 0], "8 bits have changed"
assert read[16] == [0, 13107, 26214, 52428, 65535], "16 bits have changed"
END
