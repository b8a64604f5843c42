#!/usr/bin/python3
"""Makes gpt2.golden and llama.golden beside itself: what PyTorch computes for two tiny decoders.

Needs Debian's python3-torch and python3-numpy. Run it again only when a model below changes: the files
are committed, and another CPU or PyTorch may move their last bits. golden.h documents the format and
every entry. The models are written out here, op by op, so that the reference depends on nothing but
PyTorch; parameters carry the names that Troupe gives them.
"""
import math
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F

BATCH, TOKENS, VOCABULARY = 3, 24, 97
STEPS = 10
IGNORED = -100
BATCHES = 16

GPT2 = dict(family="gpt2", layers=2, width=32, heads=4, kv_heads=4, hidden=128, vocabulary=VOCABULARY,
            context=32, tied=1, norm_epsilon=1e-5, rope_theta=0.0)
LLAMA = dict(family="llama", layers=2, width=32, heads=4, kv_heads=2, hidden=88, vocabulary=VOCABULARY,
             context=32, tied=0, norm_epsilon=1e-5, rope_theta=10000.0)
OPTIMIZER = dict(learning_rate=1e-3, beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1, clip_norm=1.0)


def initial_parameters(config, rng):
    """Name -> f32 array. Wide enough that attention is far from uniform; no bias or gain is trivial."""
    width, hidden = config["width"], config["hidden"]
    head = width // config["heads"]
    gpt2 = config["family"] == "gpt2"
    parameters = {}

    def matrix(name, rows, columns, deviation):
        parameters[name] = rng.standard_normal((rows, columns)) * deviation

    def linear(name, rows, columns):
        matrix(name + ".weight", rows, columns, 1.2 / math.sqrt(columns))
        if gpt2:
            parameters[name + ".bias"] = rng.standard_normal(rows) * 0.1

    def norm(name):
        parameters[name + ".weight"] = 1 + rng.standard_normal(width) * 0.2
        if gpt2:
            parameters[name + ".bias"] = rng.standard_normal(width) * 0.1

    matrix("embedding.weight", config["vocabulary"], width, 0.3)
    if gpt2:
        matrix("position_embedding.weight", config["context"], width, 0.3)
    for i in range(config["layers"]):
        block = f"blocks.{i}."
        norm(block + "attention_norm")
        linear(block + "attention.query", width, width)
        linear(block + "attention.key", config["kv_heads"] * head, width)
        linear(block + "attention.value", config["kv_heads"] * head, width)
        linear(block + "attention.output", width, width)
        norm(block + "feed_forward_norm")
        if not gpt2:
            linear(block + "feed_forward.gate", hidden, width)
        linear(block + "feed_forward.up", hidden, width)
        linear(block + "feed_forward.down", width, hidden)
    norm("final_norm")
    if not config["tied"]:
        matrix("head.weight", config["vocabulary"], width, 0.3)
    return {name: value.astype(np.float32) for name, value in parameters.items()}


def rotate(x, theta):
    """RoPE on x [B, heads, T, d]: feature i pairs with i + d/2 (rotate-half); f32 at least."""
    half = x.shape[-1] // 2
    frequency = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(x.shape[-2], dtype=torch.float64)[:, None] * frequency
    wide = x if x.dtype == torch.float64 else x.float()
    cos, sin = angle.cos().to(wide.dtype), angle.sin().to(wide.dtype)
    low, high = wide[..., :half], wide[..., half:]
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1).to(x.dtype)


