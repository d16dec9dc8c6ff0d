"""Vision Transformers for Keras 3, on TensorFlow, JAX and PyTorch.

>>> model = keras_vit.ViTBase(num_classes=10)
"""

from keras_vit.waiting import waits

if not waits(__name__):  # the command `keras-vit` waits for Keras until it needs a model
    from keras_vit.backends import missing_backend

    try:
        import keras  # noqa: F401
    except ModuleNotFoundError as error:
        if message := missing_backend(error):
            raise ImportError(message) from None
        raise

    # Models: the Vision Transformer
    from keras_vit.models.vit import (
        VisionTransformer,
        ViTTiny,
        ViTSmall,
        ViTBase,
        ViTLarge,
        ViTHuge,
        ViTGiant,
        ViTGigantic,
        ViTSo400m,
    )

    # DeiT, with distillation, and DeiT III
    from keras_vit.models.deit import (
        DeiTTiny,
        DeiTSmall,
        DeiTBase,
        DeiT3Small,
        DeiT3Base,
        DeiT3Large,
        DeiT3Huge,
    )

    # The Swin Transformer
    from keras_vit.models.swin import (
        SwinTransformer,
        SwinTiny,
        SwinSmall,
        SwinBase,
        SwinLarge,
        SwinV2Tiny,
        SwinV2Small,
        SwinV2Base,
    )

    # The Pyramid Vision Transformers, first and second
    from keras_vit.models.pvt import (
        PyramidVisionTransformer,
        PVTTiny,
        PVTSmall,
        PVTMedium,
        PVTLarge,
    )
    from keras_vit.models.pvt_v2 import (
        PyramidVisionTransformerV2,
        PVTv2B0,
        PVTv2B1,
        PVTv2B2,
        PVTv2B3,
        PVTv2B4,
        PVTv2B5,
        PVTv2B2Linear,
    )

    # Hybrids of CNN and Vision Transformer
    from keras_vit.models.hybrid import (
        HybridVisionTransformer,
        RViTTiny16,
        R26ViTSmall32,
        R50ViTBase16,
        R50ViTLarge32,
    )

    # Class-Attention in Image Transformers
    from keras_vit.models.cait import (
        CaiT,
        CaiTXXSmall24,
        CaiTXXSmall36,
        CaiTXSmall24,
        CaiTSmall24,
        CaiTSmall36,
        CaiTMedium36,
        CaiTMedium48,
    )

    # ResNet, the backbone of detectors
    from keras_vit.models.resnet import ResNet, ResNet18, ResNet34, ResNet50, ResNet101

    # Semantic segmentation: SETR
    from keras_vit.tasks.setr.model import SETR, SETRMLA, SETRNaive, SETRPUP

    # Object detection: DETR
    from keras_vit.tasks.detr.model import (
        DETR,
        DETRResNet50,
        DETRResNet50DC5,
        DETRResNet101,
        DETRResNet101DC5,
    )

    # Masked pre-training: MAE, and SimMIM for any encoder
    from keras_vit.tasks.mae.model import MAE, MAEBase, MAEHuge, MAELarge
    from keras_vit.tasks.simmim.model import SimMIM

    # Listing all variants, resizing a model
    from keras_vit.listing import list_models
    from keras_vit.models.resize import resize

    # Published weights
    from keras_vit.checkpoints.catalog import list_checkpoints
    from keras_vit.checkpoints.load import from_pretrained, load_weights
    from keras_vit.checkpoints.pretrained import from_preset
    from keras_vit.checkpoints.save import save_pretrained

    # Preprocessing of pictures
    from keras_vit.preprocessing import Preprocessor

    # Knowledge distillation
    from keras_vit.distillation import DistillationLoss, Distiller
    from keras_vit.teacher import teacher_logits

    # Inspection of a model: cost, shapes, attention
    from keras_vit.complexity import complexity, shape_flow
    from keras_vit.interpret import (
        attention_attribution,
        attention_maps,
        attention_rollout,
        grad_cam,
        patch_filters,
        plot_attention,
        plot_detections,
        plot_filters,
        plot_maps,
        plot_position_similarity,
        plot_reconstruction,
        plot_segmentation,
        position_similarity,
    )

    # Export
    from keras_vit.export import export

    # Speed: fast paths, on or off
    from keras_vit.fast_paths import set_fast_paths

    # Building blocks of models and of training
    from keras_vit import layers, losses, metrics, optimizers, preprocessing

from keras_vit.version import __version__ as __version__

__all__ = [
    # Models: the Vision Transformer
    "VisionTransformer",
    "ViTTiny",
    "ViTSmall",
    "ViTBase",
    "ViTLarge",
    "ViTHuge",
    "ViTGiant",
    "ViTGigantic",
    "ViTSo400m",
    # DeiT, with distillation, and DeiT III
    "DeiTTiny",
    "DeiTSmall",
    "DeiTBase",
    "DeiT3Small",
    "DeiT3Base",
    "DeiT3Large",
    "DeiT3Huge",
    # The Swin Transformer
    "SwinTransformer",
    "SwinTiny",
    "SwinSmall",
    "SwinBase",
    "SwinLarge",
    "SwinV2Tiny",
    "SwinV2Small",
    "SwinV2Base",
    # The Pyramid Vision Transformers, first and second
    "PyramidVisionTransformer",
    "PVTTiny",
    "PVTSmall",
    "PVTMedium",
    "PVTLarge",
    "PyramidVisionTransformerV2",
    "PVTv2B0",
    "PVTv2B1",
    "PVTv2B2",
    "PVTv2B3",
    "PVTv2B4",
    "PVTv2B5",
    "PVTv2B2Linear",
    # Hybrids of CNN and Vision Transformer
    "HybridVisionTransformer",
    "RViTTiny16",
    "R26ViTSmall32",
    "R50ViTBase16",
    "R50ViTLarge32",
    # Class-Attention in Image Transformers
    "CaiT",
    "CaiTXXSmall24",
    "CaiTXXSmall36",
    "CaiTXSmall24",
    "CaiTSmall24",
    "CaiTSmall36",
    "CaiTMedium36",
    "CaiTMedium48",
    # ResNet, the backbone of detectors
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    # Semantic segmentation: SETR
    "SETR",
    "SETRNaive",
    "SETRPUP",
    "SETRMLA",
    # Object detection: DETR
    "DETR",
    "DETRResNet50",
    "DETRResNet50DC5",
    "DETRResNet101",
    "DETRResNet101DC5",
    # Masked pre-training: MAE, and SimMIM for any encoder
    "MAE",
    "MAEBase",
    "MAELarge",
    "MAEHuge",
    "SimMIM",
    # Listing all variants, resizing a model
    "list_models",
    "resize",
    # Published weights
    "list_checkpoints",
    "from_pretrained",
    "from_preset",
    "load_weights",
    "save_pretrained",
    # Preprocessing of pictures
    "Preprocessor",
    # Knowledge distillation
    "DistillationLoss",
    "Distiller",
    "teacher_logits",
    # Inspection of a model: cost, shapes, attention
    "complexity",
    "shape_flow",
    "attention_attribution",
    "attention_maps",
    "attention_rollout",
    "grad_cam",
    "patch_filters",
    "plot_attention",
    "plot_detections",
    "plot_filters",
    "plot_maps",
    "plot_position_similarity",
    "plot_reconstruction",
    "plot_segmentation",
    "position_similarity",
    # Export
    "export",
    # Speed: fast paths, on or off
    "set_fast_paths",
    # Building blocks of models and of training
    "layers",
    "losses",
    "metrics",
    "optimizers",
    "preprocessing",
]
