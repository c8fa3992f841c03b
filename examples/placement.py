"""Before or after the activation? (The usual advice: after a sigmoid, before a ReLU.)

Four hidden layers of 100 on the digits, batch norm in both places, for both activations, at one learning rate.
"""

from asking import ask, print_differences

from client import Client

ACTIVATIONS = ("sigmoid", "relu")
PLACES = ("before_activation", "after_activation")

arms = {
    f"{activation}, {place}": {
        "network": {
            "kind": "mlp",
            "hidden": [100] * 4,
            "activation": activation,
            "norm": {"kind": "batch_norm"},
            "placement": place,
        },
        "optimizer": {"kind": "sgd", "lr": 0.3},
        "train": {"steps": 800, "batch_size": 60, "target": {"test_accuracy": 0.9}},
        "evaluation": {"every_steps": 20},
    }
    for activation in ACTIVATIONS
    for place in PLACES
}

with Client() as client:
    answer = ask(client, "placement", arms, ("test/accuracy", "steps_to_target"), seeds=5)
    pairs = [(f"{activation}, {PLACES[0]}", f"{activation}, {PLACES[1]}") for activation in ACTIVATIONS]
    print_differences(answer, "test/accuracy", pairs)
