from train.progress import progress


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
