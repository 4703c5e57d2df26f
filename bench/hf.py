"""Trains Hugging Face's T5 in torch, and scores labels with it, as a careful script would.

    python bench/hf.py FOLDER

FOLDER is what `bench.work` wrote: weights, token ids, and which examples make up each batch. It runs where
bench/requirements.txt is installed, and needs nothing else of the project than `workers.py` beside it.
"""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import T5ForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput
from workers import serve

MULTIPLE = 8  # lengths are padded to a multiple of it


class ByCudnn(torch.nn.Module):
    """Calls a module with attention by cuDNN alone; its call raises RuntimeError where cuDNN can't do it."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, **inputs: Any) -> Any:
        """Returns what the module returns."""
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return self.module(**inputs)


def compiled(module: torch.nn.Module) -> torch.nn.Module:
    """Returns the module, to be compiled for all shapes at its first use."""
    return torch.compile(module, dynamic=True)


class Jobs:
    """Holds the model and its examples, and does the jobs that are compared."""

    def __init__(self, folder: Path) -> None:
        self.settings = json.loads((folder / "settings.json").read_text())
        arrays = np.load(folder / "work.npz")
        self.inputs = np.split(arrays["inputs"], arrays["input_offsets"][1:-1])
        self.targets = np.split(arrays["targets"], arrays["target_offsets"][1:-1])
        self.batches = arrays["batches"]  # [steps, batch size]: the examples of each training step
        self.scored = arrays["scored"]  # [n]: the examples to score
        self.labels = torch.from_numpy(arrays["labels"].astype(np.int64))  # [K, T], padded with 0
        self.device = self.settings["device"]
        if self.device == "cuda":
            torch.cuda.set_per_process_memory_fraction(self.settings["memory_share"])
        # torch's own fused attention, which takes T5's bias as a mask
        self.model = T5ForConditionalGeneration.from_pretrained(folder / "weights", attn_implementation="sdpa")
        self.model = self.model.to(self.device)
        torch._dynamo.config.recompile_limit = 64  # a few shapes beyond the dynamic one: none may fall back to eager
        self.encoder = self.model.get_encoder()
        self.compiled, self.compiled_encoder = compiled(self.model), compiled(self.encoder)
        self.cudnn, self.cudnn_encoder = ByCudnn(self.model), ByCudnn(self.encoder)
        self.compiled_cudnn, self.compiled_cudnn_encoder = compiled(self.cudnn), compiled(self.cudnn_encoder)
        self.weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    def autocast(self) -> torch.autocast:
        """Returns the context in which torch computes in bfloat16, where the comparison is in bfloat16."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.settings["dtype"] == "bfloat16")

    def padded(
        self, texts: Sequence[np.ndarray], rows: np.ndarray, length: int | None = None, fill: int = 0
    ) -> torch.Tensor:
        """Returns the token ids of some texts as int64 [rows, length] on the device, padded with `fill`."""
        longest = max(len(texts[i]) for i in rows)
        length = length or -(-longest // MULTIPLE) * MULTIPLE
        out = np.full((len(rows), length), fill, np.int64)
        for j, i in enumerate(rows):
            out[j, : len(texts[i])] = texts[i]
        return torch.from_numpy(out).to(self.device)

    def wait(self) -> None:
        """Waits for what a GPU still has to do: torch returns before it is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def apart(self, job: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Does a job, and gives the GPU's memory that it leaves cached back, for the other side."""
        try:
            return job()
        finally:
            if self.device == "cuda":
                torch.cuda.empty_cache()

    # --- training ---

    def train(self, model: torch.nn.Module) -> dict[str, Any]:
        """Trains on every batch once, from the weights that were read, and puts those weights back for the scoring."""
        self.model.train()
        optimizer = torch.optim.Adafactor(self.model.parameters(), lr=self.settings["learning_rate"])
        losses = []
        for rows in self.batches:
            inputs = self.padded(self.inputs, rows)
            longest = max(len(self.targets[i]) for i in rows)
            labels = self.padded(self.targets, rows, longest, fill=-100)
            with self.autocast():
                loss = model(input_ids=inputs, attention_mask=(inputs != 0).long(), labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        self.model.load_state_dict(self.weights)
        self.wait()
        return {"examples": int(self.batches.size), "loss": float(losses[-1])}

    @torch.no_grad()
    def loss(self) -> dict[str, Any]:
        """Returns the mean loss over the first batch's target tokens, without dropout: both sides must agree on it."""
        self.model.eval()
        rows = self.batches[0]
        inputs, labels = self.padded(self.inputs, rows), self.padded(self.targets, rows, fill=-100)
        with self.autocast():
            loss = self.model(input_ids=inputs, attention_mask=(inputs != 0).long(), labels=labels).loss
        return {"loss": float(loss)}

    # --- scoring ---

    def sorted_batches(self) -> list[np.ndarray]:
        """Returns the batches of examples to score, sorted by length so that little is padded."""
        order = self.scored[np.argsort([len(self.inputs[i]) for i in self.scored], kind="stable")]
        n = self.settings["score_batch_size"]
        return [order[i : i + n] for i in range(0, len(order), n)]

    def answer(self, scores: dict[int, np.ndarray]) -> dict[str, Any]:
        """Returns how many examples were scored, and the first four examples' log-likelihoods."""
        self.wait()
        first = [scores[int(i)].tolist() for i in self.scored[:4]]
        return {"examples": len(scores), "scores": first}

    def log_likelihoods(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns float32 [rows], each label's log-likelihood, from logits [rows, T, V] and labels [rows, T]."""
        chosen = torch.log_softmax(logits.float(), -1).gather(-1, labels[..., None])[..., 0]
        return (chosen * (labels != 0)).sum(-1)

    @torch.no_grad()
    def score_each_class(self) -> dict[str, Any]:
        """Scores as the plainest script does: the whole model once per class, inputs padded to the full length.

        It scores an eighth of the examples: it is slow, and takes equally long for each of them.
        """
        self.model.eval()
        scores: dict[int, np.ndarray] = {}
        some = self.scored[: max(len(self.scored) // 8, 4)]
        n = self.settings["score_batch_size"]
        for start in range(0, len(some), n):
            rows = some[start : start + n]
            inputs = self.padded(self.inputs, rows, self.settings["max_input_length"])
            found = []
            for label in self.labels.to(self.device):
                labels = label[label != 0].repeat(len(rows), 1)
                with self.autocast():
                    logits = self.model(input_ids=inputs, attention_mask=(inputs != 0).long(), labels=labels).logits
                found.append(self.log_likelihoods(logits, labels))
            by_row = torch.stack(found, 1).cpu().numpy()
            scores |= {int(i): by_row[j] for j, i in enumerate(rows)}
        return self.answer(scores)

    @torch.no_grad()
    def score_encoding_once(self, model: torch.nn.Module, encoder: torch.nn.Module, keep_keys: bool) -> dict[str, Any]:
        """Scores with one encoder pass per example, sorted by length, and then all classes at once.

        With `keep_keys`, a first pass over one token makes each example's keys and values of the cross-attention
        once, and all classes use them.
        """
        self.model.eval()
        k, t = self.labels.shape
        scores: dict[int, np.ndarray] = {}
        for rows in self.sorted_batches():
            inputs = self.padded(self.inputs, rows)
            mask = (inputs != 0).long()
            labels = self.labels.to(self.device).repeat(len(rows), 1)  # [rows * K, T]
            decoder_inputs = torch.nn.functional.pad(labels[:, :-1], (1, 0))
            with self.autocast():
                memory = encoder(input_ids=inputs, attention_mask=mask).last_hidden_state
                past = None
                if keep_keys:
                    past = EncoderDecoderCache(DynamicCache(), DynamicCache())
                    start = torch.zeros(len(rows), 1, dtype=torch.long, device=self.device)
                    self.model.decoder(
                        input_ids=start,
                        encoder_hidden_states=memory,
                        encoder_attention_mask=mask,
                        past_key_values=past,
                        use_cache=True,
                    )
                    past = EncoderDecoderCache(DynamicCache(), past.cross_attention_cache)  # without that token
                    past.cross_attention_cache.batch_repeat_interleave(k)
                logits = model(
                    encoder_outputs=BaseModelOutput(memory.repeat_interleave(k, 0)),
                    attention_mask=mask.repeat_interleave(k, 0),
                    decoder_input_ids=decoder_inputs,
                    past_key_values=past,
                    use_cache=keep_keys,
                ).logits
            found = self.log_likelihoods(logits, labels).reshape(len(rows), k).cpu().numpy()
            scores |= {int(i): found[j] for j, i in enumerate(rows)}
        return self.answer(scores)


def main() -> None:
    """Serves the jobs to `python -m bench`."""
    jobs = Jobs(Path(sys.argv[1]))
    ways = {  # name: the model, its encoder
        "": (jobs.model, jobs.encoder),
        ", compiled": (jobs.compiled, jobs.compiled_encoder),
        ", cudnn": (jobs.cudnn, jobs.cudnn_encoder),
        ", compiled, cudnn": (jobs.compiled_cudnn, jobs.compiled_cudnn_encoder),
    }
    known: dict[str, Callable[[], dict[str, Any]]] = {
        "loss": jobs.loss,
        "score each class": jobs.score_each_class,
        "train eager": lambda: jobs.train(jobs.model),
        "train compiled": lambda: jobs.train(jobs.compiled),
        "train eager, cudnn": lambda: jobs.train(jobs.cudnn),
        "train compiled, cudnn": lambda: jobs.train(jobs.compiled_cudnn),
    }
    for name, (model, encoder) in ways.items():
        known[f"score once{name}"] = partial(jobs.score_encoding_once, model, encoder, keep_keys=False)
        known[f"score once, keys once{name}"] = partial(jobs.score_encoding_once, model, encoder, keep_keys=True)
    serve({name: partial(jobs.apart, job) for name, job in known.items()})


if __name__ == "__main__":
    main()
