"""The metrics that boards show of a record beside its comparisons: one table that drives every output.

The numbers are those of the headline weights on the test split.
"""

import math
from typing import Literal

from kd_bench.results.leaderboard.metric import Metric

Group = Literal["quality", "transfer", "fidelity", "calibration", "harm", "cost"]

QUALITY = (
    Metric(
        "best_on_validation",
        "Best on validation %",
        "metrics.best_on_validation.test.top1",
        "Test top-1 of the epoch that was best on the validation split.",
    ),
    Metric("top5", "Top-5 %", "headline.test.top5", "Target among the five likeliest."),
    Metric("macro_top1", "Macro top-1 %", "headline.test.macro_top1", "Mean over the classes of each one's top-1."),
    Metric(
        "corrupted_top1",
        "Corrupted top-1 %",
        "full.corruptions.mean_top1",
        "Mean over corruptions and severities that kd_bench makes itself: not CIFAR-C.",
    ),
    Metric(
        "corrupted_relative",
        "Corrupted / clean %",
        "full.corruptions.relative_top1",
        "The same over the top-1 on the images as they are.",
        most=math.inf,
    ),
    Metric(
        "corruption_error",
        "mCE %",
        "full.corruptions.mce",
        "Errors under these corruptions over the teacher's, mean over the corruptions; above 100 is less robust.",
        lower=True,
        most=math.inf,
    ),
    Metric(
        "cifar_c_top1",
        "CIFAR-C top-1 %",
        "full.cifar_c.mean_top1",
        "Mean over the corruptions and severities of the published files.",
    ),
    Metric(
        "cifar_c_relative",
        "CIFAR-C / clean %",
        "full.cifar_c.relative_top1",
        "The same over the top-1 on the images as they are.",
        most=math.inf,
    ),
    Metric(
        "cifar_c_error",
        "CIFAR-C mCE %",
        "full.cifar_c.mce",
        "Errors on the published files over the teacher's.",
        lower=True,
        most=math.inf,
    ),
)


def _transfer(dataset: str) -> tuple[Metric, ...]:
    words = dataset.replace("_", " ")
    path = f"full.transfer.{dataset}.student."
    return (
        Metric(
            f"probe_{dataset}",
            f"Probe {words} %",
            f"{path}linear_probe_top1",
            f"Test top-1 on {words} of a logistic regression on the frozen embedding.",
        ),
        Metric(
            f"knn_{dataset}",
            f"k-NN {words} %",
            f"{path}knn_top1",
            f"Test top-1 on {words} of the 5 nearest neighbours in the frozen embedding.",
        ),
    )


TRANSFER = tuple(metric for dataset in ("digits", "fashion_mnist") for metric in _transfer(dataset))
FIDELITY = (
    Metric(
        "teacher_agreement",
        "Agreement %",
        "headline.test.teacher_agreement",
        "Share of test images on which student and teacher predict the same class.",
    ),
    Metric(
        "kl",
        "KL",
        "headline.test.kl",
        "Divergence of the student's probabilities from the teacher's at temperature 1, nats.",
        "decimal",
        lower=True,
    ),
    Metric(
        "js",
        "JS",
        "headline.test.js",
        "Jensen-Shannon divergence of the two, nats.",
        "decimal",
        lower=True,
        most=math.log(2),
    ),
    Metric(
        "correctness_kappa",
        "κ of correctness",
        "headline.test.correctness_kappa",
        "Agreement of student and teacher on being right, beyond chance (Cohen's kappa).",
        "decimal",
        least=-1.0,
        most=1.0,
    ),
    Metric(
        "embedding_cka",
        "CKA",
        "full.embedding_cka",
        "Linear similarity of the two embeddings of the test images.",
        "decimal",
        most=1.0,
    ),
    Metric(
        "train_agreement",
        "Train agreement %",
        "full.train_fidelity.clean.teacher_agreement",
        "Agreement with the teacher on training images as they are.",
    ),
    Metric(
        "augmented_agreement",
        "Augmented agreement %",
        "full.train_fidelity.augmented.teacher_agreement",
        "The same on augmented training images.",
    ),
    Metric(
        "train_kl",
        "Train KL",
        "full.train_fidelity.clean.kl",
        "KL on training images as they are, nats.",
        "decimal",
        lower=True,
    ),
    Metric(
        "augmented_kl",
        "Augmented KL",
        "full.train_fidelity.augmented.kl",
        "The same on augmented training images.",
        "decimal",
        lower=True,
    ),
)
_RAW = (
    (
        "ece",
        "ECE",
        "Expected calibration error, 15 equal-width bins; in brackets the mean of a perfectly calibrated model on a"
        " test split of this size. Less than that is luck.",
    ),
    ("nll", "NLL", "Negative log-likelihood of the test labels, nats per image."),
    ("brier", "Brier", "Squared differences of probabilities and labels, summed over the classes: 0 to 2."),
    ("ece_equal_mass", "ECE equal-mass", "Calibration error in 15 bins of equally many images."),
    ("classwise_ece", "ECE classwise", "Mean over the classes of the calibration error of each against all others."),
    ("mce", "MCE", "Largest gap between confidence and accuracy of the 15 bins."),
)


