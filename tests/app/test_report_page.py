"""One HTML page about sets: complete, quiet, for eyes and for screen readers."""

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from infoutil_jax import provenance, recipes
from infoutil_jax.app.cli import main
from infoutil_jax.app.report import charts, report
from infoutil_jax.app.report.gather import gather
from infoutil_jax.app.report.page import _chosen_by, with_flags_whole
from infoutil_jax.app.report.page import page as page_of
from infoutil_jax.app.report.thumbnails import data_uri
from infoutil_jax.app.students import details, summarise
from infoutil_jax.data.distilled import write_distilled
from infoutil_jax.training.evaluation import model_logits
from infoutil_jax.training.student import StudentResult

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
RESULT = StudentResult(  # of two students that take every image of a class for the next one's
    top1=np.array([50.0, 60.0]),
    top5=np.array([90.0, 90.0]),
    ece=np.array([0.1, 0.2]),
    confusion=np.stack([np.roll(36 * np.eye(10, dtype=int), 1, axis=1)] * 2),
    reliability=np.ones((2, 15, 3)),
    test_view="whole",
    top1_best=None,
    loss=np.array([2.0, 1.0, 0.123456]),
    variables={},
    predict=lambda variables, images: images,
    seconds=1.5,
)
HOSTILE = ("</script><script>window.hit=1</script>", '"><img src=x onerror="window.hit=1">')


@pytest.fixture(scope="module")
def folder(digits, teachers, teacher_dir, tmp_path_factory):
    """As `infoutil run` leaves it: a teacher, a set and a summary."""
    path, rng = tmp_path_factory.mktemp("report") / "run", np.random.default_rng(0)
    images, labels = digits.train.arrays()
    rows = np.concatenate([np.flatnonzero(labels == label)[:2] for label in range(10)])
    teacher = teachers["converged"]
    distilled = write_distilled(
        path / "distilled",
        images=images[rows],
        labels=labels[rows],
        soft_labels=model_logits(teacher, images[rows])[:, None],
        class_names=digits.class_names,
        records=[
            {
                "tiles": [
                    {
                        "source": digits.train.ids[row],
                        "example": int(row),
                        "crop": 0,
                        "box": [1, 2, 4, 4],
                        "score": float(rng.normal()),
                        "rank": number % 2,
                        "map": rng.normal(size=(4, 4)),
                    }
                ]
            }
            for number, row in enumerate(rows)
        ],
        manifest={
            "source": {"fingerprint": digits.fingerprint(), "train_images": len(labels)},
            "label_teacher": {"stage": "converged", "name": "convnet3", "accuracy": 96.0},
        },
    )
    (path / "teacher").symlink_to(teacher_dir)
    (path / "distilled.scoring.json").write_text('{"seconds": 12.3}')
    summary = {
        "command": "infoutil run digits --images-per-class 2",
        "source": "digits",
        "source_options": dict(digits.options),
        "recipe": {"recipe": "infoutil_paper"},
        "images_per_class": 2,
        "teacher": {"converged": 96.0, "majority": 10.0},
        "student": summarise(RESULT),
        "student_details": details(RESULT),
        "random": None,
        "made_from": {"sets": [distilled.digest]},
    }
    (path / "summary.json").write_text(json.dumps(summary))
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A set whose classes, files and records are named to break a page."""
    path = tmp_path_factory.mktemp("hostile") / "set"
    tile = {"example": None, "crop": None, "box": None, "map": None, "score": 0.5, "rank": 0}
    return write_distilled(
        path,
        images=np.zeros((2, 40, 40, 3), np.uint8),
        labels=np.arange(2),
        soft_labels=np.zeros((2, 1, 2), np.float32),
        class_names=HOSTILE,
        records=[{"tiles": [{**tile, "source": HOSTILE[0]}]}] * 2,
        manifest={},
    )


class Parsed(HTMLParser):
    """What a page refers to, and the text alternatives of its pictures."""

    def __init__(self, text):
        super().__init__()
        self.links, self.pictures = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found[name] for name in ("src", "href") if name in found]
        if tag == "img":
            self.pictures.append(found["alt"])


def test_the_page_holds_everything_and_asks_for_nothing(folder):
    text = report([folder]).read_text()
    page = Parsed(text)
    assert len(page.pictures) == 20 and all(page.pictures)
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert "infoutil run digits --images-per-class 2" in text
    data = json.loads(re.search(r'id="set0-data">(.*?)</script>', text)[1])
    assert len(data["items"]) == 20
    tile = data["items"][0]["tiles"][0]
    assert set(tile["opinions"]) == {"converged", "early"}
    assert data["origins"][tile["origin"]].startswith("data:image/png")
    assert np.shape(tile["map"]) == (4, 4)


def test_what_students_take_for_what_is_a_table_of_percent(folder, tmp_path):
    """Each class wholly for the next, of two students' 72 images."""
    assert details(RESULT)["confusion"][0][1] == 72 and details(RESULT)["loss"][2] == 0.1235
    text = report([folder], tmp_path / "page.html").read_text()
    rows = re.search(r'<table class="confusion">.*?<tbody>(.*?)</tbody>', text, re.S)[1]
    percents = [re.findall(r">(\d+)</td>", row) for row in rows.split("<tr>")[1:]]
    assert percents == [["100" if c == (r + 1) % 10 else "0" for c in range(10)] for r in range(10)]
    assert "55.0 ± 7.1% top-1 (2)" in text and "12 s" in text


