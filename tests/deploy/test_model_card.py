"""The model card and the technical file: measured numbers, gaps, escapes, and nothing sent."""

import json
import socket
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from support.records import make_record, measured_content, record_content, save

from kd_bench.cli.main import main
from kd_bench.config.files import file_sha256
from kd_bench.deploy import model_card
from kd_bench.errors import ConfigError, KDBenchError

WAIVED = """claim: It is good.
rules:
  - {name: top-1, metric: top1, at_least: 0.99, evidence: point}
waivers:
  - {rule: top-1, reason: the customer knows, until: 2999-12-31}
"""


@pytest.fixture
def run(tmp_path: Path, working_directory: Path) -> Path:
    content = measured_content(record_content("kd", 0, 0.77))
    content["dataset"]["class_names"][1] = "<b>|cat|"
    return save(content, tmp_path / "runs" / content["run_id"] / "record.json").parent


def test_the_card_is_one_that_the_hub_reads(run, capsys):
    assert main(["card", str(run)]) == 0
    assert capsys.readouterr().out.count("written: ") == 3
    card = ModelCard.load(run / "card" / "README.md")
    name, results = card.data.model_name, card.data.eval_results
    assert name == "narrow-kd-shapes"
    record = json.loads((run / "record.json").read_text())
    test = record["metrics"]["last"]["test"]
    found = {result.metric_type: result.metric_value for result in results}
    assert found["accuracy"] == test["top1"]
    assert found["retention"] == test["retention"]
    assert {result.dataset_split for result in results} == {"test"}


def test_eval_results_are_read_back(run):
    assert main(["card", str(run)]) == 0
    (path,) = (run / "card" / ".eval_results").glob("*.yaml")
    entries = parse_eval_result_entries(yaml.safe_load(path.read_text(encoding="utf-8")))
    record = json.loads((run / "record.json").read_text())
    assert (
        next(entry.value for entry in entries if entry.task_id == "accuracy")
        == (record["metrics"]["last"]["test"]["top1"])
    )
    assert all(run.name in str(entry.notes) for entry in entries)


def test_the_card_holds_numbers_hashes_classes_failures_and_gaps(run):
    assert main(["card", str(run)]) == 0
    text = (run / "card" / "README.md").read_text(encoding="utf-8")
    assert "| Test top-1 % | 77.00 | 80.00 |" in text
    assert "| Corrupted top-1 % | not measured |" in text
    assert "| &lt;b&gt;\\|cat\\| | 100 | 60.00 | −30.00 \\[" in text  # the class that lost most, escaped
    assert "| 7 | &lt;b&gt;\\|cat\\| |" in text  # an image that only the teacher gets
    assert "not assessed: the data set has no groups" in text
    assert f"| record | {file_sha256(run / 'record.json')} |" in text
    assert "No policy was applied" in text


def test_gates_and_their_waivers_stand_on_card_and_file(run, tmp_path):
    policy = tmp_path / "mine.yaml"
    policy.write_text(WAIVED)
    assert main(["card", str(run), "--policy", str(policy), "--policy", "retention_95"]) == 0
    for name in ("README.md", "technical_file.md"):
        text = (run / "card" / name).read_text(encoding="utf-8")
        assert "fail (waived)" in text
        assert "waiver until 2999-12-31: the customer knows" in text
        assert "insufficient evidence" in text


def test_the_technical_file_is_in_the_order_of_annex_iv(run):
    assert main(["card", str(run)]) == 0
    text = (run / "card" / "technical_file.md").read_text(encoding="utf-8")
    points = [f"## {number}. " for number in range(1, 10)]
    assert [text.count(point) for point in points] == [1] * 9
    assert sorted(points, key=text.index) == points
    assert "| energy | not measured |" in text
    assert "not provided" in text


def test_a_run_without_teacher_or_counts_has_a_card(tmp_path, working_directory):
    record = make_record("scratch", 0, 0.7, teacher=None)
    path = save(record.model_dump_json(), tmp_path / record.run_id / "record.json")
    assert main(["card", str(path.parent), "--output", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "trained without a teacher" in text
    assert "By class: not measured." in text


def test_nothing_is_sent_unless_asked(run, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert main(["card", str(run)]) == 0


def test_push_needs_a_token(run, monkeypatch, capsys):
    monkeypatch.setattr(model_card, "get_token", lambda: None)
    assert main(["card", str(run), "--push", "me/model"]) == 2
    assert "there is no token" in capsys.readouterr().err


def test_push_without_a_network_is_one_line(run, monkeypatch, capsys):
    monkeypatch.setattr(model_card, "get_token", lambda: "token")

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", unreachable)
    assert main(["card", str(run), "--push", "me/model"]) == 1
    error = capsys.readouterr().err
    assert "nothing was sent: no route to host" in error
    assert error.count("\n") == 1


def test_push_sends_the_folder_of_the_card(run, monkeypatch):
    sent: list[object] = []
    monkeypatch.setattr(model_card, "get_token", lambda: "token")
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda *a, **k: sent.append((a[1:], k["private"])))
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", lambda *a, **k: sent.append(k["folder_path"]))
    assert model_card.push(run, "me/model") == "https://huggingface.co/me/model"
    assert sent == [(("me/model",), True), run]


def test_a_name_that_is_no_repository_is_refused(run, monkeypatch):
    monkeypatch.setattr(model_card, "get_token", lambda: "token")
    with pytest.raises((ConfigError, KDBenchError), match="--push a/b/c"):
        model_card.push(run, "a/b/c")


def test_a_damaged_record_and_no_run_are_refused(run, capsys):
    assert main(["card", "nowhere"]) == 2
    assert "no finished run there" in capsys.readouterr().err
    (run / "record.json").write_text("{}", encoding="utf-8")
    assert main(["card", str(run)]) == 4
