"""Damages files and reads them: bits of headers and pages are flipped, text is mutated.

What is read must be what was written, or refused in the product's own words.
"""

import contextlib
import dataclasses
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.torture.outcome import Outcome, attempts
from conf.errors import EdgewiseError
from tests.synthetic_scores import synthetic_grid

# What is put into texts: what quotes, ends, nests, overflows or is no UTF-8.
FRAGMENTS = (
    b'"', b"'", b",", b"\n", b"\r", b"\t", b"\0", b"\xff", b"\xef\xbb\xbf", b"{", b"}", b"[", b"]", b":", b"&a",
    b"*a", b"!!", b"null", b"NaN", b"-Infinity", b"1e999", b"9" * 400, b"true",
    b"[" * 5000, b'{"a":' * 3000, b"\\u0000", b"\\ud800", b"<<: *a", b"../../x", b"- ", b"? ", b"#",
)  # fmt: skip


def flipped(data: bytes, place: int) -> bytes:
    """Returns the bytes with one bit the other way round."""
    damaged = bytearray(data)
    damaged[place // 8] ^= 1 << place % 8
    return bytes(damaged)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns the bytes with one to three changes: a bit, a part that is lost or doubled, or a fragment put in."""
    for _ in range(rng.integers(1, 4)):
        start, end = sorted(int(place) for place in rng.integers(0, len(data) + 1, 2))
        end = min(end, start + 40)
        match rng.integers(5):
            case 0 if data:
                data = flipped(data, int(rng.integers(8 * len(data))))
            case 1:
                data = data[:start] + data[end:]
            case 2:
                data = data[:end] + data[start:]
            case 3:
                data = data[:start]
            case _:
                data = data[:start] + FRAGMENTS[rng.integers(len(FRAGMENTS))] + data[start:]
    return data


def safetensors_headers(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Flips a bit of a checkpoint's safetensors header: it is refused, or its weights are those that were saved."""
    import jax

    from train.pretrained import hf

    size, params = _small_model("gated_gelu", tied_head=False)
    hf.save(folder, size, params)
    file = folder / "model.safetensors"
    data = file.read_bytes()
    bits = 8 * (8 + struct.unpack("<Q", data[:8])[0])

    def attempt(rng: np.random.Generator) -> str:
        file.write_bytes(flipped(data, int(rng.integers(bits))))
        jax.tree.map(
            lambda got, saved: np.testing.assert_array_equal(got, saved, "other weights"), _load(folder), params
        )
        return "the same weights"

    return attempts(count, attempt, seed)


def checkpoint_json(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Mutates a Hugging Face checkpoint's config and its index of shards: it is refused, or read."""
    from train.pretrained import hf

    size, params = _small_model("gated_gelu", tied_head=False)
    hf.save(folder, size, params)
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / hf.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {"shared.weight": "part.safetensors"}}))
    contents = {name: (folder / name).read_bytes() for name in (hf.CONFIG, hf.INDEX)}

    def attempt(rng: np.random.Generator) -> str:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        name = list(contents)[rng.integers(len(contents))]
        (folder / name).write_bytes(mutated(contents[name], rng))
        _load(folder)
        return "read"

    return attempts(count, attempt, seed)


