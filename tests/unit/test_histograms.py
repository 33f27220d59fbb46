"""Histograms keep every count in its bin and say in words what they show."""

import json

from web.histograms import histogram


def test_series_share_their_bins() -> None:
    found = histogram(
        "Tokens", "tokens", {"train": [[0, 9, 5], [10, 19, 3]], "validation": [[10, 19, 2]]}, cut=12
    )
    assert found is not None
    assert found.edges == (0, 10, 20)
    assert [one.counts for one in found.series] == [(5, 3), (0, 2)]
    assert found.totals == (5, 5)
    assert (found.low, found.high) == (0, 19)
    assert json.loads(found.data)["cut"] == 12


def test_the_sentence_names_the_fullest_bin() -> None:
    found = histogram("Length", "characters", {"": [[0, 999, 7], [1000, 1999, 1]]})
    assert found is not None
    assert found.spoken == "Length: 8 from 0 to 1,999 characters, most from 0 to 999"


def test_nothing_counted_is_no_picture() -> None:
    assert histogram("Length", "characters", {"user": []}) is None
