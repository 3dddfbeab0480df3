"""Which tier a record gets, by what lies beside it and by what other records say."""

import json
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from kd_bench.cli.main import main
from kd_bench.config.files import file_sha256
from kd_bench.results.publish import publish
from kd_bench.results.records.command import to_record
from kd_bench.results.records.curves import as_table, history_sha256, read_table
from kd_bench.results.records.directory import published_path
from kd_bench.results.records.record import Record
from kd_bench.results.records.supplement import EVALUATION_FILE
from kd_bench.runs.remeasure import evaluate, write

from .records import changed, checked, contents, folder_of, save, with_predictions


def tiers(found) -> dict[str, int]:
    return {tier: sum(one.tier == tier for one in found) for tier in {one.tier for one in found}}


def problems(found) -> list[str]:
    return [problem for one in found for problem in one.problems]


# --- Tiers ---


def test_a_run_with_all_of_its_files_is_checked(trained_runs):
    assert tiers(checked(trained_runs)) == {"checked": 5}


def test_a_record_alone_is_local_and_checked_with_predictions_from_elsewhere(trained_runs, tmp_path):
    for content in contents(trained_runs).values():
        save(content, tmp_path / "published" / published_path(Record.model_validate_json(json.dumps(content))))
    (found, *_) = alone = checked(tmp_path / "published")
    assert tiers(alone) == {"local": 5}
    assert found.note == "predictions.safetensors is not at hand"
    with_predictions = checked(tmp_path / "published", predictions=trained_runs)
    assert tiers(with_predictions) == {"checked": 5}
    assert not problems(with_predictions)


def test_weights_may_be_gone(runs):
    (folder_of(runs) / "student.safetensors").unlink()
    (found,) = checked(folder_of(runs))
    assert (found.tier, found.note) == ("checked", "without student.safetensors")


def test_a_tier_cannot_be_declared(content, tmp_path):
    (found,) = checked(save({**content, "tier": "reproduced"}, tmp_path / "record.json"))
    assert (found.tier, found.problems) == ("damaged", ("tier: Extra inputs are not permitted",))


@pytest.mark.parametrize("name", ["predictions.safetensors", "student.safetensors"])
def test_a_flipped_byte_is_damage(runs, name):
    path = folder_of(runs) / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (found,) = checked(folder_of(runs))
    assert found.tier == "damaged"
    assert found.problems[0].endswith(f": the file {path} has {file_sha256(path)}")


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("metrics/last/test/nll", lambda value: value + 1e-4),
        ("metrics/last/test/brier", lambda value: value - 1e-3),
        ("metrics/last/test/ece", lambda value: value / 2),
        ("metrics/last/test/scaled/temperature", lambda value: value * 1.01),
        ("metrics/best_on_validation/validation/kl", lambda value: value + 1e-3),
        ("metrics/last/exemplars/student/0", lambda value: (value + 1) % 10),
    ],
)
def test_an_edited_metric_does_not_follow_from_the_predictions(runs, key, change):
    folder = folder_of(runs)
    content = json.loads((folder / "record.json").read_text())
    node = content
    for name in key.split("/"):
        node = node[int(name) if name.isdigit() else name]
    save(changed(content, key, change(node)), folder / "record.json")
    (found,) = checked(folder)
    name = key.replace("/0", "[0]").replace("/", ".")
    assert f"{name}={change(node)}: the predictions give {node}" in found.problems


def test_a_metric_that_a_record_does_not_claim_is_not_missed(runs):
    """A record of an earlier version lacks the metrics that came later."""
    folder = folder_of(runs)
    content = json.loads((folder / "record.json").read_text())
    del content["metrics"]["last"]["classes"]
    content["metrics"]["last"]["test"]["brier"] = None
    save(content, folder / "record.json")
    assert tiers(checked(folder)) == {"checked": 1}


FORGED_PREDICTIONS = {
    "another split": (lambda p: p.pop("test/last"), "test/last: should be of shape (719, 10), is nothing"),
    "cut": (
        lambda p: p.update({"test/last": p["test/last"][:7].clone()}),
        "test/last: should be of shape (719, 10), is",
    ),
    "labels": (lambda p: p["test/targets"].fill_(10), "test/targets: should lie in 0 to 9"),
    "float labels": (lambda p: p.update({"test/targets": p["test/targets"].float()}), "should hold whole numbers"),
    "twice": (lambda p: p["test/index"].fill_(3), "test/index: should name each of 719 samples once"),
    "nan": (lambda p: p["test/last"].fill_(float("nan")), "the student's logits are not finite"),
    "perfect": (
        lambda p: p["test/last"].scatter_(1, p["test/targets"][:, None], 99.0),
        "metrics.last.test.top1=",
    ),
}


