"""What a run's name depends on: everything that determines its numbers, and nothing else."""

import json
import sys

import pytest

from kd_bench.config.check import check
from kd_bench.config.schema import RunConfig
from kd_bench.results.records.fingerprint import determining, fingerprint

DATA, TEACHER, PREVIOUS = "a" * 64, "b" * 64, "c" * 64

# Written out, so that it depends on no file of conf/.
FIXED = {
    "dataset": {
        "source": {"_target_": "kd_bench.data.digits.Digits", "test_fraction": 0.4},
        "num_classes": 10,
        "image_size": [8, 8],
        "mean": [0.25, 0.25, 0.25],
        "std": [0.5, 0.5, 0.5],
        "validation_fraction": 0.2,
        "train_samples": None,
    },
    "teacher": {
        "name": "resnet20_cifar",
        "pretrained": False,
        "kwargs": {},
        "checkpoint": "auto",
        "seed": 1000,
        "expected_top1": None,
        "overrides": {},
    },
    "student": {"name": "resnet8_cifar", "pretrained": False, "kwargs": {}},
    "method": {"_target_": "kd_bench.methods.kd.KD", "ce_weight": 0.1, "kd_weight": 0.9, "temperature": 4.0},
    "recipe": {
        "epochs": 60,
        "batch_size": 64,
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.0005},
        "scheduler": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 60},
        "augmentation": {"crop_padding": 1, "horizontal_flip": False, "resized_crop": None},
        "selection": "last",
    },
    "trainer": {
        "accelerator": "cpu",
        "precision": "32-true",
        "channels_last": False,
        "threads": None,
        "checkpoint_every_n_epochs": 1,
        "log_every_n_steps": 50,
        "progress": "auto",
    },
    "logger": {"_target_": "kd_bench.training.trackers.none"},
    "chain": {"generations": 0},
    "stage_pairs": None,
    "seed": 0,
    "study": None,
    "plugins": [],
    "paths": {"runs": "runs", "data": "~/.cache/kd_bench"},
    "names": {"dataset": "digits", "method": "kd", "recipe": "digits"},
    "evaluation": {"sections": []},
}


def name(config: RunConfig, data: str = DATA, weights: tuple = ([TEACHER], []), generation: int = 0) -> str:
    return fingerprint(config, data, list(weights), generation)


def test_a_fixed_configuration_has_a_fixed_name():
    """Finished runs are found by it: it may change with the format of records only."""
    assert name(RunConfig.model_validate(FIXED)) == "5e86b92f74bf5d2c"


def test_neighbouring_large_seeds_are_different_runs():
    """Beyond 2 ** 53 not every whole number is a float."""
    assert len({name(RunConfig.model_validate({**FIXED, "seed": 2**53 + step})) for step in range(4)}) == 4
    assert len(name(RunConfig.model_validate({**FIXED, "seed": 2**63 - 1}))) == 16


def test_the_order_of_keys_does_not_matter():
    def turned(node):
        return {key: turned(node[key]) for key in reversed(node)} if isinstance(node, dict) else node

    config = RunConfig.model_validate(turned(FIXED))
    assert json.dumps(config.model_dump()["method"]) != json.dumps(FIXED["method"])
    assert name(config) == name(RunConfig.model_validate(FIXED))


DETERMINING = [
    "seed=1",
    "method=at",
    "method.temperature=3",
    "method.ce_weight=0.2",
    "names.method=kd_warm",
    "student=wrn_16_1_cifar",
    "+student.kwargs.drop_rate=0.1",
    "dataset.train_samples=100",
    "dataset.validation_fraction=0.1",
    "dataset.mean=[0.5,0.5,0.5]",
    "dataset.source.test_fraction=0.3",
    "recipe=crd",
    "recipe.epochs=61",
    "recipe.batch_size=32",
    "recipe.optimizer.lr=0.1",
    "+recipe.optimizer.nesterov=true",
    "recipe.optimizer._target_=torch.optim.RMSprop",
    "recipe.scheduler.T_max=61",
    "recipe.scheduler=null",
    "recipe.augmentation.crop_padding=2",
    "recipe.augmentation.crop_padding=0 recipe.augmentation.resized_crop=[0.5,1.0]",
    "recipe.augmentation.horizontal_flip=true",
    "recipe.selection=best_on_validation",
    "trainer.precision=bf16-mixed",
    "trainer.channels_last=true",
    "trainer=ddp",
    "trainer=ddp trainer.devices=4",
    "teacher=wrn_16_2_cifar",
    "teacher.input_size=[16,16]",
    "teacher.mean=[0.1,0.1,0.1]",
    "student.input_size=[16,16]",
    "teacher=ensemble",
    "teacher=ensemble teacher.average=probabilities",
    "teacher=ensemble teacher.members.second.weight=2",
    "stage_pairs=[[1,1]]",
]

