"""Which files are images: those that Pillow reads by itself, and arrays. On the host."""

from functools import cache

from PIL import Image, ImageFile

ARRAYS = (".npy",)
# Pages, films and what Pillow identifies but does not decode by itself.
_NO_IMAGES = ("EPS", "MPEG", "IPTC")


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that it reads by itself, in the order that it tries them."""
    Image.init()
    stub = ImageFile.StubImageFile
    stubs = [one for one in Image.ID if stub in getattr(Image.OPEN[one][0], "__mro__", ())]
    return tuple(one for one in Image.ID if one not in (*_NO_IMAGES, *stubs))


@cache
def suffixes() -> tuple[str, ...]:
    """Endings of files that are images, in lower case."""
    known = (*formats(), "MPO")  # JPEG's reader opens these, too
    found = [end for end, name in Image.registered_extensions().items() if name in known]
    return (*sorted(found), *ARRAYS)
