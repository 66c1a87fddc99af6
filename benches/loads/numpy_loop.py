"""Multiplies matrices and sorts arrays, and with `pandas` groups a table, forever."""

import sys

import numpy


def multiply(matrix):
    return matrix @ matrix / numpy.linalg.norm(matrix)


def order(values):
    return numpy.sort(values, kind="stable").cumsum()


def shuffle(generator, values):
    generator.shuffle(values)
    return [int(value) for value in values[:2000]]


def group(values):
    import pandas

    table = pandas.DataFrame({"key": values.astype(int) % 100, "value": values})
    return table.groupby("key")["value"].agg(["mean", "max"]).sort_values("mean")


def main():
    generator = numpy.random.default_rng(1)
    matrix, values = generator.random((200, 200)), generator.random(50000) * 1000
    while True:
        multiply(matrix)
        order(values)
        shuffle(generator, values)
        if sys.argv[1:] == ["pandas"]:
            group(values)


main()
