"""Names and files that are not ASCII, are very long, or share a line."""

from sys import version_info

from known import run, spin

# The widths of characters in a string of the interpreter: one byte, two bytes, four bytes.
LATIN = "größe_é"
GREEK = "функция_λ"
GOTHIC = "\U00010330\U00010331\U00010332_\U00020000"  # Gothic letters, and a Chinese one


def define(name, file, first_line, window):
    """Returns a function of this name and file."""
    text = "\n" * (first_line - 1) + "def {}(spin):\n    spin({!r})\n".format(name, window)
    names = {}
    exec(compile(text, file, "exec"), names)
    return names[name]


def characters():
    for name, label in [(LATIN, "Latin-1"), (GREEK, "two bytes"), (GOTHIC, "four bytes")]:
        yield define(name, "plain.py", 7, "name in {}".format(label))
        yield define("plain", name + ".py", 9, "file in {}".format(label))
    yield define(GOTHIC, "/tmp/\U0001f600/" + GREEK + ".py", 11, "name and file")
    yield define("é", "é", 1, "names of one character")


def lengths():
    for length in [1, 60, 127, 128, 255, 256]:
        yield define("n" * length, "f.py", 3, "name of {} characters".format(length))
        yield define("f", "f" * length, 3, "file of {} characters".format(length))
    yield define(GREEK[:7] * 18, "f.py", 3, "name of 252 bytes")


def too_long():
    """Names of which only a part is shown."""
    yield define("n" * 257, "f.py", 3, "name of 257 characters")
    yield define("n" * 5000, "f.py", 3, "name of 5,000 characters")
    yield define("f", "/d" * 200 + "/end.py", 3, "file of 407 characters")
    yield define(GOTHIC * 80, GREEK * 400, 3, "name and file beyond the limit")


def sparse(lines, distance, name="sparse"):
    """Returns a function that works in the last of many lines, each some lines after another."""
    body = ["def {}(spin):".format(name)]
    for _ in range(lines):
        body += ["    0 or str"] + [""] * (distance - 1)
    body.append("    spin('{} lines {} apart')".format(lines, distance))
    names = {}
    exec(compile("\n".join(body), "sparse.py", "exec"), names)
    return names[name]


def lines():
    yield sparse(1, 1)
    yield sparse(3, 150)  # more than a byte of the line table can say
    # Up to 3.10 a step takes two bytes for 127 lines.
    yield sparse(2, 40000, "sparse" if version_info >= (3, 11) else "beyond_table")
    yield sparse(90, 3)
    yield define("late", "late.py", 200000, "first line of 200,000")


def long_tables():
    """Line tables of which the end is needed, but is not read: these functions have no line."""
    yield sparse(600, 2, "beyond_table")
    yield sparse(2000, 140, "far_beyond_table")


# fmt: off
def one_line():
    (lambda: (lambda: (lambda: (lambda: spin("functions on one line"))())())())()
# fmt: on


class Deep:
    """A class whose methods have long qualified names."""

    class ClassWithAVeryLongNameThatIsPartOfTheQualifiedName:
        class AnotherClassWithAVeryLongNameThatIsPartOfTheQualifiedName:
            def method_with_a_very_long_name_that_is_part_of_the_qualified_name(self):
                spin("qualified name")


def qualified():
    outer = Deep.ClassWithAVeryLongNameThatIsPartOfTheQualifiedName
    inner = outer.AnotherClassWithAVeryLongNameThatIsPartOfTheQualifiedName
    inner().method_with_a_very_long_name_that_is_part_of_the_qualified_name()


if __name__ == "__main__":
    # Compiling takes as long as a window.
    kinds = [characters(), lengths(), too_long(), lines(), long_tables()]
    made = [function for kind in kinds for function in kind]
    run(lambda: [function(spin) for function in made], one_line, qualified)
