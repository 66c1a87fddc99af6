"""Generators, coroutines and asynchronous generators while they run."""

import asyncio

from known import run, spin


def generators():
    next(counts())
    for _ in delegates(20):
        pass


def counts():
    spin("generator")
    yield 1


def delegates(depth):
    if depth > 1:
        yield from delegates(depth - 1)
    else:
        spin("yield from, to a depth of 20")
        yield 1
        spin("yield from, resumed")


def ends_of_generators():
    catching = catches()
    next(catching)
    catching.throw(ValueError())
    finishing = finishes()
    next(finishing)
    finishing.close()
    sending = receives()
    next(sending)
    sending.send(1)
    dropped = finishes()
    next(dropped)
    del dropped


def catches():
    try:
        yield 1
    except ValueError:
        spin("generator into which an exception is thrown")
        yield 2


def finishes():
    try:
        yield 1
    finally:
        spin("generator that is closed")


def receives():
    yield (yield from answers())


def answers():
    received = yield 1
    spin("generator to which a value is sent")
    yield received


def pipelines():
    numbers = (number for number in [1])
    doubled = map(double, numbers)
    list(number for number in filter(None, doubled))


def double(number):
    spin("generators that consume each other")
    return 2 * number


class Suspends:
    """Suspends the coroutine that awaits it."""

    def __await__(self):
        yield 1
        spin("__await__")


async def awaits(depth):
    if depth > 1:
        await awaits(depth - 1)
    else:
        spin("await chain")
        await Suspends()


def coroutines():
    coroutine = awaits(20)
    coroutine.send(None)
    try:
        coroutine.send(None)
    except StopIteration:
        pass


class Manager:
    async def __aenter__(self):
        spin("__aenter__")

    async def __aexit__(self, *exception):
        spin("__aexit__")


async def produces():
    for _ in range(2):
        spin("asynchronous generator")
        yield 1
        await asyncio.sleep(0)


async def works(name):
    await asyncio.sleep(0)
    await awaits_task(name)


async def awaits_task(name):
    spin(name)


async def asynchronous():
    await awaits_task("coroutine of asyncio.run")
    async with Manager():
        async for _ in produces():
            pass
    [_ async for _ in produces()]
    await asyncio.gather(works("first task"), works("second task"))
    await asyncio.wait_for(works("task with a time limit"), 60)
    asyncio.get_event_loop().call_soon(spin, "callback of the event loop")
    await asyncio.sleep(0)


def event_loop():
    asyncio.run(asynchronous())


if __name__ == "__main__":
    run(generators, ends_of_generators, pipelines, coroutines, event_loop)
