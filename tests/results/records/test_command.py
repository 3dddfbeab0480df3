"""The command of a record composes to the very configuration that the record holds, and so to the same run."""

import json
import shlex

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from support.records import record_content

from kd_bench.cli.listing import groups
from kd_bench.config.check import check
from kd_bench.config.composition import choices, quoted
from kd_bench.config.overrides import compose_run
from kd_bench.config.paths import CONF
from kd_bench.config.schema import RunConfig
from kd_bench.errors import ConfigError
from kd_bench.results.records import command as shown
from kd_bench.results.records.command import command, differing, overrides_of, to_record, unfounded
from kd_bench.results.records.fingerprint import fingerprint
from kd_bench.results.records.literals import literal
from kd_bench.results.records.record import Record


def round_trip(*overrides: str) -> list[str]:
    """The overrides that come back, after a check that they mean the same."""
    config = check(compose_run(list(overrides)))
    found = overrides_of(json.loads(json.dumps(config.recorded())))  # as a record's file has it
    again = check(compose_run([*found, *(each for each in overrides if ".source.root=" in each)]))
    assert again.recorded() == config.recorded()
    assert name(again) == name(config)
    return found


def name(config: RunConfig) -> str:
    return fingerprint(config, "d" * 64, [["t" * 64], []], 0)


USUAL = {
    "nothing": [],
    "a value": ["method.temperature=2"],
    "a whole number": ["recipe.optimizer.lr=1"],
    "a small number": ["recipe.optimizer.lr=1e-05"],
    "a list": ["dataset.mean=[0.5,0.5,0.25]"],
    "another scheduler": [
        "~recipe.scheduler",
        "+recipe.scheduler={_target_:torch.optim.lr_scheduler.MultiStepLR,milestones:[1,2],gamma:0.1}",
    ],
    "no scheduler": ["recipe.scheduler=null"],
    "another optimizer": [
        "~recipe.optimizer",
        "+recipe.optimizer={_target_:torch.optim.AdamW,lr:0.1,betas:[0.9,0.99]}",
    ],
    "arguments of a network": ["+student.kwargs={drop_rate:0.5,deep:{list:[1,2.5,null,true,word]}}"],
    "any network": ["student.name=mobilenetv3_small_050", "teacher.name=resnet18"],
    "a size of its own": ["teacher.input_size=[16,16]"],
    "no teacher": ["method=scratch", "teacher=none"],
    "an ensemble": [
        "teacher=ensemble",
        "+teacher.members.third={name:resnet32_cifar,seed:3}",
        "~teacher.members.first",
    ],
    "a teacher from a file": ["teacher.checkpoint='some file, x=1.pth'", "teacher.expected_top1=0.75"],
    "a teacher of other epochs": [
        "recipe.epochs=100",
        "+teacher.overrides={recipe.epochs:30,dataset.train_samples:null}",
    ],
    "a combination": ["method=kd_at", "method.terms.kd.temperature=2"],
    "a combination by another name": ["method=kd_at", "method.terms.at.at_weight=7", "names.method=mine"],
    "a variant": ["method=at", "names.method=at_8x8", "method.at_weight=62.5"],
    "a chain": ["method=born_again", "chain=born_again", "chain.generations=2"],
    "pairs of stages": ["stage_pairs=[[1,1],[2,3]]"],
    "another selection": ["recipe.selection=best_on_validation"],
    "a folder of images": ["dataset=image_folder", "dataset.num_classes=3", "dataset.source.root=/data"],
    "a search": ["tuning.trials=9", "tuning.space={method.temperature:'tag(log, interval(1.0, 8.0))'}"],
    "a data set by another name": ["dataset=cifar10", "names.dataset=cifar10_small", "dataset.train_samples=1000"],
}
ODD = [
    "a b",
    "it's",
    'say "x"',
    "a=b,c",
    "{x:[1]}",
    "back\\slash",
    "ends\\",
    "\\'",
    "null",
    "TRUE",
    "1e5",
    "07",
    "",
    "$x",
]


@pytest.mark.parametrize("kind", USUAL)
def test_the_overrides_of_a_configuration_compose_to_it(kind):
    round_trip(*USUAL[kind])


