"""Images by Pillow: measured before anything is decoded, and decoded one by one.

What an image says of its size is compared with a limit first; a picture of 10^9 pixels costs nothing.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds
from bncore.data.importing.streams import reading

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".pnm", ".tif", ".tiff", ".webp")
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"P4", b"P5", b"P6")
_GRAY = {"1", "L", "LA"}
_COLOUR = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
_TRANSPARENT = {"LA", "PA", "RGBA"}
_TIFF = (b"II*\0", b"MM\0*")
_TURN = Image.Transpose
_TURNS = {
    2: _TURN.FLIP_LEFT_RIGHT,
    3: _TURN.ROTATE_180,
    4: _TURN.FLIP_TOP_BOTTOM,
    5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_270,
    7: _TURN.TRANSVERSE,
    8: _TURN.ROTATE_90,
}
"""What has to be done for an image to be as it was seen, by the orientation that EXIF says; of 1, nothing."""
_ON_ITS_SIDE = (5, 6, 7, 8)


@dataclass(frozen=True)
class Measured:
    """Height and width of an image as it is seen, channels, 1 or 3, whether it says where it is transparent, and
    whether it is stored otherwise than it is seen."""

    height: int
    width: int
    channels: int
    transparent: bool
    turned: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


def is_image(head: bytes) -> bool:
    """Whether these first bytes are those of an image."""
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def measure(data: bytes, what: str) -> Measured:
    """What an image says of itself. Raises `InvalidData` for what is none, is too large, or has more than 8 bits."""
    with _opened(data, what) as image:
        width, height = image.size
        if width * height > bounds.PIXELS:
            raise InvalidData(f"{what} has {width} x {height} pixels; at most {bounds.PIXELS:,} are taken")
        if image.mode not in _GRAY | _COLOUR:
            raise InvalidData(f"{what} has pixels of the mode {image.mode}; save it with 8 bits a channel")
        if _is_deep(image):
            raise InvalidData(f"{what} has more than 8 bits a channel; save it with 8 bits a channel")
        transparent = image.mode in _TRANSPARENT or "transparency" in image.info
        turn = _orientation(image)
        height, width = (width, height) if turn in _ON_ITS_SIDE else (height, width)
        return Measured(height, width, 1 if image.mode in _GRAY else 3, transparent, turn in _TURNS)


def decode(data: bytes, what: str, channels: int, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Pixels (channels, H, W) of an image that has been measured, resized where `size` (H, W) is another."""
    with _opened(data, what) as image:
        turn = _TURNS.get(_orientation(image))
        # Palettes first become colours: luma of a palette's numbers means nothing.
        flat = image if image.mode in ("L", "RGB") else image.convert("L" if image.mode in _GRAY else "RGB")
        flat = flat if channels == len(flat.getbands()) else flat.convert("L" if channels == 1 else "RGB")
        return _pixels(flat if turn is None else flat.transpose(turn), size)


def resized(pixels: NDArray[np.uint8], size: tuple[int, int], grayscale: bool) -> NDArray[np.uint8]:
    """Images (n, C, H, W) at another height and width, channel by channel; in one channel where that is asked."""
    rows = [_again(image, size, grayscale) for image in pixels]
    return np.stack(rows)


def turned_note(count: int) -> str:
    """What a report says of images that are not stored as they are seen."""
    return f"{count} images were turned or mirrored, as their EXIF says."


@contextmanager
def _opened(data: bytes, what: str) -> Iterator[ImageFile]:
    with warnings.catch_warnings(), reading(what):
        # Some of Pillow's limits only warn.
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)
        if not data.startswith(_TIFF):
            # Of EXIF and transparency, which may be damaged; of a TIFF the same may be said of where its pixels are.
            warnings.simplefilter("ignore", UserWarning)
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise InvalidData(f"{what} has more pixels than any image; at most {bounds.PIXELS:,} are taken") from None
        with image:
            yield image


def _orientation(image: ImageFile) -> int:
    """How it lies, 1 to 8, as its EXIF says; 1 where that says nothing, or nothing that can be read."""
    # TIFF is turned by Pillow. Where EXIF comes behind the pixels, as in some PNG, these would have to be read first.
    if isinstance(image, TiffImageFile) or "exif" not in image.info:
        return 1
    with contextlib.suppress(Exception):
        said = image.getexif().get(ExifTags.Base.Orientation, 1)
        return said if said in _TURNS else 1
    return 1


def _is_deep(image: ImageFile) -> bool:
    """Whether a channel has more than 8 bits in the file: of coloured images, Pillow drops the others unsaid."""
    if isinstance(image, TiffImageFile):
        return any(bits > 8 for bits in image.tag_v2.get(BITSPERSAMPLE, ()))
    said = [tile.args for tile in image.tile]
    if image.format == "PNG":
        return any(str(mode).endswith(";16B") for mode in said)
    # Of the portable formats, the greatest number there may be; left out where it is 255.
    return image.format == "PPM" and any(isinstance(args, tuple) and int(args[1]) > 255 for args in said)


def _pixels(image: Image.Image, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    if size is not None and (image.height, image.width) != size:
        # Pillow's bilinear filter widens with the scale, so that nothing aliases.
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels: NDArray[np.uint8] = np.asarray(image, dtype=np.uint8)
    return pixels[np.newaxis] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _again(image: NDArray[np.uint8], size: tuple[int, int], grayscale: bool) -> NDArray[np.uint8]:
    if len(image) == 3:
        colours = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        return _pixels(colours.convert("L") if grayscale else colours, size)
    channels: list[NDArray[Any]] = [_pixels(Image.fromarray(channel), size)[0] for channel in image]
    return np.stack(channels)
