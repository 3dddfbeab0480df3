"""What the configuration check refuses, and in which words. Every refusal is one line that names the key."""

import copy
import os
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from kd_bench.config.check import check
from kd_bench.config.paths import CONF
from kd_bench.config.plugins import load_plugins
from kd_bench.data.presence import require
from kd_bench.errors import ConfigError
from kd_bench.results.records.fingerprint import fingerprint
from kd_bench.training.pair import build

SEEN_BY_NOBODY = "the value of the variable"
SHAPES = "[(16, 8, 8), (16, 8, 8), (32, 4, 4), (64, 2, 2)]"  # of both CIFAR networks on 8x8 images


@pytest.fixture(scope="module")
def parser():
    return OverridesParser.create()


@pytest.fixture
def configured(compose, parser):
    """``configured("method=at seed=1")``: choices are composed, values are set as Hydra would, in less time."""

    def make(text: str):
        overrides = [parser.parse_override(override) for override in text.split()]
        values = [o for o in overrides if o.is_delete() or not (CONF / o.key_or_group).is_dir()]
        cfg = compose(*(o.input_line for o in overrides if o not in values))
        with open_dict(cfg):
            for override in values:
                parent, _, name = override.key_or_group.rpartition(".")
                if override.is_delete():
                    del (OmegaConf.select(cfg, parent) if parent else cfg)[name]
                else:
                    OmegaConf.update(cfg, override.key_or_group, override.value(), merge=False, force_add=True)
        return cfg

    return make


def refusal(cfg) -> str:
    with pytest.raises(ConfigError) as caught:
        build(check(cfg))
    line = str(caught.value)
    assert line
    assert "\n" not in line
    return line


def test_a_section_or_key_that_a_run_lacks_is_one_line(configured):
    """Whatever is taken away or set to null: a run that is complete without it, or one line."""
    whole = configured("")
    places = [key for key, value in leaves_of_two_levels(whole) if key != "hydra"]
    assert {"recipe", "paths", "names", "trainer", "dataset.source", "teacher.checkpoint"} <= set(places)
    refused = {}
    for place in places:
        parent, _, name = place.rpartition(".")
        for change in ("taken away", "null"):
            cfg = copy.deepcopy(whole)
            node = OmegaConf.select(cfg, parent) if parent else cfg
            with open_dict(cfg):
                if change == "null":
                    node[name] = None
                else:
                    del node[name]
            if change == "taken away" or place != "dataset":
                require(OmegaConf.select(cfg, "dataset.source"))
            try:
                check(cfg)
            except ConfigError as error:
                refused[place, change] = str(error)
    assert [line for line in refused.values() if "\n" in line or not line] == []
    for place in ("recipe", "trainer", "paths", "names", "dataset", "dataset.source", "student", "teacher", "logger"):
        assert f"{place}: is missing" in refused[place, "taken away"]
        assert f"{place}=None: should be" in refused[place, "null"]


def leaves_of_two_levels(cfg) -> list:
    """Every key of a configuration, and of its sections, with what it holds unresolved."""
    found = []
    for key in cfg:
        node = OmegaConf.to_container(cfg, resolve=False)[key]
        found.append((key, node))
        found += [(f"{key}.{name}", value) for name, value in node.items()] if isinstance(node, dict) else []
    return found


SEEDS = {"-1": False, "0": True, "1.5": False, "true": False, str(2**63 - 1): True, str(2**63): False, "9" * 400: False}


@pytest.mark.parametrize("key", ["seed", "teacher.seed"])
@pytest.mark.parametrize("value", SEEDS, ids=lambda value: value[:6])
def test_seeds_are_those_that_every_generator_and_table_takes(configured, key, value):
    cfg = configured(f"{key}={value}")
    if not SEEDS[value]:
        assert refusal(cfg).startswith(f"{key}=")
        return
    assert OmegaConf.select(cfg, key) == int(value)
    check(cfg)


