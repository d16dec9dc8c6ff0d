"""Files as training tools leave them: PyTorch writes each here, by the tools' own wrappers.

What the official repositories save: DINO's main_dino.py, DINOv2's train.py, MoCo v3's main_moco.py
and moco/builder.py, MAE's util/misc.py.
"""

import argparse
import collections

import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints.candidates import INNER
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.families import tables
from keras_vit.checkpoints.tables import as_tuple
from tests.checkpoints.helpers import tensors
from tests.helpers import once, randomize, tiny_swin, tiny_vit, to_numpy

torch = pytest.importorskip("torch")
nn = torch.nn
pytestmark = once  # files are read the same way on every backend
SAID = {"num_heads": 2, "preprocessor": None}


class Model:
    """A model of this library, and the same as a module of PyTorch with timm's names."""

    def __init__(self, folder, seed=0, **arguments):
        self.keras = tiny_vit(image_size=24, **arguments)
        randomize(self.keras, seed)
        arrays = tensors(keras_vit.save_pretrained(self.keras, folder / f"{seed}", "timm"))
        self.torch = module_of(arrays)

    def assert_is(self, loaded):
        """Every weight of the model, and none besides."""
        found = {weight.path: weight for weight in loaded.weights}
        assert set(found) == {weight.path for weight in self.keras.weights}
        for weight in self.keras.weights:
            np.testing.assert_array_equal(to_numpy(found[weight.path]), to_numpy(weight))


def module_of(arrays):
    """A module whose state dict has these names."""
    root = nn.Module()
    for name, array in arrays.items():
        *path, last = name.split(".")
        place = root
        for word in path:
            if not hasattr(place, word):
                place.add_module(word, nn.Module())
            place = getattr(place, word)
        place.register_parameter(last, nn.Parameter(torch.tensor(array)))
    return root


def within(**parts):
    """A module of named modules."""
    root = nn.Module()
    for name, part in parts.items():
        root.add_module(name, part)
    return root


