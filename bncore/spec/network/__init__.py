"""Which network: a kind a module, its spec and what it is made of (`bncore.spec.blueprint`).

A new network is a module with one class, and a member of the union; nothing else knows the kind.
"""

from typing import Annotated

from pydantic import Field

from bncore.spec.network.any_network import INPUT_NORM_EPS
from bncore.spec.network.cnn import CnnSpec
from bncore.spec.network.deep_linear import DeepLinearSpec
from bncore.spec.network.depthwise import DepthwiseSpec
from bncore.spec.network.gru import GruSpec
from bncore.spec.network.layers import LayersSpec
from bncore.spec.network.lstm import LstmSpec
from bncore.spec.network.mlp import MlpSpec
from bncore.spec.network.residual_mlp import ResidualMlpSpec
from bncore.spec.network.resnet import ResnetSpec
from bncore.spec.network.resnet_v2 import ResnetV2Spec
from bncore.spec.network.rnn import RnnSpec
from bncore.spec.network.transformer_encoder import TransformerEncoderSpec
from bncore.spec.network.vgg import VggSpec
from bncore.spec.usual import usual

_Networks = (
    MlpSpec
    | CnnSpec
    | ResidualMlpSpec
    | VggSpec
    | ResnetSpec
    | ResnetV2Spec
    | DepthwiseSpec
    | DeepLinearSpec
    | LayersSpec
    | RnnSpec
    | LstmSpec
    | GruSpec
    | TransformerEncoderSpec
)
NetworkSpec = Annotated[_Networks, Field(discriminator="kind"), usual(_Networks, MlpSpec)]

__all__ = [
    "INPUT_NORM_EPS",
    "CnnSpec",
    "DeepLinearSpec",
    "DepthwiseSpec",
    "GruSpec",
    "LayersSpec",
    "LstmSpec",
    "MlpSpec",
    "NetworkSpec",
    "ResidualMlpSpec",
    "ResnetSpec",
    "ResnetV2Spec",
    "RnnSpec",
    "TransformerEncoderSpec",
    "VggSpec",
]