def test_the_same_set_gives_the_same_page(folder, tmp_path):
    first, again = (report([folder], tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == again


def test_names_are_text_and_never_markup(hostile, tmp_path):
    text = report([hostile.path], tmp_path / "page.html").read_text()
    assert "<script>window" not in text and "<img src=x" not in text
    assert "not written down" in text  # where the images came from


def test_flags_in_a_sentence_are_code_and_the_rest_is_text():
    assert with_flags_whole("a < b (--seeds 0 1).") == (
        'a &lt; b <span class="whole">(<code>--seeds 0 1</code>).</span>'
    )


def test_a_page_of_a_set_lies_beside_it(hostile):
    written = report([hostile.path])
    assert written.parent == hostile.path.parent
    hostile.verify()


def test_a_folder_without_a_set_is_told(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no distilled set" in capsys.readouterr().err
    mine = tmp_path / "runs" / "mine"
    (mine / "set").mkdir(parents=True)
    (mine / "set" / "manifest.json").touch()
    assert main(["report", str(tmp_path / "runs")]) == 2
    assert f"there are some in {mine}" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_students_of_an_earlier_set_are_not_shown(folder, tmp_path):
    assert gather(folder).sets[0].student["top1"] == [50.0, 60.0]
    path = shutil.copytree(folder, tmp_path / "run", symlinks=True)
    summary = json.loads((path / "summary.json").read_text())
    (path / "summary.json").write_text(json.dumps({**summary, "made_from": {"sets": ["0" * 64]}}))
    found = gather(path)
    assert not found.sets[0].student
    assert found.missing[0].startswith("distilled: no student is shown beside it")


def test_another_source_is_not_shown_as_the_origin(folder, photos_source, tmp_path):
    text = report([folder], tmp_path / "page.html", source=photos_source).read_text()
    assert "distilled from other images" in text
    assert json.loads(re.search(r'id="set0-data">(.*?)</script>', text)[1])["origins"] == []


@pytest.fixture
def photos_source(tmp_path):
    from PIL import Image

    from infoutil_jax.data.sources import open_source

    for name in ("a", "b"):
        (tmp_path / "other" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (8, 8), 9 * number).save(tmp_path / "other" / name / f"{number}.png")
    return open_source(f"folder:{tmp_path / 'other'}")


def test_bars_of_a_histogram_are_as_high_as_values_are_many():
    svg = str(charts.histogram([0.0, 0.0, 0.0, 1.0], "score", bins=2))
    assert "score: 4 values from 0 to 1, median 0" in svg
    heights = [float(h) for h in re.findall(r'class="bar"[^>]* height="([\d.]+)"', svg)]
    assert heights[1] == pytest.approx(heights[0] / 3, abs=0.1)


def test_the_error_beside_a_reliability_diagram_is_that_of_its_bins():
    """Of ten images at confidence 0.9, five right; of ten at 0.5, five right: (4 + 0) / 20."""
    svg = str(charts.reliability([[10, 5.0, 5], [10, 9.0, 5]]))
    assert "expected calibration error 0.200" in svg


def test_a_bin_without_images_has_no_bar():
    table = [(0, 0.0, 0), (4, 2.0, 3), (0, 0.0, 0)]
    assert charts.reliability(table).count('class="bar"') == 1


@pytest.mark.parametrize(
    ("shape", "mode"), [((300, 200, 3), "RGB"), ((300, 200, 13), "RGB"), ((200, 300, 2), "RGBA")]
)
def test_a_large_picture_is_shown_smaller(shape, mode):
    uri = data_uri(np.full(shape, 200, np.uint8), 90)
    kind, _, encoded = uri.partition(";base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert kind == "data:image/webp" and picture.mode == mode
    assert max(picture.size) == 90 and min(picture.size) == 60


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (recipes.random(), "drawn at random"),
        (recipes.rded(), "lowest loss of the teacher first"),
        (recipes.infoutil(), "those that teach a kernel student most are taken"),
    ],
)
def test_a_recipe_is_told_in_words(recipe, said):
    assert said in _chosen_by(provenance.describe(recipe))


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


def opened(browser, path, **how):
    """The page, with all that it said and asked for."""
    page, heard = browser.new_page(**how), []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda asked: heard.append(asked.url))
    page.goto(f"file://{path}")
    page.wait_for_load_state()
    asked_itself, *others = [line for line in heard if not line.startswith("data:")]
    assert asked_itself.endswith(path.name) and others == []
    return page


def test_an_image_is_explained_by_keyboard_and_by_pointer(browser, folder):
    page = opened(browser, report([folder]))
    detail, cards = page.locator("#detail"), page.locator(".card")
    assert not detail.is_visible()
    cards.nth(0).focus()
    first = detail.inner_text()
    assert "rank 1" in first and "converged teacher" in first and "Shapley value" in first
    page.keyboard.press("ArrowRight")
    assert "rank 2" in detail.inner_text()
    page.keyboard.press("Escape")
    assert not detail.is_visible()
    cards.nth(3).hover()
    assert "rank 2" in detail.inner_text() and detail.locator("h3").inner_text() == "1"


def test_images_are_filtered_and_sorted(browser, folder):
    page = opened(browser, report([folder]))
    assert page.locator("#count").inner_text() == "20 images"
    page.select_option("#class", "3")
    assert page.locator("#count").inner_text() == "2 of 20 images"
    page.select_option("#class", "")
    page.select_option("#sort", "own")
    own = page.locator(".cards").nth(0).locator(".card")
    values = [float(own.nth(i).get_attribute("data-own")) for i in range(2)]
    assert values == sorted(values)
    page.fill("#search", "no such file")
    assert page.locator("#count").inner_text() == "0 of 20 images"


@pytest.mark.parametrize(
    "how",
    [
        {"viewport": {"width": 1200, "height": 900}},
        {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"},
        {"viewport": {"width": 360, "height": 740}, "has_touch": True},
    ],
    ids=["desk", "dark", "phone"],
)
def test_the_page_is_accessible_everywhere(browser, folder, how):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(browser, report([folder]), **how)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.locator(".card").nth(0).focus()
    found = axe.run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_flag_stays_on_one_line_unless_it_is_longer_than_that(browser, folder, tmp_path):
    flags = "--student.seeds 0 1 2 3 4 5", f"--{'long-' * 20}option"
    told = replace(gather(folder), advice=f"More seeds tell ({flags[0]}), or so, as {flags[1]}.")
    (tmp_path / "page.html").write_text(page_of([told]))
    page = opened(browser, tmp_path / "page.html")
    shown = page.locator("strong code")
    assert shown.all_inner_texts() == list(flags)
    lines = "one => new Set([...one.getClientRects()].map(rect => rect.top)).size"
    for width in range(320, 420, 10):
        page.set_viewport_size({"width": width, "height": 740})
        assert shown.nth(0).evaluate(lines) == 1 < shown.nth(1).evaluate(lines)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_hostile_names_do_nothing(browser, hostile, tmp_path):
    page = opened(browser, report([hostile.path], tmp_path / "page.html"))
    page.locator(".card").nth(0).focus()
    assert HOSTILE[0] in page.locator("#detail").inner_text()
    assert page.evaluate("window.hit") is None
