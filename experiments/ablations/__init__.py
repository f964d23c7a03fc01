"""One file per ablation of the paper: each changes one thing of the whole method."""
