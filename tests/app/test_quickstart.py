"""The quickstart: every row, every figure, one picture."""

import json

from infoutil_jax.app.quickstart import quickstart
from infoutil_jax.data.distilled import DistilledDataset


def test_quickstart_at_small_settings(tmp_path, monkeypatch):
    monkeypatch.setattr("infoutil_jax.app.quickstart.WIDTH", 16)
    said = []
    rows = quickstart(
        tmp_path,
        budgets=(2,),
        seeds=(0, 1),
        student_epochs=5,
        teacher_epochs=3,
        pool=10,
        progress=False,
        say=said.append,
    )
    assert list(rows) == [
        "infoutil",
        "infoutil_paper",
        "rded",
        "random",
        "infoutil, hard labels",
        "infoutil_paper, hard labels",
        "rded, hard labels",
        "random, hard labels",
        "all 1438 images",
    ]
    assert all(len(row[2]) == 2 for row in rows.values())
    assert rows["all 1438 images"][2][0] > 50
    assert any("| random, hard labels" in text for text in said)
    assert (tmp_path / "overview.png").stat().st_size > 10_000
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["top1"]["rded"]["2"] == rows["rded"][2]
    for name in ("infoutil", "infoutil_paper", "rded", "random"):
        made = DistilledDataset.load(tmp_path / f"{name}-2")
        made.verify()
        assert len(made) == 20