def _calibration(key: str, title: str, explanation: str, scaled: bool) -> Metric:
    path = "headline.test.scaled." if scaled else "headline.test."
    return Metric(
        f"scaled_{key}" if scaled else key,
        f"{title} scaled" if scaled else title,
        path + key,
        f"{title} after temperature scaling, fitted on the validation split." if scaled else explanation,
        "decimal",
        lower=True,
        floor=f"{path}ece_noise_floor" if key == "ece" else "",
        most={"nll": math.inf, "brier": 2.0}.get(key, 1.0),
    )


CALIBRATION = (
    *(_calibration(*raw, scaled) for raw in _RAW for scaled in (False, True)),
    Metric(
        "temperature",
        "Temperature",
        "headline.test.scaled.temperature",
        "What temperature scaling divides the logits by: above 1 the network is too sure.",
        "ratio",
        lower=True,
    ),
)
HARM = (
    Metric(
        "negative_flips",
        "Negative flips %",
        "headline.test.negative_flips",
        "Share of test images that the teacher gets right and the student wrong.",
        lower=True,
    ),
    Metric(
        "positive_flips",
        "Positive flips %",
        "headline.test.positive_flips",
        "Share of test images that the teacher gets wrong and the student right.",
    ),
    Metric("worst_top1", "Worst class %", "headline.classes.worst_top1", "Top-1 of the worst class."),
    Metric(
        "worst_tenth_top1",
        "Worst tenth %",
        "headline.classes.worst_tenth_top1",
        "Mean top-1 of the worst tenth of the classes, at least one.",
    ),
    Metric(
        "sd_top1",
        "SD of classes",
        "headline.classes.sd_top1",
        "Standard deviation of top-1 over the classes, in percentage points.",
        lower=True,
    ),
    Metric(
        "classes_worse",
        "Classes worse",
        "headline.classes.significantly_worse",
        "Classes with significantly more errors than the teacher's (McNemar, 5 % false discoveries), mean over seeds.",
        "count",
        lower=True,
    ),
    Metric(
        "classes_better",
        "Classes better",
        "headline.classes.significantly_better",
        "Classes with significantly fewer errors than the teacher's.",
        "count",
    ),
)
COST = (
    Metric(
        "parameters",
        "Parameters",
        "student.parameters",
        "Of everything needed at test time.",
        "count",
        lower=True,
    ),
    Metric(
        "trainable_parameters",
        "Trained parameters",
        "student.trainable_parameters",
        "Of those, the ones that were trained.",
        "count",
        lower=True,
    ),
    Metric(
        "macs",
        "MACs",
        "student.macs",
        "Multiply-accumulates of one image at test time.",
        "count",
        lower=True,
    ),
    Metric("file_bytes", "File", "student.file_bytes", "Weights as safetensors.", "bytes", lower=True),
    Metric(
        "latency_ratio",
        "Latency / teacher",
        "full.latency.p50_ratio.mean",
        "Median time of one image over the teacher's on the same machine, timed in turn.",
        "ratio",
        lower=True,
    ),
    Metric(
        "p50_ms",
        "p50 ms",
        "full.latency.student.p50_ms",
        "Median time of one image on the machine that measured it.",
        "ratio",
        lower=True,
    ),
    Metric("p95_ms", "p95 ms", "full.latency.student.p95_ms", "95 % are faster.", "ratio", lower=True),
    Metric("p99_ms", "p99 ms", "full.latency.student.p99_ms", "99 % are faster.", "ratio", lower=True),
    Metric("images_per_second", "Images / s", "full.latency.student.images_per_second", "At the best batch.", "count"),
    Metric(
        "activation_bytes",
        "Activations",
        "full.latency.student.activation_bytes",
        "Most bytes of activations alive at once, one image.",
        "bytes",
        lower=True,
    ),
    Metric(
        "load_seconds",
        "Load s",
        "full.latency.student.load_seconds",
        "From the weight file to a network in memory.",
        "ratio",
        lower=True,
    ),
    Metric(
        "train_seconds",
        "Train s",
        "times.train_seconds",
        "Wall-clock seconds of training on whatever machine ran it, without the teacher's.",
        "seconds",
        lower=True,
        shown=True,
    ),
    Metric(
        "teacher_train_seconds",
        "Teacher's train s",
        "times.teacher_train_seconds",
        "The training of the teacher, which the student needs as well; missing for teachers from elsewhere.",
        "seconds",
        lower=True,
    ),
    Metric(
        "teacher_forward_share",
        "Teacher's share %",
        "cost.teacher_forward_share",
        "Of the training time, spent in forward passes of the teacher.",
        lower=True,
    ),
    Metric(
        "adapter_parameters",
        "Adapter parameters",
        "method.adapter_parameters",
        "Trained beside the student and thrown away after training.",
        "count",
        lower=True,
    ),
    Metric(
        "tuning_trials",
        "Tuning trials",
        "config.tuning.trials",
        "Runs of the search that found the hyperparameters; 0 where none was made.",
        "count",
        lower=True,
    ),
    Metric("peak_memory_bytes", "Peak memory", "cost.peak_memory_bytes", "Of the process.", "bytes", lower=True),
    Metric(
        "device_peak_memory_bytes",
        "Peak GPU memory",
        "cost.device_peak_memory_bytes",
        "Of the training device.",
        "bytes",
        lower=True,
    ),
)
GROUPS: dict[Group, tuple[Metric, ...]] = {
    "quality": QUALITY,
    "transfer": TRANSFER,
    "fidelity": FIDELITY,
    "calibration": CALIBRATION,
    "harm": HARM,
    "cost": COST,
}
METRICS = {metric.key: metric for metrics in GROUPS.values() for metric in metrics}
