"""Reading a spec: what is refused, and where the pointer points."""

import json
import sys
from collections.abc import Callable

import pytest

from bncore.spec import ExperimentSpec, SpecError, load_spec, parse_json
from tests.network_specs import KINDS, NORMS, small_spec

DESIGN_EXAMPLE = {
    "name": "digits-brn",
    "tags": {"paper": "1702.03275"},
    "data": {"kind": "digits"},
    "network": {
        "kind": "mlp",
        "hidden": [100, 100, 100],
        "activation": "sigmoid",
        "norm": {"kind": "batch_renorm", "r_max": 3.0, "d_max": 5.0, "momentum": 0.01},
        "placement": "before_activation",
        "normalize_input": False,
        "init": {"kind": "normal", "std": 0.1},
        "dropout": 0.0,
    },
    "optimizer": {"kind": "sgd", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0},
    "schedule": {"kind": "constant"},
    "train": {"steps": 2000, "batch_size": 60, "seed": 0, "precision": "fp32", "target": None},
    "evaluation": {"every_steps": 100},
    "checkpoint": {"every_steps": 500},
    "resources": {"device": "auto", "threads": 1},
    "max_restarts": 3,
    "deadline_seconds": None,
}


def faults(body: str | bytes) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        load_spec(parse_json(body))
    return [(fault.pointer, fault.code) for fault in caught.value.faults]


def test_the_example_of_the_design_is_accepted() -> None:
    spec = load_spec(parse_json(json.dumps(DESIGN_EXAMPLE)))
    assert spec.network.kind == "mlp"
    assert spec.train.steps == 2000
    assert spec.train.epochs is None


@pytest.mark.parametrize("body", ["{}", json.dumps(DESIGN_EXAMPLE), '{"network": {"kind": "cnn"}}'])
def test_what_comes_back_is_complete_and_can_be_sent_again(body: str) -> None:
    spec = load_spec(parse_json(body))
    again = load_spec(parse_json(spec.canonical_json()))
    assert again == spec
    assert again.fingerprint() == spec.fingerprint()
    assert set(json.loads(spec.canonical_json())) == set(ExperimentSpec.model_fields)


