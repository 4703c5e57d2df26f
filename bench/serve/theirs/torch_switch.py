"""Answers texts by Hugging Face's T5 in torch, by the larger model alone or by a switch, as a careful script would.

FOLDER is the switcher's, as `bench.serve.models` wrote it. Needs requirements.txt beside it, and nothing else of the
project.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from transformers import T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

MULTIPLE = 8  # lengths are padded to a multiple of it


class Model:
    """Holds one model and scores every class of its inputs, each encoded once."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.model = T5ForConditionalGeneration.from_pretrained(folder).eval()
        self.vocabulary = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
        self.longest = settings["max_input_length"]
        length = max(map(len, settings["labels"]))
        self.labels = torch.tensor([ids + [0] * (length - len(ids)) for ids in settings["labels"]])  # [K, T]

    @torch.inference_mode()
    def log_likelihoods(self, texts: list[str]) -> np.ndarray:
        """Returns the log-likelihood of each class: [n, K] float64."""
        ids = [text[: self.longest - 1] + [1] for text in self.vocabulary.encode(texts)]
        length = -(-max(map(len, ids)) // MULTIPLE) * MULTIPLE
        inputs = torch.zeros(len(ids), length, dtype=torch.long)
        for row, one in enumerate(ids):
            inputs[row, : len(one)] = torch.tensor(one)
        mask = (inputs != 0).long()
        k = len(self.labels)
        memory = self.model.get_encoder()(input_ids=inputs, attention_mask=mask).last_hidden_state
        labels = self.labels.repeat(len(ids), 1)  # [n * K, T]
        logits = self.model(
            encoder_outputs=BaseModelOutput(memory.repeat_interleave(k, 0)),
            attention_mask=mask.repeat_interleave(k, 0),
            decoder_input_ids=torch.nn.functional.pad(labels[:, :-1], (1, 0)),
            use_cache=False,
        ).logits
        chosen = torch.log_softmax(logits.float(), -1).gather(-1, labels[..., None])[..., 0]
        return (chosen * (labels != 0)).sum(-1).reshape(len(ids), k).double().numpy()


class Switch:
    """Answers texts by the larger model alone, or by the smaller one where its margin is wide enough."""

    def __init__(self, folder: Path, alone: bool) -> None:
        self.settings = json.loads((folder / "settings.json").read_text())
        self.alone = alone
        *smaller, larger = (Model(folder / name, self.settings) for name in self.settings["models"])
        self.larger, self.smaller = larger, None if alone else smaller[0]

    def answer(self, texts: list[str]) -> list[dict[str, Any]]:
        """Returns the answer to each text, and whether the larger model gave it."""
        filled = [self.settings["template"].replace("{text}", text) for text in texts]
        classes = self.settings["classes"]
        if self.smaller is None:
            best = self.larger.log_likelihoods(filled).argmax(1)
            return [{"prediction": classes[k], "deferred": True} for k in best]
        scores = self.smaller.log_likelihoods(filled)
        best = scores.argmax(1)
        probabilities = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
        ordered = np.sort(probabilities, axis=1)
        with np.errstate(divide="ignore"):
            uncertain = np.log(1 - (ordered[:, -1] - ordered[:, -2]))
        passed = np.flatnonzero(uncertain >= self.settings["log_threshold"])
        if len(passed):
            best[passed] = self.larger.log_likelihoods([filled[row] for row in passed]).argmax(1)
        deferred = set(passed.tolist())
        return [{"prediction": classes[k], "deferred": row in deferred} for row, k in enumerate(best)]
