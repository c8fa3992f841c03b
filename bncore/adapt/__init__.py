"""Batch norm models on data from elsewhere: adaptation at test time that can be taken back, bit for bit."""

from bncore.adapt.adaptation import Adaptation
from bncore.adapt.batch_blend import prediction_time
from bncore.adapt.entropy import Tent, tent
from bncore.adapt.target_statistics import adabn

__all__ = ["Adaptation", "Tent", "adabn", "prediction_time", "tent"]
