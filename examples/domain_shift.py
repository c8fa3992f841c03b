"""Do statistics of the new domain make up for a shift of the inputs? (AdaBN, arXiv 1603.04779.)

A small CNN learns the digits as they are. Its checkpoints are measured on shifted test images, with the statistics that
they have and with those of the shifted images (`adabn`: no label is used, no weight moves). Group norm, which keeps no
statistics, is the control.
"""

from asking import ask, print_rows

from client import Client

SHIFTS = (None, "contrast", "brightness", "noise", "rotation")
SEVERITY = 5

arms = {
    name: {
        "network": {"kind": "cnn", "channels": [16, 32], "norm": norm},
        "optimizer": {"kind": "adam", "lr": 0.01},
        "train": {"steps": 200, "batch_size": 60},
        "evaluation": {"every_steps": 200},
    }
    for name, norm in {
        "batch_norm": {"kind": "batch_norm"},
        "group_norm": {"kind": "group_norm", "num_groups": 4},
    }.items()
}


def measured(client: Client, experiment: str, shift: str | None, statistics: str) -> dict[str, float]:
    """Accuracy on the shifted test part: `before`, with the checkpoint's statistics, and `after`."""
    data = {"kind": "digits"} | ({} if shift is None else {"shift": {"kind": shift, "severity": SEVERITY}})
    found = client.wait_evaluation(client.evaluate(experiment, data, statistics)["id"])["result"]
    return {when: found[when]["accuracy"] for when in ("before", "after") if found[when] is not None}


with Client() as client:
    answer = ask(client, "domain-shift", arms)
    for shift in SHIFTS:
        adapted = [measured(client, one, shift, "adabn") for one in answer.experiments["batch_norm"]]
        control = [measured(client, one, shift, "source") for one in answer.experiments["group_norm"]]
        rows = {"batch_norm, as trained": [one["before"] for one in adapted]}
        rows["batch_norm, statistics of the shifted"] = [one["after"] for one in adapted]
        rows["their paired difference"] = [one["after"] - one["before"] for one in adapted]
        rows["group_norm"] = [one["before"] for one in control]
        print_rows(f"accuracy, {shift or 'no shift'}", rows)
