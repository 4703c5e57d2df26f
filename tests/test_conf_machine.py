"""What this process may use, and how its threads take turns."""

import sys

from conf.machine import cores, quick_turns


def test_there_is_a_core():
    assert cores() >= 1


def test_quick_turns_end_as_they_began():
    before = sys.getswitchinterval()
    with quick_turns():
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before
