"""Published combinations: each is its parts as they are, with the labels counted once."""

import pytest
from omegaconf import OmegaConf

from kd_bench.config.paths import CONF

COMBINED = "kd_bench.methods.combined.Combined"
COMBINATIONS = sorted(
    path.stem for path in (CONF / "method").glob("*.yaml") if OmegaConf.load(path).get("_target_") == COMBINED
)


@pytest.mark.parametrize("choice", COMBINATIONS)
def test_a_combination_takes_its_parts_over(compose, choice):
    terms = OmegaConf.to_container(compose(f"method={choice}").method)["terms"]
    assert sum(part["ce_weight"] for part in terms.values()) == 1
    for name, part in terms.items():
        alone = OmegaConf.to_container(OmegaConf.load(CONF / "method" / f"{name}.yaml"))
        changed = {key for key in alone if part[key] != alone[key]}
        assert part.keys() == alone.keys()
        assert changed <= {"ce_weight", "kd_weight"}
        assert name != "kd" or part["kd_weight"] == 1  # RepDistiller, beside another method
