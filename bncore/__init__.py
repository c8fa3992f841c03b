"""The training library of BNLab, usable by itself.

Importing `bncore` imports neither torch nor anything of the service; torch comes in with `bncore.norm`,
`bncore.networks`, `bncore.data` and `bncore.train`.
"""

__version__ = "0.1.0"
