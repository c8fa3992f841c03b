"""In evaluation the batch family is plain batch norm: it exports as that, and folds into a convolution as that."""

import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bncore.norm import BatchNorm, DecorrelatedBatchNorm, convert
from tests.bncore.norm.case import Case, cases, sample

FAMILY = [case for case in cases() if case.loads_into_torch and isinstance(case.make(), BatchNorm)]


# Of the exporter, about its own parts.
@pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning", "ignore::DeprecationWarning")
def test_the_family_exports_to_onnx_as_batch_normalization() -> None:
    layers = [case.prepared(torch.float32) for case in FAMILY]
    assert len(layers) >= 10
    model = nn.Sequential(nn.Conv2d(3, 4, 3), *layers).eval()
    x = sample((2, 3, 5, 5)).float()
    program = torch.onnx.export(model, (x,), dynamo=True, verbose=False)
    assert program is not None
    exported = program.model_proto
    kinds = [node.op_type for node in exported.graph.node]
    assert kinds[0] == "Conv"
    # The exporter may fold the first one into the convolution.
    assert set(kinds[1:]) <= {"BatchNormalization"}
    (y,) = ReferenceEvaluator(exported).run(None, {exported.graph.input[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), model(x).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.where(lambda case: case in FAMILY)
def test_it_folds_into_the_convolution_in_front(case: Case) -> None:
    convolution, layer = nn.Conv2d(3, 4, 3).double().eval(), case.prepared().eval()
    x = sample((2, 3, 5, 5))
    folded = fuse_conv_bn_eval(convolution, layer)
    torch.testing.assert_close(folded(x), layer(convolution(x)), rtol=1e-10, atol=1e-10)


# As above.
def test_so_does_a_frozen_layer_behind_weights_that_train() -> None:
    x = sample((2, 3, 5, 5)).float()
    layer = nn.BatchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), layer)
    model(x)
    convert(model.eval(), {"kind": "frozen_batch_norm"})
    expected = model(x).detach()
    assert expected.std() > 0.1
    program = torch.export.export(model, (x,))
    assert [str(node.target) for node in program.graph.nodes if "norm" in str(node.target)] == [
        "aten.batch_norm.default"
    ]
    torch.testing.assert_close(program.module()(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning", "ignore::DeprecationWarning")
def test_whitening_by_eigenvectors_exports_to_onnx_where_its_matrix_is_ill_conditioned_too() -> None:
    torch.manual_seed(0)
    layer, rotation = DecorrelatedBatchNorm(8, 2, momentum=1.0), torch.linalg.qr(torch.randn(8, 8)).Q
    x = torch.randn(40, 8) @ torch.diag(torch.logspace(-3, 2, 8)) @ rotation + 1
    layer(x)
    program = torch.onnx.export(nn.Sequential(layer).eval(), (x,), dynamo=True, verbose=False)
    assert program is not None
    exported = program.model_proto
    (y,) = ReferenceEvaluator(exported).run(None, {exported.graph.input[0].name: x.numpy()})
    centred = (x - layer.running_mean).double().view(40, 2, 4).movedim(0, -1)
    values, vectors = torch.linalg.eigh(layer.running_covariance.double())
    whitened = vectors @ ((vectors.mT @ centred) / (values + layer.eps).sqrt().unsqueeze(-1))
    torch.testing.assert_close(torch.from_numpy(y).double(), whitened.movedim(-1, 0).reshape(40, 8), rtol=0, atol=1e-3)
