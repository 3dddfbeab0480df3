"""The measurements of a run, as its record holds them. Needs no torch.

Accuracies, rates and errors are fractions in [0, 1]; ``null`` is not measured or undefined. Where the reason is not in
a field's description, ``not_measured`` gives it, by the field's path. docs/evaluation.md explains every metric.
"""

import math
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from kd_bench.config.ranges import Count, Fraction, NonNegative, Positive, PositiveInt


class Strict(BaseModel):
    """No unknown fields, no conversions between types, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Reasons = Annotated[dict[str, str], Field(description="why a field is null, by its path below this object")]
Brier = Annotated[float, Field(ge=0, le=2, description="squared differences summed over classes, mean over samples")]
Kappa = Annotated[float, Field(ge=-1, le=1)]
Nats = Annotated[float, Field(ge=0)]
JensenShannon = Annotated[float, Field(ge=0, le=math.log(2), description="divergence in nats")]


class ScaledCalibration(Strict):
    """Calibration of the test split after temperature scaling, fitted on the validation split."""

    temperature: Annotated[Positive, Field(description="logits are divided by it")]
    nll: Nats
    ece: Fraction
    ece_noise_floor: Fraction
    brier: Brier
    ece_equal_mass: Fraction
    classwise_ece: Fraction
    mce: Fraction


class SplitMetrics(Strict):
    """Metrics of one held-out split, each over all of its samples. Those that need a teacher are null without one."""

    top1: Fraction
    top5: Annotated[Fraction | None, Field(description="null with fewer than 6 classes")]
    nll: Nats
    ece: Annotated[Fraction, Field(description="expected calibration error, 15 equal-width bins, L1")]
    ece_noise_floor: Annotated[Fraction, Field(description="mean ECE of a perfectly calibrated model of this size")]
    teacher_agreement: Fraction | None
    negative_flips: Annotated[Fraction | None, Field(description="share of samples: teacher right, student wrong")]
    positive_flips: Annotated[Fraction | None, Field(description="share of samples: teacher wrong, student right")]
    retention: Annotated[NonNegative | None, Field(description="top-1 of the student over top-1 of the teacher")]
    macro_top1: Annotated[Fraction | None, Field(description="mean over the classes of each one's top-1")] = None
    brier: Brier | None = None
    ece_equal_mass: Annotated[Fraction | None, Field(description="15 bins of equally many samples, L1")] = None
    classwise_ece: Annotated[Fraction | None, Field(description="mean over classes of the ECE of each against all")] = (
        None
    )
    mce: Annotated[Fraction | None, Field(description="largest gap of the 15 equal-width bins")] = None
    scaled: Annotated[ScaledCalibration | None, Field(description="null on the split that it is fitted on")] = None
    kl: Annotated[Nats | None, Field(description="of the student's probabilities from the teacher's")] = None
    js: JensenShannon | None = None
    correctness_kappa: Annotated[
        Kappa | None, Field(description="Cohen's kappa of being right; null where both are all right or all wrong")
    ] = None
    retention_over_chance: Annotated[
        float | None, Field(description="retention of (top-1 - 1/K); null unless the teacher is above chance")
    ] = None


class ClassMetrics(Strict):
    """The test split class by class: counts of samples, in the order of the data set's class names.

    The teacher's are right on ``correct + negative_flips - positive_flips``. Statistics leave out classes without
    samples. A class differs from the teacher where McNemar's exact test says so, at a false discovery rate of 5 % over
    the classes (Benjamini-Hochberg).
    """

    samples: list[Count]
    correct: list[Count]
    negative_flips: list[Count] | None
    positive_flips: list[Count] | None
    worst_top1: Annotated[Fraction, Field(description="of the worst class")]
    worst_tenth_top1: Annotated[Fraction, Field(description="mean of the worst 10 % of the classes, at least one")]
    sd_top1: Annotated[Fraction, Field(description="standard deviation over the classes, divisor K")]
    significantly_worse: Annotated[list[Count] | None, Field(description="positions of classes")]
    significantly_better: Annotated[list[Count] | None, Field(description="positions of classes")]


class Exemplars(Strict):
    """Test samples on which student and teacher predict different classes, those first that the teacher is surest of.

    The order does not depend on the student, so that lists of students of one teacher can be joined although they are
    cut off. The full list follows from the predictions.
    """

    total: Annotated[Count, Field(description="how many there are; the lists stop earlier")]
    index: Annotated[list[Count], Field(description="positions in the test split")]
    target: list[Count]
    teacher: Annotated[list[Count], Field(description="class that it predicts")]
    student: Annotated[list[Count], Field(description="class that it predicts")]
    teacher_confidence: list[Fraction]


class Reliability(Strict):
    """Test samples by the confidence of their prediction, in 15 equal-width bins: what the ECE is computed from."""

    samples: list[Count]
    correct: list[Count]
    confidence: Annotated[list[Fraction | None], Field(description="mean of each bin; null where it is empty")]


class SelectedMetrics(Strict):
    """Metrics of the weights that one selection rule picks."""

    epoch: Annotated[int, Field(ge=0, description="training epochs done, counted from 1; 0 if trained elsewhere")]
    validation: SplitMetrics
    test: SplitMetrics
    classes: ClassMetrics | None = None
    reliability: Reliability | None = None
    exemplars: Annotated[Exemplars | None, Field(description="null without a teacher")] = None
    not_measured: Reasons = {}


class Metrics(Strict):
    """Metrics by selection rule."""

    last: SelectedMetrics
    best_on_validation: SelectedMetrics
    best_on_test: Annotated[
        SelectedMetrics | None,
        Field(description="the epoch that the test split itself picked: too good; null unless the recipe selects so"),
    ] = None
    ema: Annotated[
        SelectedMetrics | None,
        Field(
            description="the moving average of the weights after the last epoch; absent unless the recipe keeps one",
            exclude_if=lambda value: value is None,
        ),
    ] = None


class Fidelity(Strict):
    """Agreement of student and teacher on one set of training images."""

    top1: Fraction
    teacher_top1: Fraction
    teacher_agreement: Fraction
    kl: Nats


class TrainFidelity(Strict):
    """Fidelity on images that the student was trained on, as they are and as augmented in an epoch after the last."""

    samples: PositiveInt
    clean: Fidelity
    augmented: Fidelity


class Corruptions(Strict):
    """Accuracy on corrupted test images. Lists go by severity, in the order of ``severities``."""

    name: str
    sha256: Annotated[str | None, Field(description="of the files that were read; null for images made here")]
    samples: Annotated[PositiveInt, Field(description="test images, each in every corruption and severity")]
    severities: list[PositiveInt]
    clean_top1: Annotated[Fraction, Field(description="on the same images, not corrupted")]
    mean_top1: Annotated[Fraction, Field(description="over corruptions and severities")]
    relative_top1: Annotated[NonNegative | None, Field(description="mean_top1 over clean_top1; null if that is 0")]
    teacher_mean_top1: Fraction | None
    mce: Annotated[
        NonNegative | None,
        Field(description="mean over corruptions of the student's errors over the teacher's; null if it makes none"),
    ]
    top1: dict[str, list[Fraction]]
    teacher_top1: dict[str, list[Fraction]] | None


class Probe(Strict):
    """The worth of a frozen embedding on other data."""

    embedding_size: PositiveInt
    linear_probe_top1: Fraction
    knn_top1: Fraction


class Transfer(Strict):
    """Probes of the frozen embeddings on another data set."""

    classes: PositiveInt
    train_samples: PositiveInt
    test_samples: PositiveInt
    student: Probe
    teacher: Probe | None


class Speed(Strict):
    """One network on the machine that the evaluation names."""

    p50_ms: Positive
    p95_ms: Positive
    p99_ms: Positive
    images_per_second: Annotated[Positive, Field(description="at the best batch size")]
    best_batch: PositiveInt
    activation_bytes: Annotated[
        Count, Field(description="most bytes of activations alive at once, one image, without workspaces")
    ]
    load_seconds: Annotated[NonNegative, Field(description="from the weight file to a network in memory; median")]


class Ratio(Strict):
    """A geometric mean over processes and its 95 % t interval."""

    mean: Positive
    low: Positive | None
    high: Positive | None


class Latency(Strict):
    """Single images, teacher and student in turn within each process."""

    batch_size: PositiveInt
    threads: PositiveInt
    processes: PositiveInt
    timings: Annotated[PositiveInt, Field(description="of each network in each process")]
    student: Speed
    teacher: Speed | None
    p50_ratio: Annotated[Ratio | None, Field(description="the student's over the teacher's: below 1 is faster")]
    machine: Annotated[str | None, Field(description="that the milliseconds belong to")] = None


class GroupCounts(Strict):
    """The test split by the groups that ``dataset.groups`` names: counts of samples, in the order of ``names``."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="of the file that assigns samples to groups")]
    names: Annotated[list[str], Field(min_length=1)]
    samples: list[PositiveInt]
    correct: list[Count]
    negative_flips: Annotated[list[Count] | None, Field(description="teacher right, student wrong; null without one")]
    positive_flips: Annotated[list[Count] | None, Field(description="teacher wrong, student right; null without one")]

    @model_validator(mode="after")
    def _of_one_length(self) -> "GroupCounts":
        lists = (self.samples, self.correct, self.negative_flips, self.positive_flips)
        if any(counts is not None and len(counts) != len(self.names) for counts in lists):
            raise ValueError("the lists should have an entry a group")
        if any(right > total for right, total in zip(self.correct, self.samples, strict=True)):
            raise ValueError("a group has more right than it has samples")
        return self


