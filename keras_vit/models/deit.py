"""DeiT, the data-efficient image transformers: DeiT with distillation, and DeiT III.

Both are variants of `VisionTransformer`. DeiT (Touvron et al. 2021, arXiv:2012.12877) has a
distillation token beside the class token, and a head on each. During training one head learns from
the labels and the other from a teacher (`keras_vit.Distiller`); at inference the logits are the
mean of both. With `distillation_token=False` it is a plain ViT, trained without a teacher.

DeiT III (Touvron et al. 2022, arXiv:2204.07118) is trained on labels alone. It has LayerScale in
every block and no position embedding for the class token. LayerScale starts at 1e-4, as in the
authors' code.
"""

from keras_vit.models.registry import register_family
from keras_vit.models.vit import VIT, VisionTransformer

DEIT = register_family(
    "deit",
    "DeiT",
    VisionTransformer,
    tiny={**VIT.tiny, "distillation_token": True},
    smoke=VIT.smoke,
    checkpoints="keras_vit.checkpoints.vit",
)


# fmt: off
@DEIT.variant
def DeiTTiny(
    *, patch_size=16, width=192, depth=12, num_heads=3, mlp_dim=768, distillation_token=True,
    name="deit_tiny", **kwargs,
):
    """DeiT-Ti, distilled (Touvron et al. 2021, table 1)."""


@DEIT.variant
def DeiTSmall(
    *, patch_size=16, width=384, depth=12, num_heads=6, mlp_dim=1536, distillation_token=True,
    name="deit_small", **kwargs,
):
    """DeiT-S, distilled (Touvron et al. 2021, table 1)."""


@DEIT.variant
def DeiTBase(
    *, patch_size=16, width=768, depth=12, num_heads=12, mlp_dim=3072, distillation_token=True,
    name="deit_base", **kwargs,
):
    """DeiT-B, distilled (Touvron et al. 2021, table 1)."""


@DEIT.variant
def DeiT3Small(
    *, patch_size=16, width=384, depth=12, num_heads=6, mlp_dim=1536, layer_scale=1e-4,
    position_embedding="learned_patches", name="deit3_small", **kwargs,
):
    """DeiT III-S (Touvron et al. 2022)."""


@DEIT.variant
def DeiT3Base(
    *, patch_size=16, width=768, depth=12, num_heads=12, mlp_dim=3072, layer_scale=1e-4,
    position_embedding="learned_patches", name="deit3_base", **kwargs,
):
    """DeiT III-B (Touvron et al. 2022)."""


@DEIT.variant
def DeiT3Large(
    *, patch_size=16, width=1024, depth=24, num_heads=16, mlp_dim=4096, layer_scale=1e-4,
    position_embedding="learned_patches", name="deit3_large", **kwargs,
):
    """DeiT III-L (Touvron et al. 2022)."""


@DEIT.variant
def DeiT3Huge(
    *, patch_size=14, width=1280, depth=32, num_heads=16, mlp_dim=5120, layer_scale=1e-4,
    position_embedding="learned_patches", name="deit3_huge", **kwargs,
):
    """DeiT III-H/14 (Touvron et al. 2022)."""
