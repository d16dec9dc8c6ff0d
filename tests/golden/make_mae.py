"""Makes mae/*: tiny random MAEs as transformers and the authors' code save them.

    pip install torch transformers && python tests/golden/make_mae.py

All numbers are those of transformers' ViTMAEForPreTraining, which with an epsilon of 1e-6 computes
what the authors' models_mae.py does; their file has their names. Positions are the authors' fixed
table with noise and every other tensor is random. What the first normalisations see is small, and
some patches of the images are nearly constant, so that epsilons count.
Each folder holds a checkpoint and `expected.npz`: `made_with`; `images` (B, H, W, C), normalised;
`noise` (B, N), which decides the mask; `mask` (B, N), `patches` (B, N, p*q*C) and `loss`.
"""

import re
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

HERE = Path(__file__).parent / "mae"
SIZE, PATCH, BATCH = 24, 8, 3
TINY = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    image_size=SIZE,
    patch_size=PATCH,
    decoder_hidden_size=12,
    decoder_num_hidden_layers=2,
    decoder_num_attention_heads=3,
    decoder_intermediate_size=20,
    mask_ratio=0.6,
)
# Names in memory -> those of the hub's files; those of the encoder have the prefix `vit.`.
TO_HUB = (
    (r"^vit\.layers\.", "vit.encoder.layer."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
# Names in memory -> the authors', before queries, keys and values are joined.
TO_AUTHORS = (
    (r"^vit\.embeddings\.cls_token", "cls_token"),
    (r"^vit\.embeddings\.position_embeddings", "pos_embed"),
    (r"^vit\.embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"^vit\.layers\.", "blocks."),
    (r"^vit\.layernorm", "norm"),
    (r"^decoder\.decoder_layers\.", "decoder_blocks."),
    (r"^decoder\.", ""),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
)


def positions(width):
    """(1, 1 + h*w, width): the table of the authors' util/pos_embed.py."""
    side, quarter = SIZE // PATCH, width // 4
    frequencies = 1 / 10000 ** (np.arange(quarter) / quarter)
    rows, columns = np.divmod(np.arange(side * side), side)
    parts = [f(x[:, None] * frequencies) for x in (columns, rows) for f in (np.sin, np.cos)]
    table = np.concatenate(parts, axis=1)
    return torch.tensor(np.concatenate([np.zeros((1, width)), table])[None], dtype=torch.float32)


def model(seed, **config):
    torch.manual_seed(seed)
    made = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**TINY, **config)).eval()
    with torch.no_grad():
        made.vit.embeddings.position_embeddings.copy_(positions(TINY["hidden_size"]))
        made.decoder.decoder_pos_embed.copy_(positions(TINY["decoder_hidden_size"]))
        for name, parameter in made.named_parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
            if re.search("embed|token", name):  # so small that epsilons count in the first norms
                parameter.mul_(0.02)
    return made


def expected(made, seed):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(BATCH, SIZE, SIZE, 3)).astype("float32")
    images[:, :PATCH] = 0.3 + 1e-3 * images[:, :PATCH]  # three patches that hardly vary
    noise = rng.random((BATCH, (SIZE // PATCH) ** 2)).astype("float32")
    with torch.no_grad():
        output = made(torch.tensor(images.transpose(0, 3, 1, 2)), noise=torch.tensor(noise))
    return {
        "images": images,
        "noise": noise,
        "mask": output.mask.numpy(),
        "patches": output.logits.numpy(),
        "loss": output.loss.numpy(),
    }


def renamed(state, table):
    found = {}
    for name, tensor in state.items():
        for pattern, new in table:
            name = re.sub(pattern, new, name)
        found[name] = tensor.contiguous()
    return found


def authors(state):
    found = renamed(state, TO_AUTHORS)
    for name in [x for x in found if ".attention.q_proj." in x]:
        parts = [found.pop(name.replace("q_proj", f"{x}_proj")) for x in "qkv"]
        found[name.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
    return found


def save(case, made, numbers):
    folder = HERE / case
    made_with = f"transformers {transformers.__version__}, torch {torch.__version__}"
    np.savez_compressed(folder / "expected.npz", made_with=made_with, **numbers)


def new(case):
    shutil.rmtree(HERE / case, ignore_errors=True)
    (HERE / case).mkdir(parents=True)
    return HERE / case


def main():
    # as transformers 5 saves it: the mangled names of the decoder; the default epsilon, 1e-12
    made = model(0, norm_pix_loss=True)
    made.save_pretrained(new("hf_saved"))
    save("hf_saved", made, expected(made, 0))
    # as the hub has it; the loss of plain pixels, and other settings
    made = model(1, norm_pix_loss=False, layer_norm_eps=1e-3, hidden_act="gelu_new")
    folder = new("hf_hub")
    state = {k: v.detach().clone() for k, v in made.state_dict().items()}
    save_file(renamed(state, TO_HUB), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(made.config.to_json_string())
    save("hf_hub", made, expected(made, 1))
    # as it is in memory
    made = model(2, norm_pix_loss=True, qkv_bias=False)
    folder = new("hf_memory")
    torch.save(made.state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(made.config.to_json_string())
    save("hf_memory", made, expected(made, 2))
    # the authors' checkpoint of a pre-training
    made = model(3, norm_pix_loss=True, layer_norm_eps=1e-6)
    folder = new("authors")
    content = {"model": authors(made.state_dict()), "epoch": 799, "scaler": {"scale": 65536.0}}
    torch.save(content, folder / "mae.pth")
    save("authors", made, expected(made, 3))


if __name__ == "__main__":
    main()
