"""A folder of class folders, or of splits that hold them. On the host; opens no image."""

import os
from collections import Counter
from functools import partial
from pathlib import Path
from unicodedata import normalize

import numpy as np

from infoutil_jax.data import splits, walk
from infoutil_jax.data.examples import Examples, Listing, Stamp
from infoutil_jax.data.formats import suffixes
from infoutil_jax.data.splits import Unlabelled, Wish
from infoutil_jax.errors import InputError

Passed = Counter[str]
Classes = dict[str, list[walk.Found]]
"""What lies in the folders of each class: one folder, or two where its name is written twice."""


def list_folder(path: Path, wish: Wish) -> Listing:
    """Lists the class folders of `path`, or of those of its subfolders that are splits.

    Every image in a class folder or anywhere below it counts; links are followed. What else is
    there is passed over and counted in the notes. Names of classes are in Unicode form NFC, so that
    a name that macOS has written is the same as one of Linux.

    Raises:
        InputError: no class folder, one without images, one that cannot be read, a link that loops,
            or splits of different classes.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder; it should hold one subfolder of images a class")
    name, passed = path.resolve().name, Passed()
    folders = _subfolders(path, Passed())
    # A class may itself be called "train": only a folder of folders is a split.
    divided = [one for one in splits.usual(folders, splits.TRAIN) if _subfolders(path / one)]
    if wish == Wish() and not divided:
        _check_undivided(path, folders)
        classes, examples = _examples(path, path, _classes(path, path, passed), passed)
        return Listing(name, classes, examples, None, notes=_nested(examples, 1) + _notes(passed))
    _subfolders(path, passed)  # what lies beside the splits
    train_name = splits.choose_train(str(path), folders if wish.train else divided or folders, wish)
    classes, train = _examples(
        path, path / train_name, _classes(path, path / train_name, passed), passed
    )
    read = partial(_read_test, path, passed, train_name, classes)
    test_name, test, reasons = splits.choose_test(str(path), folders, train_name, wish, read)
    taken = (train_name, test_name)
    for other in set(folders) - set(taken) - reasons.keys():
        reasons[other] = _count(walk.below(path / other))
    nested = sum((_nested(part, 2) for part in (train, test) if part), ())
    notes = splits.not_taken(folders, taken, reasons) + nested + _notes(passed)
    return Listing(name, classes, train, test, taken, notes)


def _read_test(
    root: Path, passed: Passed, train: str, classes: tuple[str, ...], split: str
) -> Examples | Unlabelled:
    folders = _subfolders(root / split)
    if not folders:
        return f"{_count(walk.below(root / split))} without class folders"
    if len(folders) == 1 and normalize("NFC", folders[0]) not in classes:
        return f"its only folder, {folders[0]}, is none of the classes"
    seen = Passed()
    found = _classes(root, root / split, seen)
    if not any(one.images for several in found.values() for one in several):
        return "it holds no images"
    if lone := sorted(set(classes) ^ set(found)):
        where = train if lone[0] in classes else split
        raise InputError(
            f"{train}/ and {split}/ of {root} should hold the same classes, "
            f"but {lone[0]!r} is in {where}/ only"
        )
    _, examples = _examples(root, root / split, found, seen)
    passed.update(seen)
    return examples


def _check_undivided(path: Path, folders: list[str]) -> None:
    """Checks that the class folders of `path` are not splits, without classes or without train."""
    named = splits.usual(folders, splits.TRAIN + splits.TEST)
    if len(folders) > 1 and len(named) == len(folders):
        divided = [split for split in named if _subfolders(path / split)]
        if divided and not splits.usual(named, splits.TRAIN):
            splits.choose_train(str(path), divided, Wish())  # says that there is none
        raise InputError(
            f"{path / named[0]} holds no class subfolders; it should hold one a class, for "
            f"{', '.join(folders)} are names of splits"
        )


def _subfolders(path: Path, passed: Passed | None = None) -> list[str]:
    """Names of the folders in `path`, sorted; what else lies there is counted."""
    folders, passed = [], Passed() if passed is None else passed
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if kind := walk.is_passed(entry.name):
                    passed[kind] += 1
                elif _is_folder(entry):
                    folders.append(entry.name)
                elif entry.name.lower().endswith(suffixes()):
                    passed["outside of class folders"] += 1
                else:
                    passed[walk.kind_of(entry.name)] += 1
    except NotADirectoryError:
        return []
    except PermissionError as error:
        raise InputError(f"folder {path} cannot be read: {error.strerror}") from error
    return sorted(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise InputError(f"{entry.path} cannot be followed: {error.strerror}; remove it") from error


def _classes(root: Path, place: Path, passed: Passed) -> Classes:
    classes: Classes = {}
    above = walk.and_above(root) | walk.and_above(place)
    for folder in _subfolders(place, passed):
        found = walk.below(place / folder, above)
        if found.loops:
            raise InputError(
                f"{found.loops[0]} is a link that leads back to where it lies; remove it"
            )
        passed.update(found.passed)
        classes.setdefault(normalize("NFC", folder), []).append(found)
    return dict(sorted(classes.items()))


def _examples(
    root: Path, place: Path, classes: Classes, passed: Passed
) -> tuple[tuple[str, ...], Examples]:
    if not classes:
        raise InputError(f"{place} has no class subfolders; it should hold one a class")
    files: list[str] = []
    labels: list[int] = []
    for label, (name, several) in enumerate(classes.items()):
        images = sorted(image for found in several for image in found.images)
        if not images:
            there = walk.in_words(sum((found.passed for found in several), Passed()))
            raise InputError(
                f"class folder {place / name} has no images in it or below; it should hold files "
                "ending in .jpg, .png, .tif or another ending that Pillow reads"
                + (f" (passed over: {there})" if there else "")
            )
        files += images
        labels += [label] * len(images)
    ids = tuple(Path(file).relative_to(root).as_posix() for file in files)
    read, stamps = partial(_read_file, files), tuple(map(_stamp, files))
    return tuple(classes), Examples(ids, np.array(labels, np.int32), read, stamps)


def _nested(examples: Examples, depth: int) -> tuple[str, ...]:
    """The note of the images that lie in folders below their class folder, as masks may do."""
    paths = [name.split("/")[depth:] for name in examples.ids]
    folders = Counter(path[0] for path in paths if len(path) > 1)
    if not folders:
        return ()
    most = ", ".join(f"{name} ({count})" for name, count in folders.most_common(3))
    more = f" and {len(folders) - 3} more" if len(folders) > 3 else ""
    return (f"{folders.total()} images lie deeper than their class folder, in {most}{more}",)


def _count(found: walk.Found) -> str:
    return f"{len(found.images)} image{'s' if len(found.images) != 1 else ''}"


def _notes(passed: Passed) -> tuple[str, ...]:
    return (f"passed over: {walk.in_words(passed)}",) if passed else ()


def _stamp(file: str) -> Stamp:
    try:
        status = Path(file).stat()
    except OSError:  # reading it will tell
        return Stamp(-1, -1, -1)
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _read_file(files: list[str], index: int) -> bytes:
    return Path(files[index]).read_bytes()
