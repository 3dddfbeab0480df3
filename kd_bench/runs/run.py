"""One run: configuration -> objects -> fit -> predict -> evaluate -> record."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from kd_bench.config.plugins import load_plugins
from kd_bench.config.schema import RunConfig
from kd_bench.data.augmentation import Augmentation, floats
from kd_bench.data.batch import Batch
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.randomness import derive_seed
from kd_bench.data.source import ImageArrays
from kd_bench.errors import ConfigError, Diverged, IntegrityError, Interrupted, Preempted
from kd_bench.evaluation.evaluate import metrics_of, student_predictions, teacher_predictions, top1_by_split
from kd_bench.evaluation.full import full_evaluation
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.methods.base import TrainingSet
from kd_bench.models.ensemble import taps_of
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.weights import save_tensors
from kd_bench.results.records.directory import HEAD_FILE, PREDICTIONS_FILE, WEIGHTS_FILE, claim, finished
from kd_bench.results.records.record import RECORD_FILE, Record, Times, write_record
from kd_bench.results.records.states import RunState, State, new_state, now, read_state, write_state
from kd_bench.runs.added import add_sections
from kd_bench.runs.lineage import Role, load_arrays, prepare, resolve
from kd_bench.runs.naming import title, tracked
from kd_bench.runs.recorder import make_record, training_cost
from kd_bench.runs.shared_outputs import held_out_store, use_cache
from kd_bench.training.checkpoints import delete_checkpoints
from kd_bench.training.display import display
from kd_bench.training.loop import fit, torch_threads
from kd_bench.training.module import MEMORIES, DistillationModule, in_float32
from kd_bench.training.optimization import target_of
from kd_bench.training.pair import Pair, build, make_module, notes
from kd_bench.training.processes import Place, together
from kd_bench.training.signals import stop_signals
from kd_bench.training.teachers import TeacherWeights, check_teacher, describe_normalization
from kd_bench.training.trackers import Guarded, TrackedRun

CallbackMakers = tuple[Callable[[], list[Callback]], ...]


def run(cfg: DictConfig, role: Role = "student", wait: bool = False, callbacks: CallbackMakers = ()) -> Record:
    """Train, evaluate and record one run, after the runs that it learns from; a finished one is only read.

    Args:
        cfg: as composed by Hydra. It is not changed.
        role: ``teacher`` for runs that a pair needs; they are not ranked.
        wait: until another process that trains this very run is done, instead of refusing.
        callbacks: makers of further Lightning callbacks, for displays.

    Raises:
        ConfigError, IntegrityError, Diverged, Interrupted: see ``kd_bench.errors``.
    """
    config, pair, arrays = prepare(cfg, role=role)

    def obtain(earlier: DictConfig, role: Role) -> Record:
        return run(earlier, role=role, wait=True, callbacks=callbacks)

    teachers, previous, run_id = resolve(cfg, config, pair, arrays, obtain)
    with claim(config.runs, run_id, wait) as directory:
        state = new_state(config, run_id, role, epochs=config.recipe.epochs + pair.method.pretrain_epochs)
        if (record := finished(directory)) is not None:
            _put_in_order(state, directory)
            if not wait:
                _say(config, f"{title(state, config, pair)}: done before, {_result(record, directory)}")
                if config.evaluation.sections or config.metrics:
                    opened = OpenedRun(config, pair, arrays, data_module(config, pair, arrays), directory, teachers)
                    if (added := add_sections(opened, record)) is not None:
                        _say(config, f"  measured in full: {added}")
            return record
        with stop_signals(), _recorded_state(state, directory, config), torch_threads(config.trainer.threads):
            opened = OpenedRun(config, pair, arrays, data_module(config, pair, arrays), directory, teachers)
            return _train(opened, previous, state, callbacks)


def _train(opened: OpenedRun, previous: list[TeacherWeights], state: RunState, callbacks: CallbackMakers) -> Record:
    started, config, directory = now(), opened.config, opened.directory
    if config.student.init is None and config.student.init_sha256 is not None:
        raise ConfigError(
            f"{state.role}.init_sha256={config.student.init_sha256}: training starts from these weights, but "
            f"{state.role}.init does not name their file"
        )
    teacher_logits = _checked_teacher(opened)
    for tap, weights in zip(opened.pair.previous, previous, strict=True):
        _load_weights(config, tap, weights)
    module = prepared(opened)
    epochs = f"{state.epochs} epoch{'s' * (state.epochs > 1)}"
    _say(config, f"{title(state, config, opened.pair)}: {epochs}, run {state.run_id}")
    for line in notes(config, opened.pair):
        _say(config, f"  {line}")
    use_cache(module, opened, [*opened.teachers, *previous])
    if module.cache is not None:
        _say(config, f"  teacher outputs are shared with other runs: {module.cache.store.directory}")
    teacher_top1 = top1_by_split(teacher_logits, opened.data)["test"] if teacher_logits else None
    with _trackers(config, tracked(state, opened, teacher_top1)) as trackers:
        _fit(opened, previous, module, state, trackers, callbacks)
        record = _evaluated(opened, previous, module, state, teacher_logits, teacher_top1, started)
        write_record(record, directory / RECORD_FILE)
        for tracker in trackers:
            tracker.summarise(_summary(record))
            tracker.store([directory / name for name in record.artifacts if name != PREDICTIONS_FILE])
    delete_checkpoints(directory)
    _say(config, f"  {_result(record, directory)}")
    return record


def _fit(
    opened: OpenedRun,
    previous: list[TeacherWeights],
    module: DistillationModule,
    state: RunState,
    trackers: list[Guarded],
    callbacks: CallbackMakers,
) -> None:
    """Train the module, with other processes if the configuration asks for them."""
    config, directory = opened.config, opened.directory
    makers = (*callbacks, lambda: display(config.trainer.progress))

    def alive(epoch: int) -> None:
        write_state(state.moved("running", epoch=epoch), directory)

    try:
        with together(config.trainer.devices, _take_part, config, opened.teachers, previous, directory) as place:
            fit(module, opened.data, config.recipe, config.trainer, directory, trackers, makers, alive, place)
    finally:
        if module.cache is not None:
            module.cache.close()


def _take_part(
    place: Place, config: RunConfig, teachers: list[TeacherWeights], previous: list[TeacherWeights], directory: Path
) -> Callable[[], None]:
    """Make in another process what it needs to share the training; returns what it does then."""
    load_plugins(config.plugins)
    pair = build(config)
    arrays = load_arrays(config, pair)
    opened = OpenedRun(config, pair, arrays, data_module(config, pair, arrays), directory, teachers)
    for tap, weights in zip([*taps_of(pair.teacher), *pair.previous], [*teachers, *previous], strict=True):
        weights.load(tap)
    module = prepared(opened)

    def go() -> None:
        with torch_threads(config.trainer.threads):
            fit(module, opened.data, config.recipe, config.trainer, directory, [], (), lambda epoch: None, place)

    return go


def _evaluated(
    opened: OpenedRun,
    previous: list[TeacherWeights],
    module: DistillationModule,
    state: RunState,
    teacher_logits: dict[str, Tensor] | None,
    teacher_top1: float | None,
    started: datetime,
) -> Record:
    """Save predictions and headline weights, measure them, and put the record together."""
    trained = time.perf_counter()
    predictions = student_predictions(module, opened.data, teacher_logits)
    best = {rule: kept["epoch"] for rule, kept in module.best.items()}
    metrics = metrics_of(predictions, {"last": len(module.history), **best})
    files = _save(opened, module, predictions)
    full = full_evaluation(opened, predictions)
    return make_record(
        opened=opened,
        state=state,
        previous=previous,
        metrics=metrics,
        teacher_top1=teacher_top1,
        history=module.history,
        times=Times(
            started_at=started,
            finished_at=now(),
            train_seconds=module.train_seconds + module.cached_teacher_seconds,
            evaluation_seconds=time.perf_counter() - trained,
            teacher_train_seconds=_seconds(opened.teachers),
            resumed=module.resumed,
        ),
        files=files,
        cost=training_cost(opened.config, module),
        full=full,
    )


def data_module(config: RunConfig, pair: Pair, arrays: ImageArrays) -> ImageDataModule:
    """Make the batches of a data set, as the recipe and the method ask for them."""
    recipe, dataset = config.recipe, config.dataset
    return ImageDataModule(
        arrays,
        pair.spec,
        Augmentation(**dict(recipe.augmentation), strong_views=pair.method.requires.strong_views),
        recipe.batch_size,
        config.seed,
        dataset.validation_fraction,
        dataset.train_samples,
        pair.method.requires.views,
        pair.method.requires.rotations,
        pair.method.requires.sampler,
        config.trainer.workers,
        recipe.selection == "best_on_test",
    )


def _load_weights(config: RunConfig, tap: FeatureTap, weights: TeacherWeights) -> None:
    for note in weights.load(tap):
        _say(config, f"  {note}")


def _checked_teacher(opened: OpenedRun) -> dict[str, Tensor] | None:
    """Load the pair's teacher and return its logits by split, if each of its networks is what it claims to be."""
    pair, data = opened.pair, opened.data
    if pair.teacher is None:
        return None
    networks = list(zip(taps_of(pair.teacher), opened.teachers, strict=True))
    for tap, weights in networks:
        _load_weights(opened.config, tap, weights)
    logits, members = teacher_predictions(pair.teacher, data, held_out_store(opened))
    for (tap, weights), member in zip(networks, members, strict=True):
        normalization = describe_normalization(tap, pair.spec)
        check_teacher(tap.name, top1_by_split(member, data), weights.expected(), pair.spec.num_classes, normalization)
    return logits


