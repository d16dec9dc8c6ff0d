import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import backends
from tests.training.helpers import plan
from training import data
from training.augment.mixing import mixing
from training.augment.transform import training_transform
from training.data import sources
from training.recipe.schema import AugmentTable, DataTable

# tf.data does all of this whatever the backend is.
pytestmark = backends("tensorflow")


def digits():
    return load("digits")


def load(source, validation=0.1, num_classes=10):
    return data.load(DataTable(source, validation), num_classes)


def as_it_is(image, seed):
    return tf.cast(image, tf.float32)


def batches(split, seed, epochs, transform=as_it_is, batch_size=64, mix=None, repeats=1):
    made = plan(split, 10, batch_size, transform, seed, epochs, mix, repeats)
    dataset = data.train_dataset(split, made)
    return list(dataset.as_numpy_iterator())


def changed(**strengths):
    return training_transform(AugmentTable(**strengths), DataTable("digits"), (8, 8, 1))


def test_digits_are_all_there_once_and_stratified():
    splits = digits()
    sizes = [len(split.labels) for split in splits[:3]]
    assert sum(sizes) == 1797 and sizes[2] == 359
    pictures = [{image.tobytes() for image in split.images} for split in splits[:3]]
    assert not (pictures[0] & pictures[1] or pictures[0] & pictures[2] or pictures[1] & pictures[2])
    everything = np.bincount(np.concatenate([split.labels for split in splits[:3]]))
    for split, share in zip(splits[:3], (0.72, 0.08, 0.2), strict=True):
        assert np.abs(np.bincount(split.labels) - share * everything).max() <= 1
        assert split.images.dtype == np.uint8
        assert split.images.max() == 255 and split.images.min() == 0


def test_the_split_is_the_same_every_time():
    for one, other in zip(digits()[:3], digits()[:3], strict=True):
        np.testing.assert_array_equal(one.images, other.images)


def test_an_epoch_shows_every_example_once_in_another_order():
    split = digits().train
    images = np.arange(len(split.labels), dtype="float32")[:, None, None, None]
    numbered = data.Split(images, split.labels)
    shown = [x.ravel() for x, _ in batches(numbered, 0, range(2))]
    steps = data.steps_per_epoch(split, 64)
    assert len(shown) == 2 * steps
    first, second = np.concatenate(shown[:steps]), np.concatenate(shown[steps:])
    assert len(set(first)) == len(set(second)) == steps * 64
    assert (first != second).any()
    for images, labels in batches(numbered, 0, range(1)):
        np.testing.assert_array_equal(labels.argmax(-1), split.labels[images.ravel().astype(int)])
        np.testing.assert_array_equal(labels.sum(-1), 1)


