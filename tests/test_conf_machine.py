"""What this process may use, and how its threads take turns."""

import sys

import pytest

from conf.machine import cores, quick_turns


def test_there_is_a_core():
    assert cores() >= 1


def test_quick_turns_end_as_they_began():
    before = sys.getswitchinterval()
    with pytest.raises(KeyError), quick_turns():
        assert sys.getswitchinterval() < before
        raise KeyError
    assert sys.getswitchinterval() == before