WITHOUT_EFFECT = [
    "paths.runs=elsewhere",
    "paths.data=elsewhere",
    "logger=none",
    "logger=csv",
    "logger.mode=disabled",
    "logger.project=other",
    "study=widths",
    "trainer=gpu",
    "trainer.threads=1",
    "trainer.checkpoint_every_n_epochs=7",
    "trainer.log_every_n_steps=1",
    "trainer.progress=none",
    # The teacher is its weights, however it came to be.
    "teacher.seed=1",
    "teacher.checkpoint=file.pt",
    "teacher.expected_top1=0.9",
    "+teacher.overrides={recipe.epochs:100}",
]


@pytest.fixture(scope="module")
def names_by_override() -> dict[str, str]:
    return {}


@pytest.mark.parametrize("override", DETERMINING)
def test_what_determines_the_numbers_changes_the_name(compose, override, names_by_override):
    changed = name(check(compose(*override.split())))
    assert changed != name(check(compose()))
    assert changed not in names_by_override.values()
    names_by_override[override] = changed


@pytest.mark.parametrize("override", WITHOUT_EFFECT)
def test_what_does_not_determine_the_numbers_does_not(compose, override):
    changed = check(compose(override))
    base = check(compose())
    assert changed != base
    assert name(changed) == name(base)


def test_data_weights_and_generation_count():
    config = RunConfig.model_validate(FIXED)
    names = [
        name(config),
        name(config, data="d" * 64),
        name(config, weights=(["d" * 64], [])),
        name(config, weights=([], [])),
        name(config, weights=([], [TEACHER])),
        name(config, weights=([TEACHER], [PREVIOUS])),
        name(config, weights=([TEACHER, PREVIOUS], [])),
        name(config, weights=([TEACHER], [PREVIOUS]), generation=1),
        name(config, weights=([TEACHER], [PREVIOUS]), generation=2),
    ]
    assert len(set(names)) == len(names)
    assert all(len(each) == 16 and int(each, 16) >= 0 for each in names)


def test_every_part_of_the_configuration_is_decided_upon():
    """A new part must be put on one of the two lists above."""
    left_out = {"logger", "chain", "study", "paths", "evaluation"}
    assert set(determining(RunConfig.model_validate(FIXED))) == set(FIXED) - left_out


def test_a_chains_length_is_not_its_position():
    """Generation 1 of three is the same run as generation 1 of one."""
    three = RunConfig.model_validate({**FIXED, "chain": {"generations": 3}})
    assert name(three, generation=1) == name(RunConfig.model_validate(FIXED), generation=1)


METHOD = "from kd_bench.methods.scratch import Scratch\n\nclass Mine(Scratch):\n    scale = {}\n"


@pytest.fixture
def plugin_name(tmp_path, monkeypatch):
    """The name of a run whose method comes from a plugin of these files."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(compose, files: dict[str, str], target: str) -> str:
        for path, source in files.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(source)
        for module in [module for module in sys.modules if module.partition(".")[0] == "edited_plugin"]:
            del sys.modules[module]
        return name(check(compose("method=scratch", "plugins=[edited_plugin]", f"method._target_={target}")))

    yield make
    for module in [module for module in sys.modules if module.partition(".")[0] == "edited_plugin"]:
        del sys.modules[module]


@pytest.mark.parametrize(
    ("init", "path", "target"),
    [
        (None, "edited_plugin.py", "edited_plugin.Mine"),
        ("", "edited_plugin/mine.py", "edited_plugin.mine.Mine"),
    ],
    ids=["module", "package"],
)
def test_an_edited_plugin_is_another_run(compose, plugin_name, init, path, target):
    package = {} if init is None else {"edited_plugin/__init__.py": init}
    first = plugin_name(compose, {**package, path: METHOD.format(1)}, target)
    assert plugin_name(compose, {**package, path: METHOD.format(1)}, target) == first
    assert plugin_name(compose, {**package, path: METHOD.format(22)}, target) != first


def test_a_plugin_without_a_source_file_of_its_own_has_a_name_too(compose, plugin_name):
    """A folder without ``__init__.py`` is a package as well."""
    files = {"edited_plugin/mine.py": METHOD.format(1)}
    assert len(plugin_name(compose, files, "edited_plugin.mine.Mine")) == 16