UNKNOWN_KEYS = {
    "+sead=1": "sead: unknown key; did you mean 'seed'?",
    "+dataset.imagesize=3": "dataset.imagesize: unknown key; did you mean 'image_size'?",
    "+dataset.source.test_fractoin=0.3": "dataset.source.test_fractoin: unknown key; did you mean 'test_fraction'?",
    "+teacher.nam=x": "teacher.nam: unknown key; did you mean 'name'?",
    "+student.kwarg=3": "student.kwarg: unknown key; did you mean 'kwargs'?",
    "+method.temprature=2": "method.temprature: unknown key; did you mean 'temperature'?",
    "+recipe.epoch=2": "recipe.epoch: unknown key; did you mean 'epochs'?",
    "+recipe.augmentation.crop=1": (
        "recipe.augmentation.crop: unknown key; did you mean 'resized_crop', 'crop_padding'?"
    ),
    "+recipe.optimizer.momentun=0.9": "recipe.optimizer.momentun: unknown key; did you mean 'momentum'?",
    "+recipe.scheduler.T_mx=3": "recipe.scheduler.T_mx: unknown key; did you mean 'T_max'?",
    "+trainer.thread=1": "trainer.thread: unknown key; did you mean 'threads'?",
    "+logger.projet=x": "logger.projet: unknown key; did you mean 'project'?",
    "+paths.run=x": "paths.run: unknown key; did you mean 'runs'?",
    "method=kd_at +method.terms.kd.temprature=2": (
        "method.terms.kd.temprature: unknown key; did you mean 'temperature'?"
    ),
    "+method.zzz=2": "method.zzz: unknown key; allowed: ce_weight, kd_weight, temperature, standardize_logits",
    "method=scratch +method.zzz=2": "method.zzz: unknown key; allowed: none",
}

WRONG_TYPES = {
    "seed=abc": "seed='abc': should be a valid integer",
    "seed=1.5": "seed=1.5: should be a valid integer",
    "seed=true": "seed=True: should be a valid integer",
    "recipe.epochs=two": "recipe.epochs='two': should be a valid integer",
    "recipe.optimizer.lr=fast": "recipe.optimizer.lr='fast': should be a valid number",
    "method.temperature=hot": "method.temperature='hot': should be a valid number",
    "method.temperature=true": "method.temperature=True: should be a valid number",
    "method=fitnet method.hint_stage=1.0": "method.hint_stage=1.0: should be a valid integer",
    "method=byot method.ensemble=1": "method.ensemble=1: should be a valid boolean",
    "plugins=abc": "plugins='abc': should be a valid list",
    "student.name=3": "student.name=3: should be a valid string",
    "student.kwargs=3": "student.kwargs=3: should be a valid dictionary",
    "trainer.accelerator=tpu": "trainer.accelerator='tpu': should be 'cpu' or 'gpu'",
    "logger.mode=sometimes": "logger.mode='sometimes': should be 'offline', 'online' or 'disabled'",
    "recipe.selection=best": "recipe.selection='best': should be 'last', 'best_on_validation', 'best_on_test' or 'ema'",
}

OUT_OF_RANGE = {
    "method.temperature=0": "method.temperature=0: should be greater than 0",
    "method.temperature=-4": "method.temperature=-4: should be greater than 0",
    "method.ce_weight=-1": "method.ce_weight=-1: should be greater than or equal to 0",
    "method=kd_at method.terms.kd.ce_weight=-1": "method.terms.kd.ce_weight=-1: should be greater than or equal to 0",
    "method=byot method.distillation_weight=1.5": "method.distillation_weight=1.5: should be less than or equal to 1",
    "method=fitnet_two_stage method.pretrain_epochs=0": "method.pretrain_epochs=0: should be greater than or equal to",
    "dataset.validation_fraction=0": "dataset.validation_fraction=0: should be greater than 0",
    "dataset.validation_fraction=1.5": "dataset.validation_fraction=1.5: should be less than 1",
    "dataset.source.test_fraction=1.5": "dataset.source.test_fraction=1.5: should be less than 1",
    "dataset.num_classes=1": "dataset.num_classes=1: should be greater than or equal to 2",
    "dataset.train_samples=0": "dataset.train_samples=0: should be greater than or equal to 1",
    "recipe.epochs=0": "recipe.epochs=0: should be greater than or equal to 1",
    "recipe.batch_size=1": "recipe.batch_size=1: should be greater than or equal to 2",
    "recipe.optimizer.lr=-1": "recipe.optimizer: Invalid learning rate: -1",
    "recipe.optimizer.lr=nan": "recipe.optimizer.lr=nan: must be a finite number",
    "recipe.optimizer.lr=inf": "recipe.optimizer.lr=inf: must be a finite number",
    "recipe.optimizer.lr=-inf": "recipe.optimizer.lr=-inf: must be a finite number",
    "recipe.optimizer.lr=0": "recipe.optimizer.lr=0: should be greater than 0",
    "recipe.optimizer.momentum=-0.1": "recipe.optimizer: Invalid momentum value: -0.1",
    "recipe.augmentation.crop_padding=-1": "recipe.augmentation.crop_padding=-1: should be greater than or equal to 0",
    "trainer.threads=0": "trainer.threads=0: should be greater than or equal to 1",
    "teacher.expected_top1=1.5": "teacher.expected_top1=1.5: should be less than or equal to 1",
    "chain.generations=-1": "chain.generations=-1: should be greater than or equal to 0",
    "seed=-1": "seed=-1: should be greater than or equal to 0",
}