def logits_of(config, p, tokens):
    """tokens [B, T] -> logits [B, T, V], in p's dtype (or autocast's)."""
    gpt2 = config["family"] == "gpt2"
    heads, kv_heads, epsilon = config["heads"], config["kv_heads"], config["norm_epsilon"]
    batch, length = tokens.shape
    head = config["width"] // heads

    def linear(name, x):
        return F.linear(x, p[name + ".weight"], p.get(name + ".bias"))

    def norm(name, x):
        if gpt2:
            return F.layer_norm(x, x.shape[-1:], p[name + ".weight"], p[name + ".bias"], epsilon)
        wide = x if x.dtype == torch.float64 else x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
        return wide.to(x.dtype) * p[name + ".weight"]

    def attention(name, x):
        def split(y, count):
            return y.view(batch, length, count, head).transpose(1, 2)

        q = split(linear(name + ".query", x), heads)
        k = split(linear(name + ".key", x), kv_heads)
        v = split(linear(name + ".value", x), kv_heads)
        if not gpt2:
            q, k = rotate(q, config["rope_theta"]), rotate(k, config["rope_theta"])
        # Query head h reads key/value head h // (heads / kv_heads).
        k, v = (y.repeat_interleave(heads // kv_heads, dim=1) for y in (k, v))
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(head)
        scores = scores if scores.dtype == torch.float64 else scores.float()
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, float("-inf")).softmax(-1).to(v.dtype)
        return linear(name + ".output", (weights @ v).transpose(1, 2).reshape(batch, length, -1))

    def feed_forward(name, x):
        up = linear(name + ".up", x)
        inner = F.gelu(up, approximate="tanh") if gpt2 else F.silu(linear(name + ".gate", x)) * up
        return linear(name + ".down", inner)

    x = F.embedding(tokens, p["embedding.weight"])
    if gpt2:
        x = x + p["position_embedding.weight"][:length]
    for i in range(config["layers"]):
        block = f"blocks.{i}."
        x = x + attention(block + "attention", norm(block + "attention_norm", x))
        x = x + feed_forward(block + "feed_forward", norm(block + "feed_forward_norm", x))
    return F.linear(norm("final_norm", x), p["embedding.weight" if config["tied"] else "head.weight"])


def loss_of(logits, labels):
    """Mean over the labels that count; bf16 logits are widened first."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(wide.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def leaves(parameters, dtype):
    return {name: torch.from_numpy(value).to(dtype, copy=True).requires_grad_() for name, value in parameters.items()}


def step_of(config, parameters, batch, dtype, autocast=False):
    """One forward and backward: (logits, loss, gradients by name)."""
    p = leaves(parameters, dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = logits_of(config, p, batch[0])
    loss = loss_of(logits, batch[1])
    loss.backward()
    return logits.detach(), loss.item(), {name: value.grad for name, value in p.items()}


def adamw_run(config, parameters, batch, dtype):
    """STEPS steps on one batch: the loss before each update, and the gradient norm before clipping."""
    p = leaves(parameters, dtype)
    groups = [{"params": [v for v in p.values() if v.dim() >= 2], "weight_decay": OPTIMIZER["weight_decay"]},
              {"params": [v for v in p.values() if v.dim() < 2], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=OPTIMIZER["learning_rate"], eps=OPTIMIZER["epsilon"],
                              betas=(OPTIMIZER["beta1"], OPTIMIZER["beta2"]))
    losses, norms = [], []
    for _ in range(STEPS):
        adamw.zero_grad()
        loss = loss_of(logits_of(config, p, batch[0]), batch[1])
        loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(list(p.values()), OPTIMIZER["clip_norm"]).item())
        adamw.step()
    return losses, norms


def errors(got, reference):
    """Relative errors of one step against the f64 step, by entry name; golden.h defines them."""
    logits, loss, gradients = got
    true_logits, true_loss, true_gradients = reference
    norm_of_all = math.sqrt(sum(g.square().sum().item() for g in true_gradients.values()))
    distances = {name: (gradients[name].double() - g).norm().item() for name, g in true_gradients.items()}
    result = {"logits": ((logits.double() - true_logits).norm() / true_logits.norm()).item(),
              "loss": abs(loss - true_loss) / abs(true_loss),
              "gradients": math.sqrt(sum(d * d for d in distances.values())) / norm_of_all}
    for name, g in true_gradients.items():
        result["gradient." + name] = distances[name] / max(g.norm().item(), 1e-3 * norm_of_all)
    return result


def random_batch(config, rng):
    tokens = rng.integers(0, config["vocabulary"], (BATCH, TOKENS))
    labels = rng.integers(0, config["vocabulary"], (BATCH, TOKENS))
    labels[rng.random((BATCH, TOKENS)) < 0.15] = IGNORED
    labels[0, 0] = labels[BATCH - 1, -3:] = IGNORED
    return torch.from_numpy(tokens), torch.from_numpy(labels)


def write_golden(path, entries):
    """entries: [(name, array)]; the format stands at the head of golden.h."""
    names = {np.dtype("<f4"): "f32", np.dtype("<f8"): "f64", np.dtype("<i4"): "i32"}
    header = ["troupe golden 1"] + [" ".join([name, names[a.dtype], *map(str, a.shape)]) for name, a in entries]
    with open(path, "wb") as file:
        file.write(("\n".join(header) + "\n\n").encode())
        for _, array in entries:
            file.write(np.ascontiguousarray(array).tobytes())


def make(config, seed, path):
    rng = np.random.default_rng(seed)
    parameters = initial_parameters(config, rng)
    batches = [random_batch(config, rng) for _ in range(BATCHES)]
    batch = batches[0]

    entries = []

    def put(name, value, dtype):
        value = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        entries.append((name, value.astype(dtype)))

    for key in ("layers", "width", "heads", "kv_heads", "hidden", "vocabulary", "context", "tied"):
        put("config." + key, config[key], "<i4")
    for key in ("norm_epsilon", "rope_theta"):
        put("config." + key, config[key], "<f8")
    for key, value in OPTIMIZER.items():
        put("optimizer." + key, value, "<f8")
    put("tokens", batch[0], "<i4")
    put("labels", batch[1], "<i4")
    for name, value in parameters.items():
        put("parameter." + name, value, "<f4")

    references = [step_of(config, parameters, b, torch.float64) for b in batches]
    put("batches.tokens", torch.stack([b[0] for b in batches]), "<i4")
    put("batches.labels", torch.stack([b[1] for b in batches]), "<i4")
    put("batches.f64_losses", [loss for _, loss, _ in references], "<f8")
    for kind, dtype, stored in (("f32", torch.float32, "<f4"), ("f64", torch.float64, "<f8")):
        logits, loss, gradients = step_of(config, parameters, batch, dtype)
        losses, norms = adamw_run(config, parameters, batch, dtype)
        put(kind + ".logits", logits, stored)
        put(kind + ".loss", loss, "<f8")
        put(kind + ".adamw_losses", losses, "<f8")
        put(kind + ".adamw_gradient_norms", norms, "<f8")
        for name, value in gradients.items():
            put(f"{kind}.gradient.{name}", value, stored)
    modes = {"f32": (torch.float32, False), "bf16_pure": (torch.bfloat16, False),
             "bf16_autocast": (torch.float32, True)}
    for kind, (dtype, autocast) in modes.items():
        found = [errors(step_of(config, parameters, b, dtype, autocast), r) for b, r in zip(batches, references)]
        for key in found[0]:
            put(f"{kind}.error.{key}", found[0][key], "<f8")
            put(f"{kind}.typical_error.{key}", math.sqrt(sum(e[key] ** 2 for e in found) / len(found)), "<f8")
    write_golden(path, entries)

    by_name = dict(entries)
    print(f"{path}: {os.path.getsize(path)} bytes, loss {by_name['f64.loss']:.6f}, after {STEPS - 1} steps "
          f"{by_name['f64.adamw_losses'][-1]:.6f}, first gradient norm {by_name['f64.adamw_gradient_norms'][0]:.3f}")
    for kind in modes:
        print("  " + kind + ": " + ", ".join(
            f"{key} {by_name[f'{kind}.error.{key}']:.2g} (typical {by_name[f'{kind}.typical_error.{key}']:.2g})"
            for key in ("logits", "loss", "gradients")))
    for key in ("adamw_losses", "logits"):
        difference = np.abs(by_name["f32." + key] - by_name["f64." + key]).max()
        print(f"  f32 against f64: {key} differ by {difference:.1g} at most")


def main():
    torch.set_num_threads(1)
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    make(GPT2, 20240517, os.path.join(folder, "gpt2.golden"))
    make(LLAMA, 20240518, os.path.join(folder, "llama.golden"))


if __name__ == "__main__":
    main()
