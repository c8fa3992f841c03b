"""The article's claims, a module each: what they say, what is measured, how much it takes.

Designs and margins are committed before they are run; a later change of one is listed with its reason in
docs/studies-design.md.
"""

from bncore.studies.claim import Claim
from bncore.studies.claims.covariate_shift import CovariateShift
from bncore.studies.claims.fewer_epochs import FewerEpochs
from bncore.studies.claims.gradients_explode_with_depth import GradientsExplodeWithDepth
from bncore.studies.claims.moments_steady_with_depth import MomentsSteadyWithDepth
from bncore.studies.claims.one_class_at_initialization import OneClassAtInitialization
from bncore.studies.claims.saturating_activations_train import SaturatingActivationsTrain
from bncore.studies.claims.scale_invariance import ScaleInvariance
from bncore.studies.claims.smoother_landscape import SmootherLandscape

CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        FewerEpochs(),
        ScaleInvariance(),
        SaturatingActivationsTrain(),
        MomentsSteadyWithDepth(),
        OneClassAtInitialization(),
        CovariateShift(),
        SmootherLandscape(),
        GradientsExplodeWithDepth(),
    )
}
"""By name, in the order of the article."""
