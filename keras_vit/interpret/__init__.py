"""Interpretation of models: attention maps, attribution to a class, embeddings and filters."""

from keras_vit.interpret.attention import attention_maps as attention_maps
from keras_vit.interpret.attribution import attention_attribution as attention_attribution
from keras_vit.interpret.attribution import grad_cam as grad_cam
from keras_vit.interpret.detection import plot_detections as plot_detections
from keras_vit.interpret.embeddings import patch_filters as patch_filters
from keras_vit.interpret.embeddings import position_similarity as position_similarity
from keras_vit.interpret.pictures import plot_attention as plot_attention
from keras_vit.interpret.pictures import plot_filters as plot_filters
from keras_vit.interpret.pictures import plot_maps as plot_maps
from keras_vit.interpret.pictures import plot_position_similarity as plot_position_similarity
from keras_vit.interpret.reconstruction import plot_reconstruction as plot_reconstruction
from keras_vit.interpret.rollout import attention_rollout as attention_rollout
from keras_vit.interpret.segmentation import plot_segmentation as plot_segmentation
