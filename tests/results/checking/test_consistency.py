"""Each lie in a real record, and the line that names it. Nothing that a record names is imported or run."""

import math
import sys
from copy import deepcopy

import pytest

from .records import changed, checked, contents, save


def problems_of(content: dict, folder) -> list[str]:
    """Of a record alone, apart from its run's files."""
    (found,) = checked(save(content, folder / "submitted" / "record.json"))
    assert found.tier == ("damaged" if found.problems else "local")
    return list(found.problems)


def test_a_real_record_has_no_problems(content, tmp_path):
    assert problems_of(content, tmp_path) == []


LAST, BEST = "metrics/last", "metrics/best_on_validation"
MADE_OF = "its configuration, data and teacher weights are those of run "
LIES = [
    # Shares of 719 test and 216 validation samples.
    (f"{LAST}/test/top1", 0.5, "metrics.last.test.top1=0.5: is no whole number of 719 samples"),
    (f"{LAST}/test/top1", 360 / 719, "metrics.last.test.negative_flips="),
    (f"{LAST}/test/top5", 1 / 719, "metrics.last.test.top5=0.0013908205841446453: is below top1="),
    (f"{LAST}/test/top5", None, "metrics.last.test.top5=None: is measured with more than 5 classes; there are 10"),
    (f"{LAST}/test/nll", 0.1, "metrics.last.test.nll=0.1: too low for top1="),
    (f"{LAST}/test/retention", 1.25, "metrics.last.test.retention=1.25: "),
    (f"{LAST}/test/retention", None, "metrics.last.test.retention=None: "),
    (f"{LAST}/test/negative_flips", 0.0, "metrics.last.test.negative_flips=0.0, positive_flips="),
    (f"{LAST}/test/teacher_agreement", 1.0, "metrics.last.test.teacher_agreement=1.0: lies between "),
    (f"{LAST}/test/teacher_agreement", 0.0, "metrics.last.test.teacher_agreement=0.0: lies between "),
    (f"{LAST}/test/teacher_agreement", None, "teacher_agreement=None: is measured with a teacher; the record has one"),
    ("teacher/test_top1", 0.0, "metrics.last.test.retention="),
    (f"{LAST}/test/macro_top1", 0.99, "metrics.last.classes.correct: a mean of "),
    (f"{LAST}/classes/correct/0", 99, "metrics.last.classes.correct: "),
    (f"{LAST}/classes/samples", [719], "metrics.last.classes.samples: has 1 of 10 classes"),
    (f"{LAST}/classes/worst_top1", 0.99, "metrics.last.classes.worst_top1=0.99: by the counts it is "),
    (f"{LAST}/exemplars/total", 1, "metrics.last.exemplars.total=1: test.teacher_agreement leaves "),
    (f"{LAST}/exemplars/index/0", 719, "metrics.last.exemplars.index: must name different ones of 719 samples"),
    (f"{LAST}/exemplars/target/0", 10, "metrics.last.exemplars.target, teacher, student: there are 10 classes"),
    (f"{LAST}/validation/top1", 1.0, "metrics.last.validation.top1=1.0: the history says "),
    # Epochs.
    (f"{LAST}/epoch", 3, "metrics.last.epoch=3: the configuration says 2 epochs"),
    (f"{BEST}/epoch", 3, "metrics.best_on_validation.epoch=3: there are 2 epochs"),
    ("history", [], "history: has the epochs [], not 1 to 2"),
    ("history/1/epoch", 7.0, "history: has the epochs [1.0, 7.0], not 1 to 2"),
    # What the configuration decides.
    ("seed", 7, "seed=7: but config.seed=0"),
    ("selection", "best_on_validation", "selection='best_on_validation': but config.recipe.selection='last'"),
    ("study", "demo", "study='demo': but config.study=None"),
    ("recipe", "long", "recipe='long': but config.names.recipe='digits'"),
    ("dataset/name", "imagenet", "dataset.name='imagenet': but config.names.dataset='digits'"),
    ("student/name", "resnet20_cifar", "student.name='resnet20_cifar': but config.student.name='resnet8_cifar'"),
    ("teacher", None, "teacher.name=None: but config.teacher.name='resnet8_cifar'"),
    ("method/name", "mine", "method.name='mine': but config.names.method='kd'"),
    ("method/target", "kd_bench.methods.at.AT", "method.target='kd_bench.methods.at.AT': but config.method._target_="),
    ("dataset/train_samples", 99, "dataset.train_samples=99: but config.dataset.train_samples=100"),
    ("dataset/class_names", ["a"], "dataset.class_names: are 1 for num_classes=10"),
    ("dataset/duplicates", 720, "dataset.duplicates=720: of 719 test samples"),
    ("dataset/test_samples", 0, "dataset.test_samples=0: nothing can be measured"),
    # What makes the run's id.
    ("run_id", "0" * 16, f"run_id=0000000000000000: {MADE_OF}"),
    ("config/recipe/optimizer/lr", 0.1, MADE_OF),
    ("config/method/temperature", 2.0, MADE_OF),
    ("dataset/content_sha256", "0" * 64, MADE_OF),
    ("teacher/weights_sha256", "0" * 64, MADE_OF),
    # Configurations that nothing composes to.
    ("config/recipe/epochs", 0, "config.recipe.epochs: Input should be greater than or equal to 1"),
    ("config/verified", True, "config.verified: Extra inputs are not permitted"),
    ("config/method/temperature", math.nan, "config.method.temperature=nan: must be a finite number"),
    ("config/study", "${oc.env:HOME}", "config.study='${oc.env:HOME}': is an interpolation"),
    # Targets, at every depth.
    ("config/method/_target_", "os.system", "config.method._target_='os.system': is not allowed here; allowed: "),
    ("config/method/_target_", "kd_bench.methods.kd.KD()", "config.method._target_='kd_bench.methods.kd.KD()': is not"),
    ("config/recipe/optimizer/_target_", "torch.load", "config.recipe.optimizer._target_='torch.load': is not allowed"),
    ("config/method/deep", {"a": [{"_target_": "os.system"}]}, "config.method.deep.a[0]._target_='os.system': is not"),
    ("config/method/_partial_", True, "config.method._partial_=True: is not allowed in a configuration"),
    ("config/student/kwargs", {"_target_": "os.system"}, "config.student.kwargs._target_='os.system': is not allowed"),
    ("config/student/kwargs", {"a": {"_recursive_": False}}, "config.student.kwargs.a._recursive_=False: is not"),
    ("config/student/kwargs", {"checkpoint_path": "x"}, "config.student.kwargs: Value error, checkpoint_path is not"),
    # Texts, names of files, numbers.
    ("method/paper", "a\nb", "method.paper='a\\nb': has hidden characters"),
    ("recipe", "abc\u202edef", "recipe='abc\\u202edef': has hidden characters"),
    ("hardware/host", "x" * 501, "hardware.host: is a text of 501 characters; at most 500"),
    ("environment/packages", {"to\u200brch": "1"}, "its name has hidden characters"),
    ("artifacts", {"../../x": "0" * 64}, "artifacts.'../../x': must name a file beside the record"),
    ("artifacts", {"/etc/passwd": "0" * 64}, "artifacts.'/etc/passwd': must name a file beside the record"),
    ("artifacts", {"C:\\x": "0" * 64}, "must name a file beside the record"),
    ("artifacts", {"..": "0" * 64}, "artifacts.'..': must name a file beside the record"),
    ("artifacts", {"record.json": "0" * 64}, "artifacts.'record.json': must name a file beside the record"),
    ("student/parameters", 2**63, "student.parameters: Input should be less than or equal to 9223372036854775807"),
    ("times/resumed", 10**400, "times.resumed: is a number of 401 digits; at most 9223372036854775807"),
    # Times and origin.
    ("times/started_at", "9999-12-31T23:59:59-14:00", "times.started_at: Value error, lies outside of the years 1900"),
    ("times/train_seconds", 1e308, "times.train_seconds=1e+308: is more than single precision holds"),
    ("times/train_seconds", None, "imported_from=None: but times.train_seconds=None"),
    ("imported_from", "best.pth", "imported_from='best.pth': but times.train_seconds="),
    ("teacher/source", "elsewhere", "teacher.source='elsewhere': but teacher.run_id="),
]


