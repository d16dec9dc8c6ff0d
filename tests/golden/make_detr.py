"""Makes detr/*: tiny random DETRs as their authors and transformers save them.

    pip install torch timm transformers && pip install --no-deps torchvision
    PYTHONPATH=detr:tests/golden python tests/golden/make_detr.py

detr is a checkout of github.com/facebookresearch/detr. Each folder holds a checkpoint and
`expected.npz`: `made_with`; `pixels` (B, H, W, C) of 0..255, which the model takes as
`pixels / 127.5 - 1` and 0 where `valid` (B, H, W) is False; what came out: `map` (B, h, w, C) of
the backbone, `encoder` (B, N, D), `decoder0` ... (B, Q, D) before the last norm, `logits` and
`boxes`; `alone_logits` and `alone_boxes` of the first picture without padding; and of the authors
`auxiliary_logits` and `auxiliary_boxes` (L - 1, B, Q, ...), those of the earlier layers.

transformers applies the last norm to what one layer of the decoder hands to the next if
`auxiliary_loss` is set, which the authors do not: it is not set here.
"""

from make_resnet import Narrow, torchvision  # isort: skip, before what imports torchvision

import functools
import shutil
from pathlib import Path

import numpy as np
import timm
import torch
import transformers

torchvision.__version__ = "0.28.0"  # without a suffix, which the authors' code cannot compare
from models import backbone as authors_backbone  # noqa: E402
from models import detr as authors_detr  # noqa: E402
from models.position_encoding import PositionEmbeddingSine  # noqa: E402
from models.transformer import Transformer  # noqa: E402
from util.misc import NestedTensor  # noqa: E402

HERE = Path(__file__).parent / "detr"
VERSIONS = (
    f"facebookresearch/detr, torchvision {torchvision.__version__}, timm {timm.__version__}, "
    f"transformers {transformers.__version__}, torch {torch.__version__}"
)
SIZES = ((70, 101), (90, 64))  # of the two pictures, in a batch of 90 x 101
WIDTH, ENCODER, DECODER, QUERIES, CLASSES = 16, 2, 3, 7, 5
NAMES = ["N/A", "person", "bicycle", "car", "motorcycle"]
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {x: i for i, x in enumerate(NAMES)}}


def randomized(model):
    """Far from an initialisation, and spread: queries differ, and positions and order count."""
    generator = torch.Generator().manual_seed(0)
    embeddings = {id(x.weight) for x in model.modules() if isinstance(x, torch.nn.Embedding)}
    with torch.no_grad():
        for x in [*model.parameters(), *model.buffers()]:
            if x.dtype == torch.int64:  # a counter
                continue
            noise = torch.randn(x.shape, generator=generator)
            if id(x) in embeddings:
                x.copy_(noise)
            elif x.ndim > 1:  # linear layers; convolutions, of which there are more
                x.copy_(noise * (1.5 if x.ndim == 2 else 1.0) * x[0].numel() ** -0.5)
            else:  # scales and variances, which start at 1, stay near it
                x.copy_(noise * 0.2 + x.round())
    return model.eval()


def folder(case):
    shutil.rmtree(HERE / case, ignore_errors=True)
    (HERE / case).mkdir(parents=True)
    return HERE / case


def batch():
    """pixels and mask, as arrays; images (B, C, H, W) and mask, as tensors."""
    height, width = np.max(SIZES, axis=0)
    pixels = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype("uint8")
    valid = np.zeros((2, height, width), bool)
    for i, (h, w) in enumerate(SIZES):
        valid[i, :h, :w] = True
    images = (pixels / 127.5 - 1).astype("float32") * valid[..., None]
    return pixels, valid, torch.tensor(images.transpose(0, 3, 1, 2)), torch.tensor(valid)


def watched(model, modules, *args, **kwargs):
    """(output of the model, dict of the outputs of its modules)."""
    found, hooks = {}, []
    for name, module in modules.items():

        def hook(module, inputs, output, name=name):
            found[name] = output[0] if isinstance(output, tuple) else output

        hooks.append(module.register_forward_hook(hook))
    with torch.no_grad():
        output = model(*args, **kwargs)
    for hook in hooks:
        hook.remove()
    return output, found


