"""The article's claims, a module each: what they say, what is measured, how much it takes.

Designs and margins are committed before they are run; a later change of one is listed with its reason in
docs/studies-design.md.
"""

from bncore.studies.claim import Claim
from bncore.studies.claims.batch_renorm_repairs import BatchRenormRepairs
from bncore.studies.claims.covariate_shift import CovariateShift
from bncore.studies.claims.fewer_epochs import FewerEpochs
from bncore.studies.claims.gain_is_the_learning_rate import GainIsTheLearningRate
from bncore.studies.claims.gradients_explode_with_depth import GradientsExplodeWithDepth
from bncore.studies.claims.input_normalization import InputNormalization
from bncore.studies.claims.insensitive_to_initialization import InsensitiveToInitialization
from bncore.studies.claims.larger_learning_rates import LargerLearningRates
from bncore.studies.claims.moments_steady_with_depth import MomentsSteadyWithDepth
from bncore.studies.claims.non_iid_batches import NonIidBatches
from bncore.studies.claims.one_class_at_initialization import OneClassAtInitialization
from bncore.studies.claims.placement import Placement
from bncore.studies.claims.regularizes_without_dropout import RegularizesWithoutDropout
from bncore.studies.claims.saturating_activations_train import SaturatingActivationsTrain
from bncore.studies.claims.scale_invariance import ScaleInvariance
from bncore.studies.claims.small_batch_alternatives import SmallBatchAlternatives
from bncore.studies.claims.small_batch_gap import SmallBatchGap
from bncore.studies.claims.smoother_landscape import SmootherLandscape
from bncore.studies.claims.statistics_adapt_to_domain import StatisticsAdaptToDomain
from bncore.studies.claims.weight_decay_can_shrink import WeightDecayCanShrink
from bncore.studies.claims.works_in_cnn import WorksInCnn
from bncore.studies.claims.works_in_rnn import WorksInRnn

_ALL: tuple[Claim, ...] = (
    FewerEpochs(),
    LargerLearningRates(),
    GainIsTheLearningRate(),
    InsensitiveToInitialization(),
    ScaleInvariance(),
    RegularizesWithoutDropout(),
    SmallBatchGap(),
    NonIidBatches(),
    BatchRenormRepairs(),
    SmallBatchAlternatives(),
    Placement(),
    InputNormalization(),
    SaturatingActivationsTrain(),
    WorksInCnn(),
    WorksInRnn(),
    MomentsSteadyWithDepth(),
    OneClassAtInitialization(),
    CovariateShift(),
    SmootherLandscape(),
    StatisticsAdaptToDomain(),
    GradientsExplodeWithDepth(),
    WeightDecayCanShrink(),
)
CLAIMS: dict[str, Claim] = {claim.name: claim for claim in _ALL}
"""By name, in the order of the article."""
