"""The published tables that can be reproduced: ``results/published/tables.yaml``, checked."""

from functools import cache
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, Field

from kd_bench.config.paths import PUBLISHED
from kd_bench.errors import ConfigError, nearest

Overrides = list[str]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Protocol(_Strict):
    """The training of a source: overrides of ``conf/train.yaml``, and notes on what they leave different.

    ``network`` turns a published name into one of ours, except for those in ``names``; ``students`` has overrides by
    the student's published name.
    """

    source: str
    dataset: str
    train_images: Annotated[int, Field(ge=1)]
    epoch: Literal["last", "best_on_validation", "best_on_test"]
    network: str
    names: dict[str, str] = {}
    overrides: Overrides
    students: dict[str, Overrides] = {}
    notes: list[str] = []

    def our_name(self, network: str) -> str:
        """Return our name of a published network."""
        return self.names.get(network) or self.network.format(network)


class Part(_Strict):
    """The cells of one protocol.

    ``rows``: paper_key and table of the published rows. ``methods``: published name to our choice and its overrides.
    ``pairs``: the pairs to take, with overrides of their own; all pairs of the rows where it is left out.
    """

    protocol: str
    rows: list[tuple[str, str]]
    methods: dict[str, Annotated[list[str], Field(min_length=1)]]
    pairs: dict[str, Overrides] | None = None


class Table(_Strict):
    """A published table. ``seeds`` is the number of runs of a cell whose source does not state it."""

    title: str
    seeds: Annotated[int, Field(ge=1)]
    parts: Annotated[list[Part], Field(min_length=1)]
    notes: list[str] = []


class Tables(_Strict):
    """The whole file: protocols and tables by their names."""

    protocols: dict[str, Protocol]
    tables: dict[str, Table]


@cache
def all_tables() -> Tables:
    """Read the file of tables, once."""
    content: Any = OmegaConf.to_container(OmegaConf.load(PUBLISHED / "tables.yaml"))
    return Tables.model_validate(content)


def table_named(name: str) -> Table:
    """Return a published table.

    Raises:
        ConfigError: there is none of that name.
    """
    tables = all_tables().tables
    if name not in tables:
        raise ConfigError(f"table {name!r}: no such table{nearest(name, tables) or f'; there are: {sorted(tables)}'}")
    return tables[name]