@pytest.mark.parametrize("kind", FORGED_PREDICTIONS)
def test_forged_predictions_are_named_although_their_hash_fits(runs, kind):
    forge, expected = FORGED_PREDICTIONS[kind]
    folder = folder_of(runs)
    predictions = {name: values.clone() for name, values in load_file(folder / "predictions.safetensors").items()}
    forge(predictions)
    save_file(predictions, folder / "predictions.safetensors")
    content = json.loads((folder / "record.json").read_text())
    content["artifacts"]["predictions.safetensors"] = file_sha256(folder / "predictions.safetensors")
    save(content, folder / "record.json")
    (found,) = checked(folder)
    assert any(expected in problem for problem in found.problems), found.problems


# --- Several records ---


def test_two_records_of_one_run_conflict(runs, content):
    other = save(changed(content, "student/weights_sha256", "0" * 64), runs / "copy" / "record.json")
    assert f"run_id={content['run_id']}: is also that of another record, {other}" in problems(checked(runs))


def test_a_run_that_two_studies_trained_each_is_no_conflict(runs, content):
    changed(content, "hardware/host", "elsewhere")
    changed(content, "times/evaluation_seconds", 9.0)
    save(content, runs / "copy" / content["run_id"] / "record.json")
    assert tiers(checked(runs)) == {"checked": 5, "local": 1}


def test_an_identical_copy_is_no_conflict(runs):
    shutil.copytree(folder_of(runs), runs / "copy")
    assert tiers(checked(runs)) == {"checked": 6}


def test_one_network_under_two_seeds_is_a_copied_run(runs):
    one, two = contents(runs)["kd", 0], contents(runs)["kd", 1]
    two["student"]["weights_sha256"] = one["student"]["weights_sha256"]
    save(two, runs / two["run_id"] / "record.json")
    found = [each for each in problems(checked(runs)) if each.startswith("student.weights_sha256: of seed ")]
    assert sorted(each.partition(":")[2].partition(":")[0] for each in found) == [" of seed 0", " of seed 1"]


def test_a_teacher_must_be_the_one_of_its_run(runs):
    content = contents(runs)["kd", 0]
    content["teacher"]["weights_sha256"] = "0" * 64
    save(content, folder_of(runs) / "record.json")
    found = problems(checked(runs))
    assert any(problem.startswith(f"teacher.weights_sha256={'0' * 64}: run ") for problem in found)


def test_the_run_that_a_chain_learned_from_is_part_of_its_id(runs):
    """Known only where that run's record is looked at as well."""
    content = contents(runs)["born_again", 0]
    scratch = content["method"]["trained_from"][0]
    assert tiers(checked(runs / content["run_id"], runs / scratch)) == {"checked": 2}
    earlier = json.loads((runs / scratch / "record.json").read_text())
    earlier["student"]["weights_sha256"] = "0" * 64
    save(earlier, runs / "forged" / "record.json")
    shutil.rmtree(runs / scratch)
    found = checked(runs / content["run_id"], runs / "forged")
    assert any("are those of run" in problem for problem in found[0].problems)


def test_labels_made_of_the_answers_contradict_those_of_other_runs(runs):
    """Every answer is right by such labels. Nothing says which side has the true ones, so both are named."""
    content = with_predictions(
        runs, "kd", 1, lambda arrays: arrays.update({"test/targets": arrays["test/last"].argmax(1)})
    )
    assert content["metrics"]["last"]["test"]["top1"] == 1.0
    found = {one.record.run_id: one for one in checked(runs)}
    named = [run_id for run_id, one in found.items() if any("test/targets are" in each for each in one.problems)]
    assert sorted(named) == sorted(found)
    assert tiers(found.values()) == {"damaged": 5}


def test_other_answers_of_the_teacher_contradict_its_own_run(runs):
    """The teacher's run is at hand, so that the forged record alone is named."""
    forged = with_predictions(runs, "kd", 1, lambda arrays: arrays.update({"test/teacher": -arrays["test/teacher"]}))
    found = {one.record.run_id: one for one in checked(runs)}
    assert {run_id for run_id, one in found.items() if one.problems} == {forged["run_id"]}
    problems_of_it = found[forged["run_id"]].problems
    assert any(each.startswith("predictions: test/teacher is ") for each in problems_of_it)
    assert any(
        each.startswith("teacher.test_top1=") and "the run of the teacher itself" in each for each in problems_of_it
    )


