"""What is transparent is blended on a background, or kept as a channel; it never vanishes."""

import numpy as np
import pytest
from PIL import Image

from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError


def disc(colour=(0, 0, 0)):
    """A disc of one colour with a soft edge, and nothing but transparency around it."""
    rows, columns = np.mgrid[:32, :32] - 15.5
    alpha = np.clip(10 - np.hypot(rows, columns), 0, 1) * 255
    pixels = np.empty((32, 32, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = colour, np.round(alpha)
    return pixels


def blended(pixels, background):
    share = pixels[..., 3:] / 255
    return pixels[..., :3] * share + np.array(background) * (1 - share)


@pytest.mark.parametrize(
    ("background", "colour"),
    [
        (None, (255, 255, 255)),
        ("black", (0, 0, 0)),
        ("#336699", (51, 102, 153)),
        ("10,20,30", (10, 20, 30)),
        ((10, 20, 30), (10, 20, 30)),
    ],
)
def test_alpha_is_blended_on_the_background(place, pixels_of, background, colour):
    pixels = disc((200, 30, 90))
    options = {"background": background} if background else {}
    source = open_source(place([pixels] * 4), **options)
    assert source.channels == 3
    difference = pixels_of(source)[0] - blended(pixels, colour)
    assert np.abs(difference).max() <= 1
    (note,) = [note for note in source.notes if "alpha" in note]
    name = "white" if background is None else str(colour)
    assert f"4 of 4 images have alpha and are blended on {name.split('(')[0]}" in note


def test_a_black_shape_on_nothing_is_seen(place, pixels_of):
    for channels in (None, 1):
        image = pixels_of(open_source(place([disc()] * 4), channels=channels))[0]
        assert image[0, 0].tolist() == [255] * image.shape[2]
        assert image[16, 16].tolist() == [0] * image.shape[2]


def test_a_white_shape_that_vanishes_on_white_is_said(place):
    spec = place([disc((255, 255, 255)), disc()] * 2)
    (note,) = [note for note in open_source(spec).notes if "alpha" in note]
    assert "; 2 of them are of one colour then" in note
    (note,) = [note for note in open_source(spec, background="grey").notes if "alpha" in note]
    assert "one colour" not in note


def test_a_grey_image_with_alpha_is_blended_to_grey(place, pixels_of):
    pixels = disc((40, 40, 40))[..., 2:].copy()
    source = open_source(place([Image.fromarray(pixels)] * 4))
    assert source.channels == 1
    expected = pixels[..., :1] * (pixels[..., 1:] / 255) + 255 - pixels[..., 1:]
    assert np.abs(pixels_of(source)[0] - expected).max() <= 1


def test_alpha_that_is_asked_for_is_a_channel(place, pixels_of):
    spec = place([disc((200, 30, 90))] * 4)
    np.testing.assert_array_equal(pixels_of(open_source(spec, channels=4))[0], disc((200, 30, 90)))
    two = pixels_of(open_source(spec, channels=2))[0]
    np.testing.assert_array_equal(two[..., 1], disc()[..., 3])
    assert not [note for note in open_source(spec, channels=4).notes if "alpha" in note]


def test_an_image_without_alpha_is_opaque_among_images_that_have_some(place, pixels_of):
    source = open_source(place([disc(), disc()[..., :3]] * 2), channels=4)
    assert (pixels_of(source)[1][..., 3] == 255).all()


def test_what_is_opaque_keeps_its_pixels(place, pixels_of, folder):
    photo = np.asarray(Image.open(folder / "cat/0000.jpg"))
    opaque = np.dstack([photo, np.full((32, 32), 255, np.uint8)])
    half = opaque.copy()
    half[:16, :, 3] = 0
    found = pixels_of(open_source(place([opaque, half] * 2), background="red"))
    np.testing.assert_array_equal(found[0], photo)
    np.testing.assert_array_equal(found[1][16:], photo[16:])
    assert (found[1][:16] == (255, 0, 0)).all()


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_a_transparent_colour_is_transparent(place, pixels_of, mode):
    shape = Image.fromarray(np.where(disc()[..., 3] > 0, 200, 7).astype(np.uint8))
    image = shape.convert(mode) if mode != "P" else shape.quantize(2)
    corner = image.getpixel((0, 0))
    source = open_source(place([image] * 4, transparency=corner), background="black")
    found = pixels_of(source)[0]
    assert not found[0, 0].any() and (found[16, 16] == 200).all()
    kept = open_source(place([image] * 4, transparency=corner), channels=4)
    np.testing.assert_array_equal(pixels_of(kept)[0][..., 3] == 0, disc()[..., 3] == 0)


def test_the_background_is_part_of_the_fingerprint_where_it_is_seen(place, folder):
    spec = place([disc()] * 4)
    white, black = (open_source(spec, background=one) for one in ("white", "black"))
    assert white.fingerprint() != black.fingerprint()
    kept = [open_source(spec, channels=4, background=one) for one in ("white", "black")]
    assert kept[0].fingerprint() == kept[1].fingerprint()
    opaque = [open_source(f"folder:{folder}", background=one) for one in ("white", "black")]
    assert opaque[0].fingerprint() == opaque[1].fingerprint()


@pytest.mark.parametrize("background", ["nocolour", "1,2", "1,2,300", (1, 2, -3), "#11223344"])
def test_a_background_that_is_none_is_told(folder, background):
    with pytest.raises(InputError, match=r"background is .*255,255,255"):
        open_source(f"folder:{folder}", background=background)


@pytest.mark.parametrize("ending", ["gif", "apng", "tif", "webp"])
def test_of_several_frames_the_first_is_taken(place, pixels_of, ending):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    more = {"lossless": True} if ending == "webp" else {}
    spec = place(frames[:1] * 4, ending, save_all=True, append_images=frames[1:], **more)
    source = open_source(spec)
    assert all((image == (255, 0, 0)).all() for image in pixels_of(source).values())
    assert "4 of 4 images have several frames; the first one is taken" in source.notes
