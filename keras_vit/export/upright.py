"""Reads the EXIF orientation of a picture file in a TensorFlow graph.

Sources: EXIF 2.3 (CIPA DC-008), 4.5 and 4.6.2; TIFF 6.0, section 2.
"""

SEARCHED = 2**17  # bytes from the start of the file; an APP1 segment of JPEG has at most 2**16
ORIENTATION = 0x0112


def upright(pixels, contents):
    """Turns a picture by its EXIF orientation, like `keras_vit.preprocessing.load_image`.

    Args:
        pixels: tensor (H, W, C), as stored in the file.
        contents: scalar string tensor, the bytes of the JPEG or PNG.

    Returns:
        Tensor (H, W, C) or (W, H, C).
    """
    import tensorflow as tf

    def turned(transposed, *reversed_axes):
        def turn():
            x = tf.transpose(pixels, (1, 0, 2)) if transposed else pixels
            return tf.reverse(x, reversed_axes) if reversed_axes else x

        return turn

    turns = [
        turned(False),
        turned(False, 1),
        turned(False, 0, 1),
        turned(False, 0),
        turned(True),
        turned(True, 1),
        turned(True, 0, 1),
        turned(True, 0),
    ]
    return tf.switch_case(orientation(contents) - 1, turns)


def orientation(contents):
    """The EXIF orientation of a file, 1 to 8, an int32 scalar; 1 (upright) if there is none."""
    import tensorflow as tf

    start = tf.strings.substr(contents, 0, SEARCHED)
    data = tf.cast(tf.io.decode_raw(start, tf.uint8), tf.int64)
    data = tf.pad(data, ((0, 16),))
    size = tf.size(data, out_type=tf.int64)

    def after(mark):
        """The index of the first byte after the mark; negative if the mark is not there."""
        found = [data[i : size - len(mark) + 1 + i] == byte for i, byte in enumerate(mark)]
        found = tf.reduce_all(found, axis=0)
        return tf.where(tf.reduce_any(found), tf.argmax(found) + len(mark), tf.int64.min)

    # The start of the segment in a JPEG, and the name of the chunk in a PNG.
    header = tf.maximum(after(b"Exif\0\0"), after(b"eXIf"))
    little = _at(data, header) == ord("I")

    def number(place, length):
        """Unsigned integers of two or four bytes, one for each place."""
        value = tf.zeros_like(place)
        for i in range(length):
            byte = tf.where(little, place + length - 1 - i, place + i)
            value = 256 * value + _at(data, byte)
        return value

    directory = header + number(header + 4, 4)
    entries = directory + 2 + 12 * tf.range(number(directory, 2))
    says = number(entries, 2) == ORIENTATION
    value = tf.reduce_sum(tf.where(says, number(entries + 8, 2), 0))  # at most one entry matches
    known = (header >= 0) & (value >= 1) & (value <= 8)
    return tf.cast(tf.where(known, value, 1), tf.int32)


def _at(data, place):
    """data[place]; 0 for places outside of it (the last byte is padding)."""
    import tensorflow as tf

    size = tf.size(data, out_type=tf.int64)
    return tf.gather(data, tf.where((place >= 0) & (place < size), place, size - 1))
