"""The page of claims: what is committed is what the committed records give."""

from pathlib import Path

from support.records import save_records, seeds_of

from kd_bench.config.paths import CHECKOUT
from kd_bench.deploy.claims import PAGE, RECORDS, SAID, claims_page
from kd_bench.deploy.policy import read_policy, shipped_policies


def test_the_committed_page_is_rebuilt_byte_for_byte():
    assert claims_page(CHECKOUT / RECORDS).encode("utf-8") == (CHECKOUT / PAGE).read_bytes()


def test_every_shipped_policy_of_rules_is_a_claim():
    assert set(SAID) == {name for name in shipped_policies() if read_policy(name).policy.rules}


def section(page: str, title: str) -> list[str]:
    return next(part for part in page.split("\n## ") if part.startswith(title)).splitlines()


def test_a_claim_that_fails_says_so(tmp_path: Path):
    """Of a teacher with 0.8: one method holds at 95 %, one is not shown, one fails, one has too few seeds."""
    runs = [
        *seeds_of("kd", [0.79, 0.791, 0.792]),
        *seeds_of("fitnet", [0.75, 0.77, 0.79]),
        *seeds_of("at", [0.70, 0.71, 0.72]),
        *seeds_of("rkd", [0.79]),
        *seeds_of("scratch", [0.7, 0.7, 0.71], teacher=None),
    ]
    save_records(runs, tmp_path)
    page = claims_page(tmp_path)
    rows = [line for line in section(page, "The student keeps at least 95") if line.startswith("| shapes")]
    words = {line.split(" | ")[1]: line.split(" | ")[3].partition(":")[0] for line in rows}
    assert words == {"kd": "holds", "fitnet": "not shown", "at": "fails", "rkd": "insufficient evidence"}
    overview = "\n".join(section(page, "Overview"))
    assert "| The student keeps at least 95 % of its teacher's accuracy. | 1 | 1 | 1 | 1 | 0 |" in overview
    assert "| A prediction of the student costs a fifth of one of its teacher. | 0 | 0 | 0 | 0 | 4 |" in overview
