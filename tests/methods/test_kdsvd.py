"""Singular vectors and their derivatives against torch's and finite differences, and where these do not exist."""

import numpy as np
import pytest
import torch
from torch import Tensor

from kd_bench.config.check import check
from kd_bench.errors import ConfigError
from kd_bench.methods.kdsvd import aligned_vectors, as_matrix, right_singular_vectors, teacher_vectors
from kd_bench.training.pair import build


def random_matrix(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SHAPES = [(3, 9, 4), (3, 4, 9), (2, 5, 5), (2, 3, 1), (2, 1, 3)]
every_shape = pytest.mark.parametrize("shape", SHAPES)


@every_shape
def test_values_and_vectors_are_numpys(shape):
    matrix = random_matrix(*shape)
    values, vectors = right_singular_vectors(matrix, 2)
    _, expected_values, expected = np.linalg.svd(matrix.numpy(), full_matrices=False)
    expected, got = expected[:, :2].transpose(0, 2, 1), vectors.numpy()
    np.testing.assert_allclose(values, expected_values[:, :2], rtol=1e-9)
    np.testing.assert_allclose(got * np.sign((expected * got).sum(axis=1, keepdims=True)), expected, atol=1e-9)


@every_shape
def test_derivatives_are_those_of_torchs_decomposition(shape):
    matrix, weights = random_matrix(*shape), random_matrix(shape[0], shape[2], 2, seed=1)[..., : min(shape[1:])]

    def gradient(decompose) -> Tensor:
        given = matrix.clone().requires_grad_()
        vectors = decompose(given)
        # The square of a sum knows no side.
        (found,) = torch.autograd.grad((vectors * weights).sum(dim=1).pow(2).sum(), given)
        return found

    expected = gradient(lambda given: torch.linalg.svd(given, full_matrices=False)[2].mT[..., :2])
    torch.testing.assert_close(
        gradient(lambda given: right_singular_vectors(given, 2)[1]), expected, rtol=1e-6, atol=1e-9
    )


DEGENERATE = {
    "zero": torch.zeros(2, 6, 4),
    "equal values": torch.eye(6, 4).expand(2, 6, 4).clone(),
    "rank one": random_matrix(2, 6, 1).float() @ random_matrix(2, 1, 4, seed=1).float(),
    "rank one, wide": random_matrix(2, 4, 1).float() @ random_matrix(2, 1, 7, seed=1).float(),
    "dead channels": random_matrix(2, 6, 4).float() * torch.tensor([1.0, 0.0, 0.0, 1.0]),
    "tiny": 1e-20 * random_matrix(2, 6, 4).float(),
    "huge": 1e6 * random_matrix(2, 6, 4).float(),
}


@pytest.mark.parametrize("matrix", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_what_has_no_derivative_gives_finite_ones(matrix):
    given = matrix.clone().requires_grad_()
    _, vectors = right_singular_vectors(given, 3)
    (vectors * random_matrix(*vectors.shape, seed=2).float()).sum().backward()
    assert vectors.isfinite().all()
    assert given.grad is not None
    assert given.grad.isfinite().all()


def test_the_derivative_of_the_first_vector_does_not_suffer_from_equal_values_behind_it():
    matrix = torch.diag(torch.tensor([3.0, 1.0, 1.0], dtype=torch.float64))[None].requires_grad_()
    _, vectors = right_singular_vectors(matrix, 1)
    (gradient,) = torch.autograd.grad(vectors[0, 1, 0] * vectors[0, 0, 0].detach().sign(), matrix)
    expected = torch.zeros(3, 3, dtype=torch.float64)
    # d(v_2) = (s_1 dA_12 + s_2 dA_21) / (s_1^2 - s_2^2)
    expected[0, 1], expected[1, 0] = 3 / 8, 1 / 8
    torch.testing.assert_close(gradient[0], expected)


def test_layouts_put_channels_or_the_width_last():
    stage = random_matrix(2, 3, 4, 5)
    assert torch.equal(as_matrix(stage, "channels")[1, 7], stage[1, :, 1, 2])
    assert torch.equal(as_matrix(stage, "width")[1, 2 * 4 + 3], stage[1, 2, 3])


def test_vectors_are_matched_whatever_their_side_and_order():
    stage = random_matrix(2, 6, 4, 4)
    vectors, values = teacher_vectors(stage, 2, "channels")
    assert (vectors.sum(dim=1) >= 0).all()
    torch.testing.assert_close(values.pow(2).sum(dim=2), torch.ones(2, 1, dtype=torch.float64))
    for teacher in (vectors, -vectors, vectors.flip(2)):
        torch.testing.assert_close(aligned_vectors(stage, teacher, "channels"), teacher)


def test_other_numbers_of_channels_are_refused_with_the_stages_there_are(compose):
    cfg = compose("method=kdsvd", "teacher=resnet32x4_cifar")
    with pytest.raises(
        ConfigError, match=r"method.layout=channels needs .* same channels .*resnet8_cifar: .*\(64, 2, 2\)"
    ):
        build(check(cfg))
    cfg.method.layout = "width"
    build(check(cfg))
