"""Scenario files: what is wrong is said, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.config import ClipPlacement, Scenario, WorldOptions
from sim.scenario import ScenarioError, library, load_scenario, scenario_of_clips


def test_the_library_loads() -> None:
    assert "visit" in library()
    for name in library():
        load_scenario(name)
    assert load_scenario("none").people == []
    assert load_scenario(None).people == []


def test_every_problem_of_a_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "scenario: bad\npeople:\n"
        "  - {name: a, start: {position: [0, .nan]}, behaviour: [{do: fly}]}\n"
        "  - {name: b, bodyy: body_178, start: {position: [0, 0]},\n"
        "     behaviour: [{do: walk_to, position: [1, 1], speed: 9}]}\n"
    )
    with pytest.raises(Exception) as caught:
        load_scenario(path)
    text = str(caught.value)
    for word in ("start.position", "behaviour[0]: ", "bodyy", "behaviour[0].speed"):
        assert word in text, text


@pytest.mark.parametrize(
    "people",
    [
        [{"name": "a"}],
        [{"name": "a", "behaviour": [{"do": "stand"}]}],
        [{"name": "a", "start": {"position": [0, 0]}, "behaviour": [{"do": "stand"}, {"do": "stand"}]}],
        [{"name": "a", "mocap": {"clip": "x", "start_s": -1}}],
        [{"name": "a", "mocap": {"clip": "x"}}] * 2,
    ],
)
def test_senseless_people_are_refused(people: list[dict[str, object]]) -> None:
    with pytest.raises(ScenarioError):
        load_scenario({"scenario": "x", "people": people})


def test_unknown_scenarios_name_what_there_is() -> None:
    with pytest.raises(ScenarioError, match="visit"):
        load_scenario("no_such")


def test_clips_from_the_command_line_become_people() -> None:
    scenario = scenario_of_clips([ClipPlacement(clip="humanoid3d_walk"), ClipPlacement(clip="x.bvh", loop=True)])
    assert isinstance(scenario, Scenario)
    assert [p.name for p in scenario.people] == ["person_1", "person_2"]


@pytest.mark.parametrize("options", [{"physics_hz": 100}, {"physics_hz": 2000}, {"no_such": 1}, {"watchdog": 0}])
def test_world_options_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        WorldOptions.model_validate(options)