def save(case, arrays):
    pixels, valid, _, _ = batch()
    arrays = {name: x.numpy() for name, x in arrays.items()}
    np.savez_compressed(
        HERE / case / "expected.npz", made_with=VERSIONS, pixels=pixels, valid=valid, **arrays
    )


def make_authors():
    body = Narrow(norm_layer=authors_backbone.FrozenBatchNorm2d)
    channels = body.inplanes
    backbone = authors_backbone.BackboneBase(body, True, channels, return_interm_layers=False)
    joined = authors_backbone.Joiner(backbone, PositionEmbeddingSine(WIDTH // 2, normalize=True))
    joined.num_channels = channels
    transformer = Transformer(WIDTH, 4, ENCODER, DECODER, 24, return_intermediate_dec=True)
    model = authors_detr.DETR(joined, transformer, CLASSES, QUERIES, aux_loss=True)
    randomized(model)
    torch.save({"model": model.state_dict()}, folder("authors") / "detr.pth")

    _, _, images, valid = batch()
    layers = {f"decoder{i}": x for i, x in enumerate(transformer.decoder.layers)}
    modules = {"map": body.layer4, "encoder": transformer.encoder, **layers}
    output, found = watched(model, modules, NestedTensor(images, ~valid))
    arrays = {name: x.transpose(0, 1) for name, x in found.items() if name != "map"}
    arrays["map"] = found["map"].permute(0, 2, 3, 1)
    arrays |= {"logits": output["pred_logits"], "boxes": output["pred_boxes"]}
    for name in ("logits", "boxes"):
        earlier = [x[f"pred_{name}"] for x in output["aux_outputs"]]
        arrays[f"auxiliary_{name}"] = torch.stack(earlier)
    (h, w), _ = SIZES
    with torch.no_grad():
        alone = model([images[0, :, :h, :w]])
    arrays |= {f"alone_{name}": alone[f"pred_{name}"] for name in ("logits", "boxes")}
    save("authors", arrays)


def make_transformers(case, **config):
    config = transformers.DetrConfig(
        d_model=WIDTH,
        encoder_layers=ENCODER,
        decoder_layers=DECODER,
        num_queries=QUERIES,
        auxiliary_loss=False,
        **config,
        **LABELS,
    )
    model = randomized(transformers.DetrForObjectDetection(config))
    model.save_pretrained(folder(case))
    processor = transformers.DetrImageProcessor()
    processor.save_pretrained(HERE / case)

    _, _, images, valid = batch()
    layers = {f"decoder{i}": x for i, x in enumerate(model.model.decoder.layers)}
    output, found = watched(model, layers, images, pixel_mask=valid.long())
    with torch.no_grad():
        (grid, _) = model.model.backbone(images, valid.long())[-1]
        (h, w), _ = SIZES
        alone = model(images[:1, :, :h, :w])
    found |= {"map": grid.permute(0, 2, 3, 1), "encoder": output.encoder_last_hidden_state}
    found |= {"logits": output.logits, "boxes": output.pred_boxes}
    found |= {"alone_logits": alone.logits, "alone_boxes": alone.pred_boxes}
    save(case, found)


def make_timm_backbone():
    """The default revision's names; the last stage is dilated."""
    create = timm.create_model
    narrow = functools.partial(create, layers=[1, 2, 1, 2], channels=[2, 4, 8, 16])
    timm.create_model = narrow
    make_transformers(
        "hf_timm",
        use_timm_backbone=True,
        backbone="resnet50",
        dilation=True,
        encoder_attention_heads=4,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=32,
    )
    timm.create_model = create


def make_native_backbone():
    """The names of the revision no_timm, and learned positions."""
    backbone = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16],
        depths=[1, 2, 1],
        layer_type="basic",
        out_features=["stage3"],
    )
    make_transformers(
        "hf_native",
        use_timm_backbone=False,
        backbone_config=backbone,
        position_embedding_type="learned",
        encoder_attention_heads=2,
        decoder_attention_heads=4,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        activation_function="gelu",
    )


if __name__ == "__main__":
    make_authors()
    make_timm_backbone()
    make_native_backbone()
