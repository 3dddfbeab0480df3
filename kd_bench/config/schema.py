"""The schema of a composed configuration: its keys, their types and their ranges.

The comments in ``conf/`` say what each key does; ``check`` makes a :class:`RunConfig` of what Hydra composed.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from kd_bench.config.augmentation_keys import Mixing, Steps
from kd_bench.config.interpolations import UNRECORDED
from kd_bench.config.ranges import (
    Count,
    Fraction,
    ImageSize,
    OpenFraction,
    Positive,
    PositiveFraction,
    PositiveInt,
    Section,
    Seed,
    Selection,
)

LONGEST_NAME = 200  # of what boards show
# Arguments of `timm.create_model` that read files. Weights come from files whose content is hashed, and from no others.
WEIGHT_ARGUMENTS = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


def _without_files(arguments: dict[str, Any]) -> dict[str, Any]:
    if found := [name for name in arguments if name in WEIGHT_ARGUMENTS]:
        raise ValueError(f"{found[0]} is not allowed here; weights come by teacher.checkpoint or `kd-bench import`")
    return arguments


def _printable(text: str) -> str:
    if not text.isprintable() or len(text) > LONGEST_NAME:
        raise ValueError(f"should be one line of at most {LONGEST_NAME} characters that can all be seen")
    return text


Channels = Annotated[list[float], Field(min_length=3, max_length=3)]
Name = Annotated[str, Field(min_length=1)]
ShownName = Annotated[Name, AfterValidator(_printable)]
Node = dict[str, Any]


# The default of a key that came after the first records: a run that does not use it has the same record as before.
_UNUSED: Any = Field(default=None, exclude_if=lambda value: value is None)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DatasetConfig(_Strict):
    """A data set: the source that loads it, and what the source is expected to load."""

    source: Node
    num_classes: Annotated[int, Field(ge=2)] | None
    image_size: ImageSize
    mean: Channels
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)]
    validation_fraction: OpenFraction
    train_samples: PositiveInt | None
    groups: Name | None = None


class NetworkConfig(_Strict):
    """A network's arguments, weights to start from and input; see ``conf/student/_network.yaml``.

    Attributes:
        init: a weight file that training starts from, with a new head; ``timm`` stands for ``pretrained``. Where the
            file lies says nothing about its content and is not recorded.
        init_sha256: of the names and values in that file, completed where it is not given.
    """

    pretrained: bool = False
    init: Annotated[Name | None, Field(exclude=True)] = None
    init_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = _UNUSED
    kwargs: Annotated[Node, AfterValidator(_without_files)] = {}
    input_size: ImageSize | None = None
    mean: Channels | None = None
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_timm(cls, values: Any) -> Any:
        """Read ``init: timm`` as ``pretrained: true``, so that the two are one run."""
        if isinstance(values, dict) and values.get("init") == "timm":
            return {**values, "init": None, "pretrained": True}
        return values

    @property
    def starts_elsewhere(self) -> bool:
        """Whether training starts from weights that were trained on other images, normalised as timm says."""
        return self.pretrained or self.init_sha256 is not None


class StudentConfig(NetworkConfig):
    """The network that is trained, by its name in timm's registry."""

    name: Name


class TrainedConfig(NetworkConfig):
    """A network and where its weights come from."""

    checkpoint: Name = "auto"
    seed: Seed = 1000
    expected_top1: Fraction | None = None
    overrides: Node = {}


class MemberConfig(TrainedConfig):
    """A network of a teacher, and its weight in the ensemble's average."""

    name: Name
    weight: Positive = 1.0


class TeacherConfig(TrainedConfig):
    """One network, or an ensemble of ``members`` under one name."""

    name: ShownName | None
    members: dict[str, MemberConfig] = {}
    average: Literal["logits", "probabilities"] = "logits"

    def networks(self) -> list[MemberConfig]:
        """Return the networks of the teacher: none, one, or the members of the ensemble."""
        if self.members:
            return list(self.members.values())
        shared = {name: getattr(self, name) for name in TrainedConfig.model_fields}
        return [] if self.name is None else [MemberConfig(name=self.name, **shared)]


class AugmentationConfig(_Strict):
    """Augmentation of training images: a crop of one kind, flips, then steps, then mixing.

    Attributes:
        steps: what follows the crop and the flip.
        strong_steps: what follows in place of ``steps`` in the strong views of a method that asks for them.
        teacher_steps: what follows in place of ``steps`` for the teacher, which sees the same crop and flip.
        mixing: of the images of a batch with each other.

    The last four are dumped where they are used alone, so that they change no fingerprint where they are not.
    """

    crop_padding: Count
    horizontal_flip: bool
    resized_crop: Annotated[list[PositiveFraction], Field(min_length=2, max_length=2)] | None
    steps: Steps | None = None
    strong_steps: Steps | None = None
    teacher_steps: Steps | None = None
    mixing: Mixing | None = None

    @model_validator(mode="after")
    def _one_crop(self) -> "AugmentationConfig":
        if self.resized_crop is not None and (self.crop_padding or self.resized_crop[0] > self.resized_crop[1]):
            raise ValueError("resized_crop should be [least, greatest] share of the area, with crop_padding 0")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> Node:
        optional = ("steps", "strong_steps", "teacher_steps", "mixing")
        return {name: value for name, value in dump(self).items() if name not in optional or value is not None}


