"""The schema of a composed configuration: its keys, their types and their ranges.

The comments in ``conf/`` say what each key does; ``check`` makes a :class:`RunConfig` of what Hydra composed.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

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


class NetworkConfig(_Strict):
    """A network's arguments, weights of timm and input; see ``conf/student/_network.yaml``."""

    pretrained: bool = False
    kwargs: Annotated[Node, AfterValidator(_without_files)] = {}
    input_size: ImageSize | None = None
    mean: Channels | None = None
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)] | None = None


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
    """Augmentation of training images: a crop of one kind, and flips."""

    crop_padding: Count
    horizontal_flip: bool
    resized_crop: Annotated[list[PositiveFraction], Field(min_length=2, max_length=2)] | None

    @model_validator(mode="after")
    def _one_crop(self) -> "AugmentationConfig":
        if self.resized_crop is not None and (self.crop_padding or self.resized_crop[0] > self.resized_crop[1]):
            raise ValueError("resized_crop should be [least, greatest] share of the area, with crop_padding 0")
        return self


class RecipeConfig(_Strict):
    """Optimization, and the epoch that the headline reports."""

    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    optimizer: Node
    scheduler: Node | None
    augmentation: AugmentationConfig
    selection: Selection


class TrainerConfig(_Strict):
    """Hardware, precision, and how often a run checkpoints and reports."""

    accelerator: Literal["cpu", "gpu"]
    devices: PositiveInt = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed"]
    channels_last: bool
    threads: PositiveInt | None
    workers: Count = 0
    checkpoint_every_n_epochs: PositiveInt
    log_every_n_steps: PositiveInt
    progress: Literal["auto", "bar", "lines", "none"]


class EvaluationConfig(_Strict):
    """Measurements beyond the predictions, which change no training; see ``conf/evaluation/full.yaml``."""

    sections: list[Section] = []


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
    """A checked configuration. ``method``, ``dataset.source``, ... are nodes whose ``_target_`` may be instantiated."""

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

    @property
    def runs(self) -> Path:
        """The folder of all runs."""
        return Path(self.paths.runs).expanduser()

    def recorded(self) -> Node:
        """Return what records and trackers hold: everything but places on this machine and the tracker itself."""
        dump = self.model_dump(exclude={"paths", "logger"})
        for key in UNRECORDED:
            _drop(dump, key.split("."))
        return dump


def _drop(node: Node, path: list[str]) -> None:
    for part in path[:-1]:
        node = node[part]
    node.pop(path[-1], None)
