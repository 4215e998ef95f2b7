"""TensorFlow datasets that are prepared already, read without TensorFlow. NumPy on the host."""

import json
import math
import re
import shlex
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from infoutil_jax.data.examples import Examples, Listing
from infoutil_jax.data.splits import (
    Unlabelled,
    Wish,
    check_labels,
    choose_test,
    choose_train,
    not_taken,
)
from infoutil_jax.errors import InputError


def list_tfds(name: str, data_dir: str | None, wish: Wish) -> Listing:
    """Lists a prepared TensorFlow dataset, through `tfds.data_source`, without TensorFlow.

    `data_dir` None means TFDS's own default: the variable TFDS_DATA_DIR, or ~/tensorflow_datasets.
    Labels and class names keep the dataset's own order. A wish may be a part of a split or several,
    as TFDS writes them: "train[:80%]", "train+validation".
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(
            "reading tfds: sources needs tensorflow-datasets: pip install 'infoutil-jax[tfds]'"
        ) from error
    try:
        builder = tfds.builder(name, **({"data_dir": data_dir} if data_dir else {}))
    except (ValueError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"tfds:{name} is neither prepared nor known to tensorflow-datasets ({reason})"
        ) from error
    image, label = _supervised_keys(tfds, name, builder.info)
    skip = {
        key: tfds.decode.SkipDecoding()
        for key, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    class_names = tuple(normalize("NFC", one) for one in builder.info.features[label].names)
    where = f"tfds:{name}"

    def examples(split: str) -> Examples | Unlabelled:
        try:
            source = builder.as_data_source(split=split, decoders=skip)
        except ValueError as error:  # a part that is none, as "train[x]"
            raise InputError(f"{where} has no split {split!r}: {error}".split("\n")[0]) from error
        labels = np.array([source[i][label] for i in range(len(source))], np.int64)
        if unlabelled := check_labels(where, split, labels, len(class_names)):
            return unlabelled
        ids = tuple(f"{split}/{i:07d}" for i in range(len(source)))
        return Examples(ids, labels.astype(np.int32), lambda i: source[i][image])

    def overlap(a: str, b: str) -> bool:
        """Whether two splits, or parts of some, hold an example in common."""
        spans, others = (
            tfds.core.ReadInstruction.from_spec(one).to_absolute(builder.info.splits)
            for one in (a, b)
        )
        return any(
            one.splitname == two.splitname
            and max(one.from_ or 0, two.from_ or 0) < min(_end(one), _end(two))
            for one in spans
            for two in others
        )

    names = list(builder.info.splits)
    if not names:
        raise InputError(
            f"tfds:{name} is not prepared in {builder.data_dir}; where TensorFlow is installed, "
            f"this prepares it: {_prepare_command(name, data_dir)}"
        )
    parts = [one for one in (wish.train, wish.test) if one and set(_parts(one)) <= set(names)]
    train_name = choose_train(where, names + parts, wish)
    try:
        train = examples(train_name)
        if isinstance(train, Unlabelled):
            raise InputError(f"split {train_name} of {where} cannot be trained on: {train}")
        test_name, test, reasons = choose_test(
            where, names + parts, train_name, wish, examples, overlap
        )
    except NotImplementedError as error:  # TFDS's word for a format without random access
        other = str(Path(data_dir or tfds.core.constants.DATA_DIR) / "array_record")
        raise InputError(
            f"tfds:{name} in {builder.data_dir} is stored in a format without random access; "
            f"this prepares it anew beside it, for data_dir={other!r}: "
            f"{_prepare_command(name, other)}"
        ) from error
    splits = (train_name, test_name)
    notes = not_taken(names, _parts("+".join(splits)), reasons)
    return Listing(builder.info.full_name, class_names, train, test, splits, notes)


def _end(part: Any) -> float:
    """After the last example of a part."""
    return math.inf if part.to is None else float(part.to)


def _parts(split: str) -> list[str]:
    """The splits that one is made of: "train[:80%]+dev" is made of train and dev."""
    return re.sub(r"\[[^\]]*\]", "", split).split("+")


def _prepare_command(name: str, data_dir: str | None) -> str:
    where = f", data_dir={json.dumps(data_dir)}" if data_dir else ""
    return "python -c " + shlex.quote(
        "import tensorflow_datasets as tfds; "
        f'tfds.builder("{name}"{where}, file_format="array_record").download_and_prepare()'
    )


def _supervised_keys(tfds: Any, name: str, info: Any) -> tuple[str, str]:
    """Finds the names of the one image and the one label of a TFDS example."""
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    found = []
    for kind, feature in kinds.items():
        keys = [k for k, f in info.features.items() if isinstance(f, feature)]
        keys = [k for k in keys if k in (info.supervised_keys or ())] or keys
        if len(keys) != 1:
            raise InputError(
                f"tfds:{name} should have one {kind} feature an example, but has "
                f"{len(keys)} among {sorted(info.features)}"
            )
        found.append(keys[0])
    image = info.features[found[0]]
    if image.np_dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"tfds:{name} stores images as {np.dtype(image.np_dtype)}; uint8 or uint16 would do"
        )
    return found[0], found[1]
