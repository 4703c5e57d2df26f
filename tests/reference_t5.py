"""T5's forward pass in float64 numpy, one example at a time, written from the paper's description and not from `train`.

Raffel et al. 2020: pre-norm residual blocks, RMS norm without bias, relative position biases shared by a stack's layers
and absent from cross-attention, no 1/√d in attention, ReLU or gated-GELU feed-forward.
"""

import math

import numpy as np


def rms_norm(x, scale, epsilon):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def bucket(relative, bidirectional, buckets, max_distance):
    """The bucket of one relative position (key minus query)."""
    result = 0
    if bidirectional:
        buckets //= 2
        if relative > 0:
            result += buckets
        distance = abs(relative)
    else:
        distance = max(-relative, 0)
    exact = buckets // 2
    if distance < exact:
        return result + distance
    far = exact + int(math.log(distance / exact) / math.log(max_distance / exact) * (buckets - exact))
    return result + min(far, buckets - 1)


def attention(x, memory, p, layer, heads, bias, allowed):
    q, k, v = (
        (source @ p[name]["kernel"][layer]).reshape(len(source), heads, -1)
        for name, source in (("query", x), ("key", memory), ("value", memory))
    )
    out = np.zeros((len(x), heads, v.shape[-1]))
    for h in range(heads):
        logits = q[:, h] @ k[:, h].T + (0 if bias is None else bias[:, :, h])
        out[:, h] = softmax(np.where(allowed, logits, -np.inf)) @ v[:, h]
    return out.reshape(len(x), -1) @ p["out"]["kernel"][layer]


def feed_forward(x, p, layer):
    if "wi" in p:
        hidden = np.maximum(x @ p["wi"]["kernel"][layer], 0)
    else:
        hidden = gelu_tanh(x @ p["wi_0"]["kernel"][layer]) * (x @ p["wi_1"]["kernel"][layer])
    return hidden @ p["wo"]["kernel"][layer]


def bias_table(p, n, size, bidirectional):
    table = p["relpos_bias"]["rel_embedding"]
    out = np.zeros((n, n, size.heads))
    for query in range(n):
        for key in range(n):
            b = bucket(key - query, bidirectional, size.relative_buckets, size.relative_max_distance)
            out[query, key] = table[b]
    return out


def logits(params, size, inputs, decoder_inputs):
    """One example without padding: inputs [S], decoder_inputs [T] -> [T, V] float64. `params` as float64 numpy."""
    eps, embedding = size.layer_norm_epsilon, params["embedding"]
    enc, dec = params["encoder"], params["decoder"]
    s, t = len(inputs), len(decoder_inputs)
    x = embedding[inputs]
    bias, everywhere = bias_table(enc, s, size, True), np.ones((s, s), bool)
    for i in range(size.layers):
        p = enc["layers"]
        h = rms_norm(x, p["pre_attention_layer_norm"]["scale"][i], eps)
        x = x + attention(h, h, p["attention"], i, size.heads, bias, everywhere)
        x = x + feed_forward(rms_norm(x, p["pre_mlp_layer_norm"]["scale"][i], eps), p["mlp"], i)
    memory = rms_norm(x, enc["encoder_norm"]["scale"], eps)
    y = embedding[decoder_inputs]
    bias, causal = bias_table(dec, t, size, False), np.tril(np.ones((t, t), bool))
    for i in range(size.decoder_depth):
        p = dec["layers"]
        h = rms_norm(y, p["pre_self_attention_layer_norm"]["scale"][i], eps)
        y = y + attention(h, h, p["self_attention"], i, size.heads, bias, causal)
        h = rms_norm(y, p["pre_cross_attention_layer_norm"]["scale"][i], eps)
        y = y + attention(h, memory, p["encoder_decoder_attention"], i, size.heads, None, np.ones((t, s), bool))
        y = y + feed_forward(rms_norm(y, p["pre_mlp_layer_norm"]["scale"][i], eps), p["mlp"], i)
    y = rms_norm(y, dec["decoder_norm"]["scale"], eps)
    if size.scales_head:
        y = y * size.d_model**-0.5
    return y @ (embedding.T if size.tied_head else dec["logits_dense"]["kernel"])
