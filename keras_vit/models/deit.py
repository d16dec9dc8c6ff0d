"""DeiT, the data-efficient Vision Transformers: distilled by attention, and DeiT III.

A DeiT is a ViT, so both are rows for `keras_vit.models.vit`. That of Touvron et al. 2021
(arXiv:2012.12877) has a distillation token beside the class token and a head on each: in training
one learns the labels and the other what a teacher says (`keras_vit.Distiller`), at inference the
logits are the mean of both. Without a teacher, `distillation_token=False`, it is the ViT itself.

That of Touvron et al. 2022 (arXiv:2204.07118, DeiT III) learns from labels alone: LayerScale in
every block, and no position for the class token. LayerScale starts from 1e-4, as in its authors'
code.
"""

from keras_vit.models.variants import variant
from keras_vit.models.vit import VisionTransformer

# Touvron et al. 2021, table 1.
DISTILLED = {
    "DeiTTiny": dict(patch_size=16, width=192, depth=12, num_heads=3, mlp_dim=768),
    "DeiTSmall": dict(patch_size=16, width=384, depth=12, num_heads=6, mlp_dim=1536),
    "DeiTBase": dict(patch_size=16, width=768, depth=12, num_heads=12, mlp_dim=3072),
}
# Touvron et al. 2022: the sizes of the ViT.
DEIT3 = {
    "DeiT3Small": dict(patch_size=16, width=384, depth=12, num_heads=6, mlp_dim=1536),
    "DeiT3Base": dict(patch_size=16, width=768, depth=12, num_heads=12, mlp_dim=3072),
    "DeiT3Large": dict(patch_size=16, width=1024, depth=24, num_heads=16, mlp_dim=4096),
    "DeiT3Huge": dict(patch_size=14, width=1280, depth=32, num_heads=16, mlp_dim=5120),
}
VARIANTS = {
    **{name: {**row, "distillation_token": True} for name, row in DISTILLED.items()},
    **{
        name: {**row, "layer_scale": 1e-4, "position_embedding": "learned_patches"}
        for name, row in DEIT3.items()
    },
}

DeiTTiny = variant(VisionTransformer, "DeiTTiny", VARIANTS["DeiTTiny"])
DeiTSmall = variant(VisionTransformer, "DeiTSmall", VARIANTS["DeiTSmall"])
DeiTBase = variant(VisionTransformer, "DeiTBase", VARIANTS["DeiTBase"])
DeiT3Small = variant(VisionTransformer, "DeiT3Small", VARIANTS["DeiT3Small"])
DeiT3Base = variant(VisionTransformer, "DeiT3Base", VARIANTS["DeiT3Base"])
DeiT3Large = variant(VisionTransformer, "DeiT3Large", VARIANTS["DeiT3Large"])
DeiT3Huge = variant(VisionTransformer, "DeiT3Huge", VARIANTS["DeiT3Huge"])
