"""Optimizers, schedules and averages of recipes, held against timm's and torch's own; and each resumes bit for bit."""

import copy
import math

import pytest
import timm
import torch
from pytorch_lightning.callbacks import Callback
from safetensors.torch import load_file
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, SequentialLR

from kd_bench.config.check import check
from kd_bench.config.overrides import compose_run
from kd_bench.config.schema import RecipeConfig
from kd_bench.data.batch import Batch
from kd_bench.errors import ConfigError, Preempted
from kd_bench.results.records.directory import PREDICTIONS_FILE, WEIGHTS_FILE
from kd_bench.runs.run import run
from kd_bench.training.module import smoothed
from kd_bench.training.optimization import WeightAverage, check_recipe, optimizer_maker, parameter_groups
from kd_bench.training.pair import build

RUN = [
    *("method=scratch", "teacher=none", "student=resnet8_cifar", "dataset.train_samples=100", "recipe.batch_size=20"),
    *("recipe.epochs=3", "logger=none", "trainer.progress=none", "trainer.threads=1"),
]
TIMM_COSINE = [
    "~recipe.scheduler",
    "+recipe.scheduler={_target_:timm.scheduler.create_scheduler_v2,sched:cosine,num_epochs:3,warmup_epochs:1}",
]
TORCH_SEQUENCE = [
    "~recipe.scheduler",
    "+recipe.scheduler={_target_:torch.optim.lr_scheduler.SequentialLR,milestones:[1],schedulers:["
    "{_target_:torch.optim.lr_scheduler.LinearLR,start_factor:0.1,total_iters:1},"
    "{_target_:torch.optim.lr_scheduler.CosineAnnealingLR,T_max:2}]}",
]
ONE_CYCLE = [
    "~recipe.scheduler",
    "+recipe.scheduler={_target_:torch.optim.lr_scheduler.OneCycleLR,max_lr:0.1,epochs:3}",
    "recipe.schedule_by=step",
]
LAMB = ["~recipe.optimizer", "+recipe.optimizer={_target_:timm.optim.create_optimizer_v2,opt:lamb,lr:0.01}"]
LAYERS = [
    "~recipe.optimizer",
    "+recipe.optimizer={_target_:timm.optim.create_optimizer_v2,opt:adamw,lr:0.01,weight_decay:0.05,layer_decay:0.7,"
    "betas:[0.9,0.95]}",
]


PLAIN = {"crop_padding": 0, "horizontal_flip": False, "resized_crop": None}


class Watch(Callback):
    """Learning rates that steps were made with, and what ``look`` finds after each batch."""

    def __init__(self, look=lambda module: None) -> None:
        self.rates: list[float] = []
        self.seen: list[object] = []
        self.steps: list[int] = []
        self.look = look

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(max(group["lr"] for group in trainer.optimizers[0].param_groups))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(self.look(pl_module))
        self.steps.append(trainer.global_step)


def watched(tmp_path, *overrides: str, look=lambda module: None):
    watch = Watch(look)
    record = run(compose_run([*RUN, f"paths.runs={tmp_path}", *overrides]), callbacks=(lambda: [watch],))
    return record, watch


def sgd() -> torch.optim.SGD:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.05, momentum=0.9)


def test_a_schedule_of_timm_moves_by_step_with_its_warm_up(tmp_path):
    record, watch = watched(tmp_path, *TIMM_COSINE, "recipe.schedule_by=step")
    per_epoch, optimizer = len(watch.rates) // 3, sgd()
    schedule, _ = create_scheduler_v2(
        optimizer, "cosine", num_epochs=3, warmup_epochs=1, step_on_epochs=False, updates_per_epoch=per_epoch
    )
    expected = []
    for step in range(3 * per_epoch):
        expected.append(optimizer.param_groups[0]["lr"])
        schedule.step_update(step + 1)
    assert watch.rates == expected
    assert len(set(expected)) > 3
    assert [row["lr"] for row in record.history] == expected[::per_epoch]


def test_a_schedule_of_timm_moves_by_epoch(tmp_path):
    _, watch = watched(tmp_path, *TIMM_COSINE)
    per_epoch, optimizer = len(watch.rates) // 3, sgd()
    schedule, _ = create_scheduler_v2(optimizer, "cosine", num_epochs=3, warmup_epochs=1)
    expected = []
    for epoch in range(3):
        expected += [optimizer.param_groups[0]["lr"]] * per_epoch
        schedule.step(epoch + 1)
    assert watch.rates == expected


