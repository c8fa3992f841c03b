"""Every normalization that a network of the service admits, with options that make it fit the default widths."""

from typing import Any

from bncore.spec import NormSpec, SpecError, load_spec, members

OPTIONS: dict[str, dict[str, Any]] = {
    "group_norm": {"num_groups": 4},
    "evo_norm_s0": {"num_groups": 4},
    "decorrelated_batch_norm": {"num_groups": 4},
    "iter_norm": {"num_groups": 4},
    "ghost_batch_norm": {"virtual_batch_size": 16},
    "filter_response_norm": {"learn_eps": True},
    "batch_renorm": {"warmup_steps": 2},
}
FITTING: dict[str, dict[str, Any]] = {
    "vgg": {"depth": 11, "width": 4, "pools": 2},
    "resnet": {"depth": 8, "width": 4, "shortcut": "B"},
    "resnet_v2": {"depth": 8, "width": 4},
    "depthwise": {"width_multiplier": 0.1},
    "deep_linear": {"depth": 3},
    "layers": {
        "layers": [
            {"kind": "conv", "width": 4},
            {"kind": "norm"},
            {"kind": "activation"},
            {"kind": "pool"},
            {
                "kind": "residual",
                "body": [{"kind": "conv", "width": 8, "stride": 2, "groups": 2}, {"kind": "norm"}],
                "shortcut": [{"kind": "subsample", "width": 8}],
            },
            {"kind": "activation", "activation": None},
            {"kind": "dropout"},
            {"kind": "flatten"},
        ]
    },
}
"""What makes networks of images small, and fit images of 8x8."""
OWN_ACTIVATION = ("filter_response_norm", "evo_norm_b0", "evo_norm_s0")
KINDS: list[str] = [member.model_fields["kind"].default for member in members(NormSpec)]


def network_with(network: str, norm: str, **parts: Any) -> dict[str, Any]:
    """A network of this kind with this normalization; it may be one that makes no sense."""
    activation = {"activation": "identity"} if norm in OWN_ACTIVATION else {}
    fitting = FITTING.get(network, {})
    return {"kind": network, "norm": {"kind": norm, **OPTIONS.get(norm, {})}, **fitting, **activation, **parts}


def admitted(network: str) -> list[str]:
    """The kinds of normalization that a network of this kind takes."""
    return [norm for norm in KINDS if _is_accepted(network_with(network, norm))]


def _is_accepted(network: dict[str, Any]) -> bool:
    try:
        load_spec({"network": network})
    except SpecError:
        return False
    return True
