"""Knowledge distillation: the paper's equations, and what a teacher must and must not do."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_vit
from keras_vit import DistillationLoss, Distiller, teacher_logits
from keras_vit.teacher import Teacher
from tests.helpers import backends, randomize, tiny_vit, to_numpy

LABELS = np.array([0, 3, 1])
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def logits(seed):
    return np.random.default_rng(seed).normal(0, 2, (3, 4)).astype("float32")


def pixels(size=(24, 16), batch=3):
    return np.random.default_rng(0).uniform(0, 255, (batch, *size, 3)).astype("float32")


def student(**arguments):
    settings = {"include_preprocessing": True, "distillation_token": True, "depth": 1}
    model = tiny_vit(**{**settings, **arguments})
    randomize(model)
    return model


def linear(**arguments):
    """The smallest student: with one head."""
    images = keras.Input((24, 16, 3))
    x = layers.GlobalAveragePooling2D()(images)
    return keras.Model(images, layers.Dense(4, **arguments)(x), name="linear")


def cnn(num_classes=4, size=(24, 16), activation=None):
    """A network of plain Keras with batch normalisation, whose statistics training would move."""
    images = keras.Input((*size, 3))
    x = layers.Conv2D(4, 3, strides=4)(images)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(num_classes, activation=activation)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(images, x, name="cnn")


def compiled(distiller, optimizer=None, loss=CROSSENTROPY, **arguments):
    """Without XLA on TensorFlow, whose compilation takes longer than a tiny step."""
    jit = keras.backend.backend() == "jax"
    distiller.compile(optimizer or keras.optimizers.SGD(0.1), loss, jit_compile=jit, **arguments)
    return distiller


def loss_of(distiller, y, by_class, by_teacher):
    """The loss of a training step whose forward pass gave these logits."""
    outputs = {"class": by_class, "distillation": by_teacher}
    y, outputs = keras.tree.map_structure(ops.convert_to_tensor, (y, outputs))
    return float(distiller.compute_loss(None, y, outputs))


# The loss


def test_hard_is_the_crossentropy_with_the_teachers_class():
    said, found = logits(0), logits(1)
    expected = -log_softmax(found)[np.arange(3), said.argmax(-1)]
    np.testing.assert_allclose(float(DistillationLoss()(said, found)), expected.mean(), rtol=1e-5)
    weights = np.array([1.0, 0.0, 2.0])
    weighted = float(DistillationLoss()(said, found, weights))
    np.testing.assert_allclose(weighted, (weights * expected).mean(), rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_soft_is_the_divergence_at_a_temperature_times_its_square(temperature):
    said, found = logits(0), logits(1)
    p, q = log_softmax(said / temperature), log_softmax(found / temperature)
    expected = temperature**2 * (np.exp(p) * (p - q)).sum(-1).mean()
    loss = DistillationLoss("soft", temperature)
    np.testing.assert_allclose(float(loss(said, found)), expected, rtol=1e-5)
    assert abs(float(loss(said, said + 7.0))) < 1e-5  # the same distribution
    again = DistillationLoss.from_config(loss.get_config())
    np.testing.assert_allclose(float(again(said, found)), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("soft_labels", [False, True])
def test_equations_2_and_3(kind, soft_labels):
    """(1 - alpha) of the labels by one head, alpha of the teacher by the other."""
    said, by_class, by_teacher = logits(0), logits(1), logits(2)
    labels, loss = LABELS, CROSSENTROPY
    targets = np.eye(4)[LABELS]
    if soft_labels:  # as of MixUp
        targets = 0.7 * targets + 0.3 * targets[::-1]
        labels, loss = targets, keras.losses.CategoricalCrossentropy(from_logits=True)
    distiller = compiled(Distiller(linear(), None, kind, temperature=2.0, alpha=0.25), loss=loss)
    found = loss_of(distiller, {"labels": labels, "teacher": said}, by_class, by_teacher)
    first = -(targets * log_softmax(by_class)).sum(-1).mean()
    if kind == "hard":
        second = -log_softmax(by_teacher)[np.arange(3), said.argmax(-1)].mean()
    else:
        p, q = log_softmax(said / 2), log_softmax(by_teacher / 2)
        second = 4 * (np.exp(p) * (p - q)).sum(-1).mean()
    np.testing.assert_allclose(found, 0.75 * first + 0.25 * second, rtol=1e-5)


def test_penalties_of_the_student_count_once():
    model = linear(kernel_regularizer=keras.regularizers.L2(0.1))
    penalty = 0.1 * (to_numpy(model.weights[0]) ** 2).sum()
    distiller = compiled(Distiller(model, alpha=0.25))
    y = {"labels": LABELS, "teacher": logits(0)}
    found = loss_of(distiller, y, logits(1), logits(1))
    expected = 0.75 * float(CROSSENTROPY(LABELS, logits(1)))
    expected += 0.25 * float(DistillationLoss()(logits(0), logits(1)))
    np.testing.assert_allclose(found, expected + penalty, rtol=1e-5)


# Who learns what


@pytest.mark.parametrize(("alpha", "still"), [(0.0, "distillation_head"), (1.0, "head")])
def test_each_head_learns_from_its_own_source(alpha, still):
    model, teacher = student(), cnn()
    before = {w.path: to_numpy(w) for w in [*model.weights, *teacher.weights]}
    teachers = {w.path: to_numpy(w) for w in teacher.weights}
    distiller = compiled(Distiller(model, teacher, alpha=alpha))
    assert [v.path for v in distiller.trainable_variables] == [
        v.path for v in model.trainable_variables
    ]
    distiller.fit(pixels(), LABELS, verbose=0)
    changed = {w.path for w in model.weights if np.abs(to_numpy(w) - before[w.path]).max() > 0}
    assert {w.path for w in model.weights} - changed == {
        f"{still}/dense/kernel",
        f"{still}/dense/bias",
    }
    for weight in teacher.weights:  # moving means too
        np.testing.assert_array_equal(to_numpy(weight), teachers[weight.path])
    assert len(distiller.optimizer.variables) < 2 + len(before)


def test_a_student_with_one_head_learns_both_with_it():
    model, images = linear(), pixels() / 255
    said = logits(0)
    distiller = compiled(Distiller(model, alpha=0.5))
    expected = model.predict(images, verbose=0)
    y = {"labels": LABELS, "teacher": said}
    first = distiller.fit(images, y, verbose=0).history["loss"][0]
    hand = log_softmax(expected)[np.arange(3), [LABELS, said.argmax(-1)]]
    np.testing.assert_allclose(first, -hand.mean(), rtol=1e-4)


# Compiles for longest on JAX and differs in nothing there.
two_backends = backends("torch", "tensorflow")


@two_backends
def test_computed_beforehand_is_the_same_training():
    teacher = cnn()
    said = teacher_logits(teacher, pixels())
    np.testing.assert_allclose(said, teacher.predict(pixels(), verbose=0), atol=1e-5)
    with_teacher, without = student(), student()
    without.set_weights(with_teacher.get_weights())
    first, second = (
        compiled(Distiller(with_teacher, teacher, "soft")),
        compiled(Distiller(without, kind="soft")),
    )
    live = first.fit(pixels(), LABELS, shuffle=False, verbose=0).history["loss"]
    y = {"labels": LABELS, "teacher": said}
    beforehand = second.fit(pixels(), y, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(live, beforehand, rtol=1e-5)
    for one, other in zip(with_teacher.weights, without.weights, strict=True):
        np.testing.assert_allclose(to_numpy(one), to_numpy(other), atol=1e-6)


@two_backends
def test_tf_data_in_and_out():
    tf = pytest.importorskip("tensorflow")
    teacher = cnn()
    said = teacher_logits(teacher, pixels(batch=5), batch_size=2)
    data = tf.data.Dataset.from_tensor_slices((pixels(batch=5), np.arange(5) % 4)).batch(2)
    np.testing.assert_allclose(teacher_logits(teacher, data), said, atol=1e-5)
    y = {"labels": np.arange(5) % 4, "teacher": said}
    data = tf.data.Dataset.from_tensor_slices((pixels(batch=5), y)).batch(5)
    distiller = compiled(Distiller(student()), metrics=["accuracy"])
    history = distiller.fit(data, validation_data=data, verbose=0).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}


# What evaluation and saving are about


def test_what_is_evaluated_predicted_and_saved_is_the_student(tmp_path):
    model = student()
    distiller = compiled(Distiller(model, cnn()), metrics=["accuracy"])
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "student.keras")
    distiller.fit(pixels(), LABELS, verbose=0, callbacks=[checkpoint])
    expected = model.predict(pixels(), verbose=0)
    np.testing.assert_allclose(distiller.predict(pixels(), verbose=0), expected, atol=1e-6)
    loss, accuracy = distiller.evaluate(pixels(), LABELS, verbose=0)
    np.testing.assert_allclose(loss, float(CROSSENTROPY(LABELS, expected)), rtol=1e-5)
    np.testing.assert_allclose(accuracy, (expected.argmax(-1) == LABELS).mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="Received: shape=.*32, 16"):
        distiller.fit(pixels((32, 16)), LABELS, verbose=0)  # which loses nothing
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert type(loaded) is keras_vit.VisionTransformer
    assert len(loaded.weights) == len(model.weights)
    for one in (loaded, model):
        np.testing.assert_allclose(one.predict(pixels(), verbose=0), expected, atol=1e-6)


def test_mixed_precision_averages_and_a_second_fit():
    """With XLA where the backend has it by default."""
    model = student(dtype="mixed_float16")
    distiller = Distiller(model, cnn())
    rule = keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.5)
    distiller.compile(rule, CROSSENTROPY)
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    losses = []
    for _ in range(2):
        losses += distiller.fit(pixels(), LABELS, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert np.isfinite(model.predict(pixels(), verbose=0)).all()


# What the teacher is given


def test_a_teacher_of_this_library_gets_its_own_normalisation():
    preprocessor = keras_vit.Preprocessor((24, 16), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    teacher = tiny_vit(preprocessor=preprocessor)
    randomize(teacher)
    normalised = (pixels() / 255 - np.array([0.4, 0.5, 0.6])) / np.array([0.2, 0.3, 0.4])
    expected = teacher.predict(normalised.astype("float32"), verbose=0)
    taught = Distiller(student(), teacher).teacher.predict(pixels(), verbose=0)
    np.testing.assert_allclose(taught, expected, atol=1e-4)
    assert Distiller(linear(), teacher).teacher.preprocess is not None  # which takes pixels too
    np.testing.assert_allclose(teacher_logits(teacher, pixels()), expected, atol=1e-4)
    # A student that is given normalised images shows them in its own way.
    half = keras_vit.Preprocessor((24, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
    other = Distiller(tiny_vit(preprocessor=half), teacher).teacher
    shown = (pixels() / 127.5 - 1).astype("float32")
    np.testing.assert_allclose(other.predict(shown, verbose=0), expected, atol=1e-4)


def test_the_images_are_resized_then_preprocessed_and_left_as_they_were():
    teacher = cnn(size=(12, 8))
    preprocess = keras.applications.mobilenet.preprocess_input  # to -1..1, on PyTorch in place
    wrapped = Teacher(teacher, preprocess)
    images = keras.ops.convert_to_tensor(np.full((2, 24, 16, 3), 204.0, "float32"))
    said = to_numpy(wrapped(images))
    np.testing.assert_array_equal(to_numpy(images), 204.0)
    flat = np.full((2, 12, 8, 3), 204 / 127.5 - 1, "float32")
    np.testing.assert_allclose(said, teacher.predict(flat, verbose=0), atol=1e-5)
    # Of a picture with structure: bicubic with antialiasing, as Pillow resizes.
    seen = keras.Model(teacher.input, layers.GlobalAveragePooling2D()(teacher.input))
    ramp = np.broadcast_to(np.arange(24.0)[:, None, None], (24, 16, 3))[None].astype("float32")
    mean = Teacher(seen).predict(ramp, verbose=0)
    np.testing.assert_allclose(mean, 11.5, atol=1e-3)


def test_probabilities_become_logits():
    teacher = cnn(activation="softmax")
    distiller = Distiller(linear(), teacher, from_logits=False)
    said = distiller.teacher.predict(pixels(), verbose=0)
    probabilities = np.exp(log_softmax(said))
    np.testing.assert_allclose(probabilities, teacher.predict(pixels(), verbose=0), atol=1e-5)


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teacher": lambda: cnn(7)}, "same classes. Received: cnn with 7, .* with 4"),
        ({"teacher": lambda: tiny_vit(num_classes=None)}, "teacher must be .*features of shape"),
        ({"teacher": lambda: keras.Model(*[keras.Input((8, 8, 3))] * 2)}, "teacher must be a"),
        ({"student": lambda: tiny_vit(num_classes=None)}, "student must be .*features of shape"),
        (
            {"student": lambda: linear(activation="softmax")},
            "must output logits.*softmax of its last layer.*softmax in",
        ),
        ({"teacher": lambda: cnn(activation="softmax")}, "from_logits must be False.*sum of 1"),
        ({"teacher": cnn, "from_logits": False}, "from_logits must be True.*outputs logits"),
        ({"kind": "medium"}, "kind must be one of 'hard', 'soft'. Received: kind='medium'"),
        ({"temperature": 0.0}, "temperature must be above 0. Received: temperature=0.0"),
        ({"alpha": 1.5}, "alpha must be in \\[0, 1\\]. Received: alpha=1.5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments_are_explained(arguments, message):
    arguments = {
        key: value() if callable(value) else value
        for key, value in {"student": linear, **arguments}.items()
    }
    with pytest.raises(ValueError, match=message):
        Distiller(**arguments)


def test_bad_targets_are_explained():
    said = logits(0)
    y = {"labels": LABELS, "teacher": said}
    alone, taught = compiled(Distiller(linear())), compiled(Distiller(linear(), cnn()))
    for distiller, given in ((alone, LABELS), (taught, y)):
        with pytest.raises(ValueError, match='y must be {"labels".*Received: teacher='):
            loss_of(distiller, given, logits(1), logits(2))
    with pytest.raises(ValueError, match="7 classes from the teacher, 4 from the student"):
        loss_of(alone, {**y, "teacher": np.zeros((3, 7), "float32")}, logits(1), logits(2))


def test_arguments_that_change_nothing_are_said_or_refused():
    with pytest.warns(UserWarning, match="temperature=2.0 has no effect with kind='hard'"):
        Distiller(linear(), temperature=2.0)
    with pytest.warns(UserWarning, match="no effect with alpha=0"):
        Distiller(linear(), alpha=0)
    for arguments in ({"preprocess": lambda x: x}, {"from_logits": False}):
        with pytest.raises(ValueError, match="are for a teacher.*Received: teacher=None"):
            Distiller(linear(), **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Distiller(linear(), kind="soft", temperature=2.0, alpha=0.1)
        Distiller(linear(), cnn(), preprocess=lambda x: x)
