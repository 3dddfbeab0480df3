"""Former names of modules: a plugin that was written for an earlier layout imports them and still trains."""

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

FORMER = {"kd_bench.losses": "kd_bench.methods.losses", "kd_bench.types": "kd_bench.config.ranges"}


class FormerNames(MetaPathFinder, Loader):
    """Import hook that resolves a former name to the module itself, which is imported no sooner than asked for."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """Find a module by its former name."""
        return ModuleSpec(fullname, self) if fullname in FORMER else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of today in the place of ``module``."""
        sys.modules[module.__name__] = importlib.import_module(FORMER[module.__name__])


def resolve_former_names() -> None:
    """Install the hook in this process, once. Every other finder is asked before it."""
    if not any(isinstance(finder, FormerNames) for finder in sys.meta_path):
        sys.meta_path.append(FormerNames())
