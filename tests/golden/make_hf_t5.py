"""Makes `hf_t5.npz`: logits, gradients and decoded output of Hugging Face's T5 on tiny models with fixed weights.

Run it where torch and transformers are; the tests need neither, and the project's own environment has neither:
    python3 -m venv /tmp/golden
    /tmp/golden/bin/pip install torch==2.13.0 transformers==5.23.0 safetensors numpy
    /tmp/golden/bin/python tests/golden/make_hf_t5.py
The weights are not kept: `weights` makes them again from names and shapes alone.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np

D = {"d_model": 12, "d_kv": 4, "d_ff": 16, "num_heads": 3, "vocab_size": 40, "dropout_rate": 0.0}
CASES = {  # name -> changes to D
    "v1_0_one_layer": {"num_layers": 1, "feed_forward_proj": "relu", "tie_word_embeddings": True},
    "v1_0_three_layers": {"num_layers": 3, "feed_forward_proj": "relu", "tie_word_embeddings": True},
    "v1_1_two_layers": {"num_layers": 2, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "v1_1_four_layers": {"num_layers": 4, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "relu_untied": {"num_layers": 2, "feed_forward_proj": "relu", "tie_word_embeddings": False},
    "deep_encoder": {
        "num_layers": 3,
        "num_decoder_layers": 1,
        "feed_forward_proj": "relu",
        "tie_word_embeddings": True,
    },
    "deep_decoder": {
        "num_layers": 1,
        "num_decoder_layers": 3,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    },
    "tied_unscaled": {
        "num_layers": 2,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": True,
        "scale_decoder_outputs": False,
    },
}
GREEDY_STEPS = 12
BEAMS = {"beam2": (2, 0.0), "beam4": (4, 0.0), "beam4_length": (4, 1.0)}  # name -> beams, power of the length penalty


def config(name):
    return {**D, "num_decoder_layers": CASES[name]["num_layers"], **CASES[name]}


def weights(name, shape):
    """The same numbers for the same name anywhere: norms near 1, the rest of a scale at which the logits spread."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    values = np.random.Generator(np.random.PCG64(seed)).uniform(-1, 1, shape)
    if name.endswith("layer_norm.weight"):
        return (1 + 0.3 * values).astype(np.float32)
    scale = {"shared.weight": 1.0, "lm_head.weight": 0.6}.get(name, 0.8 if "relative" in name else 0.45)
    return (scale * values).astype(np.float32)


def batch():
    """Inputs [4, 150] (long enough for the logarithmic buckets) and targets [4, 9]; all rows but one are padded."""
    rng = np.random.Generator(np.random.PCG64(7))
    inputs, targets = rng.integers(2, 40, (4, 150)), rng.integers(2, 40, (4, 9))
    for row, (n, t) in enumerate([(150, 9), (40, 6), (7, 9), (1, 2)]):
        inputs[row, n - 1], targets[row, t - 1] = 1, 1
        inputs[row, n:], targets[row, t:] = 0, 0
    return inputs.astype(np.int32), targets.astype(np.int32)


def load(name):
    """Hugging Face's model, read from a folder: made by its constructor, its head is tied whatever the config says."""
    from safetensors.numpy import save_file
    from transformers import T5ForConditionalGeneration

    described = {**config(name), "model_type": "t5", "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    with tempfile.TemporaryDirectory() as folder:
        shapes = {
            key: list(value.shape) for key, value in T5ForConditionalGeneration(_config(described)).state_dict().items()
        }
        tied = described["tie_word_embeddings"]
        unused = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", *(["lm_head.weight"] if tied else [])}
        tensors = {key: weights(key, shape) for key, shape in shapes.items() if key not in unused}
        save_file(tensors, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        (Path(folder) / "config.json").write_text(json.dumps(described))
        model = T5ForConditionalGeneration.from_pretrained(folder)
    assert (model.lm_head.weight is model.shared.weight) == tied
    head = "shared.weight" if tied else "lm_head.weight"
    np.testing.assert_array_equal(model.lm_head.weight.detach().numpy(), tensors[head])
    return model.eval()


def _config(described):
    from transformers import T5Config

    return T5Config(**{key: value for key, value in described.items() if key != "model_type"})


def without_start(sequences):
    """Generated ids as [4, GREEDY_STEPS] int32, without the start token, and 0 after EOS (beam search repeats EOS)."""
    padded = np.zeros((len(sequences), GREEDY_STEPS), np.int32)
    padded[:, : sequences.shape[1] - 1] = sequences[:, 1:]
    ended = np.cumsum(padded == 1, axis=1) - (padded == 1) > 0
    return np.where(ended, 0, padded)


def main():
    import torch

    out = {}
    inputs, targets = batch()
    ids, labels = torch.tensor(inputs, dtype=torch.long), torch.tensor(targets, dtype=torch.long)
    for name in CASES:
        model = load(name)
        mask = (ids != 0).long()
        logits = model(input_ids=ids, attention_mask=mask, labels=labels).logits
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, D["vocab_size"]), labels.reshape(-1), ignore_index=0, reduction="sum"
        )
        loss.backward()
        out[f"{name}/logits"] = logits.detach().numpy()
        out[f"{name}/loss"] = loss.detach().numpy()
        for key, parameter in model.named_parameters():
            out[f"{name}/grad/{key}"] = parameter.grad.numpy()
        greedy = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=GREEDY_STEPS,
            min_new_tokens=0,
            do_sample=False,
            num_beams=1,
            use_cache=False,  # transformers' cache has no more layers than the encoder
        ).numpy()
        out[f"{name}/greedy"] = without_start(greedy)
        print(name, loss.item(), greedy[:, 1:].tolist())
        for search, (beams, exponent) in BEAMS.items():
            found = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=GREEDY_STEPS,
                min_new_tokens=0,
                do_sample=False,
                num_beams=beams,
                use_cache=False,
                length_penalty=exponent,
                early_stopping="never",  # go on while a live beam can still become one of the best
                return_dict_in_generate=True,
                output_scores=True,
            )
            out[f"{name}/{search}"] = without_start(found.sequences.numpy())
            out[f"{name}/{search}/scores"] = found.sequences_scores.numpy()
            print(name, search, out[f"{name}/{search}"].tolist())
    file = Path(__file__).with_name("hf_t5.npz")
    np.savez_compressed(file, **out)
    print(file, file.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
