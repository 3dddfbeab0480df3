"""A study from its plan to its end, and what the terminal shows of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from kd_bench.errors import SweepError
from kd_bench.results.text.formats import duration, estimate, percent, seconds
from kd_bench.runs.studies.grid import Study
from kd_bench.runs.studies.progress import ProgressFile, summary_lines
from kd_bench.runs.studies.scheduling import Options, Scheduler, check_options, make_plan, writable
from kd_bench.runs.studies.tasks import Outcome, Task
from kd_bench.runs.studies.unchanged import hash_of_points


def run_study(study: Study, options: Options, skip_refused: bool = False) -> None:
    """Run a study to its end; what is finished is only read.

    Args:
        skip_refused: leave out points that are refused instead of raising.

    Raises:
        ConfigError: a point of its grid is wrong; nothing was started.
        IntegrityError: runs are left to do whose output cannot be written.
        SweepError: runs failed; the others are done.
        Interrupted: stopped; the same call goes on.
    """
    check_options(options)
    known = hash_of_points(study.points)  # before anything is read for the plan
    tasks = make_plan(study, False, skip_refused, known)
    done = sum(task.done for task in tasks)
    print(f"{len(tasks)} runs, {done} of them finished; {options.jobs} at a time", flush=True)
    for task in tasks:
        if task.refused:
            print(f"refused: {task.label}: {task.refused}", flush=True)
    if any(task.top1 is None and not task.refused for task in tasks):
        writable(study.logs)
    file = ProgressFile(study, tasks, known)
    with _shown(len(tasks), options.jobs) as display:

        def listen(task: Task, outcome: Outcome) -> None:
            file.update(task, outcome)
            display.update(task, outcome)

        try:
            outcomes = Scheduler(tasks, options, study.logs, listen).run()
        finally:
            file.write(ended=True)
    left = [task for task in tasks if outcomes[task.key].state not in ("completed", "refused")]
    if left:
        print("\n".join(summary_lines(list(file.tasks.values()))), flush=True)
        causes = [f"{task.label}: {cause}" for task in left if (cause := outcomes[task.key].cause)]
        more = f" and {len(causes) - 5} more" if len(causes) > 5 else ""
        raise SweepError(f"{len(left)} of {len(tasks)} runs are not finished: {'; '.join(causes[:5])}{more}")


def cost_lines(tasks: list[Task], jobs: int) -> list[str]:
    """Return the lines of a dry run: each run with its estimated duration, and the sum."""
    width = min(60, max([len(task.label) for task in tasks], default=0))
    lines = [f"{task.label[:60].ljust(width)}  {_cost(task)}" for task in tasks]
    total = sum(task.seconds or 0.0 for task in tasks)
    waiting = sum(not task.done and not task.refused for task in tasks)
    counted = f"{len(tasks)} runs, {waiting} to do: {estimate(total, jobs)} (a few steps measured on this machine)"
    return [*lines, counted]


def _cost(task: Task) -> str:
    if task.refused:
        return f"refused: {task.refused}"
    if task.done:
        return f"finished, run {task.run_id}"
    return f"about {duration(task.seconds or 0.0)}"


class _Display:
    """Prints a line for each run that ended; on a terminal also a bar for the study and one for each run under way."""

    def __init__(self, progress: Progress, runs: int) -> None:
        self._progress, self._count, self._ended = progress, runs, 0
        self._runs = progress.add_task("runs", total=runs)
        self._bars: dict[str, TaskID] = {}

    def update(self, task: Task, outcome: Outcome) -> None:
        if outcome.state == "running":
            if task.key not in self._bars:
                self._bars[task.key] = self._progress.add_task(task.label, total=None)
            self._progress.update(self._bars[task.key], completed=outcome.epoch, total=outcome.epochs or None)
            return
        if (bar := self._bars.pop(task.key, None)) is not None:
            self._progress.remove_task(bar)
        if outcome.state == "waiting":
            self._say(f"{task.label}: {outcome.cause}; trying again")
            return
        self._ended += 1
        self._progress.advance(self._runs)
        self._say(f"[{self._ended}/{self._count}] {task.label}: {_result(outcome)}")

    def _say(self, line: str) -> None:
        self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _result(outcome: Outcome) -> str:
    if outcome.top1 is not None:
        return f"test top-1 {percent(outcome.top1)} % ({seconds(outcome.seconds)} s)"
    return f"{outcome.state.upper()}: {outcome.cause}"


@contextmanager
def _shown(runs: int, jobs: int) -> Iterator[_Display]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield _Display(progress, runs)
