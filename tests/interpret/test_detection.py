"""What the queries of a DETR attend to, and figures of boxes."""

import numpy as np
import pytest

import keras_vit
from tests.helpers import images, once, randomize, tiny
from tests.tasks.detr.helpers import tiny_detr

FOUND = {
    "boxes": np.array([[2, 3, 20, 30], [10, 10, 40, 35.5]], "float32"),
    "labels": np.array([1, 0]),
    "scores": np.array([0.9, 0.4]),
}
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype("uint8")


@pytest.fixture(scope="module")
def model():
    model = tiny_detr(tiny("pvt_v2", image_size=None))
    randomize(model)
    return model


@pytest.fixture(scope="module")
def of_vit():
    return tiny_detr()


def test_scores_of_encoder_and_decoder(model):
    x = images((32, 48), batch=2)  # a map of 4 x 6 cells
    maps = keras_vit.attention_maps(model, x)
    ours = {name: x for name, x in maps.items() if "coder" in name}
    assert {name: x.shape for name, x in ours.items()} == {
        "encoder_block00": (2, 2, 24, 24),
        "decoder_block00": (2, 2, 7, 24),
        "decoder_block01": (2, 2, 7, 24),
    }
    own = ["decoder_block00/self_attention", "decoder_block01/self_attention"]
    maps |= keras_vit.attention_maps(model, x, own)
    assert maps[own[1]].shape == (2, 2, 7, 7)
    for name, scores in maps.items():
        np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5, err_msg=name)
    # what is computed again is what the model computes: the first block attends to zeros alone
    on_grid = keras_vit.attention_maps(model, x, ["decoder_block01", own[1]], [1], grid=True)
    assert on_grid["decoder_block01"].shape == (2, 1, 7, 4, 6)
    flat = maps["decoder_block01"][:, 1:].reshape(2, 1, 7, 4, 6)
    np.testing.assert_allclose(on_grid["decoder_block01"], flat, atol=1e-6)
    assert on_grid[own[1]].shape == (2, 1, 7, 7)


@once
def test_scores_give_the_output_of_the_block(model):
    """The cross-attention of a block, rebuilt from its scores, is what the model goes on with."""
    from keras import ops

    x = images((32, 48), batch=1)
    memory = model.encode(*model.embed(ops.convert_to_tensor(x)))
    block = model.get_layer("decoder_block00")
    queries = model.get_layer("queries")(memory[0])
    scores = block.attention_scores((*queries, *memory[:2]))
    offset = ops.zeros_like(scores)
    without = block((*queries, *memory[:2])[0], *queries[1:], *memory[:2])
    again = block.call_with_offset((*queries, *memory[:2]), offset)
    np.testing.assert_allclose(
        ops.convert_to_numpy(again), ops.convert_to_numpy(without), atol=1e-5
    )


@once
def test_a_side_that_is_no_multiple_has_its_last_cell(model):
    scores = keras_vit.attention_maps(model, images((27, 41), batch=1), ["decoder_block01"])
    assert scores["decoder_block01"].shape == (1, 2, 7, 4 * 6)
    on_grid = keras_vit.attention_maps(
        model, images((27, 41), batch=1), ["decoder_block01"], grid=True
    )
    assert on_grid["decoder_block01"].shape == (1, 2, 7, 4, 6)


@once
def test_what_a_query_looks_at_is_a_picture(model, of_vit):
    pytest.importorskip("matplotlib")
    x = images((32, 48), batch=1)
    figure = keras_vit.plot_attention(model, x, "decoder_block01", query=3)
    assert any("query 3" in text.get_text() for text in figure.texts)
    figure = keras_vit.plot_attention(model, x, "encoder_block00", query=(1, 2))
    assert any("row 1, column 2" in text.get_text() for text in figure.texts)
    figure = keras_vit.plot_attention(of_vit, images(batch=1))
    assert any("the average query" in text.get_text() for text in figure.texts)
    for layer, query in [("decoder_block01", 7), ("decoder_block01", (0, 0))]:
        with pytest.raises(ValueError, match="number of a query of decoder_block01, 0 to 6"):
            keras_vit.plot_attention(model, x, layer, query=query)
    with pytest.raises(ValueError, match="row and column of a patch"):
        keras_vit.plot_attention(model, x, "encoder_block00", query=3)


@once
def test_boxes_are_drawn_where_they_are():
    pytest.importorskip("matplotlib")
    figure = keras_vit.plot_detections(PIXELS, FOUND, class_names=["cat", "dog"])
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.texts] == ["cat 40 %", "dog 90 %"]
    assert [patch.get_bbox().bounds for patch in ax.patches] == [
        (9.5, 9.5, 30, 25.5),
        (1.5, 2.5, 18, 27),
    ]
    assert ax.patches[0].get_edgecolor() != ax.patches[1].get_edgecolor()
    plain = keras_vit.plot_detections(PIXELS, FOUND, scores=False)
    assert [text.get_text() for text in plain.axes[0].texts] == ["0", "1"]
    nothing = {"boxes": [], "labels": []}
    assert not keras_vit.plot_detections(PIXELS, nothing).axes[0].patches


@once
@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0.1, 0.2, 0.5, 0.6]] * 2, "look like shares 0..1.*multiply them"),
        ([[20, 30, 10, 10]] * 2, "look like x, y, width, height"),
        ([[1, 2, 3, np.nan]] * 2, "without NaN"),
        ([[1, 2, 3]] * 2, r"boxes must be \(2, 4\)"),
    ],
)
def test_boxes_of_a_wrong_format_are_recognised(boxes, message):
    with pytest.raises(ValueError, match=message):
        keras_vit.plot_detections(PIXELS, {**FOUND, "boxes": np.array(boxes)})


@once
def test_names_stay_in_the_picture():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    boxes = np.array([[2, 0, 20, 12], [30, 0.9, 50, 20], [10, 25, 40, 39]], "float32")
    figure = keras_vit.plot_detections(PIXELS, {"boxes": boxes, "labels": np.array([0, 1, 2])})
    FigureCanvasAgg(figure).draw()
    (ax,) = figure.axes
    tops = {text.get_text(): text.get_window_extent() for text in ax.texts}
    assert max(extent.y1 for extent in tops.values()) <= ax.bbox.y1
    below = ax.transData.transform((10, 25))[1]  # the upper edge of the last box
    assert tops["2"].y0 >= below - 1