def test_the_fingerprint_ignores_the_order_of_keys_and_spelled_out_defaults() -> None:
    plain = load_spec({"optimizer": {"kind": "sgd", "lr": 0.1}, "name": "a"})
    spelled = load_spec(
        {"name": "a", "optimizer": {"lr": 0.1, "momentum": 0.0, "kind": "sgd"}, "train": {"epochs": 20}}
    )
    assert plain.fingerprint() == spelled.fingerprint()
    assert plain.fingerprint() != load_spec({"name": "b"}).fingerprint()


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ('{"network": {"kind": "mlp", "norm": {"kind": "bogus"}}}', "/network/norm/kind", "unknown_kind"),
        ('{"network": {"kind": "mlp", "norm": {}}}', "/network/norm/kind", "unknown_kind"),
        ('{"network": {"kind": ["mlp"]}}', "/network/kind", "unknown_kind"),
        ('{"data": {"kind": "imagenet"}}', "/data/kind", "unknown_kind"),
        ('{"netwrok": {}}', "/netwrok", "unknown_field"),
        (
            '{"network": {"kind": "mlp", "norm": {"kind": "batch_norm", "momentun": 0.1}}}',
            "/network/norm/momentun",
            "unknown_field",
        ),
        # A misspelt field with the name of a union's tag is still found where it stands.
        (
            '{"network": {"kind": "mlp", "norm": {"kind": "batch_norm", "batch_norm": 1}}}',
            "/network/norm/batch_norm",
            "unknown_field",
        ),
        ('{"a/b~c": 1}', "/a~1b~0c", "unknown_field"),
        ('{"optimizer": {"kind": "sgd", "lr": NaN}}', "/optimizer/lr", "finite_number"),
        ('{"optimizer": {"kind": "sgd", "lr": 1e999}}', "/optimizer/lr", "finite_number"),
        ('{"optimizer": {"kind": "sgd", "lr": -Infinity}}', "/optimizer/lr", "finite_number"),
        ('{"optimizer": {"kind": "sgd", "lr": true}}', "/optimizer/lr", "float_type"),
        ('{"optimizer": {"kind": "sgd", "lr": "0.1"}}', "/optimizer/lr", "float_type"),
        ('{"optimizer": {"kind": "sgd", "lr": 0}}', "/optimizer/lr", "greater_than"),
        ('{"optimizer": {"kind": "adam", "betas": [0.9, 1.0]}}', "/optimizer/betas/1", "less_than"),
        ('{"optimizer": {"kind": "sgd", "nesterov": true}}', "/optimizer/nesterov", "nesterov_without_momentum"),
        ('{"train": {"seed": true}}', "/train/seed", "int_type"),
        ('{"train": {"seed": 1.0}}', "/train/seed", "int_type"),
        ('{"train": {"seed": 9223372036854775808}}', "/train/seed", "less_than_equal"),
        ('{"train": {"seed": ' + "9" * 5000 + "}}", "/train/seed", "int_type"),
        ('{"train": {"steps": 5, "epochs": 5}}', "/train/epochs", "two_budgets"),
        (
            '{"train": {"clip_grad_norm": 1.0, "adaptive_clipping": 0.01}}',
            "/train/adaptive_clipping",
            "two_clippings",
        ),
        ('{"train": {"adaptive_clipping": 0.0}}', "/train/adaptive_clipping", "greater_than"),
        ('{"train": 5}', "/train", "not_an_object"),
        ('{"network": null}', "/network", "not_an_object"),
        ('{"network": {"kind": "mlp", "hidden": [10, true]}}', "/network/hidden/1", "int_type"),
        ('{"network": {"kind": "cnn", "kernel_size": true}}', "/network/kernel_size", "int_type"),
        ('{"network": {"kind": "mlp", "hidden": []}}', "/network/hidden", "too_short"),
        ('{"schedule": {"kind": "step"}}', "/schedule/step_size", "missing"),
        ('{"name": "a\\u0000b"}', "/name", "control_character"),
        ('{"name": "a\\ud800b"}', "/name", "control_character"),
        ('{"tags": {"a": "\\u001b[2J"}}', "/tags/a", "control_character"),
        ('{"tags": {"a:b": "1"}}', "/tags/a:b", "string_pattern_mismatch"),
        ('{"train": {"target": {"test_accuracy": 1.5}}}', "/train/target/test_accuracy", "less_than_equal"),
        (
            '{"network": {"kind": "mlp", "norm": {"kind": "batch_renorm", "r_max": 0.5}}}',
            "/network/norm/r_max",
            "greater_than_equal",
        ),
        (
            '{"network": {"kind": "mlp", "norm": {"kind": "batch_renorm", '
            '"r_max": {"kind": "linear", "start": 0.5, "end": 3.0, "end_step": 10}}}}',
            "/network/norm/r_max/start",
            "r_max_below_one",
        ),
        (
            '{"network": {"kind": "mlp", "norm": {"kind": "batch_renorm", '
            '"d_max": {"kind": "linear", "start": 0, "end": 3.0, "start_step": 10, "end_step": 10}}}}',
            "/network/norm/d_max/end_step",
            "ramp_order",
        ),
    ],
)
def test_a_fault_names_its_field(body: str, pointer: str, code: str) -> None:
    assert (pointer, code) in faults(body)


def test_every_fault_is_listed_at_once() -> None:
    found = faults('{"optimizer": {"kind": "sgd", "lr": -1}, "train": {"batch_size": 0}, "nmae": "x"}')
    assert {pointer for pointer, _ in found} == {"/optimizer/lr", "/train/batch_size", "/nmae"}


