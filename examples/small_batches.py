"""What do small batches do to batch norm, and to its remedies? (arXiv 1702.03275.)

Two hidden layers of 100 ReLU on the digits. All batch sizes take as many steps at the same learning rate: arms with the
same batch size compare, different sizes do not. `@batch` is with the statistics of the whole test part, `@precise` with
those of the training part.
"""

from asking import ask, print_differences

from client import Client

NORMS = {
    "none": {"kind": "none"},
    "batch_norm": {"kind": "batch_norm", "momentum": 0.01},
    "batch_renorm": {"kind": "batch_renorm", "momentum": 0.01},
    "layer_norm": {"kind": "layer_norm"},
}
SIZES = (32, 4, 2)

arms = {
    f"{name}, batch {size}": {
        "network": {"kind": "mlp", "hidden": [100, 100], "norm": norm, "init": {"kind": "kaiming"}},
        "optimizer": {"kind": "sgd", "lr": 0.05},
        "train": {"steps": 1000, "batch_size": size},
        "evaluation": {"every_steps": 1000, "statistics": ["running", "batch", "precise"]},
    }
    for name, norm in NORMS.items()
    for size in SIZES
}

with Client() as client:
    measures = ("test/accuracy", "test/accuracy@batch", "test/accuracy@precise")
    answer = ask(client, "small-batches", arms, measures)
    print_differences(
        answer,
        "test/accuracy",
        [(f"{name}, batch {size}", f"batch_norm, batch {size}") for name in NORMS for size in SIZES],
    )
