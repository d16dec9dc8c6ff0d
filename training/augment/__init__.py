"""Cropping, augmentation and mixing of training images, in TensorFlow."""