def test_a_misspelt_field_gets_a_suggestion() -> None:
    with pytest.raises(SpecError, match="did you mean momentum"):
        load_spec({"optimizer": {"kind": "sgd", "momentun": 0.9}})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        # A list with a faulty item has one fault, and is not too short.
        (
            {"network": {"kind": "mlp", "hidden": [10.5]}},
            "/network/hidden/0: Should be a whole number: no quotes, no point, no exponent",
        ),
        ({"network": {"kind": "mlp", "hidden": []}}, "/network/hidden: Should have at least 1 item"),
        ({"train": {"steps": 1e3}}, "/train/steps: Should be a whole number: no quotes, no point, no exponent"),
        (
            {"optimizer": {"kind": "sgd", "lr": "1,5"}},
            "/optimizer/lr: Should be a number; the decimal mark is a point, as in 1.5",
        ),
        (
            {"network": {"kind": "layers", "layers": [{"kind": "linear", "width": 2, "features": 24}]}},
            "/network/layers/0/features: Unknown field; did you mean width?",
        ),
        ({"optimizer": {"kind": "sgd", "lr": "0.1"}}, "/optimizer/lr: Should be a number, without quotes"),
        ({"tags": {"seed": 1}}, "/tags/seed: Should be text; what looks like a number stands in quotes"),
        ({"network": {"kind": "mlp", "hidden": "100"}}, "/network/hidden: Should be a list"),
        ({"tags": {"": "x"}}, "/tags/: Should have at least 1 character"),
        ({"tags": {"a,b": "x"}}, "/tags/a,b: Should match the pattern '^[^:,]+$'"),
        ({"name": "x" * 201}, "/name: Should have at most 200 characters"),
        ({"tags": {str(number): "" for number in range(17)}}, "/tags: Should have at most 16 items"),
        (
            {"network": {"kind": "mlp", "norm": {"kind": "batch_norm", "eps": 0}}},
            "/network/norm/eps: Should be greater than or equal to 1e-30",
        ),
        (
            {"network": {"kind": "mlp", "norm": "batchnorm"}},
            '/network/norm: Must be an object, such as {"kind": "batch_norm"}',
        ),
        (
            {"network": {"kind": "mlp", "norm": {"kind": "batchnorm"}}},
            "/network/norm/kind: Unknown kind; did you mean batch_norm?",
        ),
        (
            {"optimizer": {"kind": "zzz"}},
            "/optimizer/kind: Must be one of 'sgd', 'adam', 'adamw', 'rmsprop', 'adagrad', 'lamb', 'lars'",
        ),
    ],
    ids=str,
)
def test_a_fault_says_what_would_be_right_in_the_words_of_json(value: object, words: str) -> None:
    with pytest.raises(SpecError) as raised:
        load_spec(value)
    assert str(raised.value) == words


def test_a_repeated_key_is_refused_where_it_stands() -> None:
    assert faults('{"train": {"seed": 1, "seed": 2}}') == [("/train/seed", "repeated_key")]
    assert faults('{"name": "a", "name": "a"}') == [("/name", "repeated_key")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_json"),
        (b'{"name": ', "not_json"),
        (b"[]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b'{"name": "\xff"}', "not_utf8"),
        (b"[" * 100_000, "too_deep"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "too_deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_many_values"),
        (b"[" + b"0," * 10_000 + b"0]", "too_many_values"),
        (b'[{"":0,"":0}' + b',{"":0,"":0}' * 16_000 + b"]", "too_many_values"),
    ],
)
def test_a_body_that_is_no_spec_at_all_is_a_fault_of_the_whole(body: bytes, code: str) -> None:
    assert faults(body) == [("", code)]


def test_brackets_inside_strings_are_not_nesting() -> None:
    assert load_spec(parse_json(json.dumps({"name": '[{"' * 60}))).name == '[{"' * 60


def test_a_string_with_an_escape_at_every_place_and_no_end_is_no_json() -> None:
    """Looked for again from each quote inside it, its end would cost quadratic time: minutes for a megabyte."""
    assert faults(b'"' + b'\\"' * 500_000) == [("", "not_json")]