class RecipeConfig(_Strict):
    """Optimization, and the weights that the headline reports. What is null is not done, and neither recorded.

    Attributes:
        schedule_by: ``step`` moves the schedule after each step of the optimizer; null after each epoch.
        accumulate: batches whose gradients are averaged for one step.
        clip_norm: largest norm of a step's gradient, of all parameters together.
        clip_value: largest size of each number of it.
        ema_decay: share of the average of weights that stays after a step.
        label_smoothing: share of the labels that all classes get alike.
    """

    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    optimizer: Node
    scheduler: Node | None
    augmentation: AugmentationConfig
    selection: Selection
    schedule_by: Literal["epoch", "step"] | None = _UNUSED
    accumulate: Annotated[int, Field(ge=2)] | None = _UNUSED
    clip_norm: Positive | None = _UNUSED
    clip_value: Positive | None = _UNUSED
    ema_decay: OpenFraction | None = _UNUSED
    label_smoothing: OpenFraction | None = _UNUSED

    @model_validator(mode="after")
    def _fits_together(self) -> "RecipeConfig":
        if self.clip_norm and self.clip_value:
            raise ValueError("clip_norm and clip_value: one of them should be null")
        if self.selection == "ema" and self.ema_decay is None:
            raise ValueError("selection=ema: needs an ema_decay")
        return self


class TrainerConfig(_Strict):
    """Hardware, precision, and how often a run checkpoints and reports."""

    accelerator: Literal["cpu", "gpu"]
    devices: PositiveInt = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed"]
    channels_last: bool
    compile: Literal["none", "teacher", "student", "both"] = Field(
        default="none", exclude_if=lambda value: value == "none"
    )  # came after the first records, which do not have it
    threads: PositiveInt | None
    workers: Count = 0
    checkpoint_every_n_epochs: PositiveInt
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 20.0
    log_every_n_steps: PositiveInt
    progress: Literal["auto", "bar", "lines", "none"]
    cache: Literal["auto", "always", "never"] = "auto"
    cache_gb: Positive = 8.0
    callbacks: dict[Name, Node] | None = None
    profiler: Literal["simple", "advanced"] | None = None
    max_time: Annotated[str, Field(pattern=r"^\d\d:[0-2]\d:[0-5]\d:[0-5]\d$")] | None = None


class EvaluationConfig(_Strict):
    """Measurements beyond the predictions, which change no training; see ``conf/evaluation/full.yaml``."""

    sections: list[Section] = []


MetricName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,39}$")]


class TuningConfig(_Strict):
    """The search that found the hyperparameters. It changes what a record claims, but no number."""

    trials: Count = 0
    space: dict[str, str] | None = None


class PathsConfig(_Strict):
    """Folders on this machine."""

    runs: Name
    data: Name


class NamesConfig(_Strict):
    """Names that records and boards show, which are those of the chosen files."""

    dataset: ShownName
    method: ShownName
    recipe: ShownName


class ChainConfig(_Strict):
    """A chain of runs, each of which learns from the one before."""

    generations: Count


class RunConfig(_Strict):
    """A checked configuration. ``method``, ``dataset.source``, ... are nodes whose ``_target_`` may be instantiated.

    ``metrics`` change no training; a record names those that it has beside their values, and not in its configuration.
    """

    dataset: DatasetConfig
    teacher: TeacherConfig
    student: StudentConfig
    method: Node
    recipe: RecipeConfig
    trainer: TrainerConfig
    logger: Node
    chain: ChainConfig
    stage_pairs: list[Annotated[list[Count], Field(min_length=2, max_length=2)]] | None
    seed: Seed
    study: Annotated[str, AfterValidator(_printable)] | None
    plugins: list[str]
    paths: PathsConfig
    names: NamesConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    tuning: TuningConfig = TuningConfig()
    metrics: Annotated[dict[MetricName, Node], Field(exclude=True)] = {}

    @property
    def runs(self) -> Path:
        """The folder of all runs."""
        return Path(self.paths.runs).expanduser()

    def recorded(self) -> Node:
        """Return what records and trackers hold: everything but places, trackers, and callbacks that only look on."""
        dump = self.model_dump(exclude={"paths", "logger"})
        for key in UNRECORDED:
            _drop(dump, key.split("."))
        if dump["dataset"]["source"].get("full_resolution") is False:  # came later too
            del dump["dataset"]["source"]["full_resolution"]
        if callbacks := dump["trainer"].pop("callbacks", None):
            kept = {name: node for name, node in callbacks.items() if node.get("_target_") == STOPPING}
            dump["trainer"] |= {"callbacks": kept} if kept else {}
        return dump


STOPPING = "pytorch_lightning.callbacks.EarlyStopping"  # of the callbacks, this one changes numbers


def _drop(node: Node, path: list[str]) -> None:
    for part in path[:-1]:
        node = node[part]
    node.pop(path[-1], None)