# --- Places ---


def test_a_run_lies_in_the_folder_of_its_id(runs):
    folder = folder_of(runs)
    folder.rename(runs / ("0" * 16))
    (found,) = checked(runs / ("0" * 16))
    assert found.problems == (f"run_id={folder.name}: lies in the folder of run {'0' * 16}",)


@pytest.mark.parametrize("path", ["digits/none--resnet8_cifar/kd/seed0.json", "seed1.json"])
def test_a_published_record_stands_where_its_contents_say(content, tmp_path, path):
    (found,) = checked(save(content, tmp_path / path))
    assert found.problems == ("path: should end in digits/resnet8_cifar--resnet8_cifar/kd/seed0.json",)


# --- The command ---


def test_good_records_are_exit_code_0_and_one_line_each(trained_runs, capsys):
    assert main(["check", str(trained_runs)]) == 0
    *lines, last, meaning = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(f"{path}: checked" for path in trained_runs.glob("*/record.json"))
    assert (last, meaning) == ("5 records: 5 checked", "checked: the metrics follow from the predictions at hand")


def test_damage_is_exit_code_4_with_every_problem_of_every_record(content, tmp_path, capsys):
    changed(changed(content, "metrics/last/test/nll", 0.0), "recipe", "a\x1b[2J")
    save(content, tmp_path / "a" / "record.json")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "record.json").write_text("{")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "record.json").write_bytes(b"\xff")
    assert main(["check", str(tmp_path)]) == 4
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    lines = shown.splitlines()
    assert [line for line in lines if not line.startswith("  ")] == [
        *(f"{tmp_path / name / 'record.json'}: damaged" for name in "abc"),
        "3 records: 3 damaged",
    ]
    assert len([line for line in lines if line.startswith("  ")]) == 3 + 1 + 1


def test_json_has_the_same(trained_runs, content, tmp_path, capsys):
    path = save(changed(content, "metrics/last/test/nll", 0.0), tmp_path / "record.json")
    assert main(["check", "--json", str(path), str(folder_of(trained_runs, seed=1))]) == 4
    bad, good = json.loads(capsys.readouterr().out)
    assert (bad["path"], bad["run_id"], bad["tier"]) == (str(path), content["run_id"], "damaged")
    assert bad["problems"][0].startswith("metrics.last.test.nll=0.0: ")
    assert (good["tier"], good["problems"]) == ("checked", [])


@pytest.mark.parametrize("arguments", [["nowhere"], ["."], [".", "--predictions", "nowhere"]])
def test_nothing_to_check_is_exit_code_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_records_alone_are_checked_without_torch(content, tmp_path):
    save(content, tmp_path / "record.json")
    call = f"main(['check', {str(tmp_path)!r}]), 'torch' in sys.modules"
    script = f"import sys; from kd_bench.cli.main import main; print({call})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr


# --- Published records ---


@pytest.fixture(scope="module")
def published_records(trained_runs, tmp_path_factory):
    """The records of the study ``mine``, published from copies of the runs."""
    folder = tmp_path_factory.mktemp("published")
    for content in contents(trained_runs).values():
        content["study"] = content["config"]["study"] = "mine"
        content["overrides"] = to_record(content["config"])
        save(content, folder / "runs" / content["run_id"] / "record.json")
    publish(["mine"], folder / "runs", folder / "results")
    return folder / "results" / "records"


@pytest.fixture
def records(published_records, tmp_path):
    shutil.copytree(published_records, tmp_path / "records")
    return tmp_path / "records"


def test_published_records_are_checked_with_their_curves(trained_runs, records):
    assert {(one.tier, one.note) for one in checked(records)} == {("local", "predictions.safetensors is not at hand")}
    assert tiers(checked(records, predictions=trained_runs)) == {"checked": 5}


def test_a_published_record_and_that_of_the_run_do_not_contradict_each_other(published_records):
    assert tiers(checked(published_records, published_records.parents[1] / "runs")) == {"local": 10}


@pytest.fixture
def table(records):
    return records / "curves-mine.csv.gz"


def test_without_their_table_records_are_evidence_with_a_note(records, table):
    table.unlink()
    found = checked(records)
    assert tiers(found) == {"local": 5}
    assert {one.note for one in found} == {
        "curves-mine.csv.gz is not at hand; predictions.safetensors is not at hand",
    }


