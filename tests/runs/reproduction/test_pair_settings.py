"""Values of single pairs: what the file has, what cells make of it, and where it shows."""

import csv
import inspect
import io

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf
from pydantic import TypeAdapter

from kd_bench.cli.method_pages.pages import page
from kd_bench.config.composition import choices, file_of
from kd_bench.results.checking.load import Collection
from kd_bench.runs.reproduction.board_pages import csv_text, explanations, markdown, plain
from kd_bench.runs.reproduction.cells import chosen_cells, composed_cells, table_cells
from kd_bench.runs.reproduction.pair_settings import all_pair_settings, pair_overrides
from kd_bench.runs.reproduction.verdicts import Board, build_board

from .runs import cell_of, runs_of

METHODS = sorted(all_pair_settings())
# (alpha, beta) of the authors' configurations.
IKL = {
    "resnet110--resnet32": (1.0, 12.0),
    "resnet32x4--resnet8x4": (1.0, 8.0),
    "resnet32x4--shufflenetv1": (1.0, 8.0),
    "resnet32x4--shufflenetv2": (3.0, 12.0),
    "resnet50--mobilenetv2": (1.0, 12.0),
    "resnet56--resnet20": (1.0, 4.0),
    "vgg13--mobilenetv2": (4.0, 12.0),
    "vgg13--vgg8": (1.0, 12.0),
    "wrn_40_2--shufflenetv1": (1.0, 4.0),
    "wrn_40_2--wrn_16_2": (3.0, 12.0),
    "wrn_40_2--wrn_40_1": (1.0, 8.0),
}


@pytest.mark.parametrize("method", METHODS)
def test_values_are_of_known_data_sets_and_lie_in_the_ranges_of_the_method(method):
    assert method in choices("method")
    settings = all_pair_settings()[method]
    assert set(settings.pairs) <= set(choices("dataset"))
    written = OmegaConf.load(file_of("method", method))
    target = written.get("_target_") or OmegaConf.load(file_of("method", written.defaults[0]))["_target_"]
    parameters = inspect.signature(get_class(target), eval_str=True).parameters
    for pairs in settings.pairs.values():
        for pair, values in pairs.items():
            assert len(pair.split("--")) == 2
            for key, value in values.items():
                TypeAdapter(parameters[key].annotation).validate_python(value)


def test_weights_are_those_of_the_authors_configurations():
    found = all_pair_settings()["ikl"].pairs["cifar100"]
    assert {pair: (of["soft_weight"], of["pairwise_weight"]) for pair, of in found.items()} == IKL


def test_values_become_overrides():
    assert pair_overrides("sdd_dkd", "cifar100", "vgg13--vgg8") == (
        "method.others_weight=6.0",
        "method.scales=[1,2]",
    )
    assert pair_overrides("gkl", "cifar100", "wrn_40_2--wrn_16_2")[-1] == "method.global_weights=false"
    assert pair_overrides("sdd_dkd", "cifar100", "resnet50--vgg8") == ()
    assert pair_overrides("sdd_dkd", "digits", "vgg13--vgg8") == ()
    assert pair_overrides("kd", "cifar100", "vgg13--vgg8") == ()


def test_a_cell_has_the_values_of_its_pair():
    cells = chosen_cells(table_cells("wkd_imagenet"), ["wkd_l"], [])
    assert [cell.pair for cell in cells] == ["resnet34--resnet18", "resnet50--mobilenetv1"]
    for cell, run, weight in zip(cells, composed_cells(cells, []), (30.0, 25.0), strict=True):
        assert cell.pair_settings == pair_overrides("wkd_l", "imagenet", cell.pair)
        assert (run.cfg.method.transport_weight, run.cfg.method.temperature) == (weight, 2.0)
        assert (run.cfg.recipe.batch_size, run.cfg.recipe.optimizer.lr) == (256, 0.1)


@pytest.fixture(scope="module")
def board() -> Board:
    cells = [cell_of("sdd_cifar100", "SDD-DKD", pair) for pair in ("vgg13--mobilenetv2", "resnet50--vgg8")]
    records = [run for cell in cells for run in runs_of(cell, [0.7, 0.71], teacher_top1=0.75)]
    return build_board("sdd_cifar100", cells, Collection(tuple(records), (), ()), 0.005)


def test_a_board_marks_the_methods_that_have_values_for_the_pair(board):
    assert [len(line.runs) for line in board.lines] == [2, 2]
    for text in (markdown(board).replace("\\", ""), plain(board)):
        assert text.count("SDD-DKD *") == 1
        assert text.count("SDD-DKD") == 2 + text.count("SDD-DKD:")
    assert any(text.startswith("An asterisk marks") for text in explanations(board))
    rows = list(csv.DictReader(io.StringIO(csv_text(board))))
    assert [row["pair_settings"] for row in rows] == ["method.others_weight=6.0", ""]


def test_a_table_without_such_values_does_not_explain_the_mark():
    board = build_board("crd_table1", [cell_of("crd_table1", "KD", "vgg13--vgg8")], Collection((), (), ()), 0.005)
    assert not any("asterisk" in text for text in explanations(board))


def test_the_page_of_a_method_has_them():
    assert "- cifar100, `vgg13--vgg8`: `method.others_weight=6.0 method.scales=[1,2]`\n" in page("sdd_dkd")
    assert "single pairs" not in page("kd")
