"""The rules of the house: small trees that keep them, and small trees that break one."""

import pytest

from tools.house import MOST_LINES, check

WIDE = "def wide(a, b, c, d, e, f, g, h, i):\n    pass\n"


def tree(root, files):
    """What is wrong with a package of these modules; two underscores in a name are a folder."""
    for name, text in files.items():
        place = root if name.startswith("tests__") else root / "infoutil_jax"
        file = place / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return check(root)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"method__a": "def f(a, b, c, d, e, f, g, h):\n    pass\n"}, None),
        ({"method__a": WIDE}, "method/a.py:1 wide takes 9 parameters; the most is 8"),
        (
            {"method__a": "class A:\n    def f(self, a, b, c, d, e, *, f, g, h):\n        pass\n"},
            None,
        ),
        (
            {"method__a": "class A:\n    def f(self, a, b, c, d, e, f, g, h, *, i): ...\n"},
            "method/a.py:2 A.f takes 9",
        ),
        (
            {"method__attribution": WIDE.replace("wide", "patch_shapley")},
            None,
        ),
        (
            {"method__attribution": "def patch_shapley(a):\n    pass\n"},
            "patch_shapley needs no exception",
        ),
        (
            {"method__a": "def f(a, b, c, d, e, f, g, *h, **i): ...\n"},
            "method/a.py:1 f takes 9",
        ),
        ({"method__a": "x = 1\n" * MOST_LINES}, None),
        (
            {"tests__image__test_a": "x = 1\n" * (MOST_LINES + 1)},
            "tests/image/test_a.py:351 has 351 lines",
        ),
        ({"method__a": "x = 1\n" * (MOST_LINES + 1)}, "has 351 lines; the most is 350"),
        ({"method__a": "from infoutil_jax.shapley import b\n", "shapley__b": ""}, None),
        (
            {"method__a": "from infoutil_jax.training import b\n", "training__b": ""},
            "method/a.py:1 method imports infoutil_jax.training.b, which is not below it",
        ),
        (
            {"method__a": "def f():\n    import infoutil_jax.app.cli\n", "app__cli": ""},
            "method/a.py:2 method imports infoutil_jax.app.cli",
        ),
        ({"method__a": "from infoutil_jax import distill\n"}, "method imports infoutil_jax,"),
        (
            {"gradients__a": "from infoutil_jax.image.grid import edges\n", "image__grid": ""},
            "gradients imports infoutil_jax.image.grid",
        ),
        ({"cellar__a": ""}, "cellar/a.py:1 lies in no known room"),
        (
            {
                "method__a": "from infoutil_jax.method import b\n",
                "method__b": "from infoutil_jax.method.a import f\n",
            },
            "imports itself: infoutil_jax.method.a → infoutil_jax.method.b → infoutil_jax.method.a",
        ),
        (
            {
                "method__a": "from infoutil_jax.method import b\n",
                "method__b": "def f():\n    from infoutil_jax.method.a import f\n",
            },
            None,
        ),
        ({"tests__image__test_a": "from infoutil_jax.image import b\n", "image__b": ""}, None),
        (
            {"tests__image__test_a": "from infoutil_jax.data import b\n", "data__b": ""},
            "tests/image/test_a.py:1 a test of image imports infoutil_jax.data.b",
        ),
        (
            {"tests__test_parallel": "from infoutil_jax.data import b\n", "data__b": ""},
            "tests/test_parallel.py:1 a test of parallel imports infoutil_jax.data.b",
        ),
        ({"tests__test_readme": "from infoutil_jax.data import b\n", "data__b": ""}, None),
    ],
)
def test_a_broken_rule_is_told_with_its_place(tmp_path, files, sentence):
    wrong = tree(tmp_path, files)
    if sentence is None:
        assert wrong == []
    else:
        assert len(wrong) == 1 and sentence in wrong[0]
