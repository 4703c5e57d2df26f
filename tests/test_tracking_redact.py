"""What a run says of itself leaves the machine without paths and secrets, and else as it was."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.redact import redacted


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("tracking.root=/tmp/x/runs metrics.out=/a", "tracking.root=…/runs metrics.out=…/a"),
        ("'metrics.scores=/a/b/*.parquet'", "'metrics.scores=…/*.parquet'"),
        ('  File "/home/me/w/train/loop.py", line 3', '  File "…/loop.py", line 3'),
        ("~/data/imdb", "…/imdb"),
        (r"C:\Users\me\data", "…/data"),
        ("/data", "…/data"),
        # no paths of this machine
        ("https://host/a/b", "https://host/a/b"),
        ("gs://bucket/t5/small", "gs://bucket/t5/small"),
        ("google-t5/t5-small", "google-t5/t5-small"),
        ("yes/no, 1 / 2, a/b/c", "yes/no, 1 / 2, a/b/c"),
        ("question: {question} context: {a}/{b}", "question: {question} context: {a}/{b}"),
        ("../data", "../data"),
    ],
)
def test_paths_are_cut_to_their_last_part(given, expected):
    assert redacted(given) == expected
    assert redacted({"a": [given, {"b": given}]}) == {"a": [expected, {"b": expected}]}


def test_secrets_of_the_environment_and_under_telling_keys_are_replaced(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "abcdef123456")
    monkeypatch.setenv("SHORT_TOKEN", "no")
    value = {"command": "x=abcdef123456 no", "api_key": "k", "hub": {"access_token": "t"}, "password": "p"}
    assert redacted(value) == {
        "command": "x=[secret] no",
        "api_key": "[secret]",
        "hub": {"access_token": "[secret]"},
        "password": "[secret]",
    }


def test_credentials_in_addresses_and_on_command_lines_are_replaced():
    value = {"base_url": "https://me:hunter2@host/api", "command": "-m hydra.job.env_set.HF_TOKEN=hunter2 seed=0,1"}
    assert redacted(value) == {
        "base_url": "https://[secret]@host/api",
        "command": "-m hydra.job.env_set.HF_TOKEN=[secret] seed=0,1",
    }


def test_the_keys_of_our_own_configs_stay():
    config = {
        "tokenizer": {"vocabulary_size": 1, "sha256": "ab"},
        "label_tokens": [1],
        "token_accuracy": 0.5,
        "key": "x",
    }
    assert redacted(config) == config


words = st.text(string.ascii_letters + string.digits + "-_.", min_size=1, max_size=8)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
        lambda inner: st.lists(inner) | st.dictionaries(words.map(lambda w: f"k{w}"), inner),
    )
)
def test_what_has_no_path_in_it_stays_as_it_is(value):
    if not any(word in json.dumps(value).lower() for word in ("token", "key", "secret", "password")):
        assert redacted(value) == value


@given(st.lists(words, min_size=2, max_size=6))
def test_no_directory_of_an_absolute_path_survives(parts):
    assert redacted("/" + "/".join(parts)) == f"…/{parts[-1]}"
