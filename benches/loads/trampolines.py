"""Calls Python functions, each through a trampoline of its own with -X perf."""

import json
import re


def leaf(count):
    total = 0
    for step in range(count):
        total = (total * 31 + step) % 65521
    return total


def middle(depth):
    return leaf(500) if depth == 0 else middle(depth - 1) + leaf(20)


while True:
    words = sorted(f"{step}:{'x' * (step % 9)}" for step in range(300))
    text = re.sub(r"\d+", lambda match: f"<{match[0]}>", json.dumps(words))
    middle(len(text) % 20)
