"""How much does the scale of the first weights matter? (arXiv 1502.03167, section 3.3.)

Five hidden layers of 100 ReLU; He's standard deviation times a factor, in all layers, at one learning rate.
"""

from asking import ask, print_differences

from client import Client

SCALES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
NORMS = ("none", "batch_norm")

arms = {
    f"{norm}, times {scale:g}": {
        "network": {
            "kind": "mlp",
            "hidden": [100] * 5,
            "norm": {"kind": norm},
            "init": {"kind": "kaiming"},
            "init_scale": scale,
        },
        "optimizer": {"kind": "sgd", "lr": 0.1},
        "train": {"steps": 400, "batch_size": 60},
        "evaluation": {"every_steps": 100},
    }
    for norm in NORMS
    for scale in SCALES
}

with Client() as client:
    answer = ask(client, "initialization-scale", arms)
    pairs = [(f"batch_norm, times {scale:g}", f"none, times {scale:g}") for scale in SCALES]
    print_differences(answer, "test/accuracy", pairs)
