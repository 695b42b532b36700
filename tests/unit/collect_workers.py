"""Annotators in processes of their own, for the tests of concurrency and of kills."""

from __future__ import annotations

import json
import sys
import threading
import uuid

from accord.collect import claims, submissions
from accord.collect.database import Store, open_store
from accord.collect.records import Submission, Verdict


def annotate(store: Store, user: str, said: list[dict[str, str]], lock: threading.Lock, *, aloud: bool) -> None:
    """Claim and answer until nothing is left; every acknowledged answer is noted at once, and said aloud if wanted."""
    while True:
        view = claims.claim(store, "default", user)
        if view is None:
            return
        key = str(uuid.uuid4())
        verdict = Verdict(kind="pair", position=0, strength=1 + len(key) % 3)
        done = submissions.submit(store, user, Submission(assignment=view.assignment, key=key, verdict=verdict))
        with lock:
            said.append({"annotation": done.annotation, "key": key, "user": user})
            if aloud:
                sys.stdout.write(json.dumps(said[-1]) + "\n")
                sys.stdout.flush()


def crowd(url: str, users: list[str], *, aloud: bool) -> list[dict[str, str]]:
    """A thread for every user; what was acknowledged."""
    said: list[dict[str, str]] = []
    failed: list[BaseException] = []
    lock = threading.Lock()

    def run(store: Store, user: str) -> None:
        try:
            annotate(store, user, said, lock, aloud=aloud)
        except BaseException as error:
            failed.append(error)
            raise

    with open_store(url, pool_size=16) as store:
        threads = [threading.Thread(target=run, args=(store, user)) for user in users]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]
    return said


def crowd_aloud(url: str, users: list[str]) -> None:
    """The whole work of a process that says every acknowledged answer on its standard output."""
    crowd(url, users, aloud=True)
