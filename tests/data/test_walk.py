"""What lies in a class folder and below: every image is taken, everything else is counted."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from infoutil_jax.data import walk
from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError


def opened(path, **options):
    return open_source(f"folder:{path}", **options)


def names(source):
    return {*source.train.ids, *source.test.ids}


@pytest.mark.parametrize(
    "ending",
    ["gif", "jfif", "ppm", "pgm", "avif", "jp2", "tga", "qoi", "apng", "JPG", "ico", "pcx", "dib"],
)
def test_every_ending_that_pillow_reads_is_an_image(folder, ending):
    pixels = np.asarray(Image.open(folder / "cat/0000.jpg"))
    image = Image.fromarray(pixels).convert("L" if ending == "pgm" else "RGB")
    lossless = {"avif": {"quality": 100, "subsampling": "4:4:4"}}.get(ending, {})
    image.save(folder / f"cat/more.{ending}", **lossless)
    source = opened(folder, image_size=32)
    assert f"cat/more.{ending}" in names(source) and len(names(source)) == 11
    assert source.notes[0].startswith("no test split"), "nothing is passed over"


def test_pages_films_and_what_pillow_cannot_decode_are_no_images(folder):
    for ending in ("pdf", "eps", "ps", "mpg", "h5", "grib", "wmf", "txt"):
        (folder / f"cat/more.{ending}").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    assert len(names(opened(folder))) == 10


def test_a_page_that_calls_itself_an_image_runs_no_postscript(folder):
    (folder / "cat/0000.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(InputError, match=r"cat/0000.jpg .*in no format"):
        opened(folder)


def test_images_below_a_class_folder_are_its_images(folder):
    (folder / "cat/one/two").mkdir(parents=True)
    (folder / "cat/0000.jpg").rename(folder / "cat/one/two/0000.jpg")
    (folder / "cat/0001.jpg").rename(folder / "cat/one/0001.jpg")
    source = opened(folder)
    assert {"cat/one/two/0000.jpg", "cat/one/0001.jpg"} < names(source)
    assert len(names(source)) == 10
    assert source.notes[0] == "2 images lie deeper than their class folder, in one (2)"


def test_what_is_passed_over_is_counted(folder):
    shutil.copytree(folder / "cat", folder / "__MACOSX/cat")
    shutil.copytree(folder / "cat", folder / "cat/@eaDir")
    shutil.copytree(folder / "cat", folder / ".cache")
    shutil.copy(folder / "cat/0000.jpg", folder / "loose.jpg")
    (folder / "cat/.hidden.jpg").write_bytes(b"x")
    (folder / "cat/notes.txt").touch()
    (folder / "cat/MORE.TXT").touch()
    (folder / "ship/README").touch()
    (folder / "readme.md").touch()
    (folder / "ship/gone.jpg").symlink_to(folder / "nowhere.jpg")
    source = opened(folder)
    assert len(names(source)) == 10
    assert source.notes[0] == (
        "passed over: 1 .md, 2 .txt, 1 @eaDir, 1 __MACOSX, 1 broken link, 2 hidden, "
        "1 outside of class folders, 1 without an ending"
    )


def test_a_folder_that_cannot_be_read_is_counted_or_told(folder, monkeypatch):
    shutil.copytree(folder / "cat", folder / "cat/locked")
    scan = os.scandir

    def scandir(path):
        if "locked" in Path(path).parts:
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    source = opened(folder)
    assert source.notes[0] == "passed over: 1 folder that cannot be read"
    assert len(names(source)) == 10
    (folder / "cat").rename(folder / "locked")
    with pytest.raises(InputError, match=r"locked has no images .*1 folder that cannot be read"):
        opened(folder)


# --- links


def link_up(folder):
    (folder / "cat/again").symlink_to(folder)
    return "cat/again"


def link_to_itself(folder):
    (folder / "cat/self").symlink_to("self")
    return "cat/self"


def link_to_its_own_folder(folder):
    (folder / "cat/here").symlink_to(".")
    return "cat/here"


def link_far_up(folder):
    (folder / "cat/root").symlink_to("/")
    return "cat/root"


def class_link_up(folder):
    (folder / "dog").symlink_to(folder)
    return "dog"


def links_in_a_ring(folder):
    (folder / "cat/a.jpg").symlink_to("b.jpg")
    (folder / "cat/b.jpg").symlink_to("a.jpg")
    return "cat/(a|b).jpg"


def self_link_as_class(folder):
    (folder / "dog").symlink_to("dog")
    return "dog"


LOOPS = [
    link_up,
    link_to_itself,
    link_to_its_own_folder,
    link_far_up,
    class_link_up,
    links_in_a_ring,
    self_link_as_class,
]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_link_that_loops_is_told_in_one_sentence(folder, loop):
    name = loop(folder)
    with pytest.raises(InputError, match=f"{name} (is a link that leads|cannot be fol)") as error:
        opened(folder)
    assert "\n" not in str(error.value)


def test_links_that_do_not_loop_are_followed_once(folder, tmp_path):
    far = Path(shutil.copytree(folder / "ship", tmp_path / "far"))
    (folder / "cat/far").symlink_to(far)
    (folder / "cat/again").symlink_to(far)
    (folder / "cat/one.jpg").symlink_to(folder / "cat/0000.jpg")
    shutil.move(folder / "ship", tmp_path / "elsewhere")
    (folder / "ship").symlink_to(tmp_path / "elsewhere")
    source = opened(folder)
    assert len(names(source)) == 15
    assert {f"cat/again/000{i}.jpg" for i in range(5)} < names(source)
    assert source.notes[:2] == (
        "5 images lie deeper than their class folder, in again (5)",
        "passed over: 2 repeated by a link",
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_any_tree_of_folders_and_links_ends_and_takes_each_image_once(tmp_path_factory, data):
    top = tmp_path_factory.mktemp("tree")
    places = [top]
    for number in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.sampled_from(places)) / f"f{number}"
        place.mkdir()
        places.append(place)
    images = {place / "image.png" for place in places if data.draw(st.booleans())}
    for image in images:
        image.touch()
    targets = st.sampled_from([*places, *sorted(images)])
    for number in range(data.draw(st.integers(0, 4))):
        target = data.draw(targets)
        suffix = ".png" if target.suffix else ""
        (data.draw(st.sampled_from(places)) / f"link{number}{suffix}").symlink_to(target)
    found = walk.below(top)
    assert found.images == sorted(found.images)
    real = [Path(image).resolve() for image in found.images]
    assert sorted(real) == sorted(images), "every image, each of them once"
