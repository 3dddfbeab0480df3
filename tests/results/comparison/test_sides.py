"""What two names stand for, and what may be compared with what."""

from collections.abc import Iterable

import pytest
from support.records import make_record, record_content, save_records, seeds_of

from kd_bench.errors import ConfigError, IntegrityError, NotEnoughEvidence
from kd_bench.results.checking.load import Collection, Rejected
from kd_bench.results.comparison.sides import Couple, Setting, couples, find_side
from kd_bench.results.records.record import Record


def collected(*groups: Iterable[Record]) -> Collection:
    return Collection(tuple(record for group in groups for record in group), (), ())


def of_study(name: str, records: Iterable[Record]) -> list[Record]:
    """The records as runs of a study, with run ids of their own."""
    changed = []
    for number, record in enumerate(records):
        update = {"study": name, "run_id": f"{sum(map(ord, name)):012x}{number:04x}"}
        changed.append(record.model_copy(update=update))
    return changed


def coupled(collection: Collection, first: str, second: str, pair: str | None = None) -> list[Couple]:
    return couples(find_side(first, collection), find_side(second, collection), pair)


# --- Names ---


def test_a_name_is_a_path_a_run_a_study_or_a_method_in_this_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records = of_study("kd", seeds_of("dkd", [0.7, 0.7])) + seeds_of("kd", [0.8])
    found = collected(records)
    assert (find_side(records[0].run_id, found).kind, find_side("dkd", found).kind) == ("run", "method")
    study = find_side("kd", found)
    assert (study.kind, len(study.records)) == ("study", 2)
    save_records(seeds_of("at", [0.6, 0.6, 0.6]), tmp_path / "kd")
    folder = find_side("kd", found)
    assert (folder.kind, [record.method.name for record in folder.records]) == ("study", ["at"] * 3)
    run = next((tmp_path / "kd").iterdir())
    assert find_side(f"kd/{run.name}", found).kind == find_side(f"kd/{run.name}/record.json", found).kind == "run"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("dkdd", "did you mean 'dkd'"), ("zzz", "there are: dkd, grid$"), ("aaaa", "no path, run, study or method")],
)
def test_unknown_names_are_refused_with_the_nearest(name, expected):
    with pytest.raises(ConfigError, match=expected):
        find_side(name, collected(of_study("grid", seeds_of("dkd", [0.7]))))


def test_rejected_files_are_told_of_where_a_name_is_not_found():
    found = Collection((), (), (Rejected("a/record.json", "damaged"), Rejected("b/record.json", "damaged")))
    with pytest.raises(
        ConfigError, match="there are: no finished runs; 2 files were rejected: kd-bench check says why"
    ):
        find_side("kd", found)


def test_a_folder_without_runs_is_no_evidence_and_a_damaged_record_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotEnoughEvidence, match="no finished run of a student"):
        find_side(str(tmp_path / "empty"), collected())
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(IntegrityError):
        find_side(str(tmp_path / "record.json"), collected())


def test_a_teachers_run_is_found_by_its_id_but_belongs_to_no_method():
    teacher = make_record("scratch", 1000, 0.9, role="teacher", teacher=None, student="wide")
    found = collected([teacher], seeds_of("scratch", [0.7]))
    assert find_side(teacher.run_id, found).records == (teacher,)
    assert len(find_side("scratch", found).records) == 1


# --- What may be compared ---


def test_unlike_things_are_not_compared():
    found = collected(of_study("grid", seeds_of("dkd", [0.7])))
    with pytest.raises(ConfigError, match="grid is a study, dkd a method: compare like with like"):
        coupled(found, "grid", "dkd")


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"data": 1}, "runs on different data cannot be compared"), ({"teacher_weights": 1}, "with different teachers")],
)
def test_other_data_and_other_teachers_are_not_comparable(change, expected):
    found = collected(seeds_of("kd", [0.7, 0.8]), seeds_of("dkd", [0.7, 0.8], **change))
    with pytest.raises(ConfigError, match=expected):
        coupled(found, "kd", "dkd")
    runs = [record.run_id for record in found.records if record.seed == 0]
    with pytest.raises(ConfigError, match=expected):
        coupled(found, *runs)


def test_methods_of_different_recipes_have_nothing_in_common():
    found = collected(
        seeds_of("kd", [0.7, 0.8]), seeds_of("dkd", [0.7, 0.8], recipe="long", recipe_options={"epochs": 60})
    )
    with pytest.raises(NotEnoughEvidence, match="kd has shapes wide--narrow short; dkd has shapes wide--narrow long"):
        coupled(found, "kd", "dkd")


def test_methods_without_a_shared_seed_are_no_evidence():
    found = collected([make_record("kd", 0), make_record("kd", 1)], [make_record("dkd", 2)])
    with pytest.raises(NotEnoughEvidence, match="no seed in common: shapes wide--narrow: kd has 0, 1, dkd has 2"):
        coupled(found, "kd", "dkd")


