"""Figures of results, described once as Vega-Lite documents with their data; torch-free.

Pure functions: results and recordings in, documents out, which a browser, a notebook or `bncore.figures.drawing` draws.

>>> document = bncore.figures.draw("curves", {"exp_1": Result(spec, {"train/loss": (steps, values)}, {})})
"""

from bncore.figures.document import Figure
from bncore.figures.registry import FIGURES, Drawable, allowed, draw, of
from bncore.figures.results import FigureRefused, Options, Result, Results

__all__ = ["FIGURES", "Drawable", "Figure", "FigureRefused", "Options", "Result", "Results", "allowed", "draw", "of"]