FOREIGN_TARGETS = {
    "method._target_=os.system": "method._target_='os.system': is not allowed here; allowed: kd_bench.methods.*",
    "method._target_=kd_bench.runs.run.run": "method._target_='kd_bench.runs.run.run': is not allowed here",
    "method._target_=kd_bench.methodsX.kd.KD": "method._target_='kd_bench.methodsX.kd.KD': is not allowed here",
    "method._target_=3": "method._target_=3: is not allowed here",
    "~method._target_": "method._target_=None: is not allowed here",
    "method=kd_at method.terms.kd._target_=os.system": "method.terms.kd._target_='os.system': is not allowed here",
    "method=kd_at +method.terms.evil={_target_:os.system}": "method.terms.evil._target_='os.system': is not allowed",
    "method=kd_at +method.terms.evil={deep:{_target_:os.system}}": "method.terms.evil._target_=None: is not allowed",
    "dataset.source._target_=builtins.eval": "dataset.source._target_='builtins.eval': is not allowed here",
    "recipe.optimizer._target_=torch.load": "recipe.optimizer._target_='torch.load': is not allowed here",
    "recipe.scheduler._target_=torch.load": "recipe.scheduler._target_='torch.load': is not allowed here",
    "recipe.scheduler._target_=torch.optim.SGD": "recipe.scheduler._target_='torch.optim.SGD': is not allowed here",
    "logger._target_=os.system": (
        "logger._target_='os.system': is not allowed here; allowed: kd_bench.training.trackers.*"
    ),
    # Names that an allowed module merely imported lead out of it again.
    "method._target_=kd_bench.methods.kd.F": "method._target_='kd_bench.methods.kd.F': ",
    "method._target_=kd_bench.methods.at.F": "method._target_='kd_bench.methods.at.F': is not a class of an allowed",
    "method._target_=kd_bench.methods.at.F.normalize": "method._target_='kd_bench.methods.at.F.normalize': ",
    "method._target_=kd_bench.methods.kd.Tensor": "method._target_='kd_bench.methods.kd.Tensor': is not a class of",
    "method._target_=kd_bench.methods.kd.cross_entropy": "is not a class of an allowed module",
    "recipe.optimizer._target_=torch.optim.optimizer.torch": "is not a class of an allowed module",
    "method._target_=kd_bench.methods.kd.Nothing": "there is no such class",
    "method._target_=kd_bench.methods.nothing.KD": "there is no such class",
    # No slot has a target here.
    "+student.kwargs._target_=os.system": "student.kwargs._target_='os.system': is not allowed here",
    "+student.kwargs.deep._target_=os.system": "student.kwargs.deep._target_='os.system': is not allowed here",
    "+student.kwargs.deep=[{_target_:os.system}]": "student.kwargs.deep[0]._target_='os.system': is not allowed here",
    "+teacher.kwargs._target_=os.system": "teacher.kwargs._target_='os.system': is not allowed here",
    "+teacher.overrides._target_=os.system": "teacher.overrides._target_='os.system': is not allowed here",
    # Hydra's other instantiation keys.
    "+method._partial_=true": "method._partial_: unknown key",
    "+method._args_=[1]": "method._args_: unknown key",
    "+method._recursive_=false": "method._recursive_: unknown key",
    "method=kd_at +method.terms.kd._partial_=true": "method.terms.kd._partial_: unknown key",
    "+recipe.optimizer._partial_=true": "recipe.optimizer._partial_: unknown key",
    "+student.kwargs._partial_=true": "student.kwargs._partial_=True: is not allowed here",
}