def t5x_trees(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Flips bits of a T5X checkpoint's tree, or mutates it: it is refused, or read. Its numbers have no checksum."""
    from train.pretrained import t5x

    size, params = _small_model("relu", tied_head=True)
    t5x.save(folder, size, params)
    file = folder / t5x.FILE
    data = file.read_bytes()

    def attempt(rng: np.random.Generator) -> str:
        file.write_bytes(mutated(data, rng) if rng.random() < 0.5 else flipped(data, int(rng.integers(8 * len(data)))))
        _load(folder)
        return "read"

    return attempts(count, attempt, seed)


def scores_bits(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Flips a bit of a scores file of each task: it is refused, or all that is read is what was written."""
    from metrics.scores import read_scores, write_scores

    file = folder / "scores.parquet"
    written: list[tuple[bytes, dict[str, Any]]] = []
    for task in ("classification", "span_qa", "translation"):
        write_scores(synthetic_grid(seeds=1, examples=25, task=task)[0], file)
        written.append((file.read_bytes(), dataclasses.asdict(read_scores(file))))

    def attempt(rng: np.random.Generator) -> str:
        data, expected = written[rng.integers(len(written))]
        file.write_bytes(flipped(data, int(rng.integers(8 * len(data)))))
        np.testing.assert_equal(dataclasses.asdict(read_scores(file)), expected, "other scores")
        return "the same scores"

    return attempts(count, attempt, seed)


def tables(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Mutates CSV, TSV, JSON and JSON Lines, read as a data set and as predictions: refused, or read."""
    from conf.schema import Dataset
    from metrics.convert.__main__ import convert
    from train.data.splits import load_split

    rows = [{"id": f"e{k}", "text": f'some "words", {k}', "label": str(k % 2), "p": [0.25, 0.75]} for k in range(8)]
    contents = {
        "rows.csv": _delimited(rows, ","),
        "rows.tsv": _delimited(rows, "\t"),
        "rows.json": json.dumps(rows).encode(),
        "rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
    }
    dataset = Dataset(
        name="own",
        path=str(folder / "data"),
        classes={"0": "bad", "1": "good"},
        template="{text}",
        label_column="label",
        max_input_length=32,
    )
    (folder / "data").mkdir()
    for name, content in contents.items():  # what is not mutated is read by both
        file = folder / "data" / f"train{Path(name).suffix}"
        file.write_bytes(content)
        load_split(dataset, "train")
        _convert(file, convert)
        file.unlink()

    def attempt(rng: np.random.Generator) -> str:
        for other in (folder / "data").iterdir():
            other.unlink()
        name = list(contents)[rng.integers(len(contents))]
        file = folder / "data" / f"train{Path(name).suffix}"
        file.write_bytes(mutated(contents[name], rng))
        refusals = 0
        for read in (lambda: load_split(dataset, "train"), lambda: _convert(file, convert)):
            try:
                read()
            except EdgewiseError:
                refusals += 1
        return ("read by both readers", "refused by one reader", "refused by both readers")[refusals]

    return attempts(count, attempt, seed)


def settings(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Mutates the YAML that convert takes its settings from: refused, or used. No place of a file is in it."""
    from metrics.convert.__main__ import main

    rows = [{"id": f"e{k}", "label": str(k % 2), "a": 0.25, "b": 0.75} for k in range(8)]
    (folder / "rows.csv").write_bytes(_delimited(rows, ","))
    places = [str(folder / "rows.csv"), "--out", str(folder / "out.parquet"), "--config", str(folder / "settings.yaml")]
    content = (
        b"dataset: own\nsplit: test\nparameters: 1000\nid: id\ntarget: label\nruns:\n- size: small\n  seed: 0\n"
        b"  class: {'0': a, '1': b}\n  slice: [id]\n  scale: probability\n"
    )

    def attempt(rng: np.random.Generator) -> str:
        return used(mutated(content, rng))

    def used(text: bytes) -> str:
        (folder / "settings.yaml").write_bytes(text)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                status = main(places)
            except SystemExit:
                status = 2
        assert status == 0 or "error: " in said.getvalue(), "refused without a message"
        return "refused" if status else "used"

    if used(content) != "used":
        raise ValueError("the settings are refused though nothing in them was changed")
    return attempts(count, attempt, seed)


def _convert(file: Path, convert: Callable[..., Path]) -> None:
    """Converts a file of predictions."""
    run: dict[str, Any] = {
        "file": str(file),
        "out": str(file.parent.with_name("out.parquet")),
        "id": "id",
        "target": "label",
    }
    run |= {"dataset": "own", "size": "small", "seed": 0, "parameters": 1000, "split": "test"}
    with contextlib.redirect_stdout(io.StringIO()):
        convert(run | {"values": "p", "classes": "0,1"})


def _delimited(rows: list[dict[str, Any]], delimiter: str) -> bytes:
    import csv

    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return text.getvalue().encode()


def _small_model(activation: str, tied_head: bool) -> tuple[Any, Any]:
    """Returns an architecture of a few thousand parameters, and parameters of it."""
    import jax

    from conf.schema import Size
    from train import t5

    size = Size(
        name="tiny",
        d_model=8,
        d_kv=4,
        d_ff=12,
        layers=2,
        heads=3,
        vocabulary_size=24,
        activation=activation,
        tied_head=tied_head,
    )
    return size, jax.tree.map(np.asarray, t5.init_params(size, jax.random.key(0)))


def _load(folder: Path) -> Any:
    """Returns the parameters of the checkpoint in a folder."""
    from conf.schema import Tracking
    from train.pretrained import find, load

    checkpoint = find.find(str(folder), "train.init", Tracking(root=str(folder / "runs")))
    return load.load(checkpoint, checkpoint.size, None)
