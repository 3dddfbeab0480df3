"""Every cell of every table is a run that the program takes, with the constants of its authors."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from kd_bench.config.paths import PUBLISHED
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.runs.reproduction.cells import chosen_cells, composed_cells, seeded, table_cells
from kd_bench.runs.reproduction.published import published_values
from kd_bench.runs.reproduction.tables import all_tables

TABLES = list(all_tables().tables)
# RepDistiller's weights, as the scripts of the CRD tables give them.
REPDISTILLER = {
    "KD": {"ce_weight": 0.1, "kd_weight": 0.9, "temperature": 4.0},
    "FitNet": {"hint_weight": 100.0, "hint_stage": 2},
    "AT": {"at_weight": 1000.0, "power": 2},
    "SP": {"sp_weight": 3000.0},
    "CC": {"correlation_weight": 0.02, "projection_size": 128},
    "VID": {"vid_weight": 1.0, "initial_variance": 5.0},
    "RKD": {"distance_weight": 25.0, "angle_weight": 50.0},
    "PKT": {"pkt_weight": 30000.0},
    "AB": {"pretrain_epochs": 30, "margin": 1.0},
    "FT": {"factor_weight": 200.0, "pretrain_epochs": 30, "factor_rate": 0.5},
    "FSP": {"pretrain_epochs": 30},
    "NST": {"nst_weight": 50.0},
    "CRD": {"crd_weight": 0.8, "negatives": 16384, "temperature": 0.07, "momentum": 0.5, "projection_size": 128},
}
DKD_BETA = {
    "resnet56--resnet20": 2.0,
    "resnet110--resnet32": 2.0,
    "resnet32x4--resnet8x4": 8.0,
    "wrn_40_2--wrn_16_2": 6.0,
    "wrn_40_2--wrn_40_1": 6.0,
    "vgg13--vgg8": 6.0,
    "resnet32x4--shufflenetv1": 8.0,
    "wrn_40_2--shufflenetv1": 8.0,
    "vgg13--mobilenetv2": 6.0,
    "resnet50--mobilenetv2": 8.0,
    "resnet32x4--shufflenetv2": 8.0,
}


def rows(paper_key: str, table: str) -> list[dict[str, str]]:
    with (PUBLISHED / "published_results.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if (row["paper_key"], row["table"]) == (paper_key, table)]


# --- The numbers ---


def test_published_values_are_the_rows_of_the_file_as_fractions():
    with (PUBLISHED / "published_results.csv").open(encoding="utf-8", newline="") as file:
        expected = [row for row in csv.DictReader(file) if row["metric"] == "top1"]
    assert len(expected) == 2153
    found = published_values()
    assert [f"{100 * value.value:.6g}" for value in found] == [f"{float(row['value']):.6g}" for row in expected]
    crd = next(v for v in found if (v.paper_key, v.method, v.teacher, v.student) == ("crd", "CRD", "vgg13", "vgg8"))
    assert (crd.value, crd.std, crd.n_seeds, crd.teacher_top1) == pytest.approx((0.7394, 0.0022, 5, 0.7464))
    assert (crd.provenance, crd.source.startswith("Tian, Krishnan & Isola")) == ("own", True)


@pytest.mark.parametrize(
    ("name", "paper_table"),
    [("crd_table1", "Table 1 (same architecture)"), ("crd_table2", "Table 2 (cross architecture)")],
)
def test_a_table_of_crd_is_whole_and_has_a_scratch_run_for_each_pair(name, paper_table):
    expected = {(r["method"], f"{r['teacher']}--{r['student']}", r["value"]) for r in rows("crd", paper_table)}
    cells = table_cells(name)
    found = {(c.method, c.pair, f"{100 * c.published.value:.2f}") for c in cells if c.method != "scratch"}
    assert found == expected
    scratch = {c.pair: 100 * c.published.value for c in cells if c.method == "scratch"}
    by_pair = {
        pair: float(r["student_top1"]) for r in rows("crd", paper_table) for pair in [f"{r['teacher']}--{r['student']}"]
    }
    assert scratch == pytest.approx(by_pair)


def test_seeds_are_those_of_the_paper_where_they_are_known():
    runs = {name: Counter(cell.runs for cell in table_cells(name)) for name in TABLES}
    assert runs["crd_table1"] == {5: 104}
    assert runs["crd_table2"] == {3: 84}
    assert runs["crd_reproduction"] == {5: 6}
    assert runs["dkd_cifar100"] == {5: 17, 3: 5}


def test_what_a_table_quotes_is_compared_with_the_rows_that_it_quotes():
    quoted = {
        f"{r['teacher']}--{r['student']}": float(r["value"])
        for table in ("README (CIFAR-100, same style)", "README (CIFAR-100, cross style)")
        for r in rows("dkd", table)
        if r["method"] == "KD"
    }
    cells = {c.pair: c for c in table_cells("dkd_cifar100") if c.method == "KD"}
    assert {pair: 100 * cell.published.value for pair, cell in cells.items()} == pytest.approx(quoted)
    assert {(c.published.paper_key, c.published.provenance, c.protocol.epoch) for c in cells.values()} == {
        ("crd", "rerun", "last")
    }
    assert all(cell.published.provenance in ("own", "rerun") for name in TABLES for cell in table_cells(name))


# --- The configurations ---


@pytest.fixture(scope="module")
def configurations() -> dict[str, list]:
    """Cells and checked configurations of every table."""
    from kd_bench.config.check import check

    checked = {}
    for name in TABLES:
        cells = table_cells(name)
        checked[name] = [(cell, check(run.cfg)) for cell, run in zip(cells, composed_cells(cells, []), strict=True)]
    return checked


@pytest.mark.slow
def test_every_cell_is_accepted_and_has_the_authors_protocol(configurations):
    assert sum(map(len, configurations.values())) == 321
    for cell, config in (both for found in configurations.values() for both in found):
        assert (config.teacher.name, config.student.name) == cell.networks
        assert config.recipe.selection == cell.protocol.epoch, cell.label
        assert config.names.dataset == cell.protocol.dataset
        if config.names.dataset == "imagenet":
            continue
        small = cell.published.student in ("mobilenetv2", "shufflenetv1", "shufflenetv2")
        optimizer = {
            "_target_": "torch.optim.SGD",
            "lr": 0.01 if small else 0.05,
            "momentum": 0.9,
            "weight_decay": 5e-4,
        }
        assert (config.recipe.epochs, config.recipe.batch_size) == (240, 64)
        assert config.recipe.optimizer == optimizer, cell.label
        assert config.recipe.scheduler is not None
        assert (config.recipe.scheduler["milestones"], config.recipe.scheduler["gamma"]) == ([150, 180, 210], 0.1)
        assert (config.dataset.mean, config.dataset.std) == ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761])


@pytest.mark.slow
def test_weights_are_those_of_the_authors_code(configurations):
    for name in ("crd_table1", "crd_table2"):
        for cell, config in configurations[name]:
            wanted = REPDISTILLER.get(cell.method, {})
            assert {key: config.method[key] for key in wanted} == wanted, cell.label
    for cell, config in configurations["crd_table7"]:
        terms = config.method["terms"]
        if "kd" in terms:
            assert (terms["kd"]["ce_weight"], terms["kd"]["kd_weight"], terms["kd"]["temperature"]) == (1.0, 1.0, 4.0)
        assert sum(term["ce_weight"] for term in terms.values()) == 1.0, cell.label
    beta = {c.pair: config.method["others_weight"] for c, config in configurations["dkd_cifar100"] if c.method == "DKD"}
    assert beta == DKD_BETA
    temperatures = {c.method: config.method.get("temperature") for c, config in configurations["crd_reproduction"]}
    assert temperatures["CRD (nce_t=0.1, paper text)"] == 0.1
    assert temperatures["CRD (nce_t=0.07, code default)"] == 0.07
    imagenet = {c.pair: config for c, config in configurations["dkd_imagenet"]}["resnet50--mobilenetv1"]
    assert (imagenet.recipe.batch_size, imagenet.recipe.optimizer["lr"], imagenet.recipe.epochs) == (512, 0.2, 100)
    assert (imagenet.method["temperature"], imagenet.method["others_weight"]) == (1.0, 2.0)


@pytest.mark.slow
def test_every_kind_of_cell_can_be_built_and_pairs_its_stages_one_to_one(configurations):
    """RepDistiller compares the n-th stage with the n-th, which all of its pairs have alike many of."""
    from kd_bench.training.pair import build

    built = set()
    for cell, config in (both for found in configurations.values() for both in found):
        kind = (cell.choice, cell.pair)
        if kind in built:
            continue
        built.add(kind)
        pair = build(config)
        assert pair.teacher is not None
        assert len(pair.student.stage_shapes) == len(pair.teacher.stage_shapes), cell.label
    assert len(built) == 278


def test_students_of_all_learning_rates_and_rules_share_one_teacher():
    """The teacher of a ShuffleNet, and that of a run which selects on the test split, are the plain one."""
    from kd_bench.config.check import check
    from kd_bench.results.records.fingerprint import determining
    from kd_bench.runs.lineage import teacher_run

    wanted = [
        ("crd_table1", "kd", "wrn_40_2--wrn_16_2"),
        ("crd_table2", "kd", "wrn_40_2--shufflenetv1"),
        ("dkd_cifar100", "dkd", "wrn_40_2--shufflenetv1"),
    ]
    teachers = []
    for table, method, pair in wanted:
        (run,) = composed_cells(chosen_cells(table_cells(table), [method], [pair]), [])
        teachers.append(determining(check(teacher_run(run.cfg, check(run.cfg).teacher.networks()[0]))))
    assert teachers[0]["recipe"]["optimizer"]["lr"] == 0.05
    assert teachers[0]["recipe"]["selection"] == "last"
    assert teachers[1] == teachers[0]
    assert teachers[2] == teachers[0]


def test_the_runs_of_a_cell_are_its_seeds():
    (run,) = composed_cells(chosen_cells(table_cells("crd_table2"), ["KD"], ["resnet50--vgg8"]), ["logger=none"])
    points = seeded(run, 3)
    assert [point.label for point in points] == [f"KD resnet50--vgg8 seed {seed}" for seed in range(3)]
    assert [point.cfg.seed for point in points] == [0, 1, 2]
    assert {(point.cfg.study, point.cfg.paths.runs) for point in points} == {("crd_table2", "runs/reproduce")}
    (directly,) = composed_cells(
        chosen_cells(table_cells("crd_table2"), ["KD"], ["resnet50--vgg8"]), ["logger=none", "seed=2"]
    )
    assert points[2].cfg == directly.cfg


# --- What is chosen ---


def test_cells_are_chosen_by_either_name_of_a_method_and_of_networks():
    cells = table_cells("crd_table1")
    one = chosen_cells(cells, ["correlation"], ["wrn_40_2_cifar--wrn_16_2_cifar"])
    assert [cell.label for cell in one] == ["CC wrn_40_2--wrn_16_2"]
    assert chosen_cells(cells, ["cc"], ["wrn_40_2--wrn_16_2"]) == one
    assert len(chosen_cells(cells, ["kd", "CRD+KD"], [])) == 14
    assert len(chosen_cells(cells, [], ["vgg13--vgg8"])) == 15


@pytest.mark.parametrize(
    ("methods", "pairs", "expected"),
    [
        (["kdd"], [], "method 'kdd': not in this table; did you mean 'kd'"),
        ([], ["vgg13--vgg9"], "pair 'vgg13--vgg9': not in this table; did you mean 'vgg13--vgg8'"),
        (["fsp"], ["wrn_40_2--wrn_40_1"], "the table has no cell of fsp for wrn_40_2--wrn_40_1"),
    ],
)
def test_what_is_not_in_the_table_is_refused(methods, pairs, expected):
    with pytest.raises(ConfigError, match=expected):
        chosen_cells(table_cells("crd_table1"), methods, pairs)


def test_an_unknown_table_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="table 'crd_table3': no such table; did you mean 'crd_table"):
        table_cells("crd_table3")


# --- Teachers from files ---


def place(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    "name", ["ResNet50_vanilla/ckpt_epoch_240.pth", "resnet50.safetensors", "ResNet50.pth"], ids=lambda name: name[-8:]
)
def test_teachers_are_found_as_their_authors_name_them(tmp_path, name):
    path = place(tmp_path / "it's here, all" / name)
    cells = chosen_cells(table_cells("crd_table2"), ["kd"], ["resnet50--vgg8"])
    (run,) = composed_cells(cells, [], path.parent if path.parent.name != "ResNet50_vanilla" else path.parent.parent)
    assert run.cfg.teacher.checkpoint == str(path)
    assert run.cfg.teacher.expected_top1 == pytest.approx(0.7934)


def test_a_teacher_without_a_file_is_refused_by_name(tmp_path):
    cells = chosen_cells(table_cells("crd_table2"), ["kd"], ["resnet50--vgg8"])
    with pytest.raises(
        IntegrityError, match=r"no weights of resnet50: looked for resnet50_vanilla/ckpt_epoch_240\.pth"
    ):
        composed_cells(cells, [], tmp_path)
