"""A sheet of a few images, so that a person sees whether they are what was meant: a row a class, names at the left."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bncore.data.importing.arrays import ArrayFile
from bncore.data.importing.draft import Draft

_ROWS = 10
_IMAGES = 8
_CELL = 64
_GAP = 2
_NAME_WIDTH = 120
_NAME_CHARS = 18


def draw_contact_sheet(draft: Draft, path: Path) -> None:
    """A PNG of the first training images of the first classes; of a regression, of the first ones."""
    train = draft.parts["train"]
    rows = _rows(draft)
    width = _NAME_WIDTH + _IMAGES * (_CELL + _GAP) + _GAP
    sheet = Image.new("RGB", (width, len(rows) * (_CELL + _GAP) + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default_imagefont()
    for row, (name, places) in enumerate(rows):
        top = _GAP + row * (_CELL + _GAP)
        # The font that needs nothing else has Latin letters only.
        shown = name[:_NAME_CHARS].encode("latin-1", "replace").decode("latin-1")
        pen.text((_GAP + 2, top + _CELL // 2 - 6), shown, fill="black", font=font)
        for column, place in enumerate(places):
            sheet.paste(_cell(train.inputs, place), (_NAME_WIDTH + column * (_CELL + _GAP), top))
    sheet.save(path, format="PNG")


def _rows(draft: Draft) -> list[tuple[str, list[int]]]:
    train = draft.parts["train"]
    if draft.laid_out.task == "regression":
        return [("", list(range(min(_IMAGES, train.inputs.shape[0]))))]
    names = draft.labels.names[:_ROWS]
    found: list[list[int]] = [[] for _ in names]
    for start, targets in train.targets.pieces():
        for number, places in enumerate(found):
            here = np.flatnonzero(targets == number)[: _IMAGES - len(places)]
            places.extend(int(place) + start for place in here)
        if all(len(places) == _IMAGES for places in found):
            break
    return list(zip(names, found, strict=True))


def _cell(images: ArrayFile, place: int) -> Image.Image:
    pixels = images.rows(place, 1)[0]
    if len(pixels) == 3:
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    else:
        image = Image.fromarray(pixels[0]).convert("RGB")
    scale = _CELL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR)
