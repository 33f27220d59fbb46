"""The API's documentation is a page of ours, made from the API's own description."""

from tests.fixtures.client import Client


def test_every_call_of_the_api_is_on_the_page(anonymous_client: Client) -> None:
    document = anonymous_client.get("/api/v1/openapi.json").json()
    text = anonymous_client.get("/api/docs").text
    for path in document["paths"]:
        assert f"<code>{path}</code>" in text


def test_the_page_loads_nothing_foreign(anonymous_client: Client) -> None:
    answer = anonymous_client.get("/api/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert 'src="http' not in answer.text
    assert 'href="http' not in answer.text
