import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import open_dict

from conf.app import CONF, to_config
from conf.errors import EdgewiseError
from tests.support import REPO
from tracking.store import Store

NEEDS = {"dataset": {"text_classification": ("dataset.name=x", "dataset.path=y", "dataset.classes={0: a, 1: b}")}}
NEEDS["dataset"] |= dict.fromkeys(("span_qa", "translation", "text"), ("dataset.name=x", "dataset.path=y"))
NEEDS["tokenizer"] = {"t5": ("tokenizer.path=spiece.model",)}
NEEDS["experiment"] = dict.fromkeys(("sst2_scratch", "trec_scratch"), ("dataset.path=y", "tokenizer.path=z"))
NEEDS["sweep"] = {"paper": ("size=small",)}  # its train.init is the size's official checkpoint
CHOICES = [
    (path.parent.name, path.stem)
    for path in sorted(Path(CONF).glob("*/*.yaml"))
    if not path.parent.name.startswith("_")
]


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_yaml_composes(group, name, compose):
    config_name = "sweeps" if group == "sweep" else "config"
    compose(f"{group}={name}", *NEEDS.get(group, {}).get(name, ()), config_name=config_name)


DATASETS = [name for group, name in CHOICES if group == "dataset"]
SIZES = [name for group, name in CHOICES if group == "size"]


@pytest.mark.parametrize("dataset", DATASETS)
def test_datasets_and_sizes_compose_whichever_are_chosen(dataset, compose):
    """Each dataset with every fifth size, others for the next one: they are groups of their own."""
    for size in SIZES[DATASETS.index(dataset) % 5 :: 5]:
        config = compose(f"dataset={dataset}", f"size={size}", *NEEDS["dataset"].get(dataset, ()))
        assert config.size.name == size


def test_values_come_as_documented(compose):
    config = compose("dataset=imdb", "size=base", "train.batch_size=7")
    assert (config.train.steps, config.train.batch_size, config.optimizer.learning_rate) == (20000, 7, 1e-3)
    assert config.dataset.classes == {"0": "negative", "1": "positive"}
    assert config.tracking.root == "runs" and config.tracking.backend == "local"
    assert config.seed == 0 and config.force is False


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("size.dropout=1.5", r"size\.dropout=1\.5"),
        ("train.steps=0", r"train\.steps=0"),
        ("train.batch_size=-3", r"train\.batch_size=-3"),
        ("train.batch_size=1000000000", r"train\.batch_size=1000000000: expected at most 1,048,576 rows"),
        ("optimizer.name=sgd", "adafactor, adamw"),
        ("optimizer.schedule=step", "constant, linear"),
        ("train.loss_normalizer=0", "loss_normalizer=0"),
        ("train.dtype=float64", "float32, bfloat16"),
        ("dataset.task=regression", "classification"),
        ("infer.keep_text=maybe", r"infer\.keep_text=maybe: expected true, false or auto"),
        ("report.text=no", r"report\.text=no: expected true, false or auto"),
        ("infer.keep_text=1", r"infer\.keep_text=1: expected true, false or auto"),
        ("metrics.confidence=95", "confidence=95"),
        ("infer.batch_tokens=0", r"infer\.batch_tokens=0"),
        ("seed=-1", "seed=-1"),
        ("seed=010", "seed='010'.*without leading zeros"),
        ("seed=1.0", "seed=1.0: expected a whole number"),
        ("seed=true", "seed=True: expected a whole number"),
        ("seed=2147483648", "seed=2147483648: expected a whole number from 0 to 2,147,483,647"),
        ("seed=9223372036854775808", "seed=9223372036854775808: expected"),
        ("metrics.seed=-1", r"metrics\.seed=-1: expected a whole number"),
        ("dataset.split_seed=4294967296", r"dataset\.split_seed=4294967296: expected"),
        ("size.name=t5+lora", r"size\.name='t5\+lora'.*Write size\.name=t5_lora"),
        ("size.name=meta-llama/Llama-3.2-1B", r"Write size\.name=meta-llama_Llama-3.2-1B"),
        ("dataset.name=../../evil", r"dataset\.name='\.\./\.\./evil'.*Write dataset\.name=_.._evil"),
        ("infer.split=a/b", r"infer\.split='a/b'"),
        ("infer.split=" + "x" * 65, r"infer\.split='x+': expected 1 to 64 letters"),
        ("train.token_dropout=1", r"train\.token_dropout=1\.0: expected a share"),
        ("tokenizer.model_type=unigram", r"tokenizer\.model_type=unigram"),
        ("train.min_token_count=0", r"train\.min_token_count=0"),
        ("size.neighbour_heads=2", r"size\.neighbour_heads=2: expected a number from 1 to 1 \(size\.heads=1"),
        ("size.embedding_stddev=0", r"size\.embedding_stddev=0\.0: expected a number above 0"),
        ("size.relative_buckets=2", r"size\.relative_buckets=2: expected 4 or more"),
        ("size.relative_max_distance=16", r"size\.relative_max_distance=16: expected a number above 16"),
        ("size.layer_norm_epsilon=-1", r"size\.layer_norm_epsilon=-1\.0"),
        ("optimizer.learning_rate=-1", r"optimizer\.learning_rate=-1\.0"),
        ("optimizer.learning_rate=nan", r"optimizer\.learning_rate=nan: expected 0 or more"),
        ("optimizer.warmup_steps=-5", r"optimizer\.warmup_steps=-5"),
        ("optimizer.clipping_threshold=0", r"optimizer\.clipping_threshold=0\.0: expected a number above 0"),
        ("optimizer.decay_rate=-3", r"optimizer\.decay_rate=-3\.0"),
        ("optimizer.b1=1.5", r"optimizer\.b1=1\.5: expected a number in \[0, 1\)"),
        ("train.z_loss=nan", r"train\.z_loss=nan"),
        ("train.loss_normalizer=inf", "loss_normalizer=inf"),
        ("infer.length_penalty=nan", r"infer\.length_penalty=nan"),
        ("tracking.backend=mlflow", "local, wandb"),
        ("tokenizer=t5", "tokenizer.path"),
        ("dataset=text_classification", "dataset.name"),
    ],
)
def test_a_value_out_of_range_is_named(override, message, compose):
    with pytest.raises(EdgewiseError, match=message):
        compose(override)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dataset=nope"], "dataset/nope"),
        (["size=huge"], "size/huge"),
        (["train.stepz=3"], "train.stepz"),
        (["train.steps=many"], "train.steps"),
        (["nonsense=1"], "nonsense"),
        (["size.name=t5+lora"], "Write size.name=t5_lora"),  # it once failed after training
        (["size.name=../../evil"], "Write size.name=_.._evil"),
        (["seed=9223372036854775808"], "seed=9223372036854775808: expected a whole number from 0"),
        (["infer.batch_size=64"], "infer.batch_size"),  # until batches were counted in positions
    ],
)
def test_a_mistyped_key_or_value_ends_the_command_with_the_key_s_name(arguments, said, tmp_path):
    command = [sys.executable, "-m", "train", f"tracking.root={tmp_path / 'runs'}", *arguments]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


