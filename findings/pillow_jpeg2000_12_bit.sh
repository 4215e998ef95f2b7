#!/usr/bin/env bash
# Pillow multiplies the values of a 12-bit JPEG 2000 by 16, and those of a 15-bit one by 2.
#
# Versions: Pillow 13.0.0; imagecodecs 2026.3.6 (OpenJPEG) writes the images and reads them, too.
# Input:    values up to 4000 in lossless JPEG 2000 of 12, 15 and 16 bits, as scanners and satellites
#           write them.
# Expected: the values that went in, or at least one scale for all. ISO/IEC 15444-1, table A-11: Ssiz
#           is the precision of the samples, and a reversible codestream decodes to just these.
#           Pillow's documentation of JPEG 2000 tells of no scaling
#           (https://pillow.readthedocs.io/en/stable/handbook/image-file-formats.html#jpeg-2000).
#           pydicom shifts the values back (https://github.com/pydicom/pydicom/issues/693).
# Seen:     times 16 at 12 bits, times 2 at 15, unchanged at 16, all in mode I;16. Thresholds and
#           statistics from another reader are off by that factor, and files of two depths do not
#           compare.
# Fails when this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    pillow==13.0.0 imagecodecs==2026.3.6
cd "$scratch"
"$scratch/venv/bin/python" - <<'END'
import io

import imagecodecs
import numpy as np
from PIL import Image

values = np.array([0, 1, 100, 4000], np.uint16).reshape(1, 4).repeat(4, 0)
for bits, factor in ((12, 16), (15, 2), (16, 1)):
    data = imagecodecs.jpeg2k_encode(values, level=0, bitspersample=bits, reversible=True)
    assert np.array_equal(imagecodecs.jpeg2k_decode(data), values)
    with Image.open(io.BytesIO(data)) as image:
        row = np.asarray(image)[0].tolist()
        print(f"{bits} bits, {values[0].tolist()} went in: {row} in mode {image.mode}")
    assert image.mode == "I;16"
    assert row == (values[0].astype(int) * factor).tolist(), f"{bits} bits have changed"
END
