"""The golden files that every backend loads, each with what it alone reaches.

The quickest backend loads them all. Files are read by NumPy, which is the same everywhere; what
differs are the weights and what is computed with them. So elsewhere every table of names, every
layout and every kind of weight comes in some case: test_everywhere.py counts them.
"""

VIT = (
    "timm_qknorm",  # timm; norms of queries and keys, and one after pooling
    "torch_deit3",  # its authors: positions of the patches alone, LayerScale
    "hf_vit_model",  # transformers: a fused projection from three; pre-logits
    "hf_deit",
    "hf_deit_teacher",  # the distillation token, which has a position, and its head
    "hf_dinov2_swiglu",
    "hf_dinov2_registers",  # the class token's position is in the token
    "hf_clip",  # a norm before the blocks, a token of one axis, a table of positions, QuickGELU
    "hf_siglip",  # one tensor is cut into the probe's query, keys and values
    "vt_pre_logits",  # flax: heads apart, before and behind; GELU by tanh
    "vt_pre_logits_published",  # flax's older names
    "bv_map",  # big_vision: its pooling
    "tv_vit",  # torchvision
    "tv_vit_published",  # its older names
    "kh_vit",  # keras-hub: heads apart, a table of positions
    "kh_deit",
)
# At another size: timm's way, where it is without the class token's position; that of transformers;
# that of torchvision.
RESAMPLED = ("hf_dinov2_registers", "hf_clip", "tv_vit")
# The authors' offset, and with registers antialiasing; each has a table.
DINOV2 = ("plain-56x40", "registers-24x16")
# Case and run, see test_swin.py.
SWIN = (
    ("timm_swin", "_window"),  # timm; bias tables that are interpolated
    ("timm_swinv2_pretrained", "_other"),  # timm's padding; a network for the bias, in log space
    ("hf_swin", "_other"),  # transformers: a fused projection from three; the authors' padding
    ("hf_swinv2", "_other"),  # three kernels are one, two biases stay apart
    ("ms_swinv2", ""),  # the authors' names
    ("tv_swin", "_small"),  # torchvision's; windows larger than the map
    ("kh_swin", ""),  # keras-hub
    ("tv_swinv2", "_other"),  # one bias is cut into those of queries and values
)
PYRAMIDS = ("hf_v1", "hf_v2")  # transformers: keys and values are two tensors
# Positions are resampled, convolutions padded, maps pooled to a fixed size.
PYRAMIDS_AT_ANY_SIZE = ("authors_v1", "authors_v2", "timm_v2_linear")
HYBRID = ("timm_root", "timm_resnet", "authors")  # all: one has no stages, one is flax's
# torchvision's names, which are timm's; transformers': both kinds of blocks.
RESNET = ("torchvision", "hf")
# All: the authors' fused projections; transformers' names with timm's backbone and its own.
DETR = ("authors", "hf_timm", "hf_native")
CAIT = ("timm",)  # the authors' names are the same
# All: every decoder of either source has a table of its own (tests/tasks/setr/test_golden.py).
SETR_DECODERS = ("naive", "pup", "mla")
SETR = tuple(f"{source}_{decoder}" for source in ("authors", "mmseg") for decoder in SETR_DECODERS)
# All: each has names of its own.
MAE = ("authors", "hf_saved", "hf_hub", "hf_memory")
