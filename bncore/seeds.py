"""Independent random streams from one seed.

One seed fixes everything random in a run, and each purpose has its own stream: adding a normalization layer must not
shift the numbers that initialize the layers after it, or arms of a comparison would stop being paired.
"""

import hashlib


def derive_seed(seed: int, *words: str | int) -> int:
    """A seed in [0, 2^63) for one purpose, e.g. `derive_seed(seed, "order", epoch)`.

    Equal arguments give equal seeds on every machine and Python version; different ones give unrelated seeds.
    """
    # A length in front of each word keeps ("ab", "c") and ("a", "bc") apart.
    text = "".join(f"{len(str(word))}:{word}" for word in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