def optimizer_of(module):
    """The state of AdamW after a step, which holds three tensors for every weight."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for weight in module.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.param_groups[0]["lr"] = np.float64(1e-3)  # of a schedule that NumPy computed
    before = {name: x.clone() for name, x in module.state_dict().items()}
    optimizer.step()
    module.load_state_dict(before)
    return optimizer.state_dict()


def mlp(*sizes):
    layers = []
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
        last = i == len(sizes) - 2
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs, affine=not last)]
        layers += [] if last else [nn.ReLU()]
    return nn.Sequential(*layers)


def dino_head(width):
    last = nn.utils.weight_norm(nn.Linear(6, 20, bias=False))
    return within(
        mlp=nn.Sequential(nn.Linear(width, 8), nn.GELU(), nn.Linear(8, 6)), last_layer=last
    )


def features(tmp_path, seed=0, **arguments):
    return Model(tmp_path, seed, num_classes=None, **arguments)


def load(content, tmp_path, **arguments):
    path = tmp_path / "checkpoint.pth"
    legacy = arguments.pop("legacy", False)
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return keras_vit.from_pretrained(path, **{**SAID, **arguments})


def notes(model):
    return "; ".join(model.load_report.notes)


ARGS = argparse.Namespace(arch="vit_tiny", lr=5e-4, betas=(0.9, 0.95), data=None)
EXTRAS = {"epoch": 3, "args": ARGS, "best": np.float64(0.8), "scaler": {"scale": 65536.0}}


@pytest.mark.parametrize(
    "place",
    ["", "model", "model_state_dict", "state_dict", "net", "weights", "state.model", "a.b.c.d"],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_any_container_is_looked_through(place, legacy, tmp_path):
    model = Model(tmp_path)
    content = model.torch.state_dict()
    for key in reversed(place.split(".") if place else []):
        content = {**EXTRAS, key: content, "optimizer": optimizer_of(model.torch)}
    loaded = load(content, tmp_path, legacy=legacy)
    model.assert_is(loaded)
    assert loaded.load_report.dropped == {}
    assert (f"read from part {place!r}" in notes(loaded)) == bool(place)
    assert ("not read: " in notes(loaded) and "optimizer" in notes(loaded)) == bool(place)
    if place == "state.model" and not legacy:
        model.assert_is(load(content, tmp_path, part=place))
        for other in ("state", "optimizer.state.0"):
            with pytest.raises(ValueError, match="part must be|holds no Vision Transformer"):
                load(content, tmp_path, part=other)


WRAPPED = {
    "module.": nn.DataParallel,
    "_orig_mod.": torch.compile,
    "module._orig_mod.": lambda x: nn.DataParallel(torch.compile(x)),
    "model.": lambda x: within(model=x),
    "net.backbone.": lambda x: within(net=within(backbone=x)),
    "model.model.": lambda x: within(model=within(model=x)),  # nests twice
    "anything at all.": lambda x: within(**{"anything at all": x}),
}


@pytest.mark.parametrize("prefix", WRAPPED)
def test_any_common_prefix_is_stripped_and_said(prefix, tmp_path):
    model = Model(tmp_path)
    state = WRAPPED[prefix](model.torch).state_dict()
    assert all(name.startswith(prefix) for name in state)
    loaded = load(state, tmp_path)
    model.assert_is(loaded)
    assert f"stripped from the names: {prefix}" in notes(loaded)
    assert f"stripped from the names: {prefix}" in loaded.load_report.summary()
    # A standing model is told too.
    standing = tiny_vit(image_size=24)
    report = keras_vit.load_weights(standing, tmp_path / "checkpoint.pth", prefix=prefix)
    model.assert_is(standing)
    assert f"stripped from the names: {prefix}" in report.notes


def test_the_average_of_weights_that_torch_keeps(tmp_path):
    model = Model(tmp_path)
    average = torch.optim.swa_utils.AveragedModel(model.torch)
    loaded = load(average.state_dict(), tmp_path)
    model.assert_is(loaded)
    assert set(loaded.load_report.dropped) == {"n_averaged"}


def test_no_table_has_a_name_that_looks_like_a_wrapper():
    names = {x for t in tables() for row in t.rows for x in as_tuple(row.sources)}
    assert len(names) > 1000
    assert [name for name in names if INNER.sub("", f".{name}") != f".{name}"] == []


def test_wrappers_within_names(tmp_path):
    """Activation checkpointing and compilation block by block, as torch's own modules name them.

    `checkpoint_wrapper` itself hides its name from state dicts; FSDP's flat ones show it.
    """
    model = Model(tmp_path)
    blocks = model.torch.blocks
    blocks.add_module("0", within(_checkpoint_wrapped_module=getattr(blocks, "0")))
    blocks.add_module("1", torch.compile(nn.DataParallel(getattr(blocks, "1"))))
    model.torch.patch_embed = torch.compile(model.torch.patch_embed)
    state = within(model=torch.compile(model.torch)).state_dict()
    assert "model._orig_mod.blocks.0._checkpoint_wrapped_module.attn.qkv.weight" in state
    assert "model._orig_mod.patch_embed._orig_mod.proj.weight" in state
    loaded = load(state, tmp_path)
    model.assert_is(loaded)
    assert "names: model._orig_mod." in notes(loaded)
    inner = "stripped within the names: _checkpoint_wrapped_module., _orig_mod., module."
    assert inner in notes(loaded)


def test_fsdp_s_names_and_dinov2_s_chunks(tmp_path):
    """As DINOv2 trains: blocks in chunks, which FSDP wraps, of a teacher beside its student."""
    teacher, student = features(tmp_path, 1), features(tmp_path, 2)
    state = {}
    for who, model in (("student", student), ("teacher", teacher)):
        for name, value in model.torch.state_dict().items():
            if name.startswith("blocks."):
                number = int(name.split(".")[1])
                name = name.replace("blocks.", f"blocks.{number}._fsdp_wrapped_module.", 1)
            state[f"{who}.backbone._fsdp_wrapped_module.{name}"] = value
        state.update(within(**{who: within(dino_head=dino_head(16))}).state_dict())
    loaded = load({"model": state, "iteration": 3}, tmp_path)
    teacher.assert_is(loaded)
    assert "of DINO's two models the teacher, which its authors evaluate" in notes(loaded)
    assert "prefix='student.backbone._fsdp_wrapped_module.' loads the student" in notes(loaded)
    assert "blocks.0.3. is blocks.3." in notes(loaded)
    assert "stripped within the names: _fsdp_wrapped_module." in notes(loaded)
    other = load({"model": state}, tmp_path, prefix="student.backbone._fsdp_wrapped_module")
    student.assert_is(other)
    assert "authors" not in notes(other)


def test_dino(tmp_path):
    teacher, student = features(tmp_path, 1), features(tmp_path, 2)
    wrapped = within(backbone=student.torch, head=dino_head(16))
    content = {
        "student": nn.DataParallel(wrapped).state_dict(),
        "teacher": within(backbone=teacher.torch, head=dino_head(16)).state_dict(),
        "optimizer": optimizer_of(wrapped),
        "epoch": 100,
        "args": ARGS,
        "dino_loss": {"center": torch.zeros(1, 20)},
        "fp16_scaler": {"scale": 65536.0, "growth_tracker": 0},
    }
    loaded = load(content, tmp_path)
    teacher.assert_is(loaded)
    assert "read from part 'teacher' of the file; not read: student, dino_loss, optim" in notes(
        loaded
    )
    assert "of DINO's two models the teacher, which its authors evaluate" in notes(loaded)
    assert "part='student' loads the student" in notes(loaded)
    dropped = loaded.load_report.dropped
    heads = [name for name in content["teacher"] if name.startswith("head.")]
    assert set(dropped) == set(heads) and "head.last_layer.weight_g" in dropped
    assert set(dropped.values()) == {"a head of several layers, such as a projection"}
    student.assert_is(load(content, tmp_path, part="student"))
    # Without the head of DINO nobody knows which: in distillation the student is what is wanted.
    for part in ("student", "teacher"):
        content[part] = {k: v for k, v in content[part].items() if "last_layer" not in k}
    with pytest.raises(CheckpointError, match="several models.*part='student' or part='teacher'"):
        load(content, tmp_path)


def test_dinov2_s_teacher(tmp_path):
    teacher = features(
        tmp_path, num_registers=4, layer_scale=0.1, position_embedding="learned_patches"
    )
    state = teacher.torch.state_dict()
    state["pos_embed"] = torch.cat([torch.zeros(1, 1, 16), state["pos_embed"]], dim=1)
    state["register_tokens"] = state.pop("reg_token")
    state["mask_token"] = torch.zeros(1, 16)
    state = {f"backbone.{name}": value for name, value in state.items()}
    heads = within(dino_head=dino_head(16), ibot_head=dino_head(16)).state_dict()
    loaded = load({"teacher": {**state, **heads}}, tmp_path, image_size=24)
    assert loaded.load_report.names == "dinov2 with registers"
    teacher.assert_is(loaded)
    assert set(loaded.load_report.dropped) == {*heads, "backbone.mask_token"}
    assert "read from part 'teacher' of the file" in notes(loaded)


def test_moco_v3(tmp_path):
    base, momentum = features(tmp_path, 1), features(tmp_path, 2)
    for model in (base, momentum):
        model.torch.head = mlp(16, 32, 32, 8)  # the projection, in place of the classifier
        model.torch.head_dense = within(mlp=nn.Linear(16, 8))  # as EsViT's of every patch
    whole = within(
        base_encoder=base.torch, momentum_encoder=momentum.torch, predictor=mlp(8, 16, 8)
    )
    content = {
        "epoch": 300,
        "arch": "vit_small",
        "state_dict": nn.DataParallel(whole).state_dict(),
        "optimizer": optimizer_of(base.torch),
        "scaler": {"scale": 65536.0},
    }
    loaded = load(content, tmp_path)
    base.assert_is(loaded)
    assert "of MoCo v3's two models the base_encoder, which its authors evaluate" in notes(loaded)
    assert "prefix='module.momentum_encoder.' loads the momentum_encoder" in notes(loaded)
    dropped = loaded.load_report.dropped
    used = [name for names, _ in loaded.load_report.used for name in names]
    assert set(dropped) | set(used) == set(content["state_dict"])
    assert dropped["module.base_encoder.head.1.running_mean"].startswith("a head of several")
    assert dropped["module.base_encoder.head_dense.mlp.weight"].startswith("a head of several")
    outside = "stands outside of module.base_encoder., where the model is"
    assert dropped["module.predictor.0.weight"] == outside
    momentum.assert_is(load(content, tmp_path, prefix="module.momentum_encoder."))


def test_mae(tmp_path):
    encoder = features(tmp_path)
    decoder = within(
        decoder_embed=nn.Linear(16, 8),
        decoder_blocks=nn.ModuleList([within(norm1=nn.LayerNorm(8), attn=nn.Linear(8, 24))]),
        decoder_norm=nn.LayerNorm(8),
        decoder_pred=nn.Linear(8, 192),
    ).state_dict()
    decoder |= {"mask_token": torch.zeros(1, 1, 8), "decoder_pos_embed": torch.zeros(1, 10, 8)}
    content = {
        "model": {**encoder.torch.state_dict(), **decoder},
        "optimizer": optimizer_of(encoder.torch),
        **EXTRAS,
    }
    loaded = load(content, tmp_path)
    encoder.assert_is(loaded)
    assert set(loaded.load_report.dropped) == set(decoder)
    assert "the decoder of a masked auto-encoder" in loaded.load_report.summary()


def test_lightning(tmp_path):
    """As `Trainer.save_checkpoint` writes it, beside a loss with a tensor of its own."""
    model = Model(tmp_path)
    state = within(model=model.torch).state_dict()
    content = {
        "epoch": 3,
        "global_step": 30,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {**state, "criterion.weight": torch.ones(4)},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val.acc', 'mode': 'max'}": {
                "best_model_score": torch.tensor(0.5),
                "best_k_models": {"epoch=3.ckpt": torch.tensor(0.5)},
            }
        },
        "optimizer_states": [optimizer_of(model.torch)],
        "lr_schedulers": [{"base_lrs": [1e-3], "_last_lr": [1e-3]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 1e-3, "betas": (0.9, 0.999), "args": ARGS},
    }
    torch.save(content, tmp_path / "last.ckpt")
    loaded = keras_vit.from_pretrained(tmp_path / "last.ckpt", **SAID)
    model.assert_is(loaded)
    assert set(loaded.load_report.dropped) == {"criterion.weight"}
    # torch.compile keeps a second name of the same tensors; they are one model.
    state |= {name.replace("model.", "fast._orig_mod.", 1): x for name, x in state.items()}
    model.assert_is(load({**content, "state_dict": state}, tmp_path))


@pytest.mark.parametrize(
    ("weights", "average"), [("state_dict", "state_dict_ema"), ("model", "model_ema")]
)
def test_weights_and_their_average_are_for_the_caller_to_choose(weights, average, tmp_path):
    """timm's and DeiT's own files."""
    models = [Model(tmp_path, seed) for seed in (1, 2)]
    content = {
        **EXTRAS,
        weights: models[0].torch.state_dict(),
        average: models[1].torch.state_dict(),
    }
    message = f"several models: choose one with part='{weights}' or part='{average}'"
    with pytest.raises(CheckpointError, match=message):
        load(content, tmp_path)
    models[0].assert_is(load(content, tmp_path, part=weights))
    models[1].assert_is(load(content, tmp_path, part=average))
    standing = tiny_vit(image_size=24)
    with pytest.raises(CheckpointError, match=message):
        keras_vit.load_weights(standing, tmp_path / "checkpoint.pth")
    keras_vit.load_weights(standing, tmp_path / "checkpoint.pth", part=average)
    models[1].assert_is(standing)
    with pytest.raises(ValueError, match=f"'{weights}', '{average}'. Received: part='ema'"):
        load(content, tmp_path, part="ema")


def test_two_prefixes_that_both_fit(tmp_path):
    models = [Model(tmp_path, seed) for seed in (1, 2)]
    state = within(net=models[0].torch, ema=models[1].torch).state_dict()
    with pytest.raises(CheckpointError, match="choose one with prefix='ema.' or prefix='net.'"):
        load(state, tmp_path)
    for prefix, model in zip(("net", "ema"), models, strict=True):
        loaded = load(state, tmp_path, prefix=prefix)
        model.assert_is(loaded)
        assert len(loaded.load_report.dropped) == len(state) // 2
    with pytest.raises(ValueError, match="'ema.', 'net.'. Received: prefix='model.'"):
        load(state, tmp_path, prefix="model")
    # The one without a prefix, and one that has the other's.
    plain, inner = (model.torch.state_dict() for model in models)
    for prefix in ("module.", "module.module."):
        outer = prefix.removeprefix("module.")
        state = {f"{outer}{name}": x for name, x in plain.items()}
        state |= {f"{prefix}{name}": x for name, x in inner.items()}
        with pytest.raises(CheckpointError, match=f"prefix='{outer}' or prefix='{prefix}'"):
            load(state, tmp_path)
        models[0].assert_is(load(state, tmp_path, prefix=outer))
        models[1].assert_is(load(state, tmp_path, prefix=prefix))
    # Parts and prefixes at once.
    with pytest.raises(CheckpointError, match="part='a' with prefix='module.' or part='a' with "):
        third = {name: x.clone() for name, x in plain.items()}
        load({"a": state, "b": third, "c": {"x": torch.ones(1)}}, tmp_path)


def test_names_that_collide_once_they_are_stripped(tmp_path):
    state = Model(tmp_path).torch.state_dict()
    state["blocks.0._orig_mod.norm1.weight"] = state["blocks.0.norm1.weight"] + 1
    with pytest.raises(CheckpointError, match="'blocks.0._orig_mod.norm1.weight'.* are both"):
        load(state, tmp_path)
    # Chunks that count their blocks anew.
    state = Model(tmp_path, 1).torch.state_dict()
    state = {name.replace("blocks.1.", "blocks.1.0."): x for name, x in state.items()}
    with pytest.raises(CheckpointError, match="are both 'blocks.{i}"):
        load(state, tmp_path)


def test_a_prefix_before_some_names_alone(tmp_path):
    model = Model(tmp_path)
    state = within(encoder=model.torch).state_dict()
    for name in ("norm.weight", "norm.bias"):
        state[name] = state.pop(f"encoder.{name}")
    message = "prefix='encoder.' to leave out.*'norm.weight' is outside of 'encoder.'"
    with pytest.raises(CheckpointError, match=message):
        load(state, tmp_path)
    with pytest.raises(CheckpointError, match="2 weights without a tensor"):
        load(state, tmp_path, prefix="encoder.")
    # A norm of the wrapper beside that of the model, which the caller may leave out.
    state |= within(encoder=model.torch).state_dict()
    with pytest.raises(CheckpointError, match="'norm.bias' and 'encoder.norm.bias' are both"):
        load(state, tmp_path)
    loaded = load(state, tmp_path, prefix="encoder.")
    model.assert_is(loaded)
    assert set(loaded.load_report.dropped) == {"norm.weight", "norm.bias"}
    # Blocks elsewhere than the patch embedding are no model.
    state = {name.replace("encoder.blocks", "blocks"): x for name, x in state.items()}
    with pytest.raises(CheckpointError, match="is outside of 'encoder.'"):
        load(state, tmp_path)


def test_a_linear_head_beside_the_backbone_is_the_model_s(tmp_path):
    model = Model(tmp_path)
    state = within(backbone=model.torch).state_dict()
    for name in ("head.weight", "head.bias"):
        state[name] = state.pop(f"backbone.{name}")
    model.assert_is(load(state, tmp_path))
    loaded = load(state, tmp_path, prefix="backbone.")
    assert set(loaded.load_report.dropped) == {"head.weight", "head.bias"}
    assert loaded.get_config()["num_classes"] is None


def test_other_families_and_libraries(tmp_path):
    swin = tiny_swin()
    randomize(swin)
    arrays = tensors(keras_vit.save_pretrained(swin, tmp_path / "swin", "hf"))
    state = within(model=nn.DataParallel(module_of(arrays))).state_dict()
    loaded = load({"state_dict": state}, tmp_path, num_heads=(2, 4))
    assert "stripped from the names: model.module.;" in notes(loaded) + ";"
    for weight, ours in zip(loaded.weights, swin.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), to_numpy(ours))


def test_eight_models_of_transformers_are_not_too_many(tmp_path):
    """Whose own prefix may be taken for a wrapper's too."""
    name = "vit.embeddings.patch_embeddings.projection.weight"
    with pytest.raises(CheckpointError, match="holds no Vision Transformer"):
        load({f"m{i}.{name}": torch.ones(1) for i in range(8)}, tmp_path)
    with pytest.raises(CheckpointError, match="at most 8 models. Received: 9"):
        load({f"m{i}.{name}": torch.ones(1) for i in range(9)}, tmp_path)


