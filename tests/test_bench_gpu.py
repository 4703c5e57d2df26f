"""The prepared script for a GPU: limits, failures, and what is kept of each."""

import json
import time

from bench.gpu import Step, run_all, steps


def test_each_step_has_its_result_or_says_why_not(tmp_path):
    out = tmp_path / "gpu.json"
    planned = [
        Step("prints", ("-c", "print('text'); print('{\"step_seconds\": 0.1}')"), 60),
        Step("writes", ("-c", "import sys; open(sys.argv[1], 'w').write('[1]'); sys.exit('halfway')", "{json}"), 60),
        Step("slow", ("-c", "import time; time.sleep(60)"), 1),
        Step("needs", ("-c", ""), 60, (str(tmp_path / "absent"),)),
    ]
    found = run_all(planned, 100, out)["steps"]
    assert json.loads(out.read_text())["steps"] == found
    assert found["prints"]["state"] == "done" and found["prints"]["result"] == {"step_seconds": 0.1}
    assert found["writes"]["state"] == "failed" and found["writes"]["why"] == "halfway"
    assert found["writes"]["result"] == [1]
    assert found["slow"]["state"] == "out of time" and "1 s" in found["slow"]["why"]
    assert found["needs"] == {"state": "left out", "why": f"there is no {tmp_path / 'absent'}"}


def test_no_step_begins_after_the_time_for_all(tmp_path):
    start = time.monotonic()
    found = run_all([Step("late", ("-c", "raise SystemExit(1)"), 60)], 0.5, tmp_path / "gpu.json")["steps"]
    assert found["late"] == {"state": "left out", "why": "no time was left"}
    assert time.monotonic() - start < 30


def test_the_steps_of_both_shapes_have_the_same_names_and_fit_their_time():
    full, tiny = steps(False, "python", "imdb"), steps(True, "python", "")
    assert [step.name for step in full] == [step.name for step in tiny]
    assert all("{json}" in step.arguments or "bench.train_step" in step.arguments for step in full[:-1])
