"""Results as lines: nothing is lost, nothing is half there, and diffs are small."""

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from experiments import held_out, rded_parity, report, store
from experiments.store import Key
from infoutil_jax.errors import InputError


def result(row, budget=10, set_seed=0, **more):
    cell = {"row": {"name": row}, "images_per_class": budget}
    return {"z": 0.1 + 0.2, "cell": cell, "arguments": {"set_seed": set_seed}, **more}


def test_a_result_is_read_as_it_was_added(tmp_path):
    one, all_images = result("rded", a=[None, "±", 1e-300]), result("everything", 0)
    store.add_cell(tmp_path, one)
    store.add_cell(tmp_path, all_images)
    assert store.cells(tmp_path) == {Key("everything", 0): all_images, Key("rded", 10): one}
    assert (tmp_path / "ipc10.jsonl").read_text().count("\n") == 1
    assert (tmp_path / "everything.jsonl").exists()


def test_a_setting_has_the_cells_that_were_added(tmp_path):
    assert store.cells(tmp_path / "nowhere") == {}
    store.add_cell(tmp_path, result("rded", set_seed=1))
    assert store.has(tmp_path, Key("rded", 10, 1))
    assert not store.has(tmp_path, Key("rded", 10)) and not store.has(tmp_path, Key("rded", 1, 1))


def test_lines_are_sorted_whatever_the_order_of_adding(tmp_path):
    ordered = [result("a", set_seed=0), result("a", set_seed=2), result("a", set_seed=10)]
    ordered += [result("a-hard"), result("b")]
    for folder, results in (("one", ordered), ("other", ordered[::-1])):
        for each in results:
            store.add_cell(tmp_path / folder, each)
    one, other = (tmp_path / folder / "ipc10.jsonl" for folder in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    assert [json.loads(line) for line in one.read_text().splitlines()] == ordered


def test_another_result_is_one_more_line_and_changes_no_other(tmp_path):
    for row in "ac":
        store.add_cell(tmp_path, result(row))
    before = (tmp_path / "ipc10.jsonl").read_text().splitlines()
    store.add_cell(tmp_path, result("b"))
    after = (tmp_path / "ipc10.jsonl").read_text().splitlines()
    assert [after[0], after[2]] == before and json.loads(after[1]) == result("b")


def test_what_a_killed_process_leaves_is_harmless(tmp_path):
    store.add_cell(tmp_path, result("a"))
    (tmp_path / "ipc10.part").write_text('{"cell": {"row"')
    (tmp_path / "ipc10.lock").write_text("")
    assert list(store.cells(tmp_path)) == [Key("a", 10)]
    store.add_cell(tmp_path, result("b"))
    assert list(store.cells(tmp_path)) == [Key("a", 10), Key("b", 10)]
    assert not (tmp_path / "ipc10.part").exists()


def test_a_result_that_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    store.add_cell(tmp_path, result("a"))
    before = (tmp_path / "ipc10.jsonl").read_bytes()
    with pytest.raises(TypeError):
        store.add_cell(tmp_path, result("b", what={1, 2}))
    assert (tmp_path / "ipc10.jsonl").read_bytes() == before


def _add_twenty(folder: Path, row: str) -> None:
    for set_seed in range(20):
        store.add_cell(folder, result(row, set_seed=set_seed))


def test_processes_that_add_at_once_lose_nothing(tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(_add_twenty, [tmp_path] * 2, ["a", "b"]))
    assert list(store.cells(tmp_path)) == [Key(row, 10, s) for row in "ab" for s in range(20)]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"cell": {"row"', r"ipc10\.jsonl, line 2 is damaged \(JSONDecodeError"),
        ("", r"line 2 is damaged"),
        ("[]", r"line 2 is damaged"),
        ('{"cell": {"row": {}}}', r"line 2 is damaged \(KeyError: 'name'\)"),
        (json.dumps(result("a")), r"line 2 has the same key as an earlier line, a-ipc10"),
    ],
)
def test_a_damaged_line_is_told(tmp_path, line, sentence):
    store.add_cell(tmp_path, result("a"))
    with (tmp_path / "ipc10.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=sentence):
        store.cells(tmp_path)


@pytest.mark.parametrize("results", [report.RESULTS, held_out.RESULTS], ids=lambda path: path.name)
def test_committed_files_are_small_and_as_the_store_writes_them(results):
    files = [file for name in report.settings(results) for file in (results / name).iterdir()]
    files = [file for file in files if file.suffix == ".jsonl"]
    assert files
    for file in files:
        assert file.stat().st_size < 2**20
        found = store.read(file, Key.of)
        assert list(found) == sorted(found) and {key.file for key in found} == {file.name}
        lines = [json.dumps(one, separators=(",", ":")) for one in found.values()]
        assert file.read_text().splitlines() == lines


def test_the_figures_of_rded_under_its_own_teacher_are_the_committed_ones():
    found = store.read(rded_parity.RESULTS, rded_parity.budget_and_set)
    readme = " ".join((report.HERE / "README.md").read_text().split())
    for budget, sets in ((1, "five"), (10, "three")):
        top1 = [one["top1_best"][0] for (of, _), one in found.items() if of == budget]
        assert f"{np.mean(top1):.1f} ± {np.std(top1, ddof=1):.1f} over {sets}" in readme
