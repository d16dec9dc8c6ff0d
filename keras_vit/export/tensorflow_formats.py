"""SavedModel, and what is converted from one: LiteRT and OpenVINO. Runs on Keras's TensorFlow."""

import tempfile

import keras

from keras_vit.export.serving import picture_preprocessor, probabilities, serving_model


def write_saved_model(model, path, inputs, precision=None, calibration=None):
    """Writes the folder `path`; batch size, and image size where the model's is, stay free."""
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    if inputs == "jpeg":
        preprocess = picture_preprocessor(model)
        height, width = preprocess.image_size

        def prepared(file):
            # As PIL decodes; other kinds of picture than JPEG are taken as well.
            pixels = tf.io.decode_image(file, 3, expand_animations=False)
            pixels.set_shape((None, None, 3))
            return preprocess(pixels)  # (h, w, 3)

        def serve(files):
            shape = tf.TensorSpec((height, width, 3), preprocess.compute_dtype)
            x = tf.map_fn(prepared, files, fn_output_signature=shape)  # (B, h, w, 3)
            return {"probabilities": probabilities(model(x, training=False))}

        signature = tf.TensorSpec((None,), tf.string, name="files")
    else:
        served = serving_model(model, inputs)

        def serve(images):
            return served(images, training=False)

        shape = served.input.shape
        signature = tf.TensorSpec(shape, served.input.dtype, name="images")
    archive.add_endpoint("serve", serve, input_signature=[signature])
    archive.write_out(str(path), verbose=False)


def write_litert(model, path, inputs, precision=None, calibration=None):
    """Writes the file `path`.

    "float16" keeps weights in 16 bits, "int8_dynamic" in 8, with activations that are quantised
    where they arise; "int8_static" quantises those too, by the range that they had on `calibration`
    (N, H, W, C), and keeps float32 for what comes in and goes out.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(model, folder, inputs)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if precision is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8_static":
            converter.representative_dataset = lambda: ([x[None]] for x in calibration)
        path.write_bytes(converter.convert())


def write_openvino(model, path, inputs, precision=None, calibration=None):
    """Writes `path`, an .xml file, and its weights beside it as .bin."""
    import openvino as ov

    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(model, folder, inputs)
        converted = ov.convert_model(folder)
    ov.save_model(converted, path, compress_to_fp16=precision == "float16")
