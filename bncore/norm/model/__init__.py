"""What is done with the normalization layers of a whole model: convert, recalibrate, freeze, weight decay.

`convert.py`, `recalibrate.py`, `freeze.py` and `decay.py` are for users, through `bncore.norm`; the others are for
them, and for `bncore.diagnostics` and `bncore.adapt`.
"""
