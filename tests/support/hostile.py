"""What goes into files that must be refused."""

from typing import Any


class Call:
    """Unpickles as ``function(*arguments)``, which then gets ``state`` and ``items`` if there are any.

    How files run code, or hold what ``torch.save`` would not write.
    """

    def __init__(self, function: Any, *arguments: Any, state: Any = None, items: dict[Any, Any] | None = None) -> None:
        self._reduced = function, arguments, state, None, iter((items or {}).items())

    def __reduce__(self) -> Any:
        return self._reduced
