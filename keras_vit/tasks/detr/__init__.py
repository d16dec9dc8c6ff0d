"""DETR of Carion et al. 2020 (arXiv:2005.12872): object detection with a transformer."""
