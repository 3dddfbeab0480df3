"""Configurations of others, as far as Hydra acts on them by itself: nothing runs, and nothing secret is shown."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.conf import HydraConf

from kd_bench.cli.main import main

TINY = [
    "method=scratch",
    "teacher=none",
    "recipe.epochs=1",
    "dataset.train_samples=64",
    "trainer.progress=none",
    "logger=none",
]
HEAD = "defaults: [train, _self_]\n"


@pytest.fixture
def theirs(working_directory, monkeypatch) -> Path:
    """A folder that somebody else wrote."""
    monkeypatch.setenv("TOKEN", "s3cret")
    folder = working_directory / "theirs"
    folder.mkdir()
    return folder


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def refused(capfd, *arguments: str) -> str:
    """The one line with which a command of theirs is refused."""
    code = main(["train", "--config-dir", "theirs", *arguments])
    shown = capfd.readouterr()
    assert code == 2, shown.out + shown.err
    assert shown.err.startswith("kd-bench: "), shown.err
    assert shown.err.count("\n") == 1, shown.err
    assert "s3cret" not in shown.out + shown.err
    return shown.err


# --- what a grid brings ---

EVIL_LOGGING = """version: 1
root: {level: INFO}
filters: {x: {(): os.mkdir, path: CANARY}}
"""
AXES = {
    "a choice of logging": ("hydra/job_logging: evil", {"hydra/job_logging/evil.yaml": EVIL_LOGGING}),
    "a choice of logging among good ones": (
        "hydra/job_logging: none,evil",
        {"hydra/job_logging/evil.yaml": EVIL_LOGGING},
    ),
    "a choice put into another place": ("+method@hydra.job_logging: evil", {"method/evil.yaml": EVIL_LOGGING}),
    "a choice that says where it belongs": (
        "+recipe@_global_: evil",
        {"recipe/evil.yaml": "# @package _global_\nhydra: {job: {env_set: {GIT_PAGER: x}}}\n"},
    ),
    "a variable of the environment": ("+hydra.job.env_set.GIT_CONFIG_COUNT: 1,2", {}),
    "a callback": ("+hydra.callbacks.evil._target_: os.getcwd", {}),
}


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_changes_nothing_of_hydra(theirs, capfd, axis):
    line, files = AXES[axis]
    canary = theirs.parent / "canary"
    for name, text in files.items():
        write(theirs, name, text.replace("CANARY", str(canary)))
    write(theirs, "study.yaml", f"{HEAD}hydra: {{mode: MULTIRUN, sweeper: {{params: {{{line!r}: null}}}}}}\n")
    key, _, value = line.partition(": ")
    params = json.dumps({key: value, "seed": "0,1"})
    write(theirs, "study.yaml", f"{HEAD}hydra: {{mode: MULTIRUN, sweeper: {{params: {params}}}}}\n")
    assert "hydra" in refused(capfd, "--config-name", "study", *TINY)
    assert not canary.exists()
    assert not (theirs.parent / "runs").exists()


# --- what Hydra would do by itself ---

KEYS = {
    "job: {env_set: {GIT_CONFIG_COUNT: '1'}}": "hydra.job.env_set.GIT_CONFIG_COUNT",
    "job: {env_copy: [TOKEN]}": "hydra.job.env_",
    "job: {env_copy: [NOT_THERE]}": "hydra.job.env_copy",
    "job_logging: {handlers: {f: {class: logging.FileHandler, filename: precious, mode: w}}}": "hydra.job_logging",
    "hydra_logging: {version: 1, formatters: {f: {(): os.getcwd}}}": "hydra_logging",
    "overrides: {hydra: ['hydra.job.env_set.X=1']}": "hydra.overrides",
    "searchpath: ['pkg://evil_package']": "hydra.searchpath",
    "searchpath: ['file:///etc']": "hydra.searchpath",
    "callbacks: {sweep: null}": "hydra.callbacks",
    "output_subdir: ../elsewhere": "hydra.output_subdir",
}


@pytest.mark.parametrize("text", KEYS)
def test_a_key_that_hydra_acts_on_is_refused(theirs, capfd, monkeypatch, text):
    (theirs.parent / "precious").write_text("kept")
    write(theirs, "evil_package/__init__.py", f"import os; os.mkdir({str(theirs.parent / 'canary')!r})")
    write(theirs, "study.yaml", f"{HEAD}hydra: {{{text}}}\n")
    assert KEYS[text] in refused(capfd, "--config-name", "study", *TINY)
    assert (theirs.parent / "precious").read_text() == "kept"
    assert not (theirs.parent / "canary").exists()


@pytest.mark.parametrize("text", KEYS)
def test_a_study_with_a_key_that_hydra_acts_on_is_refused(theirs, capfd, text):
    write(theirs, "study.yaml", f"{HEAD}hydra: {{{text}}}\n")
    assert main(["study", "theirs", *TINY]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert KEYS[text] in error
    assert "s3cret" not in error


@pytest.mark.parametrize("arguments", [[], ["--cfg", "job"], ["-m", "seed=0,1"]], ids=["run", "show", "sweep"])
@pytest.mark.parametrize("place", ["theirs", "."])
def test_plugins_of_hydra_are_not_looked_for_in_a_folder_of_configurations(theirs, arguments, place):
    """In a process of its own: Hydra looks for plugins once."""
    canary = theirs.parent / "canary"
    write(theirs.parent / place, "hydra_plugins/evil/__init__.py", f"import os; os.mkdir({str(canary)!r})")
    write(theirs, "study.yaml", HEAD)
    command = [Path(sys.executable).with_name("kd-bench"), "train", "--config-dir", "theirs", "--config-name", "study"]
    done = subprocess.run([*command, *arguments, *TINY], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not canary.exists()


def test_a_module_beside_the_configurations_is_found_if_plugins_names_it(theirs, capfd):
    write(theirs, "method/plain.yaml", "_target_: my_plain.Plain\nce_weight: 1.0\n")
    module = (
        "from kd_bench.methods.label_smoothing import LabelSmoothing\nfrom kd_bench.methods.scratch import Scratch\n"
    )
    write(
        theirs.parent,
        "my_plain.py",
        f"{module}\nclass Plain(Scratch):\n    def __init__(self, ce_weight: float):\n        super().__init__()\n",
    )
    arguments = ["--config-dir", "theirs", "method=plain", *TINY[1:]]
    assert main(["train", *arguments, "plugins=[my_plain]"]) == 0
    assert list((theirs.parent / "runs").glob("*/record.json"))


def keys_of_hydra(node: type, prefix: str = "") -> dict[str, object]:
    """Every key of Hydra's own schema with a value that is not its default."""
    found: dict[str, object] = {}
    for field in dataclasses.fields(node):
        key = f"{prefix}{field.name}"
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if dataclasses.is_dataclass(default):
            found |= keys_of_hydra(type(default), f"{key}.")
        elif isinstance(default, dict):
            found[f"{key}.evil"] = "evil"
        elif isinstance(default, list):
            found[key] = ["evil"]
        else:
            found[key] = {"evil": "evil"} if "Any" in str(field.type) or "Dict" in str(field.type) else "evil"
    return found


