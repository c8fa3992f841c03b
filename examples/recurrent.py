"""Does batch norm help an LSTM? (arXiv 1603.09025: by time step, inside; 1510.01378: over all steps, on the input.)

An LSTM of 48 units reads the digits row by row, eight steps.
"""

from asking import ask, print_differences

from client import Client

NORMS = ("none", "step_batch_norm", "sequence_batch_norm")

arms = {
    norm: {
        "data": {"kind": "digits", "as": "row"},
        "network": {"kind": "lstm", "hidden": [48], "norm": {"kind": norm}},
        "optimizer": {"kind": "adam", "lr": 0.005},
        "train": {"steps": 400, "batch_size": 100, "target": {"test_accuracy": 0.9}},
        "evaluation": {"every_steps": 20},
    }
    for norm in NORMS
}

with Client() as client:
    answer = ask(client, "recurrent", arms, ("test/accuracy", "steps_to_target", "seconds"), seeds=3)
    print_differences(answer, "test/accuracy", [(norm, "none") for norm in NORMS[1:]])