HOSTILE = {
    "objects with repeated keys": lambda n: b"[" + b",".join([b'{"":0,"":0}'] * (n // 3)) + b"]",
    "one repeat behind many lists": lambda n: b"[" + b"[]," * (n // 2 - 5) + b'{"a":0,"a":1}]',
    "misspelt fields": lambda n: b"{" + b",".join(b'"momentun%d":0' % i for i in range(n)) + b"}",
    "wrong items": lambda n: b'{"network":{"kind":"mlp","hidden":[' + b",".join([b'"x"'] * (n - 9)) + b"]}}",
    "tags of control characters": lambda n: (
        b'{"tags":{' + b",".join(b'"\\u0000%d":0' % i for i in range(n - 9)) + b"}}"
    ),
    "escapes": lambda n: b'{"name":"' + b"\\ud800" * (n * 16) + b'"}',
    "one long field": lambda n: b'{"' + b"k" * (n * 100) + b'":0}',
    "digits": lambda n: b'{"max_restarts":' + b"9" * (n * 100) + b"}",
    "numbers beyond doubles": lambda n: b'{"network":{"kind":"mlp","hidden":[' + b"1e400," * (n - 9) + b"1]}}",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_work_on_a_hostile_body_grows_no_faster_than_the_body(body: Callable[[int], bytes]) -> None:
    half, whole = (_calls(lambda size=size: faults(body(size))) for size in (4_500, 9_000))
    assert whole < 2.2 * half + 1000
    assert whole < 500_000


def _calls(act: Callable[[], object]) -> int:
    """How many functions are called on the way, those written in C too."""
    made = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return made


def test_no_more_than_a_hundred_faults_are_listed() -> None:
    assert len(faults(HOSTILE["misspelt fields"](9_000))) == 100
    assert len(faults(HOSTILE["objects with repeated keys"](9_000))) == 100


def test_no_fault_repeats_what_was_sent() -> None:
    secret = "hunter2-hunter2"
    bodies = [
        {"network": {"kind": secret}},
        {"network": {"kind": "mlp", "norm": {"kind": secret}}},
        {"name": 7, "optimizer": {"kind": "sgd", "lr": secret}},
        {"train": {"precision": secret}},
        {"data": {"kind": secret}},
    ]
    for body in bodies:
        with pytest.raises(SpecError) as caught:
            load_spec(body)
        assert secret not in str(caught.value)


@pytest.mark.parametrize("hostile", ["\ud800", "\x00", "a\nb", "x" * 10_000, "\u202e"])
def test_an_impossible_field_name_gives_a_pointer_that_can_be_written(hostile: str) -> None:
    for fault in _faults_of_value({"train": {hostile: 1}}):
        fault.pointer.encode("utf-8")
        assert fault.pointer.isprintable()
        assert len(fault.pointer) < 700


def _faults_of_value(value: object) -> list:
    with pytest.raises(SpecError) as caught:
        load_spec(value)
    return caught.value.faults


@pytest.mark.parametrize("kind", KINDS)
def test_a_complete_spec_is_valid_again_whatever_is_switched_in_its_network(kind: str) -> None:
    spec = small_spec(kind, NORMS[kind][0])
    shown = load_spec(spec).model_dump(mode="json")["network"]
    accepted = 0
    for field in (name for name, value in shown.items() if isinstance(value, bool)):
        try:
            switched = load_spec({**spec, "network": {**spec["network"], field: not shown[field]}})
        except SpecError:
            continue
        accepted += 1
        assert load_spec(parse_json(switched.canonical_json())) == switched
    assert accepted


def test_an_lstm_without_biases_has_none_for_its_forget_gate() -> None:
    network = {"kind": "lstm", "bias": False}
    shown = load_spec({"data": {"kind": "variable_length"}, "network": network}).model_dump(mode="json")["network"]
    assert (shown["bias"], shown["forget_bias"]) == (False, 0.0)
