"""Evaluation/web/quotas.py: who is served, in which order, and who gives up. Evaluation/web/sessions.py: quotas."""
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from Evaluation.web.sessions import Sessions
from Evaluation.web.quotas import Quota
from tests.test_serve import wait_for


def queue(quota, names, amounts=None):
    """Start a thread for each client's request, one behind the other -> (threads, order in which they are served)."""
    served, threads = [], []
    for i, name in enumerate(names):
        def one(name=name, amount=1 if amounts is None else amounts[i]):
            with quota.held(name, amount, 20):
                served.append(name)
        threads.append(threading.Thread(target=one, daemon=True))
        waiting = len(quota)
        threads[-1].start()
        wait_for(lambda: len(quota) > waiting)
    return threads, served


def test_turns_go_round_the_clients():
    quota = Quota(1)
    with quota.held("a", 1, 1):
        threads, served = queue(quota, "aaabbc")
    for thread in threads:
        thread.join(20)
    assert served == list("bcabaa")        # a was served once already


def test_never_more_than_there_is():
    quota, inside, most = Quota(5, 4), [], []

    def one(i):
        client, amount = "ab"[i % 2], 1 + i % 3
        with quota.held(client, amount, 20):
            inside.append((client, amount))
            most.append((sum(n for _, n in inside), max(sum(n for c, n in inside if c == who) for who in "ab")))
            inside.remove((client, amount))
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(one, range(120)))
    assert len(most) == 120 and max(total for total, _ in most) <= 5 and max(client for _, client in most) <= 4
    assert not quota._served and not quota._holding and not quota._waiting and quota._free == 5


def test_a_large_wish_is_not_overtaken_for_ever():
    quota = Quota(4)
    with quota.held("a", 2, 1):
        threads, served = queue(quota, "bc", (4, 1))
        assert served == []                 # c would fit, but b is first
    for thread in threads:
        thread.join(20)
    assert served == ["b", "c"]


def test_who_waits_too_long_or_is_not_wanted_any_more_leaves():
    quota = Quota(1, 1)
    with quota.held("a", 1, 1):
        with pytest.raises(TimeoutError, match="no turn in 0.05 s"), quota.held("b", 1, 0.05):
            pass

        def gone():
            raise ConnectionError("gone")
        with pytest.raises(ConnectionError, match="gone"), quota.held("b", 1, 20, gone):
            pass
        assert len(quota) == 0
    with quota.held("b", 1, 0):
        pass


def test_sessions_have_quotas_of_clients_and_bytes():
    now = [0.0]
    sessions = Sessions(4, 100, 100, per_client=2, max_bytes=10, clock=lambda: now[0])
    one, two = sessions.open("a"), sessions.open("a")
    assert one and two and sessions.open("a") is None
    three = sessions.open("b")
    assert three
    assert sessions.keep(one, {"x": bytes(6)})
    now[0] = 1
    assert sessions.keep(two, {"x": bytes(4)}) and sessions.file(one, "x")      # ten: all of them
    now[0] = 2
    assert sessions.file(two, "x") and sessions.keep(three, {"x": bytes(5)})
    assert sessions.file(one, "x") is None and sessions.file(two, "x") and sessions.file(three, "x")
    assert sessions.stay(one)                                   # the session goes on, its files are forgotten
    sessions.leave(two)
    assert sessions.open("a")