@pytest.mark.parametrize(
    ("key", "value", "expected"), LIES, ids=[f"{key}={str(value)[:30]!a}" for key, value, _ in LIES]
)
def test_a_lie_is_named(content, tmp_path, key, value, expected):
    problems = problems_of(changed(content, key, value), tmp_path)
    assert [problem for problem in problems if expected in problem], problems


@pytest.mark.parametrize(("rule", "expected"), [("last", "the history says 1.0"), ("best_on_validation", ".epoch=")])
def test_a_history_that_tells_another_story_is_named(content, tmp_path, rule, expected):
    """Its last epoch is perfect, so it should be the best one, and the last numbers are not those."""
    content["history"][1]["val/top1"] = 1.0
    content["metrics"]["best_on_validation"]["epoch"] = 1
    assert [each for each in problems_of(content, tmp_path) if each.startswith(f"metrics.{rule}") and expected in each]


def test_all_lies_are_listed_at_once(content, tmp_path):
    for key, value in ((f"{LAST}/test/nll", 0.1), ("recipe", "long"), ("times/train_seconds", 1e308)):
        changed(content, key, value)
    starts = {problem.split("=")[0] for problem in problems_of(content, tmp_path)}
    assert starts == {"metrics.last.test.nll", "recipe", "times.train_seconds"}


