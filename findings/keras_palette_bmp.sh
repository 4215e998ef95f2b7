#!/usr/bin/env bash
# Keras reads an 8-bit BMP's palette indices as grey levels; the colours are lost without a word.
#
# Versions: keras 3.15.1, tensorflow-cpu 2.21.0; Pillow 13.0.0 writes the images.
# Input:    one picture of four colours, saved by Pillow as a palette BMP, PNG and GIF, a class each.
# Expected: the same four colours from all three. `image_dataset_from_directory` lists .bmp among its
#           formats (https://keras.io/api/data_loading/image/), and `tf.io.decode_bmp` says that three
#           channels "output an RGB image" (https://www.tensorflow.org/api_docs/python/tf/io/decode_bmp).
#           A BMP of 8 bits a pixel always has a palette.
# Seen:     colours from PNG and GIF; 0, 1, 2, 3 in every channel from BMP: a nearly black image.
# Fails when this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    keras==3.15.1 tensorflow-cpu==2.21.0 pillow==13.0.0
cd "$scratch"
TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES='' "$scratch/venv/bin/python" - <<'END'
from pathlib import Path

import keras
import numpy as np
from PIL import Image

COLOURS = [[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]]
picture = Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8).repeat(4, 0), "P")
picture.putpalette(np.array(COLOURS, np.uint8).ravel().tolist())
for kind in ("bmp", "gif", "png"):
    Path("set", kind).mkdir(parents=True)
    picture.save(Path("set", kind, f"picture.{kind}"))
data = keras.utils.image_dataset_from_directory(
    "set", image_size=(4, 4), batch_size=1, shuffle=False, verbose=False
)
rows = {
    data.class_names[int(label[0])]: images[0, 0].numpy().astype(int).tolist()
    for images, label in data
}
for kind, row in rows.items():
    print(f"{kind}: {row}")
indices = [[index] * 3 for index in range(4)]
assert rows == {"bmp": indices, "gif": COLOURS, "png": COLOURS}, "it has changed"
END
