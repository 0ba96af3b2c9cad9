"""The classifiers that timm does not carry, one paper a file; `registry.py` names them."""
