"""`docs/networks.md` knows every network and field, and its examples are valid."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from bncore.spec import NetworkSpec, SpecError, load_spec, members
from bncore.spec.data import DataSpec
from bncore.spec.network.elements import AnyElement
from bncore.spec.network.layered import HiddenLayers
from bncore.spec.network.sequences import SequenceSpec

PAGE = (Path(__file__).parents[3] / "docs" / "networks.md").read_text()
OF_SEQUENCES = (Path(__file__).parents[3] / "docs" / "networks_sequences.md").read_text()
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


KINDS_OF_DATA = [member.model_fields["kind"].default for member in members(DataSpec)]


def fits(network: dict[str, Any], data: str) -> bool:
    """Whether the network can be submitted with these data, all else left out."""
    try:
        load_spec({"network": network, "data": {"kind": data}})
    except SpecError:
        return False
    return True


@pytest.mark.parametrize(
    "member",
    [member for member in members(NetworkSpec) if issubclass(member, HiddenLayers)],
    ids=lambda member: member.__name__,
)
def test_a_network_has_a_section_with_a_valid_example_and_every_field(member: type[HiddenLayers]) -> None:
    kind = member.model_fields["kind"].default
    assert f"| [`{kind}`](#{kind}) |" in PAGE
    section = SECTIONS[kind]
    examples = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    assert examples
    for example in examples:
        assert isinstance(TypeAdapter(NetworkSpec).validate_python(json.loads(example)), member)
        assert any(fits(json.loads(example), data) for data in KINDS_OF_DATA), example
    shared = PAGE.partition("## What all of them take")[2].partition("\n## ")[0]
    common = (*HiddenLayers.model_fields, "placement")
    for field in member.model_fields.keys() - {"kind"}:
        assert f"`{field}`" in (shared if field in common else section), field


@pytest.mark.parametrize(
    "member",
    [member for member in members(NetworkSpec) if issubclass(member, SequenceSpec)],
    ids=lambda member: member.__name__,
)
def test_a_network_of_sequences_is_listed_and_every_field_of_it_is_in_its_page(member: type[SequenceSpec]) -> None:
    assert f"| [`{member.model_fields['kind'].default}`](networks_sequences.md" in PAGE
    assert all(f"`{field}`" in OF_SEQUENCES for field in member.model_fields if field != "kind")
    assert all(f"`{position}`" in OF_SEQUENCES for position in member.norm_order)


def test_every_example_in_the_page_of_sequences_is_valid() -> None:
    examples = re.findall(r"```json\n(.*?)```", OF_SEQUENCES, re.DOTALL)
    assert len(examples) >= 4
    for example in examples:
        load_spec(json.loads(example))


def test_the_programs_in_the_page_of_sequences_say_what_they_print(capsys: pytest.CaptureFixture[str]) -> None:
    programs = re.findall(r"```python\n(.*?)```", OF_SEQUENCES, re.DOTALL)
    assert len(programs) == 2
    for program in programs:
        exec(compile(program, "docs/networks_sequences.md", "exec"), {})
        assert capsys.readouterr().out.split() == re.findall(r"^print\(.*\)  # (.*)$", program, re.MULTILINE)


def test_every_element_of_a_list_is_in_the_page() -> None:
    for element in members(AnyElement):
        kind = element.model_fields["kind"].default
        [row] = re.findall(rf"^\| (?:`\w+`, )*`{kind}`(?:, `\w+`)* \|.*$", SECTIONS["layers"], re.MULTILINE)
        assert all(f"`{field}`" in row for field in element.model_fields if field != "kind")
