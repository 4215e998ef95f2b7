"""What real readers do: cases, words for them, and the page."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.readers import cases, peers
from experiments.readers.page import TITLES, load, page
from experiments.readers.words import refusal, verdict

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results" / "real_readers"


def test_the_committed_page_is_that_of_the_results():
    assert (ROOT / "docs" / "readers.md").read_text() == page(load(RESULTS))


@pytest.mark.parametrize("name", TITLES)
def test_every_reader_is_measured_on_every_case(name):
    measured = load(RESULTS)
    assert measured["libraries"][name]["cases"].keys() == measured["titles"].keys()
    assert all(measured["libraries"][name]["versions"].values())


def test_cases_in_deep_pngs_hold_their_values():
    grey = Image.open(io.BytesIO(cases.png16(cases.LEVELS)))
    np.testing.assert_array_equal(np.asarray(grey), cases.LEVELS)
    colour = np.stack([cases.LEVELS * 16] * 3, -1)  # Pillow keeps the high byte
    read = np.asarray(Image.open(io.BytesIO(cases.png16(colour))))
    np.testing.assert_array_equal(read, (colour >> 8).astype(np.uint8))


def _facts(array, **more):
    return {"train": {"classes": ["a", "b"], "images": [{**peers.image(array, "a"), **more}]}}


def test_words_for_pixels_follow_the_values():
    ramp = cases.LEVELS
    assert verdict("depth_grey16", _facts(ramp)) == "256 of 256 levels, uint16 0 to 4080"
    lost = _facts((ramp >> 8).astype(np.uint8))
    assert verdict("depth_grey16", lost) == "wrong: 16 of 256 levels, uint8 0 to 15"
    assert verdict("depth_jp2", _facts(ramp)) == "256 of 256 levels, uint16 0 to 4080"
    assert verdict("depth_jp2", _facts(ramp * 16)) == "wrong: 256 levels, values times 16"
    bands = np.broadcast_to(np.array(cases.BANDS, np.uint8), (16, 16, 6))
    assert verdict("bands_grey", _facts(bands)) == "all six"
    assert verdict("bands_grey", _facts(bands.transpose(2, 0, 1))) == "all six, bands first"
    assert verdict("bands_grey", _facts(bands[..., :3])) == "wrong: 3 of six"
    quarters = np.array([[0, 80], [160, 240]], np.uint8).repeat(8, 0).repeat(8, 1)
    assert verdict("orientation_jpeg", _facts(quarters)) == "wrong: as stored"
    assert verdict("orientation_jpeg", _facts(np.rot90(quarters, -1))) == "turned"
    assert verdict("white_16", _facts(quarters)) == "wrong: 0 is black, a negative"
    assert verdict("white_16", _facts(255 - quarters)) == "0 is white"
    clear = np.full((16, 16, 4), 100, np.uint8)
    clear[:8, :8, 3] = 0
    assert verdict("alpha_rgba", _facts(clear)) == "kept as a channel"
    assert verdict("alpha_rgba", _facts(clear[..., :3])).startswith("wrong: alpha dropped")
    blended = np.where(clear[..., 3:] == 0, 255, clear[..., :3])
    assert verdict("alpha_rgba", _facts(blended)) == "blended, 255 where clear"


def test_words_for_sets_follow_files_and_labels():
    def split(classes, *files):
        return {
            "classes": classes,
            "images": [{"file": f, "label": f.split("/")[1]} for f in files],
        }

    train = split(["a", "b"], "train/a/0.png", "train/b/0.png")
    hidden = {"train": train, "test": split(["unlabelled"], "test/unlabelled/7.png")}
    assert verdict("hidden_folder", hidden) == "wrong: label 0, which is `a` in train/"
    hidden["test"] = split(["a", "b"], "val/a/5.png", "val/b/5.png")
    assert verdict("hidden_folder", hidden) == "tests on val/"
    leak = {"train": train, "validation": split(["a", "b"], "train/b/0.png")}
    assert verdict("classes_dev", leak) == "wrong: 1 of 4 images in two splits"
    refused = {"train": {"error": "ValueError: no: images"}}
    assert verdict("links", refused) == "refuses (ValueError)"
    assert refusal(refused) == "ValueError: no: images"
    assert verdict("links", {}) == ""


def test_ours_is_measured_through_open_source(tmp_path):
    image, loose = cases.dot(3), {f"test/{i}.png": cases.dot(i) for i in (7, 8)}
    labelled = {f"{s}/{c}/{i}.png": image for s in ("train", "val") for c in "ab" for i in range(2)}
    cases.Case("", {**labelled, **loose}).write(tmp_path / "one" / "hidden_loose")
    peers.main("ours", tmp_path / "one", tmp_path / "facts.json")
    found = json.loads((tmp_path / "facts.json").read_text())["cases"]["hidden_loose"]["default"]
    assert verdict("hidden_loose", found) == "tests on val/"
    assert len(found["train"]["images"]) == len(found["test"]["images"]) == 4
    assert found["train"]["images"][0]["range"] == [30, 30]