def test_schedules_of_torch_follow_each_other(tmp_path):
    record, _ = watched(tmp_path, *TORCH_SEQUENCE)
    optimizer = sgd()
    parts = [LinearLR(optimizer, start_factor=0.1, total_iters=1), CosineAnnealingLR(optimizer, T_max=2)]
    schedule, expected = SequentialLR(optimizer, parts, milestones=[1]), []
    for _ in range(3):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert [row["lr"] for row in record.history] == expected


def test_one_cycle_is_told_how_many_steps_an_epoch_has(tmp_path):
    _, watch = watched(tmp_path, *ONE_CYCLE, "recipe.accumulate=2")
    per_epoch = max(watch.steps) // 3
    optimizer, expected = sgd(), []
    schedule = OneCycleLR(optimizer, max_lr=0.1, epochs=3, steps_per_epoch=per_epoch)
    for _ in range(3 * per_epoch):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    batches = len(watch.rates) // 3
    starts = [rate for number, rate in enumerate(watch.rates) if number % batches % 2 == 0]
    assert starts == pytest.approx(expected)


def test_gradients_of_several_batches_make_one_step(tmp_path):
    def weight(module):
        return next(module.student.parameters()).detach().clone()

    _, watch = watched(tmp_path, "recipe.accumulate=2", "recipe.epochs=1", look=weight)
    batches = len(watch.steps)
    assert watch.steps == [(number + 1) // 2 for number in range(batches - 1)] + [(batches + 1) // 2]
    moved = [not torch.equal(first, second) for first, second in zip(watch.seen, watch.seen[1:], strict=False)]
    assert moved == [before != after for before, after in zip(watch.steps, watch.steps[1:], strict=False)]


@pytest.mark.parametrize(("key", "order"), [("clip_norm", 2.0), ("clip_value", math.inf)])
def test_gradients_are_clipped(tmp_path, key, order):
    def size(module):
        gradients = [parameter.grad.flatten() for parameter in module.parameters() if parameter.grad is not None]
        return float(torch.linalg.vector_norm(torch.cat(gradients), order))

    _, free = watched(tmp_path / "free", "recipe.epochs=1", look=size)
    _, clipped = watched(tmp_path / "clipped", "recipe.epochs=1", f"recipe.{key}=0.01", look=size)
    assert min(free.seen) > 0.011
    assert max(clipped.seen) == pytest.approx(0.01, rel=1e-3)


def test_the_average_of_the_weights_is_timms_and_a_selection_of_its_own(tmp_path):
    class Peer(Callback):
        def on_train_start(self, trainer, pl_module):
            self.average, self.steps = ModelEmaV3(pl_module.student.network, decay=0.7), 0

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.steps += 1
            self.average.update(pl_module.student.network, self.steps)

    plain = run(compose_run([*RUN, f"paths.runs={tmp_path}"]))
    beside = run(compose_run([*RUN, f"paths.runs={tmp_path}", "recipe.ema_decay=0.7"]))
    peer = Peer()
    overrides = [*RUN, f"paths.runs={tmp_path}", "recipe.ema_decay=0.7", "recipe.selection=ema"]
    record = run(compose_run(overrides), callbacks=(lambda: [peer],))
    saved = load_file(tmp_path / record.run_id / WEIGHTS_FILE)
    expected = peer.average.module.state_dict()
    assert saved.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(saved[name], value, rtol=1e-5, atol=1e-6)
    assert record.headline() == record.metrics.ema == beside.metrics.ema
    assert record.metrics.ema.epoch == 3
    assert record.metrics.last == beside.metrics.last == plain.metrics.last
    assert plain.metrics.ema is None
    assert "ema" not in plain.model_dump()["metrics"]
    assert beside.student.weights_sha256 == plain.student.weights_sha256 != record.student.weights_sha256
    predictions = load_file(tmp_path / record.run_id / PREDICTIONS_FILE)
    assert not torch.equal(predictions["test/ema"], predictions["test/last"])


def test_what_is_no_floating_number_is_taken_over():
    average = WeightAverage(0.9)
    for value in (1, 5):
        average.follow(iter([("weight", torch.tensor(float(value))), ("count", torch.tensor(value))]))
    assert float(average.tensors["weight"]) == pytest.approx(0.9 * 1 + 0.1 * 5)
    assert int(average.tensors["count"]) == 5


@pytest.mark.parametrize("soft", [False, True])
def test_smoothed_labels_are_those_of_torch(soft):
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(8, 5, generator=generator), torch.arange(8) % 5
    shares = torch.rand(8, 5, generator=generator).softmax(1) if soft else None
    batch = smoothed(Batch(torch.zeros(8, 3, 2, 2), targets, targets, shares), 0.1, 5)
    expected = F.cross_entropy(logits, shares if soft else targets, label_smoothing=0.1)
    torch.testing.assert_close(F.cross_entropy(logits, batch.labels), expected)


def test_a_method_that_reads_hard_labels_refuses_smoothed_ones():
    with pytest.raises(ConfigError, match=r"^method=cskd reads hard labels, .*recipe.label_smoothing should be null$"):
        build(check(compose_run([*RUN, "method=cskd", "recipe.label_smoothing=0.1"])))


@pytest.mark.parametrize("layer_decay", [None, 0.6])
@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_groups_of_a_network_are_those_of_timms_factory(name, layer_decay):
    network = timm.create_model(name)
    adapter = nn.Conv2d(3, 4, 1)
    parameters = [*network.parameters(), *adapter.parameters()]
    groups, rest = parameter_groups(parameters, [network], weight_decay=0.05, layer_decay=layer_decay, opt="adamw")
    peer = create_optimizer_v2(network, "adamw", weight_decay=0.05, layer_decay=layer_decay)

    def described(found):
        return {
            id(each): (group["weight_decay"], group.get("lr_scale", 1.0)) for group in found for each in group["params"]
        }

    expected = described(peer.param_groups) | {id(adapter.weight): (0.05, 1.0), id(adapter.bias): (0.0, 1.0)}
    assert described(groups) == expected
    assert sum(len(group["params"]) for group in groups) == len(parameters)
    assert rest == {"opt": "adamw"}


def test_schedules_of_torch_keep_the_rates_of_the_layers():
    recipe = check(compose_run([*RUN, *LAYERS])).recipe
    network = timm.create_model("test_vit")
    optimizer = optimizer_maker(recipe, [network])(network.parameters())
    rates = {round(group["lr"], 9) for group in optimizer.param_groups}
    peer = create_optimizer_v2(network, "adamw", lr=0.01, weight_decay=0.05, layer_decay=0.7)
    assert rates == {round(0.01 * group["lr_scale"], 9) for group in peer.param_groups}
    assert len(rates) > 2
    assert not any("lr_scale" in group for group in optimizer.param_groups)


@pytest.mark.filterwarnings("ignore")  # of optimizers that are not maintained
@pytest.mark.parametrize("name", [*list_optimizers(), "lookahead_adamw"])
def test_an_optimizer_of_timm_goes_on_as_if_never_stopped_or_is_refused(name):
    """Five steps, or two, a state read back into a fresh one, and three."""
    node = {"_target_": "timm.optim.create_optimizer_v2", "opt": name, "lr": 0.01}
    recipe = RecipeConfig(epochs=3, batch_size=2, optimizer=node, scheduler=None, augmentation=PLAIN, selection="last")
    if name.startswith(("bnb", "fused")) or name == "adahessian":  # packages that are absent, and second derivatives
        with pytest.raises(ConfigError, match=r"^recipe\.optimizer"):
            check_recipe(recipe)
        return
    check_recipe(recipe)

    def steps(network, optimizer, numbers):
        for number in numbers:
            optimizer.zero_grad()
            network(torch.randn(4, 6, generator=torch.Generator().manual_seed(number))).square().sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2))
    other = copy.deepcopy(network)
    make = optimizer_maker(recipe, [])
    whole, first = make(network.parameters()), make(other.parameters())
    torch.manual_seed(1)
    steps(network, whole, range(5))
    torch.manual_seed(1)
    steps(other, first, range(2))
    state = copy.deepcopy(first.state_dict())
    second = make(other.parameters())
    second.load_state_dict(state)
    steps(other, second, range(2, 5))
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


