"""Names of datasets, sizes and splits are checked by one rule, and joined so that no two combinations share a name."""

from itertools import product

import pytest

from conf.errors import EdgewiseError
from conf.names import (
    LARGEST_SEED,
    MOST_CHARACTERS,
    MOST_JOINED,
    check_cell_names,
    checked_name,
    checked_seed,
    joined_name,
)
from infer.identity import infer_run_id


@pytest.mark.parametrize("name", ["imdb", "a", "Llama-3.2-1B", "yahoo_answers", "_x_", "0", "a" * MOST_CHARACTERS])
def test_a_name_that_can_be_kept_is_kept(name):
    assert checked_name("size.name", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "t5+lora",
        "meta-llama/Llama-3.2-1B",
        "../../evil",
        ".hidden",
        "-x",
        "x-",
        "a b",
        "é",
        "a\n",
        "a" * 65,
        None,
        3,
    ],
)
def test_a_name_that_cannot_be_kept_is_refused_with_its_key(name):
    with pytest.raises(EdgewiseError, match=r"size\.name=.*expected 1 to 64 letters"):
        checked_name("size.name", name)


def test_the_message_offers_a_name_that_is_taken():
    with pytest.raises(EdgewiseError) as error:
        checked_name("--size", "meta-llama/Llama-3.2-1B")
    offered = str(error.value).rpartition("Write --size=")[2]
    assert checked_name("--size", offered) == "meta-llama_Llama-3.2-1B"


def test_no_two_combinations_share_a_name():
    parts = ["a", "b", "a-b", "b-c", "a--b", "c", "a-b-c", "s0", "b-s0"]
    combinations = [(x, y) for x, y in product(parts, parts)] + [(x, y, z) for x, y, z in product(parts, parts, parts)]
    names = {joined_name("scores", *combination) for combination in combinations}
    assert len(names) == len(combinations)
    assert joined_name("scores", "imdb", "small", "s0", "test") == "scores-imdb-small-s0-test"


@pytest.mark.parametrize("seed", [0, 1, LARGEST_SEED])
def test_a_seed_is_kept(seed):
    assert checked_seed("seed", seed) == seed


@pytest.mark.parametrize(
    "seed", [-1, LARGEST_SEED + 1, 2**32, 2**63, 9007199254740993, True, "010", "", "-0", "9" * 5000, 1.0, None]
)
def test_a_seed_that_cannot_be_told_apart_is_refused(seed):
    with pytest.raises(EdgewiseError, match=r"seed=.*expected a whole number from 0 to 2,147,483,647"):
        checked_seed("seed", seed)


def test_a_seed_may_come_as_its_digits():
    assert checked_seed("seed", "2147483647") == LARGEST_SEED and checked_seed("seed", "0") == 0


def test_joined_names_can_be_joined_again():
    cell = joined_name("a-b", "c", "s0")
    assert f"scores-{cell}-test" == joined_name("scores", "a-b", "c", "s0", "test") == "scores-a--b-c-s0-test"


def test_names_that_are_too_long_together_are_refused():
    check_cell_names("d" * 50, "s" * 30, "t" * 14)
    with pytest.raises(EdgewiseError, match=r"would have 148 characters in its name, expected at most 128"):
        check_cell_names("d" * 60, "s" * 60, "test-x")


def test_names_that_pass_give_run_ids_that_the_store_takes(compose, tracker):
    """The run that scores has the longest id: it was refused when the cell was trained already."""
    given = ["dataset=demo", "size=nano", f"size.name={'-'.join('s' * 24)}", f"seed={LARGEST_SEED}"]  # a hyphen is two
    run_id = infer_run_id(compose(*given, f"infer.split={'t' * 21}"), "0" * 32)
    assert len(run_id) == MOST_JOINED
    tracker.start_run(run_id, job_type="infer", config={}).finish()
    with pytest.raises(EdgewiseError, match=r"the run infer-demo-s--s.* would have 129 characters"):
        compose(*given, f"infer.split={'t' * 22}")
