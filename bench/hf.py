"""The other side: Hugging Face's T5 in torch, as a careful script would train it and score labels with it.

    python bench/hf.py FOLDER

FOLDER is what `bench.work` wrote: weights, token ids, and which examples make up each batch. Runs where
bench/requirements.txt is installed, and needs nothing of the project.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import T5ForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput
from workers import serve

MULTIPLE = 8  # lengths are padded to a multiple of it


class Work:
    """The model and what it works on."""

    def __init__(self, folder: Path) -> None:
        self.settings = json.loads((folder / "settings.json").read_text())
        arrays = np.load(folder / "work.npz")
        self.inputs = np.split(arrays["inputs"], arrays["input_offsets"][1:-1])
        self.targets = np.split(arrays["targets"], arrays["target_offsets"][1:-1])
        self.batches = arrays["batches"]  # [steps, batch size]: the examples of each training step
        self.scored = arrays["scored"]  # [n]: the examples to score
        self.labels = torch.from_numpy(arrays["labels"].astype(np.int64))  # [K, T], padded with 0
        self.device = self.settings["device"]
        self.model = T5ForConditionalGeneration.from_pretrained(folder / "weights").to(self.device)
        torch._dynamo.config.recompile_limit = 64  # a few shapes beyond the dynamic one: none may fall back to eager
        self.compiled = torch.compile(self.model, dynamic=True)
        self.weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    def autocast(self):
        return torch.autocast(self.device, torch.bfloat16, enabled=self.settings["dtype"] == "bfloat16")

    def padded(self, texts, rows, length=None, fill=0) -> torch.Tensor:
        longest = max(len(texts[i]) for i in rows)
        length = length or -(-longest // MULTIPLE) * MULTIPLE
        out = np.full((len(rows), length), fill, np.int64)
        for j, i in enumerate(rows):
            out[j, : len(texts[i])] = texts[i]
        return torch.from_numpy(out).to(self.device)

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    # --- training ---

    def train(self, model) -> dict:
        """Every batch once, from the weights that were read; they are put back in the end, for whoever scores."""
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
    def loss(self) -> dict:
        """The mean over the first batch's target tokens, nothing dropped: both sides must agree on it."""
        self.model.eval()
        rows = self.batches[0]
        inputs, labels = self.padded(self.inputs, rows), self.padded(self.targets, rows, fill=-100)
        with self.autocast():
            loss = self.model(input_ids=inputs, attention_mask=(inputs != 0).long(), labels=labels).loss
        return {"loss": float(loss)}

    # --- scoring ---

    def sorted_batches(self):
        """The examples to score, by length, so that little is padded."""
        order = self.scored[np.argsort([len(self.inputs[i]) for i in self.scored], kind="stable")]
        n = self.settings["score_batch_size"]
        return [order[i : i + n] for i in range(0, len(order), n)]

    def answer(self, scores: dict[int, np.ndarray]) -> dict:
        self.wait()
        first = [scores[int(i)].tolist() for i in self.scored[:4]]
        return {"examples": len(scores), "scores": first}

    def log_likelihoods(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """[rows, T, V] and [rows, T] -> [rows]"""
        chosen = torch.log_softmax(logits.float(), -1).gather(-1, labels[..., None])[..., 0]
        return (chosen * (labels != 0)).sum(-1)

    @torch.no_grad()
    def score_each_class(self) -> dict:
        """The plainest script: the whole model once per class, inputs padded to the full length, in the given order.

        It scores an eighth of the examples: it is slow, and every example takes it as long as any other.
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
    def score_encoding_once(self, model, keep_keys: bool) -> dict:
        """One encoder pass by sorted length, then all classes at once; `keep_keys` also makes each example's keys and
        values of the cross-attention once, by a first pass over one token, and repeats them.
        """
        self.model.eval()
        encoder = model.get_encoder() if model is self.model else self.compiled_encoder
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

    @property
    def compiled_encoder(self):
        if not hasattr(self, "_encoder"):
            self._encoder = torch.compile(self.model.get_encoder(), dynamic=True)
        return self._encoder


def main() -> None:
    work = Work(Path(sys.argv[1]))
    serve(
        {
            "loss": work.loss,
            "train eager": lambda: work.train(work.model),
            "train compiled": lambda: work.train(work.compiled),
            "score each class": work.score_each_class,
            "score once": lambda: work.score_encoding_once(work.model, keep_keys=False),
            "score once, keys once": lambda: work.score_encoding_once(work.model, keep_keys=True),
            "score once, compiled": lambda: work.score_encoding_once(work.compiled, keep_keys=False),
            "score once, keys once, compiled": lambda: work.score_encoding_once(work.compiled, keep_keys=True),
        }
    )


if __name__ == "__main__":
    main()
