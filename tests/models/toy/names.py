"""How the toy's other library, and our own files, name its tensors."""

from keras_vit.checkpoints.tables import Names, both, norm, numbered

OTHER = Names(
    name="toy library",
    rows=(
        *both("patches", "patch_embedding/projection", "convolution"),
        *norm("blocks.{i}.norm1", "block{i}/norm1"),
        *both("blocks.{i}.qkv", "block{i}/attention/qkv"),
        *both("blocks.{i}.out", "block{i}/attention/proj"),
        *norm("blocks.{i}.norm2", "block{i}/norm2"),
        *both("blocks.{i}.mlp1", "block{i}/mlp/fc1"),
        *both("blocks.{i}.mlp2", "block{i}/mlp/fc2"),
        *both("classes", "head/dense"),
    ),
    family="toy",
    marks=("patches.weight",),
)

OWN = Names(
    name="keras",
    rows=(
        *numbered("patch_embedding/projection head/dense", "kernel", "bias"),
        *numbered("block{i}/norm1 block{i}/norm2", "gamma", "beta"),
        *numbered(
            "block{i}/attention/qkv block{i}/attention/proj block{i}/mlp/fc1 block{i}/mlp/fc2",
            "kernel",
            "bias",
        ),
    ),
    family="toy",
    marks=("block00/norm1/0",),
)

TABLES = (OTHER, OWN)
