"""The classifiers that timm does not carry, one paper a file; `registry.py` names them.

In evaluation `torch.compile` makes one graph of each, and `torch.export` one that takes any number of photographs of
the size it was shown.
"""