UNRESOLVED = {
    "seed=???": "seed: Missing mandatory value: seed",
    "method.temperature=???": "method.temperature: Missing mandatory value: temperature",
    "study=${missing.key}": "study: Interpolation key 'missing.key' not found",
    "study=${study}": "study: Recursive interpolation detected",
    "study=${nothing:1}": "study",
    "paths.runs=${oc.env:KD_BENCH_UNSET}": "paths.runs: ",
}

UNFIT_PAIRS = {
    "teacher=none": "method=kd needs a teacher, but teacher.name is null; choose one: teacher=resnet20_cifar",
    "teacher=none method=kd_at": "method=kd_at needs a teacher, but teacher.name is null",
    "method=scratch chain=born_again": "method=scratch learns from no earlier run, so chain.generations=3 has",
    "method=fitnet method.hint_stage=9": (
        f"method.hint_stage=9: allowed 0 to 3; stages of resnet8_cifar: {SHAPES}, of resnet20_cifar: {SHAPES}"
    ),
    "method=at method.skip_stages=4": (
        f"method.skip_stages=4 leaves 0 of 4 pairs of stages, needed: 1; stages of resnet8_cifar: {SHAPES}, "
        f"of resnet20_cifar: {SHAPES}"
    ),
    "method=byot method.skip_stages=3": f"leaves no stage for an exit; resnet8_cifar: {SHAPES}",
    "method=kd_at ~method.terms.at": "method.terms=['kd']: a combination needs at least two methods",
    "student.name=resnett18": "student.name='resnett18': no such network; did you mean 'resnet18',",
    "teacher.name=resnett18": "teacher.name='resnett18': no such network; did you mean 'resnet18',",
    "student.name=resnet18.nothing": "student.name='resnet18.nothing': resnet18 has no pretrained weights tagged",
    "+student.kwargs.dept=3": "student.name='resnet8_cifar' with student.kwargs={'dept': 3}: ",
    "student.name=vit_tiny_patch16_224 student.input_size=[8,8]": (
        "vit_tiny_patch16_224 cannot take 8x8 images: Input height (8) doesn't match model (224); transformers are "
        "built for a size: +student.kwargs.img_size=8"
    ),
    "stage_pairs=[[0,0],[4,3]]": f"stage_pairs=[[0, 0], [4, 3]]: resnet8_cifar has stages 0 to 3: {SHAPES}",
    "stage_pairs=[[3,4]]": f"stage_pairs=[[3, 4]]: resnet20_cifar has stages 0 to 3: {SHAPES}",
    "teacher=ensemble method=kd method.temperature=0": "method.temperature",
    "recipe.scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau ~recipe.scheduler.T_max": (
        "recipe.scheduler._target_: needs a schedule that watches no metric"
    ),
    "~recipe.scheduler.T_max": "recipe.scheduler.T_max: is missing",
    "~recipe.scheduler +recipe.scheduler={_target_:torch.optim.lr_scheduler.LambdaLR,lr_lambda:x}": (
        "recipe.scheduler: 'str' object is not callable"
    ),
    "recipe.optimizer._target_=torch.optim.swa_utils.update_bn": "recipe.optimizer.",
}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        pair
        for table in (UNKNOWN_KEYS, WRONG_TYPES, OUT_OF_RANGE, FOREIGN_TARGETS, UNRESOLVED, UNFIT_PAIRS)
        for pair in table.items()
    ],
)
def test_refused_with_one_line(configured, overrides, expected):
    assert expected in refusal(configured(overrides))


@pytest.mark.parametrize("overrides", [*UNKNOWN_KEYS])
def test_an_unknown_key_is_named_first(configured, overrides):
    """The whole line, where a table above gives all of it."""
    assert refusal(configured(overrides)) == UNKNOWN_KEYS[overrides]