def prepared(opened: OpenedRun) -> DistillationModule:
    """Make the module, and let the method make what depends on the training samples."""
    module, data, pair = make_module(opened.config, opened.pair), opened.data, opened.pair

    def outputs(augmented: bool = False) -> Iterator[tuple[Batch, Outputs]]:
        assert module.teacher is not None  # a method that asks has one
        for stored in data.augmented_in_order(epoch=0) if augmented else data.evaluation_loader(data.train):
            batch = floats(stored)
            seen = batch.images if batch.teacher_images is None else batch.teacher_images
            yield batch, in_float32(module.teacher(seen))

    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(opened.config.seed, MEMORIES, pair.generation))
        pair.method.prepare(TrainingSet(data.train.targets, pair.spec.num_classes, outputs, partial(outputs, True)))
    return module


def _seconds(teachers: list[TeacherWeights]) -> float | None:
    """Return the seconds that training the teacher took, if all of it was trained here."""
    seconds = [weights.record.times.train_seconds if weights.record else None for weights in teachers]
    known = [each for each in seconds if each is not None]
    return sum(known) if known and len(known) == len(seconds) else None


def _save(opened: OpenedRun, module: DistillationModule, predictions: dict[str, Tensor]) -> list[str]:
    """Save predictions and the headline weights; returns the file names. The module keeps those weights."""
    pair, selection = opened.pair, opened.config.recipe.selection
    if selection != "last":
        module.load_state_dict(module.best[selection]["weights"])
    files = {PREDICTIONS_FILE: predictions, WEIGHTS_FILE: pair.student.network.state_dict()}
    if heads := pair.method.test_time_modules():
        files[HEAD_FILE] = nn.ModuleList(heads).state_dict()
    for name, tensors in files.items():
        save_tensors(tensors, opened.directory / name)
    return list(files)