SETTABLE = {
    "mode": "MULTIRUN",
    "run.dir": "out",
    "sweep.dir": "out",
    "sweep.subdir": "out",
    "job.chdir": False,
    "job.config.override_dirname.kv_sep": "-",
    "job.config.override_dirname.item_sep": ";",
    "job.config.override_dirname.exclude_keys": ["seed"],
    "verbose": ["kd_bench"],
}
IGNORED = {"defaults"}  # no key of a composed configuration
OVERWRITTEN = ("runtime.", "job.override_dirname", "job.config_name")  # by Hydra, before anything reads it


@pytest.mark.parametrize("key", sorted(keys_of_hydra(HydraConf).keys() - IGNORED))
def test_every_key_of_hydra_is_refused_unless_it_is_listed(theirs, capfd, key):
    value = SETTABLE.get(key, keys_of_hydra(HydraConf)[key])
    write(theirs, "study.yaml", f"# @package _global_\n{HEAD}hydra: {json.dumps(nested(key, value))}\n")
    if key in SETTABLE:
        assert main(["train", "--config-dir", "theirs", "--config-name", "study", "--cfg", "job", *TINY]) == 0
    elif not key.startswith(OVERWRITTEN):
        error = refused(capfd, "--config-name", "study", *TINY)
        assert f"hydra.{key.split('.')[0]}" in error or "raised while composing" in error  # its type is another one


