"""From facts to a few words: what arrived of a case, and whether that is right.

A verdict is plain words where the reader is right or says nothing false, starts with "wrong:" where
pixels, labels or images are silently lost or changed, and with "refuses" where it raises an error.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator

from experiments.readers.cases import BANDS
from experiments.readers.peers import Fact, Facts

ENDINGS = (".bmp", ".jfif", ".pgm", ".tif", ".webp")


def verdict(case: str, facts: Facts) -> str:
    """What a reader makes of a case; nothing where it was not measured."""
    if not facts:
        return ""
    kind = case.partition("_")[0]
    if case in OF_SETS:
        return OF_SETS[case](facts)
    return _of_pixels(OF_PIXELS.get(case) or OF_PIXELS[kind], facts)


def refusal(facts: Facts) -> str:
    """The first error of a case; empty where there is none."""
    return next(_errors(facts), "")


def _errors(facts: Facts) -> Iterator[str]:
    for fact in facts.values():
        for one in (fact, *fact.get("images", [])):
            if "error" in one:
                yield one["error"]


def _refuses(error: str) -> str:
    return f"refuses ({error.partition(':')[0]})"


def _of_pixels(judge: Callable[[Fact], str], facts: Facts) -> str:
    if error := refusal(facts):
        return _refuses(error)
    return judge(facts["train"]["images"][0])


def _orientation(image: Fact) -> str:
    darkest_first = sorted(range(4), key=lambda quarter: image["quarters"][quarter][0])
    if darkest_first == [1, 3, 0, 2]:
        return "turned"
    return "wrong: " + ("as stored" if darkest_first == [0, 1, 2, 3] else "turned another way")


def _depth(image: Fact) -> str:
    low, high = image["range"]
    text = f"{image['levels']} of 256 levels, {image['dtype']} {low:g} to {high:g}"
    return text if image["levels"] == 256 else f"wrong: {text}"


def _depth_of_12_bits(image: Fact) -> str:
    scaled = image["range"][1] / 4080
    if image["dtype"] == "uint16" and scaled != 1:
        return f"wrong: {image['levels']} levels, values times {scaled:g}"
    return _depth(image)


def _white(image: Fact) -> str:
    first, *_, last = image["quarters"]
    return "0 is white" if first[0] > last[0] else "wrong: 0 is black, a negative"


def _palette(image: Fact) -> str:
    pixel = image["quarters"][0]
    return "in colours" if pixel[:3] == [255, 0, 0] else "wrong: the palette's indices as grey"


def _bands(image: Fact) -> str:
    pixel = image["quarters"][0]
    if pixel == list(BANDS):
        return "all six" + (", bands first" if image["shape"][0] == len(BANDS) else "")
    return f"wrong: {len(set(pixel) & set(BANDS))} of six"


def _alpha(image: Fact) -> str:
    clear, *_, opaque = image["quarters"]
    if clear == opaque:
        return "wrong: alpha dropped, the shape is gone"
    return "kept as a channel" if len(clear) in (2, 4) else f"blended, {clear[0]:g} where clear"


def _cmyk(image: Fact) -> str:
    pixel = tuple(image["quarters"][0])
    return {(0, 255, 255): "cyan in RGB", (255, 0, 0, 0): "kept as CMYK"}.get(
        pixel, f"wrong: {pixel}"
    )


def _gif(image: Fact) -> str:
    return "first frame" if image["quarters"][0][:3] == [255, 0, 0] else "wrong: not the first"


def _images(facts: Facts) -> list[Fact]:
    return [image for fact in facts.values() for image in fact.get("images", [])]


def _order(facts: Facts) -> str:
    if error := refusal(facts):
        return _refuses(error)
    classes = facts["train"]["classes"]
    return ", ".join(classes) if classes else "wrong: no labels"


def _one_name(facts: Facts) -> str:
    if error := refusal(facts):
        return _refuses(error)
    named = Counter(unicodedata.normalize("NFC", name) for name in facts["train"]["classes"])
    return "wrong: two classes that look alike" if max(named.values()) > 1 else "one class"


def _class_named_train(facts: Facts) -> str:
    if error := refusal(facts):
        return _refuses(error)
    count, classes = len(_images(facts)), facts["train"]["classes"]
    if count == 6 and classes == ["bus", "car", "train"]:
        return "three classes, 6 images"
    return f"wrong: {count} of 6 images, " + (
        "no labels" if classes is None else ", ".join(classes)
    )


def _class_named_dev(facts: Facts) -> str:
    if error := refusal(facts):
        return _refuses(error)
    splits = Counter(image["file"] for image in _images(facts))
    twice = sum(count > 1 for count in splits.values())
    return f"wrong: {twice} of 4 images in two splits" if twice else "each image in one split"


def _hidden(facts: Facts) -> str:
    train, test = facts["train"], facts.get("test")
    if "error" in train:
        return _refuses(train["error"])
    if test is None:
        return "leaves test/ out"
    if "error" in test:
        return f"test/: {_refuses(test['error'])}"
    labels = {image["label"] for image in test["images"]}
    if labels == {-1}:
        return "label -1, as it stands there"
    if train["classes"] is None:
        return "wrong: no split has labels, train/ neither"
    parts = {image["file"].partition("/")[0] for image in test["images"]}
    if parts != {"test"}:
        return f"tests on {', '.join(sorted(parts))}/"
    (label,) = labels
    if label in train["classes"]:
        return f"wrong: `{label}` is a class of every split"
    number = test["classes"].index(label)
    return f"wrong: label {number}, which is `{train['classes'][number]}` in train/"


def _nested_some(facts: Facts) -> str:
    if error := refusal(facts):
        return _refuses(error)
    train = facts["train"]
    if train["classes"] is None:
        return "wrong: no labels"
    count = len(train["images"])
    return "all six" if count == 6 else f"wrong: {count} of six"


def _nested_all(facts: Facts) -> str:
    if error := refusal(facts):
        return _refuses(error)
    classes = facts["train"]["classes"] or ["none"]
    return ("" if classes == ["a", "b"] else "wrong: ") + "classes " + ", ".join(classes)


def _cut(facts: Facts) -> str:
    if error := refusal(facts):
        return _refuses(error)
    whole = any(image["file"].endswith("2.jpg") for image in facts["train"]["images"])
    return "wrong: half an image" if whole else "left out"


def _hidden_files(facts: Facts) -> str:
    classes = facts["train"].get("classes", [])
    extra = "a class `__MACOSX`, " if "__MACOSX" in classes else ""
    if error := refusal(facts):
        return extra + _refuses(error)
    count = len(facts["train"]["images"])
    return "passed over" if not extra and count == 4 else f"wrong: {extra}{count} images"


def _endings(facts: Facts) -> str:
    if error := refusal(facts):
        return _refuses(error)
    files = [image["file"] for image in _images(facts)]
    missing = [end for end in ENDINGS if not any(file.endswith(end) for file in files)]
    return "wrong: without " + ", ".join(missing) if missing else "all"


def _links(facts: Facts) -> str:
    if error := refusal(facts):
        return _refuses(error)
    files = [image["file"] for image in _images(facts)]
    missing = ["image"] * ("train/a/2.png" not in files)
    missing += ["class folder"] * ("train/c/3.png" not in files)
    return "wrong: without the " + " and the ".join(missing) if missing else "both"


OF_PIXELS: dict[str, Callable[[Fact], str]] = {
    "orientation": _orientation,
    "depth": _depth,
    "depth_jp2": _depth_of_12_bits,
    "white": _white,
    "palette": _palette,
    "bands": _bands,
    "alpha": _alpha,
    "cmyk": _cmyk,
    "gif": _gif,
}
OF_SETS: dict[str, Callable[[Facts], str]] = {
    "classes_dogs": _order,
    "classes_numbers": _order,
    "classes_case": _order,
    "classes_unicode": _one_name,
    "classes_train": _class_named_train,
    "classes_dev": _class_named_dev,
    "hidden_loose": _hidden,
    "hidden_folder": _hidden,
    "nested_some": _nested_some,
    "nested_all": _nested_all,
    "cut": _cut,
    "hidden_files": _hidden_files,
    "endings": _endings,
    "links": _links,
}