def _put_in_order(state: RunState, directory: Path) -> None:
    """Do what a run that was stopped between its record and its end has left to do."""
    delete_checkpoints(directory)
    with suppress(IntegrityError):  # a lost or damaged state is not completed either
        if read_state(directory).state == "completed":
            return
    write_state(state.moved("completed", epoch=state.epochs), directory)


@contextmanager
def _recorded_state(state: RunState, directory: Path, config: RunConfig) -> Iterator[None]:
    """Keep ``state.json`` true however the run ends."""
    write_state(state.moved("running"), directory)
    try:
        yield
    except BaseException as error:
        cause, after = (str(error).splitlines() or [type(error).__name__])[0], state_after(error)
        if after == "oom":
            cause += f" (recipe.batch_size={config.recipe.batch_size})"
        try:
            write_state(state.moved(after, cause), directory)
        except IntegrityError as full:
            warnings.warn(str(full), stacklevel=2)
        raise
    write_state(state.moved("completed", epoch=state.epochs), directory)


def state_after(error: BaseException) -> State:
    """Return the state of a run that ended with ``error``."""
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, Preempted):
        return "preempted"
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "interrupted"
    out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    return "oom" if out_of_memory else "failed"


@contextmanager
def _trackers(config: RunConfig, tracked: TrackedRun) -> Iterator[list[Guarded]]:
    """Open the trackers of one run, and close them before the next job of a sweep starts."""
    open_trackers, arguments = target_of(config.logger)
    trackers: list[Guarded] = open_trackers(run=tracked, **arguments)
    status = "failed"
    try:
        yield trackers
        status = "success"
    finally:
        for tracker in trackers:
            tracker.close(status)


def _summary(record: Record) -> dict[str, float]:
    """Return the final metrics, under the names that a tracker's users look for."""
    added = record.full.metrics if record.full else {}
    return {
        f"{split}/{name}": value
        for split, metrics in (("test", record.headline().test), ("val", record.headline().validation))
        for name, value in metrics.model_dump().items()
        if isinstance(value, float)
    } | {f"test/{name}": metric.value for name, metric in added.items() if metric.value is not None}


def _result(record: Record, directory: Path) -> str:
    return f"test top-1 {100 * record.headline().test.top1:.2f} %: {directory / RECORD_FILE}"


def _say(config: RunConfig, text: str) -> None:
    if config.trainer.progress != "none":
        print(text, flush=True)
