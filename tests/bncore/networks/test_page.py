"""`docs/networks.md` knows every network of images and field, and its examples are valid."""

import json
import re
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from bncore.spec import NetworkSpec, members
from bncore.spec.network.elements import AnyElement
from bncore.spec.network.layered import HiddenLayers

PAGE = (Path(__file__).parents[3] / "docs" / "networks.md").read_text()
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


MEMBERS = [member for member in members(NetworkSpec) if issubclass(member, HiddenLayers)]


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.__name__)
def test_a_network_has_a_section_with_a_valid_example_and_every_field(member: type[HiddenLayers]) -> None:
    kind = member.model_fields["kind"].default
    assert f"| [`{kind}`](#{kind}) |" in PAGE
    section = SECTIONS[kind]
    examples = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    assert examples
    for example in examples:
        assert isinstance(TypeAdapter(NetworkSpec).validate_python(json.loads(example)), member)
    shared = PAGE.partition("## What networks of images and vectors take")[2].partition("\n## ")[0]
    common = (*HiddenLayers.model_fields, "placement")
    for field in member.model_fields.keys() - {"kind"}:
        assert f"`{field}`" in (shared if field in common else section), field


def test_every_element_of_a_list_is_in_the_page() -> None:
    for element in members(AnyElement):
        kind = element.model_fields["kind"].default
        [row] = re.findall(rf"^\| (?:`\w+`, )*`{kind}`(?:, `\w+`)* \|.*$", SECTIONS["layers"], re.MULTILINE)
        assert all(f"`{field}`" in row for field in element.model_fields if field != "kind")
