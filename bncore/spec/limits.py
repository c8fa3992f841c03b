"""How long words may be, said once: the spec, the API's schema and the database's columns take their limits from here.

Invariant: what validation lets through can be stored. Counted in characters, as pydantic and PostgreSQL count.
"""

WORD_CHARS = 64
"""Ids, codes, hashes, versions."""
NAME_CHARS = 200
"""Names that people give: of experiments, API keys, owners."""
TAGS = 16
TAG_KEY_CHARS = 64
TAG_VALUE_CHARS = 512
METRIC_KEY_CHARS = 200
IDEMPOTENCY_KEY_CHARS = 255
DEVICE_MODEL_CHARS = 200
HOST_CHARS = 255
TROUBLE_CHARS = 300
"""Why a worker claims nothing."""