def test_all_problems_are_listed_at_once(compose):
    line = refusal(compose("seed=-1", "recipe.epochs=0", "+sead=1"))
    assert line.split("; ") == [
        "recipe.epochs=0: should be greater than or equal to 1",
        "seed=-1: should be greater than or equal to 0",
        "sead: unknown key",
        "did you mean 'seed'?",
    ]


@pytest.mark.parametrize(
    "overrides",
    [
        "recipe.scheduler.T_max=0",
        "recipe.scheduler.T_max=soon",
        "~recipe.scheduler +recipe.scheduler={_target_:torch.optim.lr_scheduler.StepLR,step_size:0}",
        "~recipe.scheduler +recipe.scheduler={_target_:torch.optim.lr_scheduler.MultiStepLR,milestones:[1],gamma:much}",
    ],
)
def test_a_schedule_that_would_fail_at_its_first_step_is_refused(configured, overrides):
    assert refusal(configured(f"recipe.epochs=3 {overrides}")).startswith("recipe.scheduler")


def test_an_optimizer_that_needs_a_closure_passes(configured):
    build(check(configured("~recipe.optimizer +recipe.optimizer={_target_:torch.optim.LBFGS,lr:0.1}")))


@pytest.mark.parametrize(
    "overrides",
    [
        "method=kd_at method.terms.at=null",
        "~recipe.optimizer +recipe.optimizer={_target_:torch.optim.optimizer.register_optimizer_step_post_hook,hook:x}",
        "trainer=gpu",
        "trainer.precision=16-mixed",
    ],
)
def test_never_anything_but_a_config_error(configured, monkeypatch, overrides):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refusal(configured(overrides))


ENVIRONMENT = {
    "plain": ["study=${oc.env:SERVICE_TOKEN}"],
    "inside a text": ["study=x-${oc.env:SERVICE_TOKEN}-y"],
    "with a default": ["study=${oc.env:SERVICE_TOKEN,none}"],
    "decoded": ["study='${oc.decode:${oc.env:SERVICE_TOKEN}}'"],
    "as a number": ["seed=${oc.env:SERVICE_TOKEN}"],
    "in a list": ["plugins=['${oc.env:SERVICE_TOKEN}']"],
    "of a network": ["+student.kwargs.token=${oc.env:SERVICE_TOKEN}"],
    "of a tracker": ["logger.project=${oc.env:SERVICE_TOKEN}"],
    "spaced out": ["study=${ oc.env:SERVICE_TOKEN}"],
    "by way of a path": ["paths.data=${oc.env:SERVICE_TOKEN}", "study=${paths.data}"],
    "by way of a selected path": ["paths.data=${oc.env:SERVICE_TOKEN}", "study=${oc.select:paths.data}"],
    "by way of hydra": ["hydra.job.name=${oc.env:SERVICE_TOKEN}", "study=${hydra:job.name}"],
    "by way of a relative path": ["paths.data=${oc.env:SERVICE_TOKEN}", "study=${.paths.data}"],
    "by way of a bracketed path": ["paths.data=${oc.env:SERVICE_TOKEN}", "study=${[paths][data]}"],
    "by a composed name": ["study=oc.env", "logger.project='${${study}:SERVICE_TOKEN}'"],
    "by a half composed name": ["study=env", "logger.project='${oc.${study}:SERVICE_TOKEN}'"],
    "by way of a composed path": [
        "paths.data='${oc.env:SERVICE_TOKEN}'",
        "study=paths",
        "logger.project='${${study}.data}'",
    ],
    "by way of a folder": [
        "dataset=fashion_mnist",
        "paths.data=${oc.env:SERVICE_TOKEN}",
        "study=${dataset.source.root}",
    ],
}


@pytest.mark.parametrize("way", ENVIRONMENT)
def test_environment_variables_do_not_enter_what_is_stored(compose, monkeypatch, way):
    monkeypatch.setenv("SERVICE_TOKEN", SEEN_BY_NOBODY)
    with pytest.raises(ConfigError) as caught:
        check(compose(*ENVIRONMENT[way]))
    assert SEEN_BY_NOBODY not in str(caught.value)


