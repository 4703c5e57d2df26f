# `just` alone lists the recipes, by what they are for. Every recipe sets up what it needs.

set positional-arguments  # "$@" keeps an override like 'seed=range(5)' in one piece

python := ".venv/bin/python"

# list the recipes
[private]
default:
    @just --list --unsorted

# the main job offline, in minutes: 2 sizes × 5 seeds on built-in data, and their report
[group('use')]
demo *OVERRIDES: setup
    {{ python }} -m sweeps sweep=demo "$@"

# fine-tune one cell: just train dataset=demo size=nano seed=0
[group('use')]
train *OVERRIDES: setup
    {{ python }} -m train "$@"

# score a split by a trained cell: just infer dataset=demo size=nano seed=0
[group('use')]
infer *OVERRIDES: setup
    {{ python }} -m infer "$@"

# a switcher from scores: just switcher dataset=demo switcher.goal=match
[group('use')]
switcher *OVERRIDES: setup
    {{ python }} -m infer.switcher "$@"

# answer a file's rows: just apply switcher.ref=REF apply.input=F apply.output=F
[group('use')]
apply *OVERRIDES: setup
    {{ python }} -m infer.apply "$@"

# a switcher over HTTP: just serve REF (without REF the demo's)
[group('use')]
serve *ARGS: setup
    #!/usr/bin/env sh
    set -eu
    case "${1:-}" in
    "" | *=*)
        demo=switcher-demo-nano-micro
        {{ python }} -m tracking show $demo > /dev/null 2>&1 ||
            {{ python }} -m infer.switcher dataset=demo switcher.goal=budget switcher.budget=0.2
        set -- $demo:latest "$@"
        ;;
    esac
    ref=$1
    shift
    exec {{ python }} -m infer.serve switcher.ref="$ref" "$@"

# tables, figures and report of a dataset's scores: just metrics dataset=demo
[group('use')]
metrics *OVERRIDES: setup
    {{ python }} -m metrics "$@"

# a grid of cells, then its report: just sweep -m dataset=demo size=nano,micro seed=0,1
[group('use')]
sweep *OVERRIDES: setup
    {{ python }} -m sweeps "$@"

# the grid as a table: done, running, failed, missing
[group('use')]
status *FLAGS: setup
    @{{ python }} -m sweeps.status "$@"

# make .venv from requirements.lock (again when the lock has changed)
[group('work on it')]
setup:
    #!/usr/bin/env sh
    set -eu
    if [ .venv/.locked -nt requirements.lock ]; then exit 0; fi
    uv venv --quiet --allow-existing .venv
    uv pip sync --quiet --python .venv --require-hashes requirements.lock
    touch .venv/.locked

# the tests, two at a time
[group('work on it')]
test *FLAGS: setup
    {{ python }} -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"

# the tests on real text and the long ones
[group('work on it')]
test-slow *FLAGS: setup
    {{ python }} -m pytest -m slow --timeout 7200 "$@"

# one test against a real W&B server; needs WANDB_API_KEY
[group('work on it')]
test-wandb *FLAGS: setup
    : "${WANDB_API_KEY:?set it to the key of an account that the test may use}"
    EDGEWISE_TEST_WANDB=1 {{ python }} -m pytest -m slow tests/test_tracking_real_wandb.py "$@"

# ruff and mypy
[group('work on it')]
lint: setup
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy

# put the code in ruff's format
[group('work on it')]
fmt: setup
    .venv/bin/ruff check --fix .
    .venv/bin/ruff format .

# the documentation site, out/site/index.html, from docs/ and the docstrings
[group('work on it')]
docs *FLAGS:
    #!/usr/bin/env sh
    set -eu
    if ! [ .venv-docs/.locked -nt requirements-docs.lock ]; then
        uv venv --quiet --allow-existing .venv-docs
        uv pip sync --quiet --python .venv-docs --require-hashes requirements-docs.lock
        touch .venv-docs/.locked
    fi
    .venv-docs/bin/sphinx-build --jobs 2 --fail-on-warning --quiet --builder html "$@" docs out/site
    echo out/site/index.html

# how long the demo, the instant commands and the metrics take, beside their limits
[group('measure')]
bench *FLAGS: setup
    {{ python }} -m bench.commands "$@"

# how often the tables' intervals hold the truth, into docs/metrics.md
[group('measure')]
calibrate *FLAGS: setup
    {{ python }} -m bench.calibrate "$@"

# how often least shares and certificates hold what they claim, into docs/metrics.md
[group('measure')]
calibrate-decisions *FLAGS: setup
    {{ python }} -m bench.decision_coverage "$@"

# how often a switcher's promise is broken, choice included, into docs/serving.md
[group('measure')]
bench-policies *FLAGS: setup
    {{ python }} -m bench.policies "$@"

# how often the watch raises a false alarm and how soon a true one, into docs/serving.md
[group('measure')]
bench-watch *FLAGS: setup
    {{ python }} -m bench.watch "$@"

# beside Hugging Face's T5 in torch: just bench-torch dataset=imdb size=small
[group('measure')]
bench-torch *OVERRIDES: setup
    #!/usr/bin/env sh
    set -eu
    [ -x bench/.venv/bin/python ] || python3 -m venv bench/.venv
    bench/.venv/bin/pip install --quiet -r bench/requirements.txt
    {{ python }} -m bench "$@"

