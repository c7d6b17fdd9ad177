"""Speed of fastrnn beside its peers: the cases (grid), the libraries (peers), how they are timed and
reported.
"""
