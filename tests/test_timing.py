"""The intervals of an election, and their bounds."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from raftlite.errors import ConfigError
from raftlite.timing import Timing


def test_the_defaults_are_valid():
    """A program that sets nothing gets a tenth of a second, and a second."""
    timing = Timing()
    assert (timing.heartbeat_interval, timing.election_timeout, timing.message_timeout) == (0.1, 1.0, 0.5)
    assert (timing.clock_drift, timing.trust_refused) == (0.05, True)


def test_fast_is_what_the_paper_measured():
    """Paper, 9.3: "We recommend using a conservative election timeout such as 150-300ms" """
    assert Timing.fast() == Timing(heartbeat_interval=0.05, election_timeout=0.15)


DURATIONS = ["heartbeat_interval", "election_timeout", "message_timeout"]


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("value", [0, -1.0, 0.0009, 86_400.5, float("inf"), float("nan"), "1", None, True, 1j])
def test_a_duration_out_of_bounds_is_refused(name, value):
    """The message names the setting, the value and the bound."""
    with pytest.raises(ConfigError) as error:
        Timing(**{name: value})
    assert f"{name} is {value!r}" in str(error.value)
    assert "from 0.001 to 86400 seconds" in str(error.value)


def test_the_bounds_themselves_are_allowed():
    """A millisecond, and a day."""
    shortest = Timing(heartbeat_interval=0.001, election_timeout=0.002, message_timeout=0.001)
    longest = Timing(heartbeat_interval=43_200.0, election_timeout=86_400, message_timeout=86_400.0)
    assert (shortest.heartbeat_interval, longest.election_timeout) == (0.001, 86_400)


@pytest.mark.parametrize("value", [-0.01, 0.26, 1.0, float("nan"), "0.1", None, False])
def test_a_clock_drift_out_of_bounds_is_refused(value):
    """Clocks that differ by more are broken; a lease that is shortened by more is none."""
    with pytest.raises(ConfigError, match=r"clock_drift is .*, but must be a number from 0 to 0\.25"):
        Timing(clock_drift=value)


@pytest.mark.parametrize("value", [0, 0.0, 0.25])
def test_a_clock_drift_may_be_nothing_or_a_quarter(value):
    """0.0 says that the clocks run alike."""
    assert Timing(clock_drift=value).clock_drift == value


def test_one_lost_heartbeat_must_not_start_an_election():
    """Paper, 5.6: the election timeout has to be much longer than what it waits for."""
    assert Timing(heartbeat_interval=0.5, election_timeout=1.0).heartbeat_interval == 0.5
    with pytest.raises(ConfigError, match=r"heartbeat_interval is 0\.6, .* half of election_timeout \(1\.0\)"):
        Timing(heartbeat_interval=0.6, election_timeout=1.0)


@pytest.mark.parametrize("value", [0, 1, None, "yes"])
def test_trust_in_a_refused_connection_is_true_or_false(value):
    """Anything else is a mistake."""
    with pytest.raises(ConfigError, match="trust_refused"):
        Timing(trust_refused=value)
    assert Timing(trust_refused=False).trust_refused is False


def test_a_config_error_is_a_value_error():
    """A caller need not know raftlite's own errors."""
    assert issubclass(ConfigError, ValueError)


def test_timing_is_frozen():
    """What was checked on construction stays as it was."""
    for field in fields(Timing):
        with pytest.raises(FrozenInstanceError):
            setattr(Timing(), field.name, -1.0)
