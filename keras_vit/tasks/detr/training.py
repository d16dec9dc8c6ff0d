"""`TrainsDetection`: outputs and loss of a detector in training.

Letters: B batch, M objects of a picture at most, L blocks of the decoder, G groups of queries, Q
queries of a group, P copies of the objects with noise, S sets of queries that are matched.
"""

from types import SimpleNamespace

import keras
from keras import ops

from keras_vit.callers import warn
from keras_vit.tasks.detr.criterion import (
    PARTS,
    denoising_losses,
    objects_mask,
    set_losses,
    weighted,
)
from keras_vit.tasks.detr.denoising import NoisyObjects
from keras_vit.tasks.detr.devices import over_devices
from keras_vit.tasks.detr.heads import ObjectQueries
from keras_vit.tasks.detr.matcher import match, matching_costs, solver
from keras_vit.tasks.detr.targets import as_targets, check_arrays

WEIGHTS = {"class": 1.0, "boxes": 5.0, "giou": 2.0}


class TrainsDetection(keras.Model):
    """Mixin of a functional model with the stages `embed`, `encode`, `decode` and `read_out`."""

    # Arguments of a model without what only training uses.
    for_inference = {"query_groups": 1, "denoising": False}
    _compiled = SimpleNamespace(given={})
    _aids = ()  # layers of training alone

    def _make_aids(self):
        """Creates the layers that only training uses, before the graph is built."""
        a, aids = self._given, []
        shape = (None, None, a.width)
        if a.query_groups > 1:
            number = (a.query_groups - 1) * a.num_queries
            aids.append(self.layer(ObjectQueries, number, name="query_groups"))
        if a.denoising:
            aids.append(self.layer(NoisyObjects, a.num_classes, a.width, name="denoising"))
        for layer in aids:
            layer.build(shape)
        object.__setattr__(self, "_aids", aids)  # `layers` has them

    @property
    def layers(self):
        """list of the layers: those of the graph for inference, and those of training alone."""
        return [*super().layers, *self._aids]

    def compute(self, images, valid, training=None, targets=None):
        """The outputs for padded images.

        Args:
            images: float tensor (B, H, W, C).
            valid: bool tensor (B, H, W), or None if everything is.
            training: bool.
            targets: what the model is to find, for `denoising`; None to leave that out.

        Returns:
            {"logits", "boxes"} of the last block of the decoder. In training also "auxiliary", a
            list of the same of the earlier ones; with several groups "groups", a list of them for
            every block, (B, (G - 1) * Q, ...); and with `targets` "denoising", a list of the same
            of the noisy objects, (B, P * M, ...).
        """
        memory = self.encode(*self.embed(images, valid, training), training=training)
        if not training:
            return self.read_out(self.decode(*memory, training=training)[-1])
        parts, visible = self._queries_of_training(memory[0], targets)
        queries = [ops.concatenate([part[i] for part in parts.values()], axis=1) for i in (0, 1)]
        states = self.decode(*memory, training=True, queries=queries, visible=visible)
        found = {name: [] for name in parts}
        for state in states:
            outputs, first = self.read_out(state), 0
            for name, (objects, _) in parts.items():
                number = objects.shape[1] if objects.shape[1] else ops.shape(objects)[1]
                part = slice(first, first + number)
                found[name].append({key: x[:, part] for key, x in outputs.items()})
                first = first + number
        *auxiliary, main = found.pop("main")
        return {**main, "auxiliary": auxiliary, **found}

    def _queries_of_training(self, memory, targets):
        """(dict of name to [objects, queries], mask of which of them see each other, or None)."""
        a = self._given
        parts = {"main": self._layers_by_name["queries"](memory)}
        groups = [ops.arange(a.num_queries, dtype="int32") * 0]
        if a.query_groups > 1:
            parts["groups"] = self._layers_by_name["query_groups"](memory)
            number = (a.query_groups - 1) * a.num_queries
            groups.append(ops.arange(number, dtype="int32") // a.num_queries + 1)
        present = None
        if a.denoising and targets is not None and targets["labels"].shape[1] != 0:
            layer = self._layers_by_name["denoising"]
            parts["denoising"] = layer(targets["boxes"], targets["labels"])
            number = ops.shape(targets["labels"])[1]
            each = ops.arange(layer.copies * number, dtype="int32") // number
            groups.append(each + a.query_groups)
            present = ops.tile(objects_mask(targets), [1, layer.copies])  # (B, P*M)
        if len(parts) == 1:
            return parts, None
        groups = ops.concatenate(groups)
        visible = groups[:, None] == groups[None]
        if present is not None:  # nobody sees the noisy copies of padding
            others = ops.shape(groups)[0] - ops.shape(present)[1]
            rest = ops.ones((ops.shape(present)[0], others), dtype="bool")
            seen = ops.concatenate([rest, present], axis=1)
            visible = ops.logical_and(visible[None], seen[:, None])
        return parts, visible

    def compile(
        self,
        optimizer="adamw",
        weights=None,
        matching=None,
        no_object_weight=0.1,
        denoising_weight=1.0,
        metrics=None,
        jit_compile="auto",
        **kwargs,
    ):
        """Configures training; `fit` takes images, or a dict with their mask, and objects.

        The loss is that of the paper, summed over all blocks of the decoder: objects and queries
        are matched, then the classes of all queries and the boxes of matched ones are compared.

        Args:
            optimizer: as in `keras.Model.compile`. The authors': AdamW(1e-4, weight_decay=1e-4,
                global_clipnorm=0.1), with a tenth of the rate for the backbone.
            weights: dict, weights in the loss of "class" (cross-entropy), "boxes" (L1) and "giou"
                (generalised IoU); what is left out is 1, 5 and 2.
            matching: dict, the same for the costs of matching; by default 1, 5 and 2.
            no_object_weight: float, weight of queries without an object in the cross-entropy.
            denoising_weight: float, weight of the loss of noisy objects (`denoising=True`).
            metrics: list of metrics of targets and {"logits", "boxes"}.
            jit_compile: as in `keras.Model.compile`. SciPy does the matching on the host; where
                XLA cannot call it, as on TensorFlow, a step runs without XLA.
            kwargs: other arguments of `keras.Model.compile`.

        Raises:
            ValueError: if weights are unknown or negative.
            ImportError: without SciPy.

        Example:
            >>> optimizer = keras.optimizers.AdamW(1e-4, weight_decay=1e-4, global_clipnorm=0.1)
            >>> model.compile(optimizer)
        """
        if kwargs.pop("loss", None) is not None:
            raise ValueError("The loss is the model's own: leave it out. Received: loss=...")
        solver()  # raises without SciPy
        given = {
            "weights": _weights(weights, "weights"),
            "matching": _weights(matching, "matching"),
            "no_object_weight": _weight(no_object_weight, "no_object_weight"),
            "denoising_weight": _weight(denoising_weight, "denoising_weight"),
        }
        if not _xla_calls_back():
            if jit_compile is True:
                warn(
                    "XLA cannot call SciPy, which matches objects and queries, on "
                    f"{keras.backend.backend()}: training runs without XLA (jit_compile=False)."
                )
            jit_compile = False
        super().compile(optimizer, loss=None, metrics=metrics, jit_compile=jit_compile, **kwargs)
        self._compiled = SimpleNamespace(given=given)
        if getattr(self, "_parts", None) is None:
            self._parts = [keras.metrics.Mean(name=f"{name}_loss") for name in PARTS]

    def get_compile_config(self):
        config = super().get_compile_config()
        return {**config, **self._compiled.given} if config else config

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, y=None, *args, **kwargs):
        held_out = kwargs.get("validation_data")
        for targets in (y, held_out[1] if isinstance(held_out, (tuple, list)) else None):
            check_arrays(targets, self.num_classes)
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        check_arrays(y, self.num_classes)
        return super().evaluate(x, y, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        check_arrays(y, self.num_classes)
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        check_arrays(y, self.num_classes)
        return super().test_on_batch(x, y, *args, **kwargs)

    def train_step(self, *arguments):
        *state, data = arguments  # on JAX the state comes first
        if self._given.denoising:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            x = x if isinstance(x, dict) else {"images": x}
            x = {name: ops.convert_to_tensor(value) for name, value in x.items()}
            data = ({**x, "targets": as_targets(y)}, y, sample_weight)
        return super().train_step(*state, data)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if sample_weight is not None:
            raise ValueError(
                "Detection takes no sample weights. Received: sample_weight in the data"
            )
        targets, given = as_targets(y), SimpleNamespace(**self._compiled.given)
        totals = over_devices if training else lambda x: x
        rule = {"totals": totals, "no_object_weight": given.no_object_weight}

        blocks = [*y_pred.get("auxiliary", []), {key: y_pred[key] for key in ("logits", "boxes")}]
        groups = [one for block in y_pred.get("groups", []) for one in self._apart(block)]
        queries = self._matched([*blocks, *groups], targets)  # (S, B, M)
        losses = [
            set_losses(outputs, targets, queries[i], **rule)
            for i, outputs in enumerate([*blocks, *groups])
        ]
        number = 1 + len(groups) // len(blocks)  # of groups; the loss is their mean
        loss = sum(weighted(parts, given.weights) for parts in losses) / number
        for outputs in y_pred.get("denoising", []):
            copies = self._layers_by_name["denoising"].copies
            parts = denoising_losses(outputs, targets, totals, copies)
            loss = loss + given.denoising_weight * weighted(parts, given.weights)
        for metric, value in zip(self._parts, losses[len(blocks) - 1].values(), strict=True):
            metric.update_state(value)
        for more in self.losses:  # of layers, such as regularisation
            loss = loss + more
        # Under tf.distribute Keras adds up the gradients of the replicas, and expects shares of it.
        return self._aggregate_additional_loss(loss)

    def _matched(self, sets, targets):
        """int32 (S, B, M): the query of every object, in every set; one call on the host."""
        weights = self._compiled.given["matching"]
        costs = ops.stack([matching_costs(x, targets, weights) for x in sets])  # (S, B, Q, M)
        s, b, q, m = ops.shape(costs)
        counts = ops.tile(targets["count"], [len(sets)])
        found = match(ops.reshape(costs, (-1, q, m)), counts, targets, self.num_classes)
        return ops.reshape(found, (s, -1, m))

    def _apart(self, outputs):
        """The outputs of G - 1 groups, (B, (G - 1) * Q, ...), as a list of dicts."""
        a = self._given
        return [
            {key: x[:, i * a.num_queries : (i + 1) * a.num_queries] for key, x in outputs.items()}
            for i in range(a.query_groups - 1)
        ]

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        main = {key: y_pred[key] for key in ("logits", "boxes")}
        return super().compute_metrics(x, y, main, sample_weight)


def _xla_calls_back():
    """Whether a function that XLA compiles can call SciPy."""
    if keras.backend.backend() != "jax":
        return keras.backend.backend() == "torch"
    import jax

    return jax.default_backend() in ("cpu", "gpu", "tpu")


def _weights(value, name):
    value = {} if value is None else value
    if not isinstance(value, dict) or not set(value) <= set(WEIGHTS):
        raise ValueError(
            f"{name} must be a dict with any of the keys {', '.join(map(repr, WEIGHTS))}. "
            f"Received: {name}={value!r}"
        )
    return {key: _weight(value.get(key, weight), name) for key, weight in WEIGHTS.items()}


def _weight(value, name):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError(f"{name} must not be negative. Received: {value!r}")
    return float(value)
