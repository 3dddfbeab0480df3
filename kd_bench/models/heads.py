"""Questions to a network that a pass answers: its classifier, parameters behind the last stage, rectified stages.

Shapes: ``B`` batch, ``K`` classes, ``D`` embedding.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError
from kd_bench.models.features import FeatureTap, Outputs

Input = Literal["embedding", "pooled last stage", "pooled input of the head"]


def linear_classifier(network: FeatureTap, of: Input, data: DataSpec) -> nn.Linear:
    """Return the classifier of a network whose logits are one linear layer of its embedding or of a pooled map.

    It is tried on a batch, since neither a type nor a width says what a network does in between: a ViT classifies its
    class token, MobileNetV3 has a layer between pooling and classifier, an ensemble averages.

    Raises:
        ConfigError: the network classifies something else.
    """
    classifier = network.classifier
    outputs = _dry_pass(network, data)
    if isinstance(classifier, nn.Linear):
        features = _features(outputs, of)
        if features is not None and features.shape[1] == classifier.in_features:
            with torch.no_grad():
                logits = classifier(features)
            if torch.allclose(logits, outputs.logits, rtol=1e-3, atol=1e-4):
                return classifier
    raise ConfigError(
        f"the method needs logits that are one linear layer of the {of}, which those of {network.name} are not; "
        f"its stages: {network.stage_shapes}"
    )


def _features(outputs: Outputs, of: Input) -> Tensor | None:
    """Return what a classifier may be a layer of, (B, D); None where the input of the head is no map."""
    if of == "embedding":
        return outputs.embedding
    stage = outputs.stages[-1] if of == "pooled last stage" else outputs.final
    return None if stage is None or stage.dim() != 4 else stage.mean(dim=(2, 3))


def behind_last_stage(network: FeatureTap, data: DataSpec) -> list[nn.Parameter]:
    """Return the parameters that the last stage does not depend on: the classifier's, and others before it."""
    parameters = list(network.parameters())
    last = _dry_pass(network, data).stages[-1]
    gradients = torch.autograd.grad(last.sum(), parameters, allow_unused=True)
    return [parameter for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is None]


def rectified_stages(network: FeatureTap, data: DataSpec) -> list[bool]:
    """Return for each stage whether its map has no negative value, as it has behind a ReLU."""
    return [bool((stage >= 0).all()) for stage in _dry_pass(network, data).stages]


def _dry_pass(network: FeatureTap, data: DataSpec) -> Outputs:
    """Run the network in eval mode on images that are not alike."""
    training = network.training
    network.eval()
    black = data.example()
    outputs: Outputs = network(torch.linspace(0, 1, black.numel()).view_as(black))
    network.train(training)
    return outputs
