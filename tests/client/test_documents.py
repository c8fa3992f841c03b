"""Spec files: a number is a number, text is text, and what is wrong is named by pointer and line."""

import json
import math

import pytest

from bncore.spec import SpecError, load_spec
from client.documents import MAX_NODES, assign, patch_between, read_document


def read(text: str):
    return read_document(text, json=False).value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        ("-1.5E+2", -150.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("+7", 7),
        ("-.inf", -math.inf),
        ("true", True),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("none", "none"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2026-01-01", "2026-01-01"),
        ('"0.1"', "0.1"),
        ("'true'", "true"),
        ("!!str 5", "5"),
        ('!!int "7"', 7),
        ("=", "="),
        ("<<", "<<"),
    ],
)
def test_a_plain_scalar_is_what_yaml_1_2_says(text, value):
    found = read(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


def test_not_a_number_survives():
    assert math.isnan(read("a: .nan")["a"])


def test_keys_are_text_whatever_they_look_like():
    assert read("{1: a, true: b, ~: c, 0.5: d}") == {"1": "a", "true": "b", "~": "c", "0.5": "d"}


def test_a_learning_rate_without_a_point_is_accepted_by_the_spec():
    assert load_spec(read("optimizer: {kind: adam, lr: 1e-3}")).optimizer.lr == 0.001


def test_everything_in_json_reads_the_same_as_yaml():
    text = '{"a": [1, 2.5, "x", null, true, {"b": -1e-7}], "c": {}}'
    assert read(text) == json.loads(text) == read_document(text, json=True).value


@pytest.mark.parametrize("json_too", [True, False])
def test_a_repeated_key_is_refused_and_named(json_too):
    with pytest.raises(SpecError) as refused:
        read_document('{"train": {"steps": 1, "steps": 2}}', json=json_too)
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [("/train/steps", "repeated_key")]


def test_repeated_keys_name_both_lines():
    with pytest.raises(SpecError, match="lines 1 and 3"):
        read("name: a\ntags: {}\nname: b\n")


@pytest.mark.parametrize(
    ("text", "pointer", "code"),
    [
        ("a: [1", "", "not_yaml"),
        ("a: \t- 1", "", "not_yaml"),
        ("a: 1\n---\nb: 2", "", "not_yaml"),
        ("a: b\x00", "", "not_yaml"),
        ("a: *nowhere", "", "not_yaml"),
        ("a: &x [*x]", "", "too_deep"),
        ("[" * 1000, "", "too_deep"),
        ("a: {b: !!python/object/apply:os.system [ls]}", "/a/b", "yaml_tag"),
        ("a: !!int seven", "/a", "yaml_tag"),
        ("a: !secret 7", "/a", "yaml_tag"),
        ("a: !!binary aGk=", "/a", "yaml_tag"),
        ("? [1, 2]\n: 3", "", "yaml_key"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_pointer(text, pointer, code):
    with pytest.raises(SpecError) as refused:
        read(text)
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [(pointer, code)]


def test_aliases_of_aliases_do_not_fill_the_memory():
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(SpecError, match=f"{MAX_NODES:,}"):
        read("\n".join(lines))


def test_what_yaml_1_1_would_make_of_text_it_stays():
    words = ["yes", "no", "on", "y", "1_000", "1:30", "2026-01-01", "0b1"]
    assert read("\n".join(f"- {word}" for word in words)) == words
    # Names of arms, too.
    assert read("arms:\n  yes: {}\n  no: {}\n  1: {}\n  '<<': {}") == {"arms": {"yes": {}, "no": {}, "1": {}, "<<": {}}}
    assert read("- 1e-3\n- 010\n- .5\n- ~") == [0.001, 10, 0.5, None]


@pytest.mark.parametrize(
    ("text", "pointer", "code", "said"),
    [
        ("base: &b {lr: 0.1}\noptimizer:\n  <<: *b", "/optimizer/<<", "yaml_merge", "write out"),
        ("template:\n\ttrain: 1", "", "not_yaml", "use spaces, not tabs"),
        ("a: &a [*a]", "", "too_deep", "levels"),
        ("seeds: 2\nseeds: 3", "/seeds", "repeated_key", "lines 1 and 2"),
    ],
)
def test_what_is_probably_not_meant_is_refused_with_the_cure(text, pointer, code, said):
    with pytest.raises(SpecError) as refused:
        read(text)
    (fault,) = refused.value.faults
    assert (fault.pointer, fault.code) == (pointer, code)
    assert said in fault.detail


def test_an_alias_repeats_a_value():
    assert read("a: &norm {kind: none}\nb: *norm") == {"a": {"kind": "none"}, "b": {"kind": "none"}}


def test_a_pointer_leads_to_its_line_or_the_nearest_around_it():
    document = read_document("train:\n  steps: 5\nnetwork:\n  hidden:\n  - 10\n  - 20\n", json=False)
    lines = {pointer: document.line_of(pointer) for pointer in ("/train/steps", "/network/hidden/1", "/network/norm/x")}
    assert lines == {"/train/steps": 2, "/network/hidden/1": 6, "/network/norm/x": 3}


@pytest.mark.parametrize(
    ("before", "assignment", "after"),
    [
        (None, "optimizer.lr=1e-2", {"optimizer": {"lr": 0.01}}),
        ({"a": {"b": 1, "c": 2}}, "a.b=x", {"a": {"b": "x", "c": 2}}),
        ({"hidden": [1, 2]}, "hidden.1=7", {"hidden": [1, 7]}),
        ({}, "hidden=[3, 4]", {"hidden": [3, 4]}),
        ({}, "norm={kind: none}", {"norm": {"kind": "none"}}),
        ({"a": 1}, "a=", {"a": None}),
        ({}, "name=a=b", {"name": "a=b"}),
    ],
)
def test_an_assignment_sets_one_field(before, assignment, after):
    assert assign(before, assignment) == after


@pytest.mark.parametrize("assignment", ["lr", "=1", "a..b=1", "name.first=x", "hidden.2=1", "hidden.x=1", "a=[1"])
def test_an_assignment_that_cannot_be_made_says_why(assignment):
    with pytest.raises(ValueError, match=r"=|index|inside|not YAML"):
        assign({"name": "x", "hidden": [1, 2]}, assignment)


@pytest.mark.parametrize(
    ("after", "patch"),
    [
        ({"norm": {"kind": "a", "x": 1}, "steps": 2}, {}),
        ({"norm": {"kind": "b", "y": 2}, "steps": 2}, {"norm": {"kind": "b", "x": None, "y": 2}}),
        ({"norm": {"kind": "a", "x": 1}, "steps": None}, {"steps": None}),
        ({"norm": None, "hidden": [3], "steps": 3}, {"norm": None, "hidden": [3], "steps": 3}),
    ],
)
def test_a_patch_says_what_is_new_and_what_has_gone(after, patch):
    assert patch_between({"norm": {"kind": "a", "x": 1}, "steps": 2}, after) == patch


def test_a_name_with_a_dot_is_set_within_a_value() -> None:
    with pytest.raises(ValueError, match=r'a name with a dot belongs.*columns=\{"No\.": ignore\}'):
        assign({}, "columns.No.=ignore")
    assert assign({}, 'columns={"No.": ignore}') == {"columns": {"No.": "ignore"}}
