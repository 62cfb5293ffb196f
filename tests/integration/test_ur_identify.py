"""Identification of the UR driver in real time: the emulator's look-ahead is found, and what the driver says holds."""

from __future__ import annotations

import json

import pytest

from cell.commands.identify import Asked, run_identify
from cell.exits import OK


@pytest.mark.live
@pytest.mark.timeout(300)
def test_the_look_ahead_of_servoj_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(None, "ur", "{}", "{}", [2, 6], 3.0, 1, None, False, True, None, True)
    assert run_identify(asked) == OK
    result = json.loads(capsys.readouterr().out)
    assert result["simulation_only"] and result["claimed"] == 0.06
    for joint in result["joints"]:
        trial = joint["trials"][0]
        assert 0.03 <= trial["following"] <= 0.045, "30 ms of look-ahead and the way there and back"
        assert trial["gain"][0] > 0.97 > trial["gain"][-1], "a low pass"
    assert 0.03 <= result["delay"] <= 0.06
