"""The command line as a user meets it: help, exit codes, one line per mistake, completion, sweeps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from support.records import save_records, seeds_of

from kd_bench.cli.main import COMMANDS, main
from kd_bench.config.composition import composing
from kd_bench.config.paths import CONF, EXPERIMENTS
from kd_bench.results.records.record import read_record

FAST = [
    "recipe.epochs=1",
    "student=resnet8_cifar",
    "dataset.train_samples=50",
    "logger=none",
    "trainer.progress=none",
    "trainer.threads=1",
    "teacher=none",
]


@pytest.fixture
def folder(working_directory) -> Path:
    return working_directory


def command(*arguments: str, **options) -> subprocess.CompletedProcess:
    """A process of its own."""
    whole = [sys.executable, "-m", "kd_bench", *arguments]
    return subprocess.run(whole, capture_output=True, text=True, timeout=120, **options)


# --- Help ---


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_shows_an_example(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*([name] if name else []), "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert f"example:\n  kd-bench {name or ''}" in shown
    assert "usage: kd-bench" in shown


def test_help_names_every_command_and_the_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    listed = {line.split()[0] for line in shown.splitlines() if line.startswith("    ") and line[4] != " "}
    assert listed == set(COMMANDS)
    assert all(code in shown for code in ("0 done", "130 interrupted", "143 pre-empted"))


def test_help_of_train_names_every_choice(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    groups = [path for path in CONF.iterdir() if path.is_dir()]
    assert len(groups) > 7
    with composing():
        hydra_knows = GlobalHydra.instance().config_loader().get_group_options
        for group in groups:
            (line,) = [line for line in shown.splitlines() if line.startswith(f"  {group.name}=")]
            known = [name for name in hydra_knows(group.name) if not name.startswith("_")]
            assert sorted(line.partition("=")[2].split("|")) == sorted(known)


LIGHT = """
import contextlib, io, sys
from kd_bench.cli.main import main

for arguments in (["--help"], ["--version"], ["train", "--help"], ["leaderboard", "--help"], ["demo", "--help"],
                  ["show", "--help"], ["list", "datasets"], ["list", "studies"], ["train", "--cfg", "job"],
                  ["train", "method=kdd"], ["-sc", "query=bash"]):
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main(arguments)
    heavy = {"torch", "timm", "pytorch_lightning", "wandb", "sklearn"} & set(sys.modules)
    print(" ".join(arguments), sorted(heavy))
"""


def test_nobody_waits_for_torch_who_does_not_train(folder):
    environment = {**os.environ, "COMP_LINE": "kd-bench train method=f"}
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=60, env=environment, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 11
    assert [line for line in lines if not line.endswith(" []")] == []


ABSENT = """
import sys
from kd_bench.cli.main import main

code = main(sys.argv[1:])
heavy = {"torch", "timm", "pytorch_lightning", "wandb", "sklearn"} & set(sys.modules)
print(code, sorted(heavy))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "dataset=cifar100"],
        ["train", "dataset=tiny_imagenet", "dataset.source.download=false"],
        ["import", "resnet8.pth", "--model", "resnet8_cifar", "dataset=cifar100"],
    ],
    ids=["train", "train without download", "import"],
)
def test_absent_data_are_told_of_before_anything_slow_is_imported(folder, arguments):
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", ABSENT, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        cwd=folder,
    )
    (line,) = done.stderr.splitlines()
    title, file = (
        ("Tiny ImageNet", "tiny-imagenet-200.zip")
        if "tiny" in arguments[1]
        else (
            "CIFAR-100",
            "cifar-100-python.tar.gz",
        )
    )
    assert line.startswith(f"kd-bench: {title} is absent: place {file} at {folder}/cache/kd_bench/")
    assert line.endswith(", or let dataset.source.download=true fetch it")
    assert done.stdout == "4 []\n"
    assert list(folder.iterdir()) == []


