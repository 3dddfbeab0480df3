"""A job of a study may end in any way: the others run, and everybody is told."""

import multiprocessing
import os
import signal

import pytest
from omegaconf import OmegaConf

from kd_bench.errors import ConfigError, Interrupted, Preempted
from kd_bench.runs.studies import scheduling
from kd_bench.runs.studies.scheduling import Options, Scheduler, check_options
from kd_bench.runs.studies.tasks import Outcome, Task

from . import jobs


class Study:
    """``study({"a": "raises", "b": "finishes after a"})``: what becomes of each, and what was told on the way."""

    def __init__(self, folder, monkeypatch) -> None:
        self.folder, self.attempts = folder, folder / "attempts"
        self.heard: list[tuple[str, Outcome]] = []
        self.tell = lambda name, outcome: None
        monkeypatch.setattr(scheduling, "_enter", jobs.enter)

    def __call__(self, does: dict[str, str], **options) -> dict[str, Outcome]:
        def listen(task: Task, outcome: Outcome) -> None:
            self.heard.append((task.key, outcome))
            self.tell(task.key, outcome)

        tasks = [self._task(name, *text.split(" after ")) for name, text in does.items()]
        return Scheduler(tasks, Options(**options), self.folder / "logs", listen).run()

    def _task(self, name: str, does: str, after: str = "") -> Task:
        cfg = OmegaConf.create({"name": name, "does": does, "attempts": str(self.attempts)})
        return Task(name, f"job {name}", cfg, "student", tuple(after.split()))

    def started(self) -> list[str]:
        return self.attempts.read_text().split()

    def last(self) -> dict[str, Outcome]:
        """What was told last of each."""
        return dict(self.heard)


@pytest.fixture
def study(tmp_path, monkeypatch) -> Study:
    return Study(tmp_path, monkeypatch)


ENDS = {
    "raises": ("failed", "RuntimeError: no luck at all (see LOG)"),
    "is_wrong": ("failed", "seed=-1: should be greater than or equal to 0"),
    "diverges": ("diverged", "loss term kd is not finite"),
    "leaves": ("failed", "SystemExit: 0 (see LOG)"),
    "vanishes": ("failed", "ended with exit code 0 and left no record"),
    "is_killed": ("failed", "was killed by SIGKILL and left no record"),
    "crashes": ("failed", "was killed by SIGSEGV and left no record"),
    "gets_a_signal_without_name": ("failed", "was killed by signal 40 and left no record"),
    "runs_out_of_memory": ("oom", "MemoryError: (see LOG)"),
    "is_terminated": ("preempted", "stopped by SIGTERM; the same command resumes"),
    "leaves_a_process_behind": ("failed", "ended with exit code 3 and left no record"),
}


def test_whatever_a_job_does_the_others_are_not_touched(study):
    names = [f"good{number}" for number in range(len(ENDS))]
    does = {
        key: value for bad, good in zip(ENDS, names, strict=True) for key, value in ((bad, bad), (good, "finishes"))
    }
    outcomes = study(does, jobs=2)
    assert {name: (outcomes[name].state, outcomes[name].cause) for name in ENDS} == {
        name: (state, cause.replace("LOG", str(study.folder / "logs" / f"{name}.log")))
        for name, (state, cause) in ENDS.items()
    }
    for name in names:
        assert (outcomes[name].state, outcomes[name].top1, outcomes[name].run_id) == ("completed", 0.75, f"run-{name}")
    assert study.last() == outcomes
    assert sorted(study.started()) == sorted(does)
    traceback = (study.folder / "logs" / "raises.log").read_text()
    assert traceback.startswith("Traceback")
    assert traceback.endswith("RuntimeError: no luck\nat all\n")


@pytest.mark.parametrize("end", ["raises", "is_killed", "is_terminated", "is_wrong"])
def test_what_learns_from_a_job_that_failed_is_not_started(study, end):
    does = {"teacher": end, "student": "finishes after teacher", "next": "finishes after student", "other": "finishes"}
    outcomes = study(does)
    state = outcomes["teacher"].state
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "teacher": ENDS[end][0], "student": "blocked", "next": "blocked", "other": "completed",
    }  # fmt: skip
    assert outcomes["student"].cause == f"not started: job teacher {state}"
    assert outcomes["next"].cause == "not started: job student blocked"
    assert study.started() == ["teacher", "other"]


def test_what_others_learn_from_comes_first(study):
    outcomes = study({"student": "finishes after teacher other", "teacher": "finishes", "other": "finishes"}, jobs=3)
    assert {outcome.state for outcome in outcomes.values()} == {"completed"}
    order = [(name, outcome.state) for name, outcome in study.heard]
    running = order.index(("student", "running"))
    assert {("teacher", "completed"), ("other", "completed")} <= set(order[:running])


