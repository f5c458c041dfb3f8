"""The names of the experiments, and what each rests on (no torch here: the CLI reads it)."""

EXPERIMENTS = {
    "effective_field": "Luo et al., NeurIPS 2016, arXiv:1701.04128",
    "gradients": "Drozdzal et al., DLMIA 2016, arXiv:1608.04117",
    "spectra": "Oppenheim and Schafer, Discrete-Time Signal Processing, section 4.6",
    "folding": "Zhang, ICML 2019, arXiv:1904.11486",
    "phases": "Odena, Dumoulin and Olah, Distill 2016; Aitken et al., arXiv:1707.02937",
}