def test_absent_data_fail_each_job_of_a_sweep(folder, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    assert main(["train", "-m", "dataset=cifar100", "seed=0,1"]) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kd-bench: 2 of 2 jobs failed: CIFAR-100 is absent: ")
    assert not list(folder.glob("runs/*/state.json"))


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == "kd-bench 0.1.0\n"


@pytest.mark.parametrize(
    ("what", "like", "expected"),
    [
        ("datasets", "digits", ["digits", "present"]),
        ("models", "resnet8x4", ["resnet8x4_cifar"]),
    ],
)
def test_list(what, like, expected, capsys):
    assert main(["list", what, "--like", like]) == 0
    assert capsys.readouterr().out.split() == expected


def test_lists_in_json(capsys):
    assert main(["list", "studies", "--json", "--like", "demo"]) == 0
    assert json.loads(capsys.readouterr().out) == ["demo"]
    assert main(["list", "models", "--json", "--like", "no such network"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["list", "models", "--json", "--like", "resnet8_cifar", "--params", "1e6", "--classes", "10"]) == 0
    # MACs of 32x32 images: 12,507,392 with 100 classes
    expected = {"name": "resnet8_cifar", "parameters": 78_042, "macs": 12_507_392 - 90 * 64}
    assert json.loads(capsys.readouterr().out) == [expected]


def test_a_list_of_nothing_is_empty(capsys):
    assert main(["list", "models", "--like", "no such network"]) == 0
    assert capsys.readouterr().out == ""


# --- Mistakes ---

METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
MISTAKES = {
    "train method=kdd": "method='kdd': no such choice; did you mean 'kd'",
    "train method=xyz": f"method='xyz': no such choice; allowed: {', '.join(METHODS)}",
    "train datasets=digits": "datasets: unknown key; did you mean 'dataset'?",
    "train method.temprature=2": "method.temprature: unknown key; did you mean 'temperature'?",
    "train method=kd_at method.terms.kd.temprature=2": "method.terms.kd.temprature: unknown key; did you mean 'temp",
    "train recipe.optimizer.momentun=0.9": "recipe.optimizer.momentun: unknown key; did you mean 'momentum'?",
    "train sead=1": "sead: unknown key; did you mean 'seed'?",
    "train +sead=1": "sead: unknown key; did you mean 'seed'?",
    "train recipe.epochs=0": "recipe.epochs=0: should be greater than or equal to 1",
    "train student.name=resnett18": "student.name='resnett18': no such network; did you mean 'resnet18',",
    "train teacher=none": "method=kd needs a teacher, but teacher.name is null",
    "train method=kd,at": "Ambiguous value for argument 'method=kd,at'",
    "train seed": "Error parsing override 'seed'",
    "train seed=${oc.env:HOME}": "environment variables",
    "train plugins=[nothing_here]": "plugins: 'nothing_here' cannot be imported: ",
    "train --config-dir nothing": "nothing",
    "train ~recipe": "recipe: is missing",
    "train ~dataset.source": "dataset.source: is missing",
    "train recipe=null": "recipe=null: should be a choice",
    "train dataset.source=null": "dataset.source=None: should be a valid dictionary",
    f"train seed={'9' * 400}": "should be less than 9223372036854775808",
    f"train seed={'9' * 5000}": "5000 digits",
    "train student=resnet18 +student.kwargs={act_layer:x}": "with student.kwargs={'act_layer': 'x'}: KeyError 'x'",
    "train student.name=\x1b[31mred": "student.name=\\u001b[31mred",
    "leaderboard --records \x1b]0;title\x07": "\\u001b]0;title\\u0007",
    "publish nothing": "nothing",
}


@pytest.mark.parametrize("line", MISTAKES, ids=lambda line: ascii(line)[:60])
def test_a_mistake_costs_one_line_and_exit_code_2(line, folder, capsys):
    assert main(line.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (reason,) = printed.err.splitlines()
    assert reason.startswith("kd-bench: ")
    assert MISTAKES[line] in reason
    assert reason.isprintable()
    assert list(folder.iterdir()) == []


def test_a_mistake_in_a_process_of_its_own(folder):
    done = command("train", "method=kdd", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0].startswith("kd-bench: method='kdd': no such choice; did you mean 'kd'")
    assert len(done.stderr.splitlines()) == 1
    assert list(folder.iterdir()) == []


def test_debug_shows_where_it_happened(folder, capsys):
    assert main(["train", "--debug", "sead=1"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert shown.splitlines()[-1] == "kd-bench: sead: unknown key; did you mean 'seed'?"


def test_a_board_of_a_missing_folder(folder, capsys):
    assert main(["leaderboard", "--records", "nothing"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (reason,) = printed.err.splitlines()
    assert reason.startswith("kd-bench: ")
    assert "nothing" in reason
    assert list(folder.iterdir()) == []


def test_a_missing_teacher_is_an_integrity_error(folder, capsys):
    assert main(["train", "teacher.checkpoint=nothing.pt", "logger=none", "trainer.progress=none"]) == 4
    (reason,) = capsys.readouterr().err.splitlines()
    assert reason.startswith("kd-bench: teacher.checkpoint='nothing.pt': neither a finished run in runs nor a file")
    assert list(folder.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_integrity_error(folder, capsys):
    (folder / "file").write_text("")
    assert main(["train", *FAST, "method=scratch", "paths.runs=file/runs"]) == 4
    (reason,) = capsys.readouterr().err.splitlines()
    assert reason.startswith("kd-bench: file/runs/")
    assert "cannot be written" in reason


@pytest.mark.parametrize("line", ["", "trian", "list", "list methds", "leaderboard --recrds x"])
def test_wrong_usage_is_exit_code_2(line, folder, capsys):
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "error: " in printed.err.splitlines()[-1]
    assert list(folder.iterdir()) == []


def test_wrong_usage_is_shown_escaped(folder, capsys):
    with pytest.raises(SystemExit):
        main(["leaderboard", "--\x1b[2J\u202e"])
    shown = capsys.readouterr().err
    assert "\\u001b[2J\\u202e" in shown
    assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_an_encoding_that_lacks_characters_ends_no_command(encoding, folder):
    """Boards and comparisons have signs such as Δ, and names have letters of every script."""
    for name, top1 in (("kd", 0.5), ("at", 0.6)):
        save_records(seeds_of(name, [top1, top1 + 0.01, top1 + 0.02]), folder / "runs")
    compared = ["compare", "kd", "at"]
    plain = command(*compared, cwd=folder, env={**os.environ, "PYTHONIOENCODING": "utf-8"}, encoding="utf-8")
    assert (plain.returncode, plain.stderr) == (0, "")
    assert not plain.stdout.isascii()
    shown = command(*compared, cwd=folder, env={**os.environ, "PYTHONIOENCODING": encoding}, encoding=encoding)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == plain.stdout.encode(encoding, "backslashreplace").decode(encoding)


def test_a_temporary_folder_of_a_long_name_is_told_of(folder):
    """Processes of a study talk over sockets there, whose names have at most 107 bytes."""
    (folder / ("t" * 200)).mkdir()
    environment = {**os.environ, "TMPDIR": str(folder / ("t" * 200))}
    done = command("study", "demo", *FAST[1:], cwd=folder, env=environment)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr.startswith(f"kd-bench: TMPDIR={folder}/tttt")
    assert done.stderr.endswith(": is too long for the names of sockets; name a folder of at most 70 characters\n")


# --- Configuration ---


def test_cfg_prints_the_configuration_and_writes_nothing(folder, capsys):
    assert main(["train", "--cfg", "job", "method=at", "seed=7", "recipe.epochs=3"]) == 0
    printed = capsys.readouterr()
    shown = yaml.safe_load(printed.out)
    assert (shown["seed"], shown["recipe"]["epochs"], shown["method"]["power"]) == (7, 3, 2)
    written = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8"))
    groups = [name for entry in written["defaults"] if isinstance(entry, dict) for name in entry if " " not in name]
    assert list(shown) == [*groups, *(key for key in written if key not in ("defaults", "hydra"))]
    assert {"dataset", "method", "seed", "stage_pairs"} <= set(shown)
    assert printed.err == ""
    assert list(folder.iterdir()) == []


# --- Completion ---


def methods_with(start: str) -> set[str]:
    """What completes ``method=start``."""
    return {f"method={path.stem}" for path in (CONF / "method").glob(f"{start}*.yaml")}


# What bash does when TAB is pressed behind a line.
TAB = """
eval "$(kd-bench -sc install=bash)"
COMP_LINE="$1" COMP_POINT=${#1}
read -r -a COMP_WORDS <<< "$1"
if [[ $1 == *" " ]]; then COMP_WORDS+=(""); fi
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
function_name=$(complete -p kd-bench | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
"$function_name" kd-bench "${COMP_WORDS[$COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kd-bench tr", {"train", "trace"}),
        ("kd-bench l", {"leaderboard", "list"}),
        ("kd-bench train method=f", methods_with("f")),
        ("kd-bench train seed=1 method=kd", methods_with("kd")),
        ("kd-bench train rec", {"recipe=", "recipe."}),
        ("kd-bench train method.temp", {"method.temperature="}),
        ("kd-bench leaderboard --rec", set()),
        ("kd-bench study ", {path.parent.name for path in EXPERIMENTS.glob("*/study.yaml")}),
        ("kd-bench study digits_f", {"digits_families"}),
        ("kd-bench status dem", {"demo"}),
        ("kd-bench study demo di", set()),
    ],
)
def test_completion_in_bash(line, expected, folder):
    bin_folder = Path(sys.executable).parent
    if not (bin_folder / "kd-bench").exists():
        pytest.skip("the command is not installed beside this Python")
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", TAB, "bash", line], capture_output=True, text=True, timeout=60, env=environment, cwd=folder
    )
    assert done.stderr == ""
    assert set(done.stdout.split()) == expected
    assert list(folder.iterdir()) == []


# --- Sweeps ---


def finished(folder: Path) -> list[tuple[str, int]]:
    records = [read_record(path) for path in folder.glob("runs/*/record.json")]
    return sorted((record.method.name, record.seed) for record in records)


def test_a_sweep_over_seeds(folder, capsys):
    assert main(["train", "-m", *FAST, "method=scratch", "seed=0,1,2"]) == 0
    assert finished(folder) == [("scratch", 0), ("scratch", 1), ("scratch", 2)]
    assert capsys.readouterr().err == ""
    assert [path.name for path in folder.iterdir()] == ["runs"]


def test_a_flag_may_stand_between_overrides(folder, capsys):
    assert main(["train", *FAST, "seed=0,1", "-m", "seed=2", "--package", "seed=2", "method=scratch"]) == 0
    assert finished(folder) == [("scratch", 2)]
    assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit):
        main(["train", "seed=0", "-m", "method=scratch", "--no-such-flag"])
    assert capsys.readouterr().err.splitlines()[-1].endswith("unrecognized arguments: --no-such-flag")


def test_a_failed_job_does_not_stop_the_others(folder, capsys):
    """Not even those of later batches, which Hydra would leave out."""
    sweep = ["train", "-m", *FAST, "method=scratch", "recipe.optimizer.lr=1e6,0.05", "hydra.sweeper.max_batch_size=1"]
    assert main(sweep) == 5
    assert finished(folder) == [("scratch", 0)]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kd-bench: 1 of 2 jobs failed: ")
    assert "is not finite" in line
    assert line.endswith(" (recipe.optimizer.lr=1000000.0)")


def test_every_cause_has_its_line_with_the_jobs_that_failed(folder, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    small = ["teacher=none", "student=resnet8_cifar", "method=scratch", "logger=none"]
    assert main(["train", "-m", *small, "dataset=cifar10,cifar100", "seed=0,1"]) == 5
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("kd-bench: 2 of 4 jobs failed: CIFAR-10 is absent: ")
    assert first.endswith(" (dataset=cifar10 seed=0; dataset=cifar10 seed=1)")
    assert second.startswith("kd-bench: 2 of 4 jobs failed: CIFAR-100 is absent: ")
    assert second.endswith(" (dataset=cifar100 seed=0; dataset=cifar100 seed=1)")
