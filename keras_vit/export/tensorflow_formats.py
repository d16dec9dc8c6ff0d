"""Writes SavedModel, LiteRT and OpenVINO, on Keras's TensorFlow backend."""

import tempfile

from keras_vit.export.serving import picture_preprocessor, probabilities, serving_model, slides
from keras_vit.export.sliding import class_maps
from keras_vit.export.upright import upright


def write_saved_model(model, path, inputs, precision=None, calibration=None, branch=True):
    """Writes a SavedModel to the folder `path`.

    The batch size is free, and so is the image size if it is free in the model. `precision` and
    `calibration` are ignored: the model already has its precision.
    """
    import tensorflow as tf

    # Not Keras's ExportArchive, which writes every weight twice.
    module = tf.Module()
    module.weights = [weight.value for weight in model.weights]
    if slides(model, inputs):
        serve = class_maps(model)
        signature = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
    elif inputs == "jpeg":
        preprocess = picture_preprocessor(model)
        height, width = preprocess.image_size

        def prepared(file):
            pixels = tf.cond(
                tf.io.is_jpeg(file),
                lambda: tf.io.decode_jpeg(file, 3, dct_method="INTEGER_ACCURATE"),  # as in PIL
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
    logger.setLevel("ERROR")  # no messages about assets
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    logger.setLevel(level)


def write_litert(model, path, inputs, precision=None, calibration=None):
    """Writes a LiteRT model to the file `path`.

    "float16" stores weights in 16 bits. "int8_dynamic" stores them in 8 bits and quantises
    activations at run time. "int8_static" multiplies 8-bit weights by 16-bit activations, whose
    ranges are found on `calibration`, a list of images (H, W, C): with 8-bit activations, a quarter
    of the top-1 answers of a real ViT-Ti/16 changed. The head stays float32, because logits would
    be clipped at the largest one of the calibration.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # in the scratch folder
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
    # `Quantizer.calibrate` averages the ranges of the images and clips values outside the average,
    # which made tiny models differ by up to 0.4 of the spread. Here the widest range is used.
    ranges = calibrator.Calibrator(str(path), qsv_update_func=qsv_utils.min_max_update)
    ranges.calibrate({"serving_default": [{"images": x[None]} for x in calibration]}, recipe)
    q.quantize(ranges.get_model_qsvs()).export_model(str(path), overwrite=True)


LOGITS = r".*/(distillation_)?head(_\d+)?/.*"  # names of what the heads compute
HEAD = rf".*PartitionedCall.*|{LOGITS}"  # and of output tensors


def write_openvino(model, path, inputs, precision=None, calibration=None):
    """Writes an OpenVINO model to `path`, an .xml file, with its weights in a .bin file beside it.

    NNCF quantises for "int8_weights" and "int8_static". Of the latter, the heads stay float32: what
    they see differs by less from image to image than within an image, so that 8 bits with one range
    for all of it made the logits of some tiny Swins wrong by two thirds of their spread (0.09
    without).
    """
    import openvino as ov

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # in the scratch folder
        # With an `If` the first run of OpenVINO 2026.4 gives wrong numbers or NaN.
        write_saved_model(model, folder, inputs, branch=False)
        converted = ov.convert_model(folder)
        if precision in ("int8_weights", "int8_static"):
            import nncf

            if precision == "int8_weights":
                mode = nncf.CompressWeightsMode.INT8_SYM
                # OpenVINO 2026.4 turns a 1x1 convolution with compressed weights into a matrix
                # product and forgets its stride.
                strided = [
                    x.get_friendly_name()
                    for x in converted.get_ordered_ops()
                    if x.get_type_name() == "Convolution"
                    and tuple(x.input(1).get_shape())[2:] == (1, 1)
                    and max(x.get_attributes()["strides"]) > 1
                ]
                converted = nncf.compress_weights(
                    converted, mode=mode, ignored_scope=nncf.IgnoredScope(names=strided)
                )
            else:
                images = nncf.Dataset([x[None] for x in calibration])
                # If the kernel is the first operand, as in CaiT's talking heads, NNCF 3.4 takes it
                # for the activation and fails in its bias correction.
                kernel_first = any(
                    x.get_type_name() == "MatMul"
                    and x.input_value(0).get_node().get_type_name() == "Constant"
                    for x in converted.get_ordered_ops()
                )
                converted = nncf.quantize(
                    converted,
                    images,
                    model_type=nncf.ModelType.TRANSFORMER,
                    ignored_scope=nncf.IgnoredScope(patterns=[LOGITS], validate=False),
                    advanced_parameters=nncf.AdvancedQuantizationParameters(
                        disable_bias_correction=kernel_first
                    ),
                )
        ov.save_model(converted, path, compress_to_fp16=precision == "float16")
