"""The README.md of a distilled set: a dataset card, and programs that train on it (host).

Its front matter tells Hugging Face's `datasets` of image, label and soft labels, where the images
are PNG files; other columns, such as a crop's origin, `datasets` then leaves out. The text is
`card.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

from infoutil_jax.data.manifest import labels_are_learnt
from infoutil_jax.image.grid import edges

MOST_CLASSES = 200  # that the table lists; the manifest lists them all
_TEMPLATE = Path(__file__).with_name("card.md")
_KERAS = {
    (False, False): "",
    (True, False): ' L.RandomFlip("horizontal")',
    # Upside down and mirrored: of the turns, those that Keras has as a layer for any size.
    (True, True): " L.RandomFlip()",
    (False, True): "",
}
"""Keras's layers, by whether images are mirrored and turned."""
_READ = {".png": "PIL.Image.open(file)", ".npy": "np.load(file)"}
"""An image's pixels in a program."""
# Without files of its own `datasets` takes a folder "test" for a split, and nothing else.
_FEATURES = """
configs:
- config_name: default
  data_files:
  - split: train
    path:
    - metadata.jsonl
    - images/**
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
NAMES
  - name: soft_labels
    list:
      list: float32"""


def card(manifest: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The text of a set's README.md.

    Args:
        manifest: the set's, complete but for `files` and `sha256`.
        rows: the lines of its metadata.
    """
    (height, width, channels), tiles = manifest["image_shape"], manifest["tiles"]
    ending = Path(rows[0]["file_name"]).suffix
    training, classes = manifest["training"], len(manifest["class_names"])
    count, side, name = len(rows), math.isqrt(tiles), _name(manifest)
    halvings = math.log2(min(height, width))
    depth = min(max(3, round(halvings) - 2), int(halvings))
    mean, std = (tuple(round(x, 4) for x in manifest["normalisation"][k]) for k in ("mean", "std"))
    flip, turn = training["flip"], bool(training.get("turn"))
    turns = "any number of quarters" if height == width else "a half"
    step = 1 if height == width else 2
    views = "images[some][:, :, :: np.random.choice((-1, 1))]" if flip else "images[some]"
    widths = [channels, *[128] * (depth - 1)]
    licence = manifest.get("licence")
    parted = bool(training.get("partition")) and tiles > 1
    tops, lefts = edges(height, side).tolist(), edges(width, side).tolist()
    boxes = [(x, y, right, bottom) for y, bottom in pairwise(tops) for x, right in pairwise(lefts)]
    geometry = f"each image is {_cells(tops, lefts)}"
    if parted:
        geometry += "; students see each by itself, enlarged to the size of an image"
    seen = count * tiles if parted else count
    mean_of_tiles = "mean(1)  # an image is taught its tiles' mean"
    return Template(_TEMPLATE.read_text()).substitute(
        name=name,
        quoted_name=quoted(name),
        hugging_face=_hugging_face(manifest["class_names"]) if ending == ".png" else "",
        count=count,
        height=height,
        width=width,
        channels=channels,
        classes=classes,
        tiles=tiles,
        suffix=ending,
        reader="PIL.Image, " if ending == ".png" else "",
        read=_tile(ending, height, width, side) if parted else _READ[ending],
        boxes=f" for left, top, right, bottom in {boxes}" if parted else "",
        seen=seen,
        torch_taught="flatten(0, 1)  # each tile its own" if parted else mean_of_tiles,
        taught=f"reshape(-1, {classes})  # each tile its own" if parted else mean_of_tiles,
        soft_labels=_soft_labels(manifest, f"{height}×{width}"),
        temperature=f"{training['temperature']:g}",
        mean=mean,
        std=std,
        geometry=geometry if tiles > 1 else "each image is one tile",
        mirrored="likely to help" if flip else "another class, or none: students do not see them",
        turned=f"\n| Turned images | likely to help, by {turns}: no way is up |" if turn else "",
        table=_table(manifest, rows),
        licence_id="unknown" if licence is None else quoted(str(licence)),
        origin=_origin(manifest),
        limits="\n".join(f"- {one}" for one in _limits(manifest)),
        blocks=", ".join(f"*block({inputs})" for inputs in widths),
        keras_blocks=", ".join(["*block()"] * depth),
        inputs=128 * (height >> depth) * (width >> depth),
        flip=0.5 if flip else 0.0,
        views=f"np.rot90({views}, np.random.randint(4) * {step}, (1, 2))" if turn else views,
        torch_turn=f", lambda x: x.rot90(np.random.randint(4) * {step}, (1, 2))" if turn else "",
        keras_flip=_KERAS[flip, turn],
        least=1 if parted else round(tiles**-0.5, 4),
        rate=training["learning_rate"],
        epochs=training["epochs"],
        batch=training["batch_size"],
        parts=-(-seen // training["batch_size"]),
    )


def _tile(ending: str, height: int, width: int, side: int) -> str:
    """A tile's pixels in a program, enlarged to the size of an image."""
    if ending == ".png":  # cut out first: Pillow's resize of a box looks beyond it
        return f"{_READ[ending]}.crop((left, top, right, bottom)).resize(({width}, {height}), 2)"
    cut = f"{_READ[ending]}[top:bottom, left:right]"
    if height % side == width % side == 0:
        return f"{cut}.repeat({side}, 0).repeat({side}, 1)"
    y = f"np.arange({height}) * (bottom - top) // {height}"
    x = f"np.arange({width}) * (right - left) // {width}"
    return f"{cut}[{y}][:, {x}]"


def _cells(tops: Sequence[int], lefts: Sequence[int]) -> str:
    """How an image is cut into tiles, in words."""
    heights, widths = ([after - at for at, after in pairwise(one)] for one in (tops, lefts))
    grid = f"{len(heights)}×{len(widths)} tiles"
    if len({*heights}) == len({*widths}) == 1:
        return f"{grid} of {heights[0]}×{widths[0]} pixels, by rows"
    high, wide = (" + ".join(map(str, pixels)) for pixels in (heights, widths))
    return f"{grid}, by rows, {high} pixels high and {wide} wide"


def _hugging_face(class_names: Sequence[str]) -> str:
    """The front matter by which `datasets` finds every image, and makes labels a ClassLabel."""
    names = [f"          '{label}': {quoted(name)}" for label, name in enumerate(class_names)]
    return _FEATURES.replace("NAMES", "\n".join(names))


def _name(manifest: Mapping[str, Any]) -> str:
    source = manifest.get("source")
    name = source.get("name") if isinstance(source, Mapping) else None
    return f"{printable(name)}, distilled" if name else "A distilled set"


def _soft_labels(manifest: Mapping[str, Any], size: str) -> str:
    """What the soft labels are."""
    if labels_are_learnt(manifest):
        return "logits that were learnt with the pixels, of each tile"
    teacher, said = manifest.get("label_teacher"), "the one that labelled"
    if isinstance(teacher, Mapping):
        accuracy = teacher.get("accuracy")
        rate = "" if accuracy is None else f", {accuracy:.1f}% on the source's test images"
        said = f"{teacher.get('stage')}, {printable(str(teacher.get('name')))}{rate}"
    less = ", less the mean of each class over the set" if "label_offsets" in manifest else ""
    return f"logits of the teacher ({said}) on each tile, resized to {size} pixels{less}"


def _origin(manifest: Mapping[str, Any]) -> str:
    """Lines of a table: source, rule, teachers, accuracy and licence, as far as they are known."""
    source, pool = _about(manifest, "source"), manifest.get("pool")
    forgotten = _about(manifest, "forgotten").get("examples", ())
    skipped, filled = source.get("skipped") or (), source.get("filled_classes") or {}
    lines = {
        "Source": f"{source.get('name', 'not known')}, {source.get('train_images', 'unknown')} "
        f"training images, fingerprint `{source.get('fingerprint', 'unknown')}`",
        "Rule": manifest.get("rule", "not known"),
    }
    if "pool" in manifest:
        among = "all images" if pool is None else f"up to {pool} images"
        lines["Choice"] = f"from {among} of each class, seed {manifest.get('seed')}"
    for role, what in (("teacher", "Chosen by"), ("label_teacher", "Labelled by")):
        about = _about(manifest, role)
        if about and not (role == "label_teacher" and labels_are_learnt(manifest)):
            name = f"{about.get('stage')} {about.get('name')}"
            lines[what] = f"teacher {name}, digest `{about.get('digest')}`"
    if skipped:
        lines["Left out"] = f"{len(skipped)} images that could not be read"
    if filled:
        lines["Filled up"] = f"classes of too few images, by other crops: {', '.join(filled)}"
    if forgotten:
        lines["Removed"] = f"training images: {len(forgotten)}, as if they had not been there"
    lines["How well"] = "not measured when it was made: `infoutil student SET SOURCE` measures it"
    lines["Licence"] = manifest.get("licence", f"not stated; {TERMS}")
    return "\n".join(
        f"| {name} | {printable(str(text)).replace('|', chr(92) + '|')} |"
        for name, text in lines.items()
    )


def _about(manifest: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """What a manifest says of something, as far as it says it in its own way."""
    value = manifest.get(key)
    return value if isinstance(value, Mapping) else {}


TERMS = "the terms of the source's images hold for what was made of them"


def _limits(manifest: Mapping[str, Any]) -> list[str]:
    """What a user has to know, a sentence or two each."""
    recipe = _about(manifest, "recipe")
    selected = "crop" in recipe and not recipe.get("refine")
    pixels = (
        "The images are pieces of real images: whoever or whatever is in these can be recognised."
        if selected
        else "The images may show real ones, or be shaped by them: treat them as the source's."
    )
    accuracy = _about(manifest, "label_teacher").get("accuracy")
    right = "" if accuracy is None else f", right in {accuracy:.1f}% of the source's test images"
    return [
        pixels,
        "Soft labels are learnt for what students make of them: they are nobody's opinion."
        if labels_are_learnt(manifest)
        else f"Soft labels are the opinion of one network{right}: its mistakes are taught, too.",
        "It is made to train classifiers. Classes have other shares than in the source, and what "
        "is rare within a class may be missing: do not draw statistics from it.",
        "It is made for students such as `infoutil student` trains: test any other yourself.",
    ]


def _table(manifest: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    names, folders = manifest["class_names"], manifest["class_folders"]
    if len(names) > MOST_CLASSES:
        return (
            "The classes are listed in `manifest.json`, `class_names`, in the order of the labels."
        )
    counts = [0] * len(names)
    for row in rows:
        counts[row["label"]] += 1
    lines = ["| label | class | folder | images |", "| --- | --- | --- | --- |"]
    for label, (name, folder, count) in enumerate(zip(names, folders, counts, strict=True)):
        text = printable(name).replace("|", "\\|")
        lines.append(f"| {label} | {text} | `{folder}` | {count} |")
    return "\n".join(lines)


def printable(text: str) -> str:
    """The text on one line, whatever cannot be printed as an escape."""
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in text)


def quoted(text: str) -> str:
    """The text as a double-quoted scalar of YAML."""
    return f'"{printable(text.replace(chr(92), chr(92) * 2)).replace(chr(34), chr(92) + chr(34))}"'
