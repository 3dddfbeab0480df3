"""Groups of test samples: files, counts against a slow formula, and the record of a run."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file
from support.trained import train

from kd_bench.cli.main import main
from kd_bench.config.check import check
from kd_bench.errors import ConfigError
from kd_bench.evaluation.groups import group_counts, read_groups
from kd_bench.results.records.fingerprint import determining

REFUSED = {
    "a,b\n0,x\n": "should have the columns index, group",
    "index,group\n0,x\n0,y\n1,x\n2,y\n": "line 3: sample '0' stands twice",
    "index,group\n0,x\n1,\n2,y\n": "line 3: sample '1' has no group",
    "index,group\n0,x\n1,x\n": "sample '2' has no group",
    "index,group\n0,x\n1,x\n2,x\n3,x\n": "sample '3' is no position",
    "": "should have the columns",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_file_that_does_not_assign_every_sample_once_is_refused(tmp_path, text):
    path = tmp_path / "groups.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=REFUSED[text]):
        read_groups(path, 3)
    with pytest.raises(ConfigError, match="no such file"):
        read_groups(tmp_path / "none.csv", 3)


def test_groups_are_read_by_position_in_any_order(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text('group,index\n"dark, wet",2\nlight,0\nlight,1\n')
    assert read_groups(path, 3) == (["light", "light", "dark, wet"], hashlib.sha256(path.read_bytes()).hexdigest())


def test_counts_are_those_of_a_loop():
    random = torch.Generator().manual_seed(0)
    right, teacher_right = (torch.rand(200, generator=random) < p for p in (0.7, 0.8))
    groups = [f"g{number % 3}" for number in range(200)]
    found = group_counts(groups, "0" * 64, right, teacher_right)
    for number, name in enumerate(["g0", "g1", "g2"]):
        members = [i for i in range(200) if groups[i] == name]
        assert found.names[number] == name
        assert found.samples[number] == len(members)
        assert found.correct[number] == sum(bool(right[i]) for i in members)
        assert found.negative_flips is not None
        assert found.positive_flips is not None
        assert found.negative_flips[number] == sum(bool(teacher_right[i]) and not bool(right[i]) for i in members)
        assert found.positive_flips[number] == sum(bool(right[i]) and not bool(teacher_right[i]) for i in members)
    assert group_counts(groups, "0" * 64, right, None).negative_flips is None


def test_groups_change_no_fingerprint_and_no_record_without_them(compose):
    configs = [check(compose("dataset=digits", *more)) for more in ([], ["dataset.groups=somewhere.csv"])]
    assert configs[1].dataset.groups == "somewhere.csv"
    dumps = [json.dumps([config.recorded(), determining(config)]) for config in configs]
    assert dumps[0] == dumps[1]
    assert "groups" not in dumps[0]


def test_gaps_by_group_reach_gate_and_card(tmp_path, working_directory, capsys):
    runs = tmp_path / "runs"
    record = train(runs)
    run = runs / record.run_id
    assert main(["gate", str(run), "--policy", "harm"]) in (1, 3)
    assert "dataset.groups=FILE" in capsys.readouterr().out
    saved = load_file(run / "predictions.safetensors")
    targets = saved["test/targets"]
    path = tmp_path / "groups.csv"
    lines = [f"{index},{'low' if target < 5 else 'high'}" for index, target in enumerate(targets.tolist())]
    path.write_text("\n".join(["index,group", *lines]))
    command = ["evaluate", str(run), "--full", "--write", "evaluation.sections=[]", f"dataset.groups={path}"]
    assert main(command) == 0
    groups = json.loads((run / "evaluation.json").read_text())["full"]["groups"]
    right = saved["test/last"].argmax(1) == targets
    teacher_right = saved["test/teacher"].argmax(1) == targets
    low = targets < 5
    assert groups["names"] == ["high", "low"]
    assert groups["correct"] == [int((right & ~low).sum()), int((right & low).sum())]
    assert groups["negative_flips"][1] == int((teacher_right & ~right & low).sum())
    capsys.readouterr()
    assert main(["gate", str(run), "--policy", "harm", "--json"]) in (1, 3)
    by_group = json.loads(capsys.readouterr().out)["rules"][1]["findings"]
    assert [one["part"] for one in by_group] == ["high", "low"]
    gap = (right[low].double().mean() - teacher_right[low].double().mean()).item()
    assert by_group[1]["estimate"]["mean"] == pytest.approx(gap)
    assert main(["card", str(run)]) == 0
    text = (run / "card" / "README.md").read_text(encoding="utf-8")
    assert f"| low | {int(low.sum())} | {100 * right[low].double().mean().item():.2f} |" in text
    assert "not assessed" not in text
    assert main(["check", str(runs)]) == 0