HONEST = {
    "a clock that was set back": ("times/started_at", "2999-01-01T00:00:00Z"),
    "a clock that is wrong": ("times/finished_at", "2999-01-01T00:00:00"),
    "seconds that the clock does not confirm": ("times/train_seconds", 1e6),
    "git was too slow to tell": ("code", {"version": "0.1.0", "commit": "0" * 40, "dirty": None}),
    "a name with hidden characters": ("dataset/class_names/0", "\x1b[31m\u202e"),
    "letters that need joiners": ("dataset/class_names/0", "می\u200cخواهم"),
}


@pytest.mark.parametrize("what", HONEST)
def test_what_is_odd_and_may_be_true_is_no_damage(content, tmp_path, what):
    assert problems_of(changed(content, *HONEST[what]), tmp_path) == []


def test_a_method_from_a_plugin_is_neither_imported_nor_refused(content, tmp_path, monkeypatch):
    """Its source is part of the run's id, which therefore cannot be computed again."""
    (tmp_path / "their_kd.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    content["config"]["plugins"] = ["their_kd"]
    content["config"]["method"]["_target_"] = content["method"]["target"] = "their_kd.Theirs"
    assert problems_of(content, tmp_path) == []
    assert "their_kd" not in sys.modules


def test_the_first_epochs_of_two_stages_are_no_candidates(content, tmp_path):
    """One perfect epoch of pretraining before the two of the recipe, among which the best is chosen."""
    content["config"]["method"]["pretrain_epochs"] = 1
    rows = [dict(row) for row in content["history"]]
    pretraining = {**rows[0], "val/top1": 1.0}
    content["history"] = [pretraining, *({**row, "epoch": row["epoch"] + 1} for row in rows)]
    for rule in ("last", "best_on_validation"):
        content["metrics"][rule]["epoch"] += 1
    (problem,) = problems_of(content, tmp_path)
    assert MADE_OF in problem  # the configuration was changed


@pytest.mark.parametrize("method", ["born_again", "scratch"])
def test_real_records_of_other_kinds_have_no_problems(trained_runs, tmp_path, method):
    found = [content for (name, _), content in contents(trained_runs).items() if name == method]
    assert found
    assert [problems_of(deepcopy(content), tmp_path) for content in found] == [[] for _ in found]


def leaves_of(node: object, key: str = "") -> list[str]:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    below = [leaf for name, child in pairs or () for leaf in leaves_of(child, f"{key}/{name}" if key else str(name))]
    return [*([key] if key else []), *below]


ODD_VALUES = [None, True, 0, -1, 10**20, 1e308, "", "x" * 1000, [], [[]], {}, {"": None}]


def test_whatever_stands_anywhere_is_a_problem_or_none_but_no_crash(content, tmp_path):
    """Some 600 pairs of a place in the record and an odd value in place of what was there."""
    keys = [
        key for key in leaves_of(content) if "exemplars/" not in key and "/val/" not in key and "/train/" not in key
    ]
    pairs = [(key, value) for key in keys for value in ODD_VALUES]
    for key, value in pairs[:: 1 + len(pairs) // 600]:
        (found,) = checked(save(changed(deepcopy(content), key, value), tmp_path / "record.json"))
        assert found.tier in ("damaged", "local"), (key, value)