def test_environment_variables_may_stand_in_paths(compose, monkeypatch, tmp_path):
    monkeypatch.setenv("KD_BENCH_FOLDER", str(tmp_path))
    config = check(compose("paths.runs=${oc.env:KD_BENCH_FOLDER}/runs"))
    assert config.runs == tmp_path / "runs"


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes a module into the working directory and gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"plugin_{os.getpid()}_{tmp_path.name}".replace("-", "_")

    def write(source: str) -> str:
        (tmp_path / f"{name}.py").write_text(source)
        return name

    yield write
    sys.modules.pop(name, None)


PLUGIN_METHOD = """
from kd_bench.methods.base import Method, Requirements

class Mine(Method):
    paper, family, requires = "none", "baseline", Requirements(teacher="none")

    def __init__(self, options: dict):
        super().__init__()
        self.options = options
"""


def test_a_missing_plugin_is_named(compose):
    expected = "plugins: 'nothing_here' cannot be imported: ModuleNotFoundError: No module named 'nothing_here'"
    assert refusal(compose("plugins=[nothing_here]")) == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('no luck\\nat all')", "ValueError: no luck"),
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("def (", "SyntaxError: invalid syntax"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named_with_its_reason(compose, plugin, source, reason):
    name = plugin(source)
    assert refusal(compose(f"plugins=[{name}]")).startswith(f"plugins: '{name}' cannot be imported: {reason}")


def test_a_plugin_is_found_in_the_working_directory_and_allowed_in_its_slots_only(compose, plugin):
    name = plugin(PLUGIN_METHOD)
    load_plugins([name])
    method = ["method=scratch", f"method._target_={name}.Mine", "+method.options={a:1}"]
    assert build(check(compose(f"plugins=[{name}]", *method))).method.options == {"a": 1}
    assert "is not allowed here" in refusal(compose(*method))  # loaded, but this configuration does not name it
    optimizer = f"recipe.optimizer._target_={name}.Mine"
    assert "is not allowed here" in refusal(compose(f"plugins=[{name}]", optimizer))


def test_no_target_is_instantiated_below_an_untyped_argument_of_a_plugin(compose, plugin, tmp_path):
    name = plugin(PLUGIN_METHOD)
    canary = tmp_path / "canary"
    evil = f"{{_target_:os.mkdir,path:'{canary}'}}"
    for options in (evil, f"{{deep:{evil}}}", f"{{deep:{{deeper:{evil}}}}}"):
        method = ["method=scratch", f"method._target_={name}.Mine", f"+method.options={options}"]
        refusal(compose(f"plugins=[{name}]", *method))
        assert not canary.exists()


EQUAL = {
    "method.temperature=4": "method.temperature=4.0",
    "method.ce_weight=1": "method.ce_weight=1.0",
    "method=kd_at method.terms.kd.temperature=4": "method=kd_at method.terms.kd.temperature=4.0",
    "recipe.optimizer.momentum=0": "recipe.optimizer.momentum=0.0",
    "dataset.std=[1,1,1]": "dataset.std=[1.0,1.0,1.0]",
    "~recipe.scheduler +recipe.scheduler={_target_:torch.optim.lr_scheduler.MultiStepLR,milestones:[1],gamma:1}": (
        "~recipe.scheduler +recipe.scheduler={_target_:torch.optim.lr_scheduler.MultiStepLR,milestones:[1],gamma:1.0}"
    ),
}


@pytest.mark.parametrize("overrides", EQUAL)
def test_a_whole_number_and_its_float_are_the_same_run(configured, overrides):
    first, second = (check(configured(text)) for text in (overrides, EQUAL[overrides]))
    assert fingerprint(first, "0" * 64, [None, None], 0) == fingerprint(second, "0" * 64, [None, None], 0)


def test_every_shipped_choice_passes(compose):
    for override in ("recipe=crd", "logger=csv", "logger=none", "chain=none", "student=wrn_16_1_cifar"):
        build(check(compose(override)))


def test_checking_changes_nothing(compose):
    cfg = compose()
    before = cfg.copy()
    check(cfg)
    assert cfg == before