def test_no_more_jobs_at_a_time_than_asked_for(study):
    study({f"job{number}": "finishes" for number in range(6)}, jobs=2)
    running, most = set(), 0
    for name, outcome in study.heard:
        (running.add if outcome.state == "running" else running.discard)(name)
        most = max(most, len(running))
    assert most == 2


def test_a_retry_is_another_attempt_and_dependants_wait_for_it(study):
    outcomes = study({"teacher": "fails_once", "student": "finishes after teacher"}, retries=1)
    assert [(outcome.state, outcome.attempts) for outcome in outcomes.values()] == [("completed", 2), ("completed", 1)]
    assert study.started() == ["teacher", "teacher", "student"]
    told = [(outcome.state, outcome.cause.partition(" (")[0]) for name, outcome in study.heard if name == "teacher"]
    assert ("waiting", "RuntimeError: the first attempt") in told


def test_retries_end(study):
    outcomes = study({"bad": "is_killed", "wrong": "is_wrong", "good": "finishes"}, retries=2)
    assert {name: (outcome.state, outcome.attempts) for name, outcome in outcomes.items()} == {
        "bad": ("failed", 3),
        "wrong": ("failed", 1),  # nothing changes a configuration between two attempts
        "good": ("completed", 1),
    }


@pytest.mark.parametrize(("limit", "started"), [(1, ["a", "b"]), (2, ["a", "b", "c"]), (None, ["a", "b", "c", "d"])])
def test_a_number_of_failures_may_end_the_study(study, limit, started):
    does = {"a": "finishes", "b": "raises", "c": "raises", "d": "finishes"}
    outcomes = study(does, max_failures=limit)
    assert study.started() == started
    assert [name for name, outcome in outcomes.items() if outcome.state == "waiting"] == [*"abcd"][len(started) :]


def test_a_study_that_stops_early_stops_those_under_way(study):
    outcomes = study({"long": "trains_for_ever", "bad": "raises"}, jobs=2, max_failures=1)
    assert outcomes["bad"].state == "failed"
    assert outcomes["long"].state == "preempted"
    assert outcomes["long"].cause == "stopped with the study; the same command resumes"


def test_a_job_out_of_time_has_failed_with_the_reason(study):
    outcomes = study({"long": "trains_for_ever", "good": "finishes"}, minutes=0.02)
    assert outcomes["good"].state == "completed"
    cause = "took longer than 0.02 minutes; the next attempt resumes it"
    assert (outcomes["long"].state, outcomes["long"].cause, outcomes["long"].run_id) == ("failed", cause, "run-long")
    assert outcomes["long"].seconds >= 1.2


@pytest.mark.parametrize("stays", ["ignores_every_signal", "closes_its_connection_and_stays", "finishes_and_stays"])
def test_a_process_that_will_not_end_is_ended(study, monkeypatch, stays):
    monkeypatch.setattr(scheduling, "GRACE_SECONDS", 0.2)
    outcome = study({"bad": stays}, minutes=0.05)["bad"]
    assert outcome.seconds < 60  # which is how long each would stay
    assert outcome.state == ("completed" if stays == "finishes_and_stays" else "failed")


@pytest.mark.parametrize(
    ("number", "kind", "code"), [(signal.SIGINT, Interrupted, 130), (signal.SIGTERM, Preempted, 143)]
)
def test_a_signal_stops_the_study_in_order(study, number, kind, code):
    """What is finished stays finished, what is under way is stopped, the rest waits."""
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def stop(name: str, outcome: Outcome) -> None:
        if outcome.state == "running" and outcome.epoch == 1 and name == "long":
            os.kill(os.getpid(), number)

    study.tell = stop
    with pytest.raises(kind) as caught:
        study({"first": "finishes", "long": "trains_for_ever", "student": "finishes after long", "last": "finishes"})
    assert type(caught.value) is kind
    assert caught.value.exit_code == code
    assert {name: outcome.state for name, outcome in study.last().items()} == {
        "first": "completed",
        "long": "preempted",
    }
    assert study.started() == ["first", "long"]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_listener_that_raises_leaves_no_process_behind(study):
    processes = []

    def fail(name: str, outcome: Outcome) -> None:
        processes.extend(multiprocessing.active_children())
        raise ZeroDivisionError

    study.tell = fail
    with pytest.raises(ZeroDivisionError):
        study({"long": "trains_for_ever"})
    assert processes
    for process in processes:
        process.join(10)
    assert not any(process.is_alive() for process in processes)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"jobs": 0}, "--jobs 0: should be at least 1"),
        ({"retries": -1}, "--retry -1: should be at least 0"),
        ({"max_failures": 0}, "--max-failures 0: should be at least 1"),
        ({"minutes": 0.0}, "--timeout 0.0: should be more than 0 minutes"),
        ({"minutes": float("nan")}, "--timeout nan: should be more than 0 minutes"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, line):
    with pytest.raises(ConfigError) as caught:
        check_options(Options(**options))
    assert str(caught.value) == line
