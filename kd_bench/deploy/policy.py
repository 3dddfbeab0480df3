"""Policies: what a student has to keep to, as a YAML file of rules, waivers and bounds on drift."""

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, ValidationError, model_validator
from yaml import YAMLError

from kd_bench.config.folders import read_yaml
from kd_bench.config.paths import CONF
from kd_bench.config.ranges import Fraction, NonNegative, OpenFraction, PositiveInt
from kd_bench.deploy.quantities import NAMES, check_reference
from kd_bench.errors import ConfigError, IntegrityError, nearest
from kd_bench.results.records.measured import Strict
from kd_bench.results.records.reading import read_text
from kd_bench.results.records.record import problems_in
from kd_bench.results.statistics.ranking import MINIMUM_RANKED

POLICIES = CONF / "policy"
LONGEST = 300

Text = Annotated[str, Field(min_length=1, max_length=LONGEST)]
Evidence = Literal["point", "lower", "upper"]


class Rule(Strict):
    """A bound on one metric.

    Attributes:
        metric: a name as on boards, such as ``retention`` or ``ece``.
        against: ``teacher``, ``method:NAME`` on the same board, by shared seeds, or ``run:ID``; None is absolute.
        compare: the value minus that of the reference, or over it.
        evidence: the estimate, or the end of its 95 % interval, that has to keep to the bound. By default it is the
            unfavourable end: the lower one for ``at_least``, the upper one for ``at_most``.
        min_seeds: by default 1 for estimates and 3 for ends of intervals.
        by: every class, or every group of the data, has to keep to the bound.
    """

    name: Text
    metric: str
    against: str | None = None
    compare: Literal["difference", "ratio"] = "difference"
    at_least: float | None = None
    at_most: float | None = None
    evidence: Evidence | None = None
    min_seeds: PositiveInt | None = None
    by: Literal["class", "group"] | None = None
    severity: Literal["error", "warning"] = "error"

    @model_validator(mode="after")
    def _is_clear(self) -> "Rule":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        if self.metric not in NAMES:
            raise ValueError(f"metric {self.metric!r} is none that boards show{nearest(self.metric, NAMES)}")
        if self.against is not None:
            check_reference(self.against)
        if self.by is not None and (self.metric != "top1" or self.against not in (None, "teacher")):
            raise ValueError(f"by: {self.by} is for metric top1, absolute or against the teacher")
        if self.by is not None and self.compare == "ratio":
            raise ValueError(f"by: {self.by} compares by difference")
        return self

    @property
    def end(self) -> Evidence:
        """The estimate or end of the interval that counts."""
        return self.evidence or ("lower" if self.at_least is not None else "upper")

    @property
    def seeds(self) -> int:
        """The number of seeds that it takes."""
        return self.min_seeds or (1 if self.end == "point" else MINIMUM_RANKED)

    @property
    def text(self) -> str:
        """The bound in words, such as ``lower end of retention >= 0.95``."""
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        reference = f" {'over' if self.compare == 'ratio' else 'minus'} {self.against}" if self.against else ""
        which = "" if self.end == "point" else f"{self.end} end of "
        return f"{which}{self.metric}{reference}{f' of every {self.by}' if self.by else ''} {bound}"


class Waiver(Strict):
    """Leave to break one rule until a day, that day included, for a reason. It stays visible wherever the rule is."""

    rule: Text
    reason: Text
    until: Annotated[date, Field(strict=False)]


class DriftBounds(Strict):
    """Bounds of monitoring: a change is drift where it is significant and larger than its bound.

    Attributes:
        significance: of all tests together, after Holm's correction.
        population_stability: of the population stability index.
        kolmogorov_smirnov: of the largest distance of two distribution functions.
        prior: of the total variation distance of the predicted classes' shares.
        embedding: of the shift of an embedding dimension's mean, in standard deviations.
        lost: of the share of test images that a new student loses, if that is asked for.
    """

    significance: OpenFraction = 0.01
    population_stability: NonNegative = 0.1
    kolmogorov_smirnov: Fraction = 0.1
    prior: Fraction = 0.1
    embedding: NonNegative = 0.5
    lost: Fraction | None = None


class Policy(Strict):
    """A policy file.

    Attributes:
        claim: what it checks, in a sentence; it heads the table of the claim.
    """

    claim: Text
    rules: tuple[Rule, ...] = Field((), strict=False)
    waivers: tuple[Waiver, ...] = Field((), strict=False)
    drift: DriftBounds | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "Policy":
        names = [rule.name for rule in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two rules have the name {twice[0]!r}")
        for waiver in self.waivers:
            if waiver.rule not in names:
                raise ValueError(f"waiver of {waiver.rule!r}: there is no such rule{nearest(waiver.rule, names)}")
        if not self.rules and self.drift is None:
            raise ValueError("it has neither rules nor drift")
        return self


@dataclass(frozen=True)
class NamedPolicy:
    """A policy with the name of its file and the sha256 of its content."""

    name: str
    sha256: str
    policy: Policy


def shipped_policies() -> list[str]:
    """List the names of the policies that come with kd_bench."""
    return sorted(path.stem for path in POLICIES.glob("*.yaml"))


def read_policy(name: str) -> NamedPolicy:
    """Read a policy: a file, or the name of a shipped one.

    Raises:
        ConfigError: there is none, or it is not a valid policy; the message lists every problem at once.
    """
    path = Path(name) if Path(name).suffix or Path(name).exists() else POLICIES / f"{name}.yaml"
    if not path.exists():
        shipped = shipped_policies()
        raise ConfigError(f"--policy {name}: no such file{nearest(name, shipped) or f'; shipped: {shipped}'}")
    read_yaml(path)  # bounded in size and depth
    try:
        text = read_text(path)
        policy = Policy.model_validate(_content(text))
    except ValidationError as error:
        problems = "; ".join(problem.replace("Value error, ", "") for problem in problems_in(error))
        raise ConfigError(f"policy {path}: {problems}") from None
    except (IntegrityError, YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise ConfigError(f"policy {path}: {error}") from None
    return NamedPolicy(path.stem, hashlib.sha256(text.encode()).hexdigest(), policy)


def _content(text: str) -> Any:
    """Parse YAML in which no key stands twice."""
    return OmegaConf.to_container(OmegaConf.create(text), resolve=False)