def test_the_last_of_several_seeds_is_a_seed_too(compose):
    assert compose("seed=2147483644", "mesh.seed=4").seed == 2147483644
    with pytest.raises(EdgewiseError, match="2147483648: expected a whole number"):
        compose("seed=2147483645", "mesh.seed=4")


def test_a_store_below_the_home_is_one_folder_for_everything(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    with initialize_config_dir(CONF, version_base="1.3"):
        composed = hydra_compose("config", ['tracking.root="~/runs"'], return_hydra_config=True)
        folder = Path(composed.hydra.sweep.dir)
        with open_dict(composed):
            del composed["hydra"]
        root = Path(to_config(composed).tracking.root)
    monkeypatch.chdir(tmp_path / "here")
    assert root == tmp_path / "home/runs" == folder.parent.parent
    store = Store("~/runs")
    assert store.root == root
    store.close()
    Store("~nobody-has-this-name/runs").close()  # a folder of that name, as a shell has it
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["~nobody-has-this-name"]


def test_a_seed_from_the_environment_is_its_digits(compose, monkeypatch):
    monkeypatch.setenv("TASK_ID", "7")
    assert compose("seed=${oc.env:TASK_ID}").seed == 7


def test_the_paper_s_grid_is_the_paper_s():
    command = [sys.executable, "-m", "sweeps", "sweep=paper", "sweeps.list=true"]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "240 cells" in result.stdout
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in result.stdout.splitlines() if "│" in line]
    steps = {row[0]: row[3] for row in rows}
    assert steps == {
        "wiki_toxicity": "50,000",
        "imdb": "20,000",
        "yahoo_answers": "100,000",
        "amazon_video_games": "100,000",
        "squad": "250,000",
        "wmt_ende": "250,000",
    }
    assert {row[1] for row in rows} == {"small", "base", "large", "3b"}
    assert {row[2] for row in rows} == {"0 1 2 3 4 5 6 7 8 9"} and {row[4] for row in rows} == {"128"}


def test_yaml_holds_values_only():
    targets = []
    for path in Path(CONF).rglob("*.yaml"):
        text = path.read_text()
        assert yaml.safe_load(text) is not None, path
        targets += [(path.name, target) for target in re.findall(r"\b_target_\b:? *([\w.]*)", text)]
    # Hydra's callbacks alone, which it offers no other way to name.
    assert sorted(targets) == [
        ("config.yaml", "conf.multirun.PrivateMultirun"),
        ("sweeps.yaml", "sweeps.grid.AroundSweep"),
    ]


def test_equal_sizes_and_optimizers_are_one_key(compose):
    one, other = compose("size=nano"), compose("size=nano")
    assert one.size is not other.size and {one.size: "kept"}[other.size] == "kept"
    assert {one.optimizer: "kept"}[other.optimizer] == "kept"
    wider = compose("size=nano", "size.d_ff=96", "optimizer.learning_rate=0.5")
    assert wider.size not in {one.size} and wider.optimizer not in {one.optimizer}
