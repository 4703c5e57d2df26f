# `just` alone lists the recipes. Every recipe sets up what it needs.

set positional-arguments  # "$@" keeps an override like 'seed=range(5)' in one piece

python := ".venv/bin/python"

# list the recipes
[private]
default:
    @just --list --unsorted

# make .venv from the hash-pinned requirements.lock (again when the lock has changed)
setup:
    #!/usr/bin/env sh
    set -eu
    if [ .venv/.locked -nt requirements.lock ]; then exit 0; fi
    uv venv --quiet --allow-existing .venv
    uv pip sync --quiet --python .venv --require-hashes requirements.lock
    touch .venv/.locked

# the main job offline, in minutes: train 2 sizes × 5 seeds on built-in data, score, make tables and a report
demo *OVERRIDES: setup
    {{ python }} -m sweeps sweep=demo "$@"

# fine-tune one cell: just train dataset=demo size=nano seed=0
train *OVERRIDES: setup
    {{ python }} -m train "$@"

# score a split by a trained cell: just infer dataset=demo size=nano seed=0
infer *OVERRIDES: setup
    {{ python }} -m infer "$@"

# tables, figures and report of a dataset's scores: just metrics dataset=demo
metrics *OVERRIDES: setup
    {{ python }} -m metrics "$@"

# a grid of cells, then its tables: just sweep -m dataset=demo size=nano,micro 'seed=range(5)'
sweep *OVERRIDES: setup
    {{ python }} -m sweeps "$@"

# the grid as a table: done, running, failed, missing
status *FLAGS: setup
    @{{ python }} -m sweeps.status "$@"

# the tests, two at a time
test *FLAGS: setup
    {{ python }} -m pytest -n 2 --dist loadfile "$@"

# the tests on real text and the long ones
test-slow *FLAGS: setup
    {{ python }} -m pytest -m slow "$@"

# one test against a real W&B server; needs WANDB_API_KEY
test-wandb *FLAGS: setup
    : "${WANDB_API_KEY:?set it to the key of an account that the test may use}"
    EDGEWISE_TEST_WANDB=1 {{ python }} -m pytest -m slow tests/test_tracking_real_wandb.py "$@"

# ruff and mypy
lint: setup
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy

# put the code in ruff's format
fmt: setup
    .venv/bin/ruff check --fix .
    .venv/bin/ruff format .

# measure: the demo, a finished sweep, the commands that must be instant, the metrics on a large grid
bench *FLAGS: setup
    {{ python }} -m bench.commands "$@"

# training and label scoring beside Hugging Face's T5 in torch: just bench-torch dataset=imdb size=small train.batch_size=32
bench-torch *OVERRIDES: setup
    #!/usr/bin/env sh
    set -eu
    [ -x bench/.venv/bin/python ] || python3 -m venv bench/.venv
    bench/.venv/bin/pip install --quiet -r bench/requirements.txt
    {{ python }} -m bench "$@"

# both ways of attention, side by side
bench-attention: setup
    {{ python }} -m bench.attention

# the README's picture of the demo's report (needs Chromium and a finished demo)
screenshot: setup
    {{ python }} -m bench.screenshot out/demo/report/index.html docs/report.png

# docs/results.md again: DATA holds trec/, sst2/ and multi30k/, VOCABULARY is T5's spiece.model (two hours on two cores)
results DATA VOCABULARY: setup
    {{ python }} -m sweeps -m experiment=trec_scratch dataset.path="$1/trec" tokenizer.path="$2" size=nano,micro 'seed=range(5)'
    {{ python }} -m sweeps -m experiment=sst2_scratch dataset.path="$1/sst2" tokenizer.path="$2" size=nano,micro 'seed=range(5)'
    {{ python }} -m sweeps -m experiment=multi30k_scratch dataset.path="$1/multi30k" size=micro,tiny 'seed=range(3)'
    {{ python }} -m bench.results_page docs out/trec out/sst2 out/multi30k

# docs/scale.md's tables again, by the TPU's own compiler, in a virtual environment of their own (an hour on two cores)
scale *FLAGS:
    #!/usr/bin/env sh
    set -eu
    uv venv --quiet --allow-existing .venv-tpu
    uv pip install --quiet --python .venv-tpu --require-hashes -r requirements.lock
    uv pip install --quiet --python .venv-tpu -r pyproject.toml --extra tpu
    .venv-tpu/bin/python -m bench.scale_page "$@"

# pin the newest versions that pyproject.toml allows
lock:
    uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet --upgrade --output-file requirements.lock
