"""The fault matrix: every row of faults.yaml injected into the moving twin."""

from __future__ import annotations

from pathlib import Path

import pytest

from cell.faults.bench import Bench
from cell.faults.catalogue import Catalogue, Fault, load_catalogue
from cell.faults.verdict import judge
from cell.options import RunOptions
from cell.yamlfile import FileErrors, load_yaml

ROOT = Path(__file__).parents[2]
ROWS = load_catalogue(Path(__file__).parent / "faults.yaml")
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    # Every fault comes while the first parts are on their way; what would follow only has to be planned.
    settings = {"varieties": "cube_red,block_yellow"}
    options = RunOptions(recipe=ROOT / "recipes/library/kitting.yaml", settings=settings, quiet=True)
    return Bench(options, tmp_path_factory.mktemp("faults"))


def test_the_matrix_is_complete() -> None:
    """At least 45 rows, and every interface of the safety path among them."""
    assert len(ROWS) >= 45
    where = {row.where for row in ROWS}
    for place in ("perception -> supervisor", "robot node -> supervisor", "supervisor -> robot node", "drives"):
        assert place in where


def _params() -> list[object]:
    """In four groups, so that two processes share them."""
    group = pytest.mark.xdist_group
    return [pytest.param(row, id=row.id, marks=group(f"faults_{row.perception}_{n % 2}")) for n, row in enumerate(ROWS)]


@pytest.mark.requirement("SAF-02")
@pytest.mark.parametrize("row", _params())
def test_a_fault_is_handled_within_its_bound(bench: Bench, row: Fault) -> None:
    verdict = bench.run(row)
    assert not verdict.problems, (verdict.reaction, verdict.to_standstill, verdict.bound, verdict.codes)


@pytest.mark.xdist_group("faults_surface_0")
def test_the_bench_sees_a_fault_that_gets_through(bench: Bench) -> None:
    """A row whose expectation is wrong fails: the judgement is not for show."""
    stops = next(row for row in ROWS if row.id == "lease-missing")
    harmless = next(row for row in ROWS if row.id == "motion-missing")
    assert bench.run(stops.model_copy(update={"expect": "unharmed", "codes": []})).problems
    assert bench.run(stops.model_copy(update={"within": [], "detect": 0.0, "codes": ["emergency_stop"]})).problems
    assert bench.run(harmless.model_copy(update={"expect": "latched", "codes": ["lease_lost"]})).problems


@pytest.mark.xdist_group("faults_surface_0")
def test_a_faster_run_is_a_problem(bench: Bench) -> None:
    """Judged against a reference with lower limits the same trace is too fast."""
    row = next(row for row in ROWS if row.id == "motion-missing")
    trace = bench.trace_of(row)
    slower = trace._replace(moments=[m._replace(limit=m.limit - 0.2, rate=m.rate - 0.2) for m in trace.moments])
    verdict = judge(row, trace, slower, bench.session_of(row))
    assert any("above what was permitted" in problem for problem in verdict.problems)


def test_a_row_with_two_changes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(
        "faults:\n"
        "  - {id: both, where: x, what: y, message: {topic: t, drop: true, freeze: true}, expect: unharmed}\n"
        "  - {id: none, where: x, what: y, expect: unharmed}\n"
        "  - {id: no-codes, where: x, what: y, twin: {state_nan: 1}, expect: latched}\n",
        encoding="utf-8",
    )
    with pytest.raises(FileErrors) as caught:
        load_yaml(file, Catalogue)
    assert [error.line for error in caught.value.errors] == [2, 3, 4]
