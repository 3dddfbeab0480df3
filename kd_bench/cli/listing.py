"""Names and sizes of what there is to choose from."""

from collections.abc import Iterator

from kd_bench.config.composition import choices
from kd_bench.config.paths import CONF, EXPERIMENTS
from kd_bench.data.presence import state


def groups() -> dict[str, list[str]]:
    """Return the configuration groups and their choices."""
    return {group.name: choices(group.name) for group in sorted(CONF.iterdir()) if group.is_dir()}


def names(what: str, like: str = "") -> list[str]:
    """List the names of ``methods``, ``models``, ``datasets`` or ``studies`` that contain ``like``.

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


def sizes(like: str, at_most: float, num_classes: int) -> Iterator[tuple[str, int, int | None]]:
    """Yield name, parameters and MACs of each network whose name contains ``like`` and that has ``at_most`` parameters.

    Networks are built without memory for their weights. MACs are those of one image of the size that the network was
    designed for; None where they cannot be counted that way.
    """
    import timm
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from kd_bench.models import cifar  # noqa: F401 - registers the CIFAR networks

    for name in (name for name in timm.list_models() if like in name):
        with torch.device("meta"), torch.no_grad():
            network = timm.create_model(name, num_classes=num_classes).eval()
            parameters = sum(parameter.numel() for parameter in network.parameters())
            if parameters > at_most:
                continue
            counter = FlopCounterMode(display=False)
            try:
                with counter, sdpa_kernel(SDPBackend.MATH):
                    network(torch.empty(1, *network.pretrained_cfg["input_size"]))
            except (RuntimeError, NotImplementedError):  # an operation that needs real numbers
                yield name, parameters, None
                continue
            yield name, parameters, counter.get_total_flops() // 2


def _data_state(choice: str) -> str:
    """Say whether the files of a data set are where the shipped configuration looks for them."""
    from omegaconf import OmegaConf

    paths = OmegaConf.load(CONF / "train.yaml").paths
    dataset = OmegaConf.load(CONF / "dataset" / f"{choice}.yaml")
    source = OmegaConf.create({"paths": paths, "dataset": dataset}).dataset.source
    root = None if OmegaConf.is_missing(source, "root") else source.get("root")
    return state(source["_target_"], root)