# kills, full disks, damaged files: docs/reliability.md's figures again (20 minutes)
[group('measure')]
torture *CAMPAIGNS: setup
    {{ python }} -m bench.torture --page docs/reliability.md "$@"

# the server beside LitServe and Ray Serve in torch, into docs/serving.md (ten minutes)
[group('measure')]
bench-serve *FLAGS: setup
    #!/usr/bin/env sh
    set -eu
    theirs=bench/serve/theirs
    [ -x $theirs/.venv/bin/python ] || python3 -m venv $theirs/.venv
    $theirs/.venv/bin/pip install --quiet -r $theirs/requirements.txt
    {{ python }} -m bench.serve --page docs/serving.md "$@"

# restarts, overload, slow clients of the server, into docs/serving.md (half an hour)
[group('measure')]
bench-faults *FLAGS: setup
    #!/usr/bin/env sh
    set -eu
    fuzzing=bench/serve/.venv
    [ -x $fuzzing/bin/schemathesis ] || { python3 -m venv $fuzzing; $fuzzing/bin/pip install --quiet schemathesis; }
    {{ python }} -m bench.serve.faults --schemathesis $fuzzing/bin/schemathesis --page docs/serving.md "$@"

# both ways of attention, side by side
[group('measure')]
bench-attention: setup
    {{ python }} -m bench.attention

# tokens a second of decoding beside the memory bound: just bench-decoding size=small
[group('measure')]
bench-decoding *OVERRIDES: setup
    {{ python }} -m bench.decoding "$@"

# on a GPU, in ten minutes: steps, torch, decoding, the demo, into out/gpu.json
[group('measure')]
bench-gpu *FLAGS: setup
    {{ python }} -m bench.gpu "$@"

# what GPUs' compiler says, without a GPU, into docs/performance.md (an hour)
[group('measure')]
gpu-page *FLAGS:
    #!/usr/bin/env sh
    set -eu
    uv venv --quiet --allow-existing .venv-cuda
    uv pip install --quiet --python .venv-cuda --require-hashes -r requirements.lock
    uv pip install --quiet --python .venv-cuda "jax[cuda12]==$(.venv-cuda/bin/python -c 'import jax; print(jax.__version__)')"
    .venv-cuda/bin/python -m bench.attention_on_gpu --compile h200 a100 --page docs/performance.md
    .venv-cuda/bin/python -m bench.gpu_page "$@"

# docs/first-run.md again: a newcomer's session in a fresh clone (ten minutes)
[group('measure')]
first-run: setup
    {{ python }} -m bench.first_run

# docs/report.png again, of a finished demo (needs Chromium)
[group('measure')]
screenshot: setup
    {{ python }} -m bench.screenshot out/demo/report/index.html docs/report.png

# docs/results.md again (two hours): DATA has trec/, sst2/, multi30k/; VOCABULARY is T5's
[group('measure')]
results DATA VOCABULARY: setup
    {{ python }} -m sweeps -m experiment=trec_scratch dataset.path="$1/trec" tokenizer.path="$2" size=nano,micro 'seed=range(5)'
    {{ python }} -m sweeps -m experiment=sst2_scratch dataset.path="$1/sst2" tokenizer.path="$2" size=nano,micro 'seed=range(5)'
    {{ python }} -m sweeps -m experiment=multi30k_scratch dataset.path="$1/multi30k" size=micro,tiny 'seed=range(3)'
    {{ python }} -m bench.results_page docs out/trec out/sst2 out/multi30k

# few texts from scratch, into docs/training.md: DATA as for results, and banking77/
[group('measure')]
scratch DATA *FLAGS: setup
    {{ python }} -m bench.scratch "$@"

# docs/study.md again: DATASET is imdb or banking77, DATA has imdb_full/ (hours)
[group('measure')]
study DATASET DATA *FLAGS: setup
    {{ python }} -m bench.study "$@"

# docs/serving.md's switchers of real text again (half an hour); arguments as for results
[group('measure')]
switchers DATA VOCABULARY: setup
    {{ python }} -m sweeps -m experiment=sst2_scratch dataset.path="$1/sst2" tokenizer.path="$2" size=nano,tiny seed=0 tracking.root=runs/switchers sweeps.metrics=false
    {{ python }} -m sweeps -m experiment=multi30k_scratch dataset.path="$1/multi30k" size=nano,micro seed=0 train.steps=800 tracking.root=runs/switchers sweeps.metrics=false
    {{ python }} -m bench.switchers --root runs/switchers docs/serving.md

# docs/scale.md's tables and decoding's on a TPU, by libtpu (an hour)
[group('measure')]
scale *FLAGS:
    #!/usr/bin/env sh
    set -eu
    uv venv --quiet --allow-existing .venv-tpu
    uv pip install --quiet --python .venv-tpu --require-hashes -r requirements.lock
    uv pip install --quiet --python .venv-tpu -r pyproject.toml --extra tpu
    .venv-tpu/bin/python -m bench.scale_page "$@"
    .venv-tpu/bin/python -m bench.decoding_compiled topology=v5e:2x2 size=base size.vocabulary_size=32128 --page docs/performance.md

# pin the newest versions that pyproject.toml allows
[group('work on it')]
lock:
    uv pip compile pyproject.toml --extra serve --group dev --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet --upgrade --output-file requirements.lock
    uv pip compile --group docs --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet --upgrade --output-file requirements-docs.lock
