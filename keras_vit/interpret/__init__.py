"""Looking into a model: what its blocks attend to."""

from keras_vit.interpret.attention import attention_maps as attention_maps
