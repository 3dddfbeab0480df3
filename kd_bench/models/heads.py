"""The head of a network, behind its last stage: its classifier, and which parameters are there.

Shapes: ``B`` batch, ``K`` classes, ``D`` embedding.
"""

from typing import Literal

import torch
from torch import nn

from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError
from kd_bench.models.features import FeatureTap, Outputs

Input = Literal["embedding", "pooled last stage"]


def linear_classifier(network: FeatureTap, of: Input, data: DataSpec) -> nn.Linear:
    """Return the classifier of a network whose logits are one linear layer of its embedding or its pooled last stage.

    It is tried on a batch, since neither a type nor a width says what a network does in between: a ViT classifies its
    class token, MobileNetV3 has a layer between pooling and classifier, an ensemble averages.

    Raises:
        ConfigError: the network classifies something else.
    """
    classifier = network.classifier
    outputs = _dry_pass(network, data)
    if isinstance(classifier, nn.Linear):
        features = outputs.embedding if of == "embedding" else outputs.stages[-1].mean(dim=(2, 3))
        if features.shape[1] == classifier.in_features:
            with torch.no_grad():
                logits = classifier(features)
            if torch.allclose(logits, outputs.logits, rtol=1e-3, atol=1e-4):
                return classifier
    raise ConfigError(
        f"the method needs logits that are one linear layer of the {of}, which those of {network.name} are not; "
        f"its stages: {network.stage_shapes}"
    )


def behind_last_stage(network: FeatureTap, data: DataSpec) -> list[nn.Parameter]:
    """Return the parameters that the last stage does not depend on: the classifier's, and others before it."""
    parameters = list(network.parameters())
    last = _dry_pass(network, data).stages[-1]
    gradients = torch.autograd.grad(last.sum(), parameters, allow_unused=True)
    return [parameter for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is None]


def _dry_pass(network: FeatureTap, data: DataSpec) -> Outputs:
    """Run the network in eval mode on images that are not alike."""
    training = network.training
    network.eval()
    black = data.example()
    outputs: Outputs = network(torch.linspace(0, 1, black.numel()).view_as(black))
    network.train(training)
    return outputs
