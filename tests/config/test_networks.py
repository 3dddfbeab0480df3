"""The networks that a name chooses, and what is said of one that no name chooses."""

import pytest
import timm

from kd_bench.config.composition import choices
from kd_bench.config.folders import check_folder
from kd_bench.config.networks import GROUPS, NETWORKS
from kd_bench.config.overrides import compose_run
from kd_bench.config.paths import CONF
from kd_bench.errors import ConfigError
from kd_bench.models import cifar  # noqa: F401 - registers the CIFAR networks


def test_the_names_are_those_of_the_cifar_networks_and_one_of_timm():
    assert sorted(NETWORKS) == sorted([*timm.list_models("*_cifar"), "resnet18"])


def test_a_name_chooses_what_a_file_would(tmp_path):
    assert set(NETWORKS) == set(choices("student")) < set(choices("teacher")) == {*NETWORKS, "ensemble", "none"}
    for group in GROUPS:
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text("defaults: [_network]\nname: wrn_40_1_cifar\n")
        from_file = compose_run([f"hydra.searchpath=[file://{tmp_path}]", f"{group}=mine"])[group]
        assert compose_run([f"{group}=wrn_40_1_cifar"])[group] == from_file
        assert compose_run([f"{group}.name=wrn_40_1_cifar"])[group] == from_file


def test_another_network_is_chosen_by_its_key():
    with pytest.raises(ConfigError) as caught:
        compose_run(["student=resnet34"])
    assert str(caught.value).endswith("; any network of `kd-bench list models` is student.name=NAME")
    assert str(caught.value).startswith("student='resnet34': no such choice; did you mean 'resnet18'")
    assert compose_run(["student.name=resnet34"]).student.name == "resnet34"


@pytest.mark.parametrize("double", ["student/vgg8_cifar", "teacher/none", "teacher/_network"])
def test_a_file_of_one_of_the_names_is_refused(tmp_path, double):
    path = tmp_path / f"{double}.yaml"
    path.parent.mkdir()
    path.write_text("")
    with pytest.raises(ConfigError, match=f"{double}.yaml: kd-bench ships a choice of that name"):
        check_folder(tmp_path)
    check_folder(CONF)
