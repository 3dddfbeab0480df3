"""What there is to choose from."""

from kd_bench.paths import CONF, EXPERIMENTS


def groups() -> dict[str, list[str]]:
    """The configuration groups and their choices."""
    return {
        group.name: sorted(path.stem for path in group.glob("*.yaml"))
        for group in sorted(CONF.iterdir())
        if group.is_dir()
    }


def names(what: str, like: str = "") -> list[str]:
    """Names of ``methods``, ``models``, ``datasets`` or ``studies`` that contain ``like``."""
    if what == "models":
        import timm

        from kd_bench.models import cifar  # noqa: F401 - registers the CIFAR networks

        found = timm.list_models()
    elif what == "studies":
        found = [path.parent.name for path in EXPERIMENTS.glob("*/study.yaml")]
    else:
        found = [path.stem for path in (CONF / what.removesuffix("s")).glob("*.yaml")]
    return sorted(name for name in found if like in name)
