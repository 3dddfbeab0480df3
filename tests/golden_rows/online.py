"""Golden rows of networks that learn together or in chains: no reference vector covers them."""

from .given import Row

ROWS: dict[str, Row] = {}

ORACLES: dict[str, str] = {
    "dgkd": "tests/methods/test_assistants.py::test_dgkd_is_the_sum_of_kl_over_the_teachers_that_stay",
    "dml": "tests/methods/test_online.py::test_dml_is_a_kl_in_either_direction",
    "kdcl": "tests/methods/test_online.py::test_kdcl_learns_from_the_smaller_logits",
    "one": "tests/methods/test_online.py::test_one_is_a_cross_entropy_for_all_and_a_kl_from_the_gated_ensemble",
    "takd": "tests/methods/test_assistants.py::test_takd_is_kd_from_the_last_assistant",
}
