"""Functions, classes and expressions that call each other."""

import functools

from known import run, spin


def nested():
    outer(1)


def outer(number):
    middle(number, key=number)


def middle(*arguments, **keywords):
    inner(*arguments, **keywords)


def inner(number, key):
    spin("nested functions")


def several_lines():
    outer_lines(
        1,
        spin("argument of a call over several lines"),
        number=2,
    )


def outer_lines(first, second, number):
    result = (
        first
        + number
        + len(
            str(
                spin("operand of an expression over several lines")
            )
        )
    )
    return result


def recursion():
    recurse(900)


def recurse(depth):
    if depth > 1:
        return recurse(depth - 1)
    return spin("recursion to 900", "deep")


def mutual():
    even(40)


def even(number):
    return odd(number - 1) if number else spin("functions that call each other")


def odd(number):
    return even(number - 1)


def lambdas():
    (lambda: spin("lambda"))()
    twice = lambda function: lambda: function()  # noqa: E731
    twice(lambda: spin("lambda of a lambda"))()


def comprehensions():
    [spin("list comprehension") for _ in "1"]
    {spin("set comprehension") for _ in "1"}
    {number: spin("dictionary comprehension") for number in "1"}
    list(spin("generator expression") for _ in "1")
    [[spin("comprehension in a comprehension") for _ in "1"] for _ in "1"]
    [(lambda: spin("lambda in a comprehension"))() for _ in "1"]


def closures():
    def first():
        def second():
            def third():
                spin("functions in functions")

            third()

        second()

    first()


def decorate(function):
    @functools.wraps(function)
    def decorated(*arguments):
        return function(*arguments)

    return decorated


def decorate_by(number):
    def decorator(function):
        def decorated(*arguments):
            return number and function(*arguments)

        return decorated

    return decorator


@decorate
@decorate_by(1)
@decorate_by(2)
def decorated():
    spin("decorators")


class Base:
    def method(self):
        spin("method of a base class")


class Shape(Base):
    class Nested:
        class Innermost:
            def method(self):
                spin("method of a class in a class")

    def __init__(self, name=None):
        if name:
            spin(name)

    def __call__(self):
        spin("__call__")

    def __getattr__(self, name):
        spin("__getattr__")

    def __add__(self, other):
        spin("operator")
        return self

    def __getitem__(self, index):
        spin("subscript")

    def __enter__(self):
        spin("__enter__")

    def __exit__(self, *exception):
        spin("__exit__")

    def __format__(self, specification):
        spin("__format__")
        return ""

    def __len__(self):
        spin("__len__")
        return 1

    def __eq__(self, other):
        spin("__eq__")
        return True

    def __hash__(self):
        return 1

    def method(self):
        super().method()

    @property
    def area(self):
        spin("property")

    @area.setter
    def area(self, value):
        spin("setter of a property")

    @classmethod
    def of_class(cls):
        spin("class method")

    @staticmethod
    def without_class():
        spin("static method")

    cached = functools.lru_cache(None)(lambda self: spin("cached function"))


def methods():
    shape = Shape()
    Shape("__init__")
    shape.method()
    Shape.Nested.Innermost().method()
    shape()
    shape.absent
    shape + shape
    shape[1]
    with shape:
        pass
    format(shape)
    len(shape)
    {shape: 1}.get(Shape())
    shape.area
    shape.area = 1
    shape.of_class()
    shape.without_class()
    shape.cached()
    functools.partial(Shape.without_class)()


class Often:
    """A class that is called so often that the interpreter specializes the call.

    From 3.13 on there is a frame without a function between that of `__init__` and its caller then,
    which `f_back` skips.
    """

    def __init__(self, number):
        if number == 0:
            spin("__init__ of a class that is called often")


def specialized():
    for number in range(1000, -1, -1):
        Often(number)


class Meta(type):
    @classmethod
    def __prepare__(cls, name, bases):
        spin("__prepare__ of a metaclass")
        return {}

    def __new__(cls, name, bases, members):
        spin("__new__ of a metaclass")
        return super().__new__(cls, name, bases, members)

    def __call__(cls):
        spin("__call__ of a metaclass")
        return super().__call__()


class Descriptor:
    def __set_name__(self, owner, name):
        spin("__set_name__ of a descriptor")

    def __get__(self, instance, owner):
        spin("__get__ of a descriptor")


class Registry:
    def __init_subclass__(cls):
        spin("__init_subclass__")


def classes():
    class Made(metaclass=Meta):
        spin("body of a class")
        member = Descriptor()

    class Registered(Registry):
        pass

    Made().member


if __name__ == "__main__":
    cases = [nested, several_lines, recursion, mutual, lambdas, comprehensions, closures]
    run(*cases, decorated, methods, specialized, classes)