def test_texts_are_quoted_for_hydra():
    texts = ",".join(quoted(text) for text in ODD)
    found = check(compose_run(round_trip(f"+student.kwargs={{texts:[{texts}]}}", f"study={quoted(ODD[0])}")))
    assert (found.student.kwargs["texts"], found.study) == (ODD, ODD[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "group", sorted(groups().keys() - {"tuning"})
)  # a search starts runs, which say what it was given
def test_every_choice_composes_to_itself(group):
    for choice in choices(group):
        needed = ["dataset.source.root=/data", "dataset.num_classes=3"] if choice == "image_folder" else []
        round_trip(f"{group}={choice}", *needed)


def test_what_follows_from_other_values_is_not_fixed():
    """The teacher's schedule follows its own number of epochs, unless the record says otherwise."""
    assert "recipe.scheduler.T_max" not in " ".join(round_trip("recipe.epochs=100"))
    assert round_trip("recipe.epochs=100", "recipe.scheduler.T_max=60")[-1] == "recipe.scheduler.T_max=60"


def test_the_overrides_are_few_and_the_choices_named():
    chosen = ["dataset=digits", "teacher=resnet20_cifar", "student=resnet8_cifar", "method=fitnet", "recipe=digits"]
    assert round_trip("method=fitnet", "seed=3") == [*chosen, "trainer=cpu", "seed=3"]


def test_a_key_that_no_override_can_name_is_refused():
    recorded = check(compose_run([])).recorded()
    recorded["student"]["kwargs"] = {"a key": 1}
    with pytest.raises(ConfigError, match="'a key': is no key that an override can name"):
        overrides_of(recorded)


# --- What a record says of its choices ---


def recorded(*overrides: str) -> Record:
    """A record of a configuration, with what the run would have written of its choices."""
    config = json.loads(json.dumps(check(compose_run(list(overrides))).recorded()))
    content = record_content() | {"config": config, "overrides": to_record(config)}
    return Record.model_validate(content, strict=False)


@pytest.mark.parametrize("kind", USUAL)
def test_a_record_says_what_an_older_one_is_found_to_mean(kind):
    record = recorded(*USUAL[kind])
    assert not unfounded(record)
    assert not differing(record)
    assert command(record) == command(record.model_copy(update={"overrides": None}))


def test_a_command_is_printed_without_composing(monkeypatch):
    record = recorded("method=dkd", "recipe.epochs=7", f"study={quoted(ODD[1])}")
    expected = command(record.model_copy(update={"overrides": None}))
    monkeypatch.setattr(shown, "composed_choices", None)
    shown._composed.cache_clear()
    shown._written.cache_clear()
    assert command(record) == expected


def test_what_lies_on_another_machine_is_to_be_filled_in():
    record = recorded("dataset=image_folder", "dataset.num_classes=3", "dataset.source.root=/home/me/secret")
    assert record.overrides[-1] == "dataset.source.root=FOLDER"
    assert "secret" not in record.model_dump_json()


FOREIGN = [
    "method=../../elsewhere",
    "method=kd,dkd",
    "+method=kd",
    "optimizer=sgd",
    "hydra/launcher=joblib",
    "hydra.run.dir=/tmp",
    "--config-dir=/tmp",
    "-m",
    "paths.runs=/etc",
    "logger._target_=os.system",
    "~logger",
    "~seed",
    "seed",
    "seed=1",
    "seed=0,1",
    "recipe.epochs='30'",
    "+recipe.epochs=100; reboot",
    "study=${oc.env:HOME}",
    "dataset.source.root=/etc",
    "student.kwargs.checkpoint_path=x",
    "plugins=[evil]",
    "",
]


@pytest.mark.parametrize("override", FOREIGN)
def test_an_override_that_the_configuration_does_not_have_is_not_printed(override):
    record = recorded("method=kd")
    record = record.model_copy(update={"overrides": [*record.overrides, override]})
    problem = f"overrides: {override!r} is not what the configuration says"
    assert unfounded(record) == [problem]
    with pytest.raises(ConfigError, match=r"^overrides: "):
        command(record)


def test_overrides_that_lack_a_value_differ_by_it():
    record = recorded("method=kd", "recipe.epochs=7", "seed=5")
    kept = [override for override in record.overrides if override != "recipe.epochs=7"]
    assert differing(record.model_copy(update={"overrides": kept}))[0] == "recipe.epochs=7"
    (reason,) = differing(record.model_copy(update={"overrides": ["method=no_longer_there"]}))
    assert "no_longer_there" in reason


def test_a_configuration_that_no_override_can_name_leaves_none():
    config = check(compose_run([])).recorded()
    config["student"]["kwargs"] = {"a key": 1}
    assert to_record(config) is None


def test_hydras_own_application_is_not_disturbed():
    """A run writes its record within it."""
    HydraConfig.instance().cfg = before = OmegaConf.create({"hydra": {"job": {"name": "mine"}}})
    shown._composed.cache_clear()
    shown._found.cache_clear()
    recorded_config = check(compose_run(["seed=3"])).recorded()
    HydraConfig.instance().cfg = before
    assert to_record(recorded_config)
    assert HydraConfig.instance().cfg is before


def test_no_shipped_value_refers_to_the_seed():
    """Commands of the seeds of a cell are found together."""
    texts = [path.read_text(encoding="utf-8") for path in CONF.rglob("*.yaml")]
    assert texts
    assert not [text for text in texts if "{seed" in text or ".seed}" in text]


def test_hydra_reads_literals_as_the_values():
    values = [None, True, 0, -3, 0.1, 1e-12, 1e300, "word", *ODD, ["a b", [1, {"k": "x,y"}]], {}, []]
    read = compose_run([f"+student.kwargs.values={literal(values)}"]).student.kwargs["values"]
    assert list(map(repr, OmegaConf.to_container(read))) == list(map(repr, values))


def test_a_shell_reads_a_literal_as_one_word():
    words = [f"study={literal(text)}" for text in ODD]
    assert shlex.split(shlex.join(words)) == words
