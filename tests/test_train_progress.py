import pytest

from train.progress import LINE_EVERY, Meter, progress


class Clock:
    """A clock that the test sets."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def meter_of(total, clock):
    return Meter("cell", total, 0, "steps", None, clock=clock)


def test_two_loops_at_one_time_share_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    for _ in range(2):  # the second time as the first
        with progress("one", 3, "steps") as one:
            with progress("another", 2, "steps") as another:
                one.advance()
                another.advance(2)
            one.advance(2, note="loss 1.5")
        said = capsys.readouterr().err
        assert "one" in said and "another" in said


def test_time_left_does_not_count_what_was_compiled(clock):
    """The first batch of each shape takes 60 s to compile, every other step 0.5 s; of 100 steps 2 have a new shape."""
    meter = meter_of(100, clock)
    assert meter.seconds_left is None
    clock.now += 60
    meter.advance(counted=False)
    assert meter.seconds_left is None, "a step that was compiled says nothing of the others"
    for step in range(2, 21):
        clock.now += 0.5
        meter.advance()
        assert meter.seconds_left == pytest.approx(0.5 * (100 - step))
    clock.now += 60
    meter.advance(counted=False)
    assert meter.seconds_left == pytest.approx(0.5 * 79)


def test_a_wait_for_earlier_steps_is_theirs_and_an_evaluation_s_compilation_is_nobody_s(clock):
    meter = meter_of(10, clock)
    clock.now += 30  # from the start to the first step's end: the batches' maker, the compilation
    meter.advance(0)
    meter.advance(counted=False)
    meter.advance()  # sent to the device, at once
    meter.advance()
    clock.now += 4  # waited for
    meter.advance(0)
    assert meter.seconds_left == pytest.approx(2 * 7)
    clock.now += 50  # the first evaluation
    meter.advance(0, counted=False)
    assert meter.seconds_left == pytest.approx(2 * 7)
    clock.now += 2  # a later one belongs to the steps: more of them will come
    meter.advance(0)
    assert meter.seconds_left == pytest.approx(3 * 7)


def test_a_resumed_loop_measures_its_own_steps(clock):
    meter = Meter("cell", 1000, 900, "steps", None, clock=clock)
    meter.advance(counted=False)
    clock.now += 3
    meter.advance()
    assert meter.seconds_left == pytest.approx(3 * 98)


def test_lines_say_that_it_compiles_until_a_rate_is_known(clock, capsys):
    meter = meter_of(7201, clock)
    for counted in (False, True):
        clock.now += LINE_EVERY + 1
        meter.advance(counted=counted)
    clock.now += 1
    meter.advance(note="loss 1.5")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "cell: 1/7,201 steps, compiling"
    assert second == "cell: 2/7,201 steps, 0.1 steps/s, 31:59:44 left"
    clock.now += LINE_EVERY + 1
    meter.advance(0)
    assert capsys.readouterr().err == "", "a line tells of a finished step"
    meter.advance(note="loss 1.5")
    assert capsys.readouterr().err.endswith(" left, loss 1.5\n")


def test_a_line_that_stays_names_the_loop_and_is_text_not_markup(monkeypatch, capsys):
    meter_of(3, Clock()).print_line("step 2 [bold]of[/] 3")
    assert capsys.readouterr().err == "cell: step 2 [bold]of[/] 3\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("one", 3, "steps") as shown:
        shown.print_line("step 2 [bold]of[/] 3")
    assert "one: step 2 [bold]of[/] 3" in capsys.readouterr().err
    with progress("hidden", 3, "steps", show=False) as hidden:
        hidden.print_line("not shown")
    assert capsys.readouterr().err == ""
