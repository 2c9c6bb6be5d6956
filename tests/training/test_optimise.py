"""Muon against its definition and against PyTorch's own; which parameters it trains."""

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from fluorosam_cli.model.fluorosam import FluoroSAM, preset
from fluorosam_cli.training.optimise import MUON_DECAY, MUON_MOMENTUM, Muon, Optimiser, fair_shares, orthogonal
from fluorosam_cli.training.recipe import FLUORO, FLUOROSAM


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (32, 32)])
def test_singular_values_come_near_one_and_vectors_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ orthogonal(matrix) @ vt.T
    torch.testing.assert_close(turned, torch.diag(turned.diagonal()), atol=1e-9, rtol=0)
    assert ((turned.diagonal() > 0.6) & (turned.diagonal() < 1.25))[s > 0.05 * s.max()].all()
    assert not orthogonal(torch.zeros(shape)).any()


def to_tf32(x):
    """Rounded to the 10 bits of mantissa that a GPU's TF32 has."""
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


class Tf32(TorchFunctionMode):
    """Multiplies matrices as a GPU does that is allowed TF32."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.matmul and torch.get_float32_matmul_precision() != "highest":
            args = tuple(map(to_tf32, args))
        return func(*args, **(kwargs or {}))


def ill_conditioned():
    """A matrix (128, 1152) with singular values of many magnitudes."""
    torch.manual_seed(0)
    return torch.randn(128, 128) * torch.exp(2 * torch.randn(128)) @ torch.randn(128, 1152)


@pytest.fixture
def tf32_allowed():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def test_singular_values_stay_near_one_where_tf32_is_allowed(tf32_allowed):
    matrix = ill_conditioned()
    with Tf32():
        found, rounded = orthogonal(matrix), matrix @ matrix.T
    assert not torch.equal(rounded, matrix @ matrix.T)
    assert torch.linalg.svdvals(found).max() < 1.25
    assert torch.equal(found, orthogonal(matrix))
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.gpu
def test_singular_values_stay_near_one_on_a_gpu(tf32_allowed):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert torch.linalg.svdvals(orthogonal(ill_conditioned().cuda())).max() < 1.25


def test_it_moves_as_pytorchs_does():
    theirs = getattr(torch.optim, "Muon", None)
    if theirs is None:
        pytest.skip("this PyTorch has no Muon")
    torch.manual_seed(0)
    start = torch.randn(24, 40) * 0.1
    ours, other = (nn.Parameter(start.clone()) for _ in range(2))
    mine = Muon([ours], rate=0.02)
    reference = theirs([other], lr=0.02, momentum=MUON_MOMENTUM, weight_decay=MUON_DECAY)
    for _ in range(5):
        gradient = torch.randn(24, 40)
        ours.grad, other.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    moved = (ours - start).norm()
    assert (ours - other).norm() < 0.02 * moved  # theirs multiplies in bf16


def test_a_convolution_moves_as_a_matrix_with_a_row_for_each_output():
    torch.manual_seed(0)
    start, gradient = torch.randn(8, 3, 3, 3), torch.randn(8, 3, 3, 3)
    kernel, matrix = nn.Parameter(start.clone()), nn.Parameter(start.flatten(1).clone())
    kernel.grad, matrix.grad = gradient, gradient.flatten(1)
    for parameter in (kernel, matrix):
        Muon([parameter]).step()
    torch.testing.assert_close(kernel.flatten(1), matrix)


def test_what_nothing_needed_stays():
    parameter = nn.Parameter(torch.ones(4, 4))
    parameter.grad = torch.zeros(4, 4)
    Muon([parameter]).step()
    assert (parameter == 1).all()


@pytest.mark.parametrize(("recipe", "parts"), [(FLUORO, {"Muon", "AdamW"}), (FLUOROSAM, {"AdamW"})])
def test_every_trained_parameter_moves_and_the_state_comes_back(recipe, parts):
    torch.manual_seed(0)
    model = FluoroSAM(preset("tiny", 8))
    model.text_head.requires_grad_(False)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimiser = Optimiser(model, recipe)
    for _ in range(2):
        for p in model.parameters():
            p.grad = torch.randn_like(p) if p.requires_grad else None
        optimiser.step(1e-2)
    assert all(p.grad is None for p in model.parameters())
    assert {name for name, p in model.named_parameters() if not torch.equal(p, before[name])} == trained
    state = optimiser.state_dict()
    assert set(state) == parts
    again = Optimiser(model, recipe)
    again.load_state_dict(state)
    assert str(again.state_dict()) == str(state)


def test_the_work_is_shared_out_fairly() -> None:
    costs = [1.0, 9.0, 3.0, 3.0, 2.0]
    owners = fair_shares(costs, 2)
    load = [sum(cost for cost, owner in zip(costs, owners, strict=True) if owner == worker) for worker in (0, 1)]
    assert load == [9.0, 9.0]
    assert fair_shares(costs, 1) == [0] * 5
    assert set(fair_shares([1.0], 3)) == {0}
