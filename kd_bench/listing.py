"""What there is to choose from."""

from kd_bench.data.presence import state
from kd_bench.paths import CONF, EXPERIMENTS


def groups() -> dict[str, list[str]]:
    """The configuration groups and their choices."""
    return {group.name: choices(group.name) for group in sorted(CONF.iterdir()) if group.is_dir()}


def choices(group: str) -> list[str]:
    """The choices of a configuration group. What starts with an underscore is taken over by others."""
    return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml"))


def names(what: str, like: str = "") -> list[str]:
    """Names of ``methods``, ``models``, ``datasets`` or ``studies`` that contain ``like``.

    Each data set is followed by ``present``, or by ``absent`` and what to do.
    """
    if what == "models":
        import timm

        from kd_bench.models import cifar  # noqa: F401 - registers the CIFAR networks

        found = timm.list_models()
    elif what == "studies":
        found = [path.parent.name for path in EXPERIMENTS.glob("*/study.yaml")]
    else:
        found = choices(what.removesuffix("s"))
    chosen = sorted(name for name in found if like in name)
    return [f"{name:<16}{_data_state(name)}" for name in chosen] if what == "datasets" else chosen


def _data_state(choice: str) -> str:
    """Whether the files of a data set are where the configuration, as it ships, looks for them."""
    from omegaconf import OmegaConf

    paths = OmegaConf.load(CONF / "train.yaml").paths
    dataset = OmegaConf.load(CONF / "dataset" / f"{choice}.yaml")
    source = OmegaConf.create({"paths": paths, "dataset": dataset}).dataset.source
    root = None if OmegaConf.is_missing(source, "root") else source.get("root")
    return state(source["_target_"], root)
