"""Where completions end."""

from __future__ import annotations

from accord.engines.stops import completes_stop, cut

ABC = "abcdefghijklmnopqrstuvwxyz\n"


def decode(ids: list[int]) -> str:
    return "".join(ABC[i] for i in ids)


def ids_of(text: str) -> list[int]:
    return [ABC.index(c) for c in text]


def test_no_stop_means_length() -> None:
    assert cut(ids_of("abc"), stop_ids=(26,), stop=(), decode=decode) == (3, "abc", "length")


def test_stop_id_is_kept_in_the_ids_and_left_out_of_the_text() -> None:
    assert cut(ids_of("ab\ncd"), stop_ids=(26, 25), stop=(), decode=decode) == (3, "ab", "stop")
    assert cut(ids_of("\n"), stop_ids=(26,), stop=(), decode=decode) == (1, "", "stop")


def test_stop_string_cuts_text_before_it_and_ids_after_the_token_that_completes_it() -> None:
    assert cut(ids_of("helloxyworld"), stop_ids=(), stop=("xy",), decode=decode) == (7, "hello", "stop")


def test_the_earliest_stop_string_wins() -> None:
    assert cut(ids_of("abcdef"), stop_ids=(), stop=("ef", "cd"), decode=decode) == (4, "ab", "stop")


def test_whichever_comes_first_of_stop_id_and_stop_string_wins() -> None:
    assert cut(ids_of("ab\nxy"), stop_ids=(26,), stop=("xy",), decode=decode) == (3, "ab", "stop")
    assert cut(ids_of("axyb\n"), stop_ids=(26,), stop=("xy",), decode=decode) == (3, "a", "stop")


def test_stop_string_is_seen_when_its_last_token_arrives_and_not_before() -> None:
    ids = ids_of("a" * 50 + "stop")
    assert not completes_stop(ids[:-1], ("stop",), decode)
    assert completes_stop(ids, ("stop",), decode)