class Stop(Callback):
    """Stops the run as a signal does, in the middle of an epoch."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == 1 and batch_idx == 1:
            raise Preempted("stopped by a test")


FEATURES = {
    "a schedule of timm by step": [*TIMM_COSINE, "recipe.schedule_by=step"],
    "a schedule of timm by epoch": TIMM_COSINE,
    "schedules of torch in sequence": TORCH_SEQUENCE,
    "one cycle by step": ONE_CYCLE,
    "an average of the weights": ["recipe.ema_decay=0.9", "recipe.selection=ema"],
    "accumulation": ["recipe.accumulate=3"],
    "clipping by norm": ["recipe.clip_norm=0.1"],
    "clipping by value": ["recipe.clip_value=0.01"],
    "an optimizer of timm": LAMB,
    "layer decay": [*LAYERS, *TIMM_COSINE],
    "everything": [
        *(*LAMB, *TIMM_COSINE, "recipe.schedule_by=step", "recipe.accumulate=2", "recipe.clip_norm=1"),
        *("recipe.ema_decay=0.9", "recipe.label_smoothing=0.1"),
    ],
}


def stopped_and_resumed(tmp_path, *overrides: str) -> None:
    """Compare a run that was stopped in its second epoch with one that was not: weights, predictions and metrics."""
    whole = run(compose_run([*RUN, f"paths.runs={tmp_path / 'whole'}", *overrides]))
    cfg = compose_run([*RUN, f"paths.runs={tmp_path / 'stopped'}", *overrides])
    with pytest.raises(Preempted):
        run(cfg, callbacks=(lambda: [Stop()],))
    resumed = run(cfg)
    assert resumed.times.resumed == 1
    assert resumed.run_id == whole.run_id
    assert resumed.metrics == whole.metrics
    assert resumed.history == whole.history
    assert resumed.artifacts == whole.artifacts  # hashes of weights and predictions


@pytest.mark.parametrize("feature", FEATURES)
def test_a_stopped_run_resumes_bit_for_bit(tmp_path, feature):
    stopped_and_resumed(tmp_path, *FEATURES[feature])


SMALL = ["recipe.epochs=3", "recipe.batch_size=20", "recipe.augmentation.resized_crop=[0.5,1.0]", "dataset=digits"]


@pytest.mark.parametrize("preset", ["imagenet", "deit", "a2", "function_matching", "finetune"])
def test_a_run_of_each_preset_resumes_bit_for_bit(tmp_path, preset):
    short = {"deit": "recipe.scheduler.warmup_epochs=1", "a2": "recipe.scheduler.warmup_epochs=1"}
    short["function_matching"] = "recipe.scheduler.warmup_epochs=1"
    stopped_and_resumed(tmp_path, f"recipe={preset}", *SMALL, *([short[preset]] if preset in short else []))


REFUSED = {
    "recipe.accumulate=1": r"recipe\.accumulate=1: should be greater than or equal to 2",
    "recipe.ema_decay=1": r"recipe\.ema_decay=1: should be less than 1",
    "recipe.selection=ema": r"recipe=.*: selection=ema: needs an ema_decay",
    "recipe.clip_norm=1 recipe.clip_value=1": r"recipe=.*: clip_norm and clip_value: one of them should be null",
    "recipe.schedule_by=batch": r"recipe\.schedule_by='batch': should be 'epoch' or 'step'",
    "recipe.optimizer._target_=timm.optim.create_optimizer_v2 +recipe.optimizer.opt=lam": (
        r"recipe\.optimizer\.opt='lam': is no optimizer of timm; did you mean 'lamb'"
    ),
    "recipe.optimizer._target_=timm.optim.create_optimizer_v2 +recipe.optimizer.betaz=3": (
        r"recipe\.optimizer\.betaz: unknown key"
    ),
    "recipe.optimizer._target_=timm.optim.Lamb": (
        r"recipe\.optimizer\._target_='timm.optim.Lamb': is not allowed here; allowed: torch\.optim\.\*, "
        r"timm\.optim\.create_optimizer_v2$"
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_a_recipe_cannot_do_is_one_line(text):
    with pytest.raises(ConfigError, match=REFUSED[text]):
        build(check(compose_run([*RUN, *text.split()])))


def test_a_schedule_that_watches_a_metric_is_refused():
    plateau = "+recipe.scheduler={_target_:timm.scheduler.create_scheduler_v2,sched:plateau,num_epochs:3}"
    with pytest.raises(ConfigError, match=r"^recipe.scheduler._target_: needs a schedule that watches no metric"):
        build(check(compose_run([*RUN, "~recipe.scheduler", plateau])))


def test_a_target_within_a_list_is_checked():
    target = "torch.optim.lr_scheduler.SequentialLR"
    evil = f"+recipe.scheduler={{_target_:{target},milestones:[1],schedulers:[{{_target_:os.system}}]}}"
    with pytest.raises(ConfigError, match=r"^recipe\.scheduler\.schedulers\[0\]\._target_='os\.system': is not"):
        check(compose_run([*RUN, "~recipe.scheduler", evil]))
