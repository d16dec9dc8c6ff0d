"""SavedModel, and what is converted from one: LiteRT and OpenVINO. Runs on Keras's TensorFlow."""

import tempfile

from keras_vit.export.serving import picture_preprocessor, probabilities, serving_model
from keras_vit.export.upright import upright


def write_saved_model(model, path, inputs, precision=None, calibration=None, branch=True):
    """Writes the folder `path`; batch size, and image size where the model's is, stay free."""
    import tensorflow as tf

    # Not Keras's ExportArchive, which writes every weight twice.
    module = tf.Module()
    module.weights = [weight.value for weight in model.weights]
    if inputs == "jpeg":
        preprocess = picture_preprocessor(model)
        height, width = preprocess.image_size

        def prepared(file):
            pixels = tf.cond(
                tf.io.is_jpeg(file),
                lambda: tf.io.decode_jpeg(file, 3, dct_method="INTEGER_ACCURATE"),  # as PIL does
                lambda: tf.io.decode_image(file, 3, expand_animations=False),
            )
            pixels = upright(pixels, file)
            pixels.set_shape((None, None, 3))
            return preprocess(pixels)  # (h, w, 3)

        def serve(files):
            shape = tf.TensorSpec((height, width, 3), preprocess.compute_dtype)
            x = tf.map_fn(prepared, files, fn_output_signature=shape)  # (B, h, w, 3)
            return {"probabilities": probabilities(model(x, training=False))}

        signature = tf.TensorSpec((None,), tf.string, name="files")
    else:
        served = serving_model(model, inputs, branch)

        def serve(images):
            return served(images, training=False)

        signature = tf.TensorSpec(served.input.shape, served.input.dtype, name="images")
    module.serve = tf.function(serve, input_signature=[signature])
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # no talk of assets
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    logger.setLevel(level)


def write_litert(model, path, inputs, precision=None, calibration=None):
    """Writes the file `path`.

    "float16" keeps weights in 16 bits, "int8_dynamic" in 8, with activations that are quantised
    where they arise. "int8_static" multiplies weights in 8 bits by activations in 16, by the range
    that they had on `calibration`, a list of (H, W, C): with 8 bits a real ViT-Ti/16 lost a quarter
    of its answers. The head stays float32, or logits would be cut off at the largest seen.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # of the scratch
        write_saved_model(model, folder, inputs)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if precision in ("float16", "int8_dynamic"):
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        path.write_bytes(converter.convert())
    if precision == "int8_static":
        _quantize_static(path, calibration)


def _quantize_static(path, calibration):
    from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    dense = qtyping.TFLOperationName.FULLY_CONNECTED
    q = quantizer.Quantizer(str(path))
    q.add_static_config(".*", dense, activation_num_bits=16, weight_num_bits=8)
    q.update_quantization_recipe(HEAD, dense, algorithm_key="no_quantize")
    recipe = recipe_manager.RecipeManager()
    recipe.load_quantization_recipe(q.get_quantization_recipe())
    # `Quantizer.calibrate` averages the ranges of the images, and cuts off what is beyond the mean
    # range: tiny models were off by up to 0.4 of the spread. Here it is the widest.
    ranges = calibrator.Calibrator(str(path), qsv_update_func=qsv_utils.min_max_update)
    ranges.calibrate({"serving_default": [{"images": x[None]} for x in calibration]}, recipe)
    q.quantize(ranges.get_model_qsvs()).export_model(str(path), overwrite=True)


HEAD = r".*PartitionedCall.*|.*/head(_\d+)?/.*"  # of tensors: what the model gives, and logits


def write_openvino(model, path, inputs, precision=None, calibration=None):
    """Writes `path`, an .xml file, and its weights beside it as .bin; int8 is NNCF's."""
    import openvino as ov

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # of the scratch
        # With an `If` OpenVINO 2026.4 gives other numbers, or NaN, the first time that it runs.
        write_saved_model(model, folder, inputs, branch=False)
        converted = ov.convert_model(folder)
        if precision in ("int8_weights", "int8_static"):
            import nncf

            if precision == "int8_weights":
                mode = nncf.CompressWeightsMode.INT8_SYM
                converted = nncf.compress_weights(converted, mode=mode)
            else:
                images = nncf.Dataset([x[None] for x in calibration])
                # NNCF 3.4 takes a kernel that comes first, as in CaiT's talking heads, for the
                # activation, and fails to correct the bias behind it.
                kernel_first = any(
                    x.get_type_name() == "MatMul"
                    and x.input_value(0).get_node().get_type_name() == "Constant"
                    for x in converted.get_ordered_ops()
                )
                converted = nncf.quantize(
                    converted,
                    images,
                    model_type=nncf.ModelType.TRANSFORMER,
                    advanced_parameters=nncf.AdvancedQuantizationParameters(
                        disable_bias_correction=kernel_first
                    ),
                )
        ov.save_model(converted, path, compress_to_fp16=precision == "float16")