def test_a_damaged_table_is_a_problem_of_its_records(records, table):
    table.write_bytes(table.read_bytes()[:-9])
    found = checked(records)
    assert tiers(found) == {"damaged": 5}
    assert all(problem.startswith(f"history: {table} is damaged: ") for problem in problems(found))


def test_a_curve_that_was_changed_is_a_problem_of_its_record(records, table):
    histories = read_table(table)
    run_id = next(iter(histories))
    histories[run_id][0]["train/loss"] += 0.125
    table.write_bytes(as_table(histories))
    assert tiers(checked(records)) == {"damaged": 1, "local": 4}


def test_curves_that_fit_their_record_and_contradict_its_numbers_are_a_problem(records, table):
    """Whoever changes a curve can change its hash as well."""
    histories, path = read_table(table), next(records.rglob("kd/seed0.json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    histories[content["run_id"]][-1]["val/top1"] = 0.0
    table.write_bytes(as_table(histories))
    save({**content, "history_sha256": history_sha256(histories[content["run_id"]])}, path)
    assert any("the history says 0.0 after that epoch" in problem for problem in problems(checked(records)))


def test_overrides_are_held_against_the_configuration(records):
    path = next(records.rglob("kd/seed0.json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    save({**content, "overrides": [*content["overrides"], "paths.runs=/etc"]}, path)
    assert problems(checked(records)) == ["overrides: 'paths.runs=/etc' is not what the configuration says"]


def test_overrides_that_no_longer_compose_are_noted(records):
    """The shipped choices may have changed since; what was measured is not touched by that."""
    path = next(records.rglob("kd/seed0.json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    kept = [override for override in content["overrides"] if not override.startswith("recipe.epochs=")]
    save({**content, "overrides": kept}, path)
    (found,) = checked(path)
    assert found.tier == "local"
    assert "to compose to its configuration, its overrides lack recipe.epochs=2; " in found.note


# --- What was measured later ---


def supplement(runs, kind="kd", **changes):
    """Beside the run, with other values of its metrics or of its full evaluation."""
    folder = folder_of(runs, kind)
    write(evaluate(folder, False, []), folder)
    content = json.loads((folder / EVALUATION_FILE).read_text())
    for key, value in changes.items():
        changed(content, key.replace("__", "/"), value)
    return save(content, folder / EVALUATION_FILE)


def test_a_supplement_that_fits_is_no_problem(runs):
    supplement(runs, full={"embedding_cka": 0.5})
    assert tiers(checked(runs)) == {"checked": 5}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"run_id": "0" * 16}, "it is of run 0000000000000000, not of "),
        ({"metrics__last__test__nll": 9.0}, "it contradicts the record: metrics.last.test.nll="),
        ({"metrics__last__epoch": -1}, "is not a valid evaluation: metrics.last.epoch: "),
        ({"surprise": 1}, "is not a valid evaluation: surprise: Extra inputs are not permitted"),
    ],
)
def test_a_supplement_of_something_else_is_named(runs, changes, problem):
    path = supplement(runs, **changes)
    (found,) = [one for one in checked(runs) if one.problems]
    assert (found.path, found.tier) == (path.with_name("record.json"), "damaged")
    assert found.problems[0].startswith(f"{path} {problem}")


def test_what_only_a_supplement_has_is_looked_at_as_well(runs):
    """A record of before has no Brier score; its supplement has one that does not follow from the predictions."""
    folder = folder_of(runs)
    content = json.loads((folder / "record.json").read_text())
    supplement(runs, metrics__last__test__brier=1.9)
    save(changed(content, "metrics/last/test/brier", None), folder / "record.json")
    (found,) = [one for one in checked(folder) if one.problems]
    assert found.problems[0].startswith("metrics.last.test.brier=1.9: the predictions give ")
    transfer = {"classes": 3, "train_samples": 3, "test_samples": 3, "teacher": None}
    probe = {"embedding_size": 3, "linear_probe_top1": 0.5, "knn_top1": 1.0}
    supplement_of = {"full": {"transfer": {"digits": {**transfer, "student": probe}}}}
    (folder / EVALUATION_FILE).unlink()
    supplement(runs, **supplement_of)
    (found,) = [one for one in checked(folder) if one.problems]
    reason = "full.transfer.digits.student.linear_probe_top1=0.5: is no whole number of 3 samples"
    assert found.problems == (f"{EVALUATION_FILE}: {reason}",)
