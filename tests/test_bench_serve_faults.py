"""Faults of real servers in small: processes on loopback, a switcher of the smallest sizes with random weights."""

import re
import shutil

import pytest

from bench.serve import faults
from bench.serve.faults import Setting
from bench.serve.models import make_work

pytestmark = pytest.mark.slow


def installed(program):
    """A mark that skips a test where Debian's program isn't there."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    return pytest.mark.skipif(found is None, reason=f"needs {program}")


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    return Setting(make_work(folder, texts=200, sizes=("nano", "micro")), folder, 4.0, "schemathesis")


@installed("nginx")
def test_a_rolling_restart_behind_nginx_loses_no_request(setting):
    [finding] = faults.rolling_restarts(setting, 2)
    assert finding.reached, finding


def test_an_overload_takes_no_memory_and_leaves_nothing_behind(setting):
    goodput, memory, _ = faults.overload(setting, 100)
    assert memory.reached, memory
    assert int(re.search(r"goodput (\d+) %", goodput.measured)[1]) > 20, goodput


@installed("slowhttptest")
def test_dripping_connections_are_closed(setting):
    headers, _, bodies, _ = faults.slow_clients(setting, 50)
    assert headers.reached and bodies.reached, (headers, bodies)


@installed("promtool")
def test_promtool_accepts_the_metrics(setting):
    [finding] = faults.prometheus(setting, 1)
    assert finding.reached, finding
