"""SETR of Zheng et al. 2021 (arXiv:2012.15840): semantic segmentation with a Vision Transformer."""
