"""The article's claims, a module each: what they say, what is measured, how much it takes.

Designs and margins are committed before they are run; a later change of one is listed with its reason in
docs/studies-design.md.
"""

from bncore.studies.claim import Claim
from bncore.studies.claims.batch_renorm_repairs import BatchRenormRepairs
from bncore.studies.claims.fewer_epochs import FewerEpochs
from bncore.studies.claims.gradients_explode_with_depth import GradientsExplodeWithDepth
from bncore.studies.claims.input_normalization import InputNormalization
from bncore.studies.claims.non_iid_batches import NonIidBatches
from bncore.studies.claims.placement import Placement
from bncore.studies.claims.scale_invariance import ScaleInvariance
from bncore.studies.claims.small_batch_alternatives import SmallBatchAlternatives
from bncore.studies.claims.small_batch_gap import SmallBatchGap
from bncore.studies.claims.statistics_adapt_to_domain import StatisticsAdaptToDomain

_ALL: tuple[Claim, ...] = (
    FewerEpochs(),
    ScaleInvariance(),
    SmallBatchGap(),
    NonIidBatches(),
    BatchRenormRepairs(),
    SmallBatchAlternatives(),
    Placement(),
    InputNormalization(),
    StatisticsAdaptToDomain(),
    GradientsExplodeWithDepth(),
)
CLAIMS: dict[str, Claim] = {claim.name: claim for claim in _ALL}
"""By name, in the order of the article."""