def test_going_on_at_an_epoch_shows_what_it_would_have_shown():
    split = digits().train
    augment = changed(rotate=20.0, translate=0.1, zoom=0.2, flip=True)
    mix = mixing(0.5, 1.0)
    whole = batches(split, 3, range(3), augment, mix=mix)
    rest = batches(split, 3, range(1, 3), augment, mix=mix)
    for one, other in zip(whole[-len(rest) :], rest, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert np.max(whole[0][1], axis=-1).min() < 0.9  # blended
    assert np.abs(batches(split, 4, range(1), augment, mix=mix)[0][0] - whole[0][0]).max() > 1


def test_processes_share_every_batch_and_none_sees_an_example_of_another():
    split = digits().train
    images = np.arange(len(split.labels), dtype="float32")[:, None, None, None]
    numbered = data.Split(images, split.labels)
    arguments = numbered, 10, 64, as_it_is, 0, range(2)
    dataset = data.train_dataset(numbered, plan(*arguments))
    whole = [x.ravel() for x, _ in dataset.as_numpy_iterator()]
    steps = len(whole) // 2
    parts = [
        [
            x.ravel()
            for x, _ in data.train_dataset(
                numbered, plan(*arguments, first_step=3), data.Part(index, 2, pieces=4)
            ).as_numpy_iterator()
        ]
        for index in range(2)
    ]
    assert {len(piece) for part in parts for piece in part} == {8}
    # Of each batch the first four pieces are the first process', in order; three steps are gone.
    together = np.array(parts).reshape(2, 2 * steps - 3, 32).transpose(1, 0, 2).reshape(-1, 64)
    np.testing.assert_array_equal(together, whole[3:])


@pytest.mark.parametrize("size, batch_size", [(10, 4), (8, 4), (3, 16)])
def test_weights_make_full_batches_count_like_the_images(size, batch_size):
    """The mean over batches of equal size, weighted, is the mean over the images."""
    numbered = data.Split(np.arange(1, size + 1, dtype="float32").reshape(-1, 1, 1, 1), [0] * size)
    batches = [
        list(
            data.evaluation_dataset(
                numbered, batch_size, data.classified(lambda x: x, 10), data.Part(index, 2)
            ).as_numpy_iterator()
        )
        for index in range(2)
    ]
    means = [np.mean(x.ravel() * weight) for part in batches for x, _, weight in part]
    np.testing.assert_allclose(np.mean(means), np.mean(np.arange(1, size + 1)), rtol=1e-6)
    shown = [x for part in batches for images, _, weight in part for x in images[weight > 0].flat]
    assert sorted(shown) == list(range(1, size + 1))


def test_pixels_depend_on_the_example_not_on_its_place():
    split = digits().train
    augment = changed(rotate=20.0, translate=0.1)
    same_picture = data.Split(np.repeat(split.images[:1], len(split.labels), 0), split.labels)
    by_ones = batches(same_picture, 0, range(1), augment, batch_size=1)
    by_many = batches(same_picture, 0, range(1), augment, batch_size=64)
    np.testing.assert_array_equal(by_ones[65][0][0], by_many[1][0][1])
    assert len({image.tobytes() for images, _ in by_many for image in images}) > 1200


def write(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "train_images": rng.integers(0, 255, (40, 8, 8, 3)).astype("float32"),
        "train_labels": np.arange(40) % 4,
        "test_images": np.zeros((8, 8, 8, 3), "float32"),
        "test_labels": np.arange(8) % 4,
    }
    for name, change in changes.items():
        arrays[name] = change(arrays[name])
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return f"npz:{path}"


def with_value(index, value):
    def change(array):
        array[index] = value
        return array

    return change


def test_npz(tmp_path):
    splits = load(write(tmp_path / "a.npz"), 0.2, 4)
    assert [len(split.labels) for split in splits[:3]] == [32, 8, 8]
    assert list(np.bincount(splits.validation.labels)) == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train_images", with_value((3, 1, 2, 0), np.nan), r"finite.*nan at index \(3, 1, 2, 0\)"),
        ("test_images", with_value((3, 1, 2, 0), 256), r"0\.\.255.*256.0 at index"),
        ("train_images", lambda x: x[..., 0], r"\(N, H, W, C\)"),
        ("train_images", lambda x: x.astype(str), r"numbers.*dtype=<U"),
        ("test_images", lambda x: x[:, :4], "one shape"),
        ("train_labels", with_value(7, 4), r"\[0, 4\).*4 at index 7"),
        ("test_labels", with_value(0, -1), r"test_labels.*-1 at index 0"),
        ("train_labels", lambda x: x[:-1], "one for each of the 40 images"),
        ("train_labels", lambda x: x.astype("float32"), "must be integers"),
        ("test_labels", lambda x: None, "Missing: test_labels"),
    ],
)
def test_data_that_cannot_be_learnt_from_is_refused(tmp_path, name, change, message):
    source = write(tmp_path / "a.npz", **{name: change})
    with pytest.raises(ValueError, match=message) as error:
        load(source, 0.2, 4)
    assert "Received: " in str(error.value)


def test_sources_that_are_none(tmp_path):
    for source in ("digit", f"npz:{tmp_path}/nowhere.npz", f"npz:{tmp_path}"):
        with pytest.raises(ValueError, match=r"data\.source"):
            load(source)
    with pytest.raises(ValueError, match=r"data\.validation"):
        load(write(tmp_path / "a.npz"), 0.01, 4)
    with pytest.raises(ValueError, match=r"batch_size=2000, 1295 images"):
        data.steps_per_epoch(digits().train, 2000)


def test_npz_with_the_names_of_keras(tmp_path):
    """keras.datasets gives labels of shape (N, 1)."""
    path = tmp_path / "keras.npz"
    with np.load(write(tmp_path / "a.npz").removeprefix("npz:")) as file:
        arrays = [file[name] for name in sources.ARRAYS]
    arrays[1], arrays[3] = arrays[1][:, None], arrays[3][:, None]
    np.savez(path, **dict(zip(sources.KERAS_ARRAYS, arrays, strict=True)))
    one, other = load(f"npz:{path}", 0.2, 4), load(f"npz:{tmp_path}/a.npz", 0.2, 4)
    for a, b in zip(one[:3], other[:3], strict=True):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.labels, b.labels)
