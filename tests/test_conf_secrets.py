"""Secrets typed on a command line: not in what Hydra and the store keep of it, which its owner alone can read."""

import os
import subprocess
import sys

import pytest
import yaml

from conf.secrets import without_secrets
from tests.support import REPO
from tracking.store import Store

SECRET = "hunter2secret"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"hydra.job.env_set.HF_TOKEN={SECRET}", "hydra.job.env_set.HF_TOKEN=[secret]"),
        (f"train -m '+a.api_key={SECRET}' seed=0", "train -m '+a.api_key=[secret]' seed=0"),
        (f"--password='{SECRET} x' b=1", "--password=[secret] b=1"),
        (f"{{WANDB_API_KEY={SECRET},b=1}}", "{WANDB_API_KEY=[secret],b=1}"),
        (f"tracking.base_url=https://me:{SECRET}@host/a", "tracking.base_url=https://[secret]@host/a"),
        (
            "tokenizer=t5 infer.batch_tokens=4096 key=x a_tokens=1",
            "tokenizer=t5 infer.batch_tokens=4096 key=x a_tokens=1",
        ),
        ("mail me@host, https://host/@me", "mail me@host, https://host/@me"),
    ],
)
def test_secrets_are_replaced_and_the_rest_stays(given, expected):
    assert without_secrets({"a": [given]}) == {"a": [expected]}


def test_texts_under_keys_of_secrets_are_replaced():
    value = {"HF_TOKEN": SECRET, "x": {"api_key": SECRET, "private-key": SECRET}, "token": 3, "tokenizer": "t5"}
    assert without_secrets(value) == {
        "HF_TOKEN": "[secret]", "x": {"api_key": "[secret]", "private-key": "[secret]"}, "token": 3, "tokenizer": "t5"
    }  # fmt: skip


def test_long_texts_take_no_long_time():
    for text in ("-" * 100_000, "token" * 20_000, "a_" * 50_000, "://" * 30_000):
        assert without_secrets(text) == text


def test_the_store_keeps_no_secret_and_is_readable_by_its_owner_alone(tmp_path):
    before = os.umask(0o022)
    try:
        store = Store(tmp_path / "runs")
        config = {"command": f"-m hydra.job.env_set.HF_TOKEN={SECRET}", "hub": {"access_token": SECRET}}
        with store.start_run("sweep", job_type="sweep", config=config) as run:
            run.log({"loss": 1.0}, 0)
        assert SECRET not in str(store.run("sweep").config) and "HF_TOKEN=[secret]" in str(store.run("sweep").config)
        for path in store.root.iterdir():
            if path.name.startswith("store.db"):
                assert path.stat().st_mode & 0o777 == 0o600, path
                assert SECRET.encode() not in path.read_bytes()
        store.close()
    finally:
        os.umask(before)


def test_a_multirun_keeps_no_secret_and_its_record_is_readable_by_its_owner_alone(tmp_path):
    overrides = [f"metrics.scores={tmp_path}/none.parquet", f"hydra.sweep.dir={tmp_path}/multirun", "seed=0,1"]
    command = [sys.executable, "-m", "metrics", "-m", *overrides, f"+hydra.job.env_set.HF_TOKEN={SECRET}"]
    subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    record = tmp_path / "multirun/multirun.yaml"
    assert record.stat().st_mode & 0o777 == 0o600 and record.parent.stat().st_mode & 0o777 == 0o700
    kept = yaml.safe_load(record.read_text())
    assert kept["hydra"]["job"]["env_set"]["HF_TOKEN"] == "[secret]" and kept["seed"] == 0
    assert SECRET not in record.read_text()


def test_a_multirun_that_does_not_start_leaves_no_record(tmp_path):
    given = ["seed=0,1", "sweeps.list=true", f"hydra.sweep.dir={tmp_path}/multirun", f"tracking.root={tmp_path}/runs"]
    subprocess.run([sys.executable, "-m", "sweeps", "-m", *given], cwd=REPO, capture_output=True, check=True)
    assert not (tmp_path / "multirun").exists()
