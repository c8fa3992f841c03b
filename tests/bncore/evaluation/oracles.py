"""What is to be found of outputs, in numpy and double precision, one example after the other."""

from typing import Any

import numpy as np


def probabilities(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    shifted = np.exp(wide - wide.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def of_classes(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Logits (N, K), classes (N,)."""
    chances, classes = probabilities(logits), logits.shape[1]
    confusion = np.zeros((classes, classes), dtype=int)
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    loss = 0.0
    for chance, label in zip(chances, labels, strict=True):
        said = int(chance.argmax())
        confusion[label, said] += 1
        loss -= np.log(chance[label]) / len(labels)
        confidence = chance[said]
        (number,) = (m for m in range(15) if m / 15 < confidence <= (m + 1) / 15)
        bins[number].append((float(confidence), said == label))
    error = sum(
        len(inside) / len(labels) * abs(np.mean([hit for _, hit in inside]) - np.mean([sure for sure, _ in inside]))
        for inside in bins
        if inside
    )
    return {
        "loss": loss,
        "accuracy": confusion.trace() / len(labels),
        "confusion": confusion.tolist(),
        "calibration_error": error,
        "counts": [len(inside) for inside in bins],
    }


def of_class(confusion: list[list[int]], number: int) -> dict[str, float | None]:
    table = np.array(confusion)
    hits, said, there = table[number, number], table[:, number].sum(), table[number].sum()
    precision, recall = (hits / said if said else None), (hits / there if there else None)
    f1 = None
    if said + there:
        f1 = 0.0 if not hits else 2 * precision * recall / (precision + recall)
    return {"precision": precision, "recall": recall, "f1": f1, "count": there, "predicted": said}


def normalize_with(x: np.ndarray, mean: np.ndarray, var: np.ndarray, layer: dict[str, np.ndarray], eps: float) -> Any:
    return (x - mean) / np.sqrt(var + eps) * layer["weight"] + layer["bias"]


def mlp(state: dict[str, np.ndarray], x: np.ndarray, statistics: str, source: np.ndarray | None = None) -> np.ndarray:
    """Logits of a network of two hidden layers with batch norm and ReLU, all of it in double precision.

    `statistics`: running, batch (of x itself), target (adabn: unbiased, of x), or precise (unbiased, of `source`, whose
    layers are normalized by their own batch).
    """
    wide = {key: value.astype(np.float64) for key, value in state.items()}
    h, other = x.astype(np.float64), None if source is None else source.astype(np.float64)
    for number in (1, 2):
        weight, bias = wide[f"linear{number}.weight"], wide[f"linear{number}.bias"]
        layer = {name: wide[f"norm{number}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")}
        h = h @ weight.T + bias
        mean, var = layer["running_mean"], layer["running_var"]
        if statistics == "batch":
            mean, var = h.mean(0), h.var(0)
        elif statistics == "target":
            mean, var = h.mean(0), h.var(0, ddof=1)
        elif statistics == "precise":
            assert other is not None
            other = other @ weight.T + bias
            mean, var = other.mean(0), other.var(0, ddof=1)
            other = np.maximum(normalize_with(other, other.mean(0), other.var(0), layer, 1e-5), 0.0)
        h = np.maximum(normalize_with(h, mean, var, layer, 1e-5), 0.0)
    return h @ wide["output.weight"].T + wide["output.bias"]
