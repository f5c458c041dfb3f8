"""Small experiments on a network: what the static diagnosis says, seen in the real module."""
