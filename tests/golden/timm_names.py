"""timm's parameter names and layouts in this library's: just enough for the tests."""

import re

import numpy as np

# timm's name -> ours
NAMES = {
    r"cls_token": "class_token/tokens",
    r"reg_token": "registers/tokens",
    r"patch_embed\.proj\.(weight|bias)": r"patch_embedding/projection/\1",
    r"blocks\.(\d+)\.norm([12])\.(weight|bias)": r"block\1/norm\2/\3",
    r"blocks\.(\d+)\.ls([12])\.gamma": r"block\1/layer_scale\2/gamma",
    r"blocks\.(\d+)\.attn\.q_norm\.(weight|bias)": r"block\1/attention/query_norm/\2",
    r"blocks\.(\d+)\.attn\.k_norm\.(weight|bias)": r"block\1/attention/key_norm/\2",
    r"blocks\.(\d+)\.attn\.(qkv|proj)\.(weight|bias)": r"block\1/attention/\2/\3",
    r"blocks\.(\d+)\.mlp\.(fc[12])\.(weight|bias)": r"block\1/mlp/\2/\3",
    r"norm\.(weight|bias)": r"norm/\1",
    r"attn_pool\.latent": "pool/probe",
    r"attn_pool\.q\.(weight|bias)": r"pool/query/\1",
    r"attn_pool\.kv\.(weight|bias)": r"pool/key_value/\1",
    r"attn_pool\.(proj|norm)\.(weight|bias)": r"pool/\1/\2",
    r"attn_pool\.mlp\.(fc[12])\.(weight|bias)": r"pool/mlp/\1/\2",
    r"head\.(weight|bias)": r"head/dense/\1",
}


def load(model, golden):
    """Puts every `weights/TIMM_NAME` array of a mapping into the model; all must find a place."""
    values = {}
    for key in golden:
        if not key.startswith("weights/"):
            continue
        name, value = key.removeprefix("weights/"), golden[key]
        if name == "pos_embed":
            h, w = model.grid_size
            grid = value[0, -h * w :].reshape(h, w, -1)
            values["position_embedding/grid"] = grid
            if value.shape[1] > h * w:
                values["position_embedding/prefix"] = value[0, : -h * w]
            continue
        (path,) = [re.sub(k, v, name) for k, v in NAMES.items() if re.fullmatch(k, name)]
        path = re.sub(r"^block(\d)/", r"block0\1/", path)
        if path.endswith("/weight"):
            stem = path.removesuffix("/weight")
            if value.ndim == 1:
                path = f"{stem}/gamma"
            else:
                path = f"{stem}/kernel"
                # a convolution (D, C, p, q) or a matrix (out, in)
                value = np.moveaxis(value, 0, -1) if value.ndim == 2 else _patches(value)
        elif path.endswith("/bias") and "norm" in path:
            path = path.removesuffix("bias") + "beta"
        values[path] = value
    weights = {weight.path: weight for weight in model.weights}
    assert set(weights) == set(values), set(weights) ^ set(values)
    for path, weight in weights.items():
        weight.assign(values[path].reshape(weight.shape))


def _patches(kernel):
    return kernel.transpose(2, 3, 1, 0).reshape(-1, kernel.shape[0])
