"""Which figures there are of an experiment, a sweep or a study."""

from pydantic import Field

from api.shown import Shown
from bncore.figures import Drawable
from bncore.figures.studies import StudyFigure
from bncore.figures.sweeps import SweepFigure


class FigureLinks(Shown):
    """Addresses on this server, without its name."""

    json_: str = Field(alias="json", description="The Vega-Lite document, with its data.")
    html: str = Field(description="A page that needs nothing else.")
    svg: str
    png: str


class ShownFigure(Shown):
    name: str
    title: str
    summary: str
    links: FigureLinks

    @classmethod
    def of(cls, figure: Drawable | SweepFigure | StudyFigure, owner: str) -> "ShownFigure":
        """`owner` is the path of what it is a figure of."""
        base = f"{owner}/figures/{figure.name}"
        links = FigureLinks(json_=f"{base}.json", html=f"{base}.html", svg=f"{base}.svg", png=f"{base}.png")
        return cls(name=figure.name, title=figure.title, summary=figure.summary, links=links)


class Figures(Shown):
    data: list[ShownFigure]