def test_a_library_s_own_prefix_is_no_wrapper(tmp_path):
    """Without a head two tables of transformers know all names alike."""
    model = tiny_vit(image_size=24, num_classes=None)
    arrays = tensors(keras_vit.save_pretrained(model, tmp_path / "hf", "hf"))
    state = {f"vit.{name}": torch.tensor(array) for name, array in arrays.items()}
    loaded = load(state, tmp_path)
    assert loaded.load_report.names == "transformers vit"
    assert "stripped" not in notes(loaded)
    assert loaded.get_config()["norm_epsilon"] == 1e-12
    loaded = load(within(net=module_of(state)).state_dict(), tmp_path)
    assert loaded.load_report.names == "transformers vit"
    assert "stripped from the names: net.;" in notes(loaded) + ";"


def test_too_many_models_and_containers_without_end(tmp_path):
    name = "patch_embed.proj.weight"
    state = {f"m{i}.{name}": torch.ones(1) for i in range(9)}
    for content in (state, {str(i): {name: torch.ones(1)} for i in range(9)}):
        with pytest.raises(CheckpointError, match="at most 8 models. Received: 9"):
            load(content, tmp_path)
    content = {}
    content["self"] = content
    with pytest.raises(CheckpointError, match="no dict of tensors"):
        load(content, tmp_path)
    content = {"x": torch.ones(1)}
    for _ in range(9):
        content = {"a": content}
    with pytest.raises(CheckpointError, match="no dict of tensors"):
        load(content, tmp_path)
    with pytest.raises(CheckpointError, match="two dicts that are called 'a.b'"):
        load({"a": {"b": {"x": torch.ones(1)}}, "a.b": {"x": torch.ones(1)}}, tmp_path)


def test_a_tensor_of_strange_numbers_beside_the_weights_is_no_reason_to_refuse(tmp_path):
    model = Model(tmp_path)
    content = {
        "model": model.torch.state_dict(),
        "fft": {"x": torch.ones(2, dtype=torch.complex64)},
    }
    model.assert_is(load(content, tmp_path))
    with pytest.raises(CheckpointError, match="unknown type.*ComplexFloatStorage"):
        load({"model": {**content["model"], "x": content["fft"]["x"]}}, tmp_path)


def test_what_numpy_and_collections_leave_beside_the_weights(tmp_path):
    model = Model(tmp_path)
    content = {
        "model": model.torch.state_dict(),
        "metric": np.float32(0.5),
        "rng": {"numpy": np.random.RandomState(0).get_state(), "torch": torch.get_rng_state()},
        "history": collections.defaultdict(list, {"loss": [np.float64(1.0)]}),
        "counts": collections.Counter("aab"),
        "order": collections.OrderedDict(a=1),
        "means": np.arange(3.0),
    }
    for protocol in (2, 4):
        torch.save(content, tmp_path / "checkpoint.pth", pickle_protocol=protocol)
        model.assert_is(keras_vit.from_pretrained(tmp_path / "checkpoint.pth", **SAID))
