"""Looking into a model: what its blocks attend to, what spoke for a class, what it has learned."""

from keras_vit.interpret.attention import attention_maps as attention_maps
from keras_vit.interpret.attribution import attention_attribution as attention_attribution
from keras_vit.interpret.attribution import grad_cam as grad_cam
from keras_vit.interpret.rollout import attention_rollout as attention_rollout
