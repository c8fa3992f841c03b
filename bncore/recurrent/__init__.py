"""Recurrent layers with normalization inside, and normalization of what goes into recurrent layers.

They have a package of their own because they take sequences, (T, N, C) or packed, where every layer of `bncore.norm`
takes a batch (N, C, ...), and because a recurrent layer with norms inside is more than a norm.
"""

from bncore.norm.model.population import measure_as
from bncore.recurrent._step_population import StepPopulation
from bncore.recurrent.batch_norm_gru import BatchNormGRU, BatchNormGRUCell
from bncore.recurrent.batch_norm_lstm import BatchNormLSTM, BatchNormLSTMCell
from bncore.recurrent.batch_norm_rnn import BatchNormRNN, BatchNormRNNCell
from bncore.recurrent.layer_norm_gru import LayerNormGRU, LayerNormGRUCell
from bncore.recurrent.layer_norm_lstm import LayerNormLSTM, LayerNormLSTMCell
from bncore.recurrent.layer_norm_rnn import LayerNormRNN, LayerNormRNNCell
from bncore.recurrent.sequence_batch_norm import SequenceBatchNorm
from bncore.recurrent.sequence_norm_cells import SequenceBatchNormGRU, SequenceBatchNormLSTM, SequenceBatchNormRNN
from bncore.recurrent.step_batch_norm import StepBatchNorm

__all__ = [
    "BatchNormGRU",
    "BatchNormGRUCell",
    "BatchNormLSTM",
    "BatchNormLSTMCell",
    "BatchNormRNN",
    "BatchNormRNNCell",
    "LayerNormGRU",
    "LayerNormGRUCell",
    "LayerNormLSTM",
    "LayerNormLSTMCell",
    "LayerNormRNN",
    "LayerNormRNNCell",
    "SequenceBatchNorm",
    "SequenceBatchNormGRU",
    "SequenceBatchNormLSTM",
    "SequenceBatchNormRNN",
    "StepBatchNorm",
]

measure_as(StepBatchNorm, StepPopulation)
