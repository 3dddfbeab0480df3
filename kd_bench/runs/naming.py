"""Names of a run for people: in the lines that it prints, and those that trackers show."""

from functools import cache
from typing import Any

from omegaconf import OmegaConf

from kd_bench.config.paths import CONF
from kd_bench.config.schema import RunConfig
from kd_bench.evaluation.machine import code
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.results.records.command import to_record
from kd_bench.results.records.states import RunState
from kd_bench.results.text.escape import visible
from kd_bench.training.pair import Pair
from kd_bench.training.trackers import TrackedRun

LONGEST_WORD, LONGEST_NAME = 40, 100  # in characters
# Sections whose values tell runs apart, the most telling first.
_SECTIONS = ("method", "recipe", "teacher", "student", "dataset", "stage_pairs", "trainer")
_TRAINER = ("precision", "channels_last", "compile", "devices", "callbacks")  # the others change no number
_NAMED = ("method", "student", "student.name", "method._target_")  # said by the names of method and student


def title(state: RunState, config: RunConfig, pair: Pair) -> str:
    """Return the line that announces a run: data set, networks from teacher to student, method, settings and seed."""
    teacher = [] if state.teacher is None or pair.generation else [state.teacher]  # a chain learns from itself
    networks = " -> ".join([*teacher, *_earlier(pair), state.student])
    settings = [word for word in differences(config) if not word.startswith("teacher=")]
    words = [state.method, *_generation(pair), *settings]
    return visible(f"{state.dataset}: {networks}, {', '.join(words)}, seed {state.seed}")


def tracked(state: RunState, opened: OpenedRun, teacher_top1: float | None) -> TrackedRun:
    """Return the run under the names that trackers give it, with what its record will say of data, code and teacher."""
    config, recorded = opened.config, opened.config.recorded()
    teacher = {} if teacher_top1 is None else {"test_top1": teacher_top1}
    facts = {
        "dataset": {**recorded["dataset"], "content_sha256": opened.arrays.content_sha256},
        "teacher": {**recorded["teacher"], **teacher},
        "code": code().model_dump(),
    }
    return TrackedRun(
        directory=opened.directory,
        run_id=state.run_id,
        name=name_of(state, config, opened.pair),
        group=state.study or f"{state.dataset}/{state.teacher}->{state.student}",
        job_type="teacher" if state.role == "teacher" else state.method,
        tags=[state.dataset, state.method, state.student],
        config=recorded | facts,
    )


def name_of(state: RunState, config: RunConfig, pair: Pair) -> str:
    """Return a name of bounded length; one that had to be cut ends with the beginning of the run's id."""
    seed = f"s{state.seed}"
    learned = [f"from={name}" for name in _earlier(pair)[-1:]]
    words = [state.method, state.student, *learned, *_generation(pair), *differences(config)]
    whole = visible("-".join([*words, seed]))
    if len(whole) <= LONGEST_NAME:
        return whole
    end = f"-{seed}-{state.run_id[:6]}"
    return visible("-".join(words), LONGEST_NAME - len(end))[: LONGEST_NAME - len(end)] + end


def differences(config: RunConfig) -> list[str]:
    """List in short, as ``key=value``, what differs from the defaults beside method, student and seed."""
    found: list[tuple[int, str, str]] = []
    for override in to_record(config.recorded()) or ():
        key, _, value = override.lstrip("+~").partition("=")
        section, _, name = key.partition(".")
        quiet = key in _NAMED or override.startswith("~") or (section == "trainer" and name not in _TRAINER)
        if section in _SECTIONS and not quiet and value != _default_choices().get(key):
            key = key.removesuffix(".name")
            found.append((_SECTIONS.index(section), key, visible(value.strip("'"), LONGEST_WORD).removesuffix(".0")))
    short = [key.rpartition(".")[2] for _, key, _ in found]
    return [
        f"{last if short.count(last) == 1 else key}={value}"
        for (_, key, value), last in sorted(zip(found, short, strict=True))
        if (key, value) != ("teacher", "none")
    ]


@cache
def _default_choices() -> dict[str, Any]:
    defaults = OmegaConf.to_container(OmegaConf.load(CONF / "train.yaml").defaults)
    assert isinstance(defaults, list)
    return {group: choice for entry in defaults if isinstance(entry, dict) for group, choice in entry.items()}


def _earlier(pair: Pair) -> list[str]:
    """Name the networks of earlier runs that the method learns from."""
    return [tap.name for tap in pair.previous]


def _generation(pair: Pair) -> list[str]:
    return [f"generation={pair.generation}"] if pair.generation else []