def test_methods_on_several_pairs_ask_for_one():
    pairs = ("narrow", "thin_cifar")
    found = collected(*(seeds_of(name, [0.7, 0.8], student=student) for name in ("kd", "dkd") for student in pairs))
    with pytest.raises(ConfigError, match="both methods ran in 2 places, name one by --pair, or runs: shapes wide--"):
        coupled(found, "kd", "dkd")
    for pair in ("wide--thin_cifar", "wide--thin"):
        (couple,) = coupled(found, "kd", "dkd", pair)
        assert couple.title == "shapes wide--thin_cifar"
    with pytest.raises(NotEnoughEvidence, match="kd has no finished run on the pair wide--wider"):
        coupled(found, "kd", "dkd", "wide--wider")


def test_a_method_in_two_configurations_is_not_averaged():
    found = collected(
        seeds_of("kd", [0.7], options={"temperature": 2}),
        seeds_of("kd", [0.7], options={"temperature": 4}),
        seeds_of("dkd", [0.7]),
    )
    with pytest.raises(ConfigError, match=r"kd has 2 configurations on .*: kd \[temperature=2\], kd \[temperature=4\]"):
        coupled(found, "kd", "dkd")


@pytest.mark.parametrize("part", ["stage_pairs", "trainer"])
def test_runs_of_other_stage_pairs_or_of_several_devices_are_not_averaged(part):
    """Both are part of the fingerprint: such runs have other numbers."""
    records = []
    for seed, value in enumerate(([[0, 0]], [[1, 1]]) if part == "stage_pairs" else ({"devices": 1}, {"devices": 2})):
        content = record_content("kd", seed)
        content["config"][part] = value
        records.append(Record.model_validate(content, strict=False))
    found = collected(records, seeds_of("dkd", [0.7, 0.8]))
    with pytest.raises((ConfigError, NotEnoughEvidence), match=r"kd has 2 configurations|nothing in common"):
        coupled(found, "kd", "dkd")
    runs = [record.model_copy(update={"seed": 0}) for record in records]
    (couple,) = coupled(collected(runs), *(run.run_id for run in runs))
    assert [setting.key for setting in couple.differing] == [
        "stage_pairs" if part == "stage_pairs" else "trainer.devices"
    ]


def test_methods_in_one_setting_differ_in_no_setting():
    found = collected(seeds_of("kd", [0.7, 0.8]), seeds_of("dkd", [0.7, 0.8], options={"alpha": 1}))
    (couple,) = coupled(found, "kd", "dkd")
    assert (couple.names, couple.seeds, couple.differing) == (("kd", "dkd"), (0, 1), ())


def test_runs_may_differ_in_anything_and_it_is_told():
    first = make_record("kd", 0, options={"temperature": 4}, recipe_options={"epochs": 30})
    second = make_record("kd", 0, options={"temperature": 2}, recipe_options={"epochs": 60}, recipe="long")
    (couple,) = coupled(collected([first, second]), first.run_id, second.run_id)
    assert couple.differing == (Setting("epochs", "30", "60"), Setting("temperature", "4", "2"))
    assert couple.names == (first.run_id, second.run_id)


def test_two_studies_are_compared_cell_by_cell():
    first = of_study("a", [*seeds_of("kd", [0.7, 0.8]), *seeds_of("dkd", [0.7, 0.8]), *seeds_of("at", [0.7])])
    longer = {"recipe_options": {"epochs": 60}}
    second = of_study("b", [*seeds_of("kd", [0.8, 0.9], **longer), *seeds_of("dkd", [0.8], **longer)])
    found = coupled(collected(first, second), "a", "b")
    assert [couple.title for couple in found] == ["shapes wide--narrow dkd", "shapes wide--narrow kd"]
    assert [couple.seeds for couple in found] == [(0,), (0, 1)]
    assert {couple.names for couple in found} == {("a", "b")}
    assert {couple.differing for couple in found} == {(Setting("epochs", "30", "60"),)}


def test_studies_without_a_cell_in_common_are_no_evidence():
    found = collected(of_study("a", seeds_of("kd", [0.7])), of_study("b", seeds_of("dkd", [0.7])))
    with pytest.raises(NotEnoughEvidence, match="a has shapes wide--narrow kd; b has shapes wide--narrow dkd"):
        coupled(found, "a", "b")


def test_a_study_with_two_settings_keeps_them_apart():
    def grid(name: str) -> list[Record]:
        sets = [seeds_of("kd", [0.7, 0.8], recipe_options={"epochs": epochs}) for epochs in (30, 60)]
        return of_study(name, [record for each in sets for record in each])

    found = coupled(collected(grid("a"), grid("b")), "a", "b")
    assert [couple.differing for couple in found] == [(), ()]
    assert [couple.entries[0].runs[0].config["recipe"]["epochs"] for couple in found] == [30, 60]


def test_scratch_without_a_teacher_is_compared_with_a_distilled_student():
    content = record_content("scratch", 0, 0.7, teacher=None)
    scratch = Record.model_validate(content, strict=False)
    kd = make_record("kd", 0, 0.8)
    (couple,) = coupled(collected([scratch, kd]), scratch.run_id, kd.run_id)
    assert couple.names == ("scratch", "kd")