class AddedMetric(Strict):
    """A metric of torchmetrics on the test split, for the headline weights, as the ``metrics`` group asked for it."""

    target: Annotated[str, Field(description="its class")]
    arguments: Annotated[dict[str, Any], Field(description="without the number of classes")]
    torchmetrics: Annotated[str, Field(description="version that computed it")]
    value: Annotated[float | None, Field(description="mean over the classes where it is by class; null: undefined")]
    by_class: Annotated[list[float | None] | None, Field(description="null where it is one number")] = None


class FullEvaluation(Strict):
    """Measurements of the headline weights that predictions alone do not give."""

    embedding_cka: Annotated[Fraction | None, Field(description="linear CKA of the two embeddings, test split")] = None
    train_fidelity: TrainFidelity | None = None
    corruptions: Annotated[Corruptions | None, Field(description="made by kd_bench: not CIFAR-C")] = None
    cifar_c: Annotated[Corruptions | None, Field(description="files of the user's")] = None
    transfer: Annotated[dict[str, Transfer], Field(description="by data set")] = {}
    latency: Latency | None = None
    groups: Annotated[GroupCounts | None, Field(description="by groups of samples; absent without dataset.groups")] = (
        None
    )
    metrics: Annotated[dict[str, AddedMetric], Field(description="by name; absent without the metrics group")] = {}
    not_measured: Reasons = {}

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave ``groups`` and ``metrics`` out where there are none: they came after the first records."""
        return {name: value for name, value in dump(self).items() if name not in ("groups", "metrics") or value}


class TrainingCost(Strict):
    """The cost of training beside its time."""

    teacher_forward_share: Annotated[
        Fraction | None,
        Field(description="of the training seconds, spent in forward passes of the teacher; null on a GPU"),
    ]
    peak_memory_bytes: Annotated[Count | None, Field(description="resident, of the process until its record")]
    device_peak_memory_bytes: Annotated[Count | None, Field(description="null without a GPU")]
    cached_teacher_seconds: Annotated[
        NonNegative | None,
        Field(
            description="of the training seconds, not spent here: what the outputs took that a run before computed and "
            "this one read; null where it read none"
        ),
    ] = None