def nested(key: str, value: object) -> object:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


# --- secrets ---

SECRETS = {
    "a name": "names: {recipe: '${oc.env:TOKEN}'}\n",
    "a name, by way of another key": "study: '${oc.env:TOKEN}'\nnames: {recipe: '${study}'}\n",
    "an unknown choice": "PLACE: ['train', {method: '${oc.env:TOKEN}'}, _self_]\n",
    "an axis": "hydra: {mode: MULTIRUN, sweeper: {params: {recipe: '${oc.env:TOKEN}'}}}\n",
    "a setting of the sweeper": "hydra: {sweeper: {max_batch_size: '${oc.env:TOKEN}'}}\n",
    "a setting of a launcher": "hydra: {launcher: {_target_: '${oc.env:TOKEN}'}}\n",
    "the place of a sweep": "hydra: {sweep: {dir: '${oc.env:TOKEN}'}}\n",
    "a path in a name": "names: {dataset: '${paths.data}'}\npaths: {data: '${oc.env:TOKEN}'}\n",
}


@pytest.mark.parametrize("place", SECRETS)
@pytest.mark.parametrize("command", ["train", "study"])
def test_nothing_of_the_environment_is_stored_or_shown(theirs, capfd, place, command):
    text = SECRETS[place]
    text = text.replace("PLACE", "defaults") if "PLACE" in text else HEAD + text
    write(theirs, "study.yaml", text if "hydra" in text else f"{text}hydra: {{sweeper: {{params: {{seed: '0,1'}}}}}}\n")
    arguments = ["--config-dir", "theirs", "--config-name", "study"] if command == "train" else ["theirs"]
    code = main([command, *arguments, *TINY])
    shown = capfd.readouterr()
    assert code == 2, shown.out + shown.err
    assert "s3cret" not in shown.out + shown.err
    assert "TOKEN" in shown.err or "paths" in shown.err
    for path in theirs.parent.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path


# --- files ---

BAD_FILES = {
    "a tab": b"method:\n\tname: x\n",
    "bad UTF-8": b"study: \xff\xfe\n",
    "deep nesting": b"a: " + b"[" * 2000 + b"]" * 2000 + b"\n",
    "deep mappings": b"".join(b" " * level + b"a:\n" for level in range(500)),
    "an alias bomb": b"a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 10)) for n in range(ord("b"), ord("k"))),
    "an alias of itself": b"a: &a [*a]\n",
    "no YAML": b"defaults: [train\n",
    "a huge file": b"# " + b"x" * (2 << 20),
}


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("name", ["study.yaml", "method/theirs.yaml"])
@pytest.mark.parametrize("command", ["train", "study"])
def test_a_bad_file_is_one_line(theirs, capfd, kind, name, command):
    write(theirs, "study.yaml", HEAD)
    write(theirs, name, "")
    (theirs / name).write_bytes(BAD_FILES[kind])
    arguments = ["--config-dir", "theirs", "--config-name", "study"] if command == "train" else ["theirs"]
    code = main([command, *arguments, *TINY])
    shown = capfd.readouterr()
    assert code == 2, shown.out + shown.err
    assert shown.err.count("\n") == 1
    assert name in shown.err
