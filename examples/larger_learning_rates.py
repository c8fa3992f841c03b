"""Does batch norm allow larger learning rates? (arXiv 1502.03167, section 3.3; 1806.02375.)

Five hidden layers of 100 ReLU, He initialization, SGD without momentum. A grid of half decades, both arms on all of it.
"""

from asking import ask

from client import Client

RATES = (0.1, 0.3, 1.0, 3.0, 10.0)

arms = {
    f"{norm}, lr {rate:g}": {
        "network": {"kind": "mlp", "hidden": [100] * 5, "norm": {"kind": norm}, "init": {"kind": "kaiming"}},
        "optimizer": {"kind": "sgd", "lr": rate},
        "train": {"steps": 400, "batch_size": 60},
        "evaluation": {"every_steps": 50},
    }
    for norm in ("none", "batch_norm")
    for rate in RATES
}

with Client() as client:
    ask(client, "larger-learning-rates", arms)
