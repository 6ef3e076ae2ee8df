"""Passwords are hidden by one rule wherever a URL is shown."""

from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import quote

import pytest
import sqlalchemy
from hypothesis import example, given
from hypothesis import strategies as st

from mmsearch.secrets import without_password, without_secrets
from mmsearch.tracking.mlflow.client import first_line

Show: TypeAlias = Callable[[str], str]
"""Shows a URL in one place."""


def shown_in_a_drivers_error(url: str) -> str:
    """Show it in an error of a database's driver."""
    return without_secrets(f"connection to {url!s} failed", url)


def shown_in_mlflows_error(url: str) -> str:
    """Show it in an error of MLflow, which may name any URL."""
    return first_line(OSError(f"{url} does not answer\n  at line 7"))


PLACES: tuple[Show, ...] = (
    without_password,
    shown_in_a_drivers_error,
    shown_in_mlflows_error,
)
SCHEMES = st.sampled_from(["postgresql", "postgresql+psycopg", "mysql+pymysql", "http", "https"])
USERS = st.sampled_from(["", "u", "me", "me@corp", "%40", "x.y"])
REST = st.sampled_from(
    [
        "",
        "/db",
        ":5432/db",
        "/db?sslmode=require",
        "/d?application_name=me@x",
        ":80/?a=b&c=d",
        "/#f",
    ]
)
# Marked on both sides, so that its parts are not found anywhere else. Options take printable text.
PASSWORDS = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=12).map(
    "«{}»".format
)
KEYS = st.sampled_from(
    ["password", "passwd", "pwd", "token", "PASSWORD", "sslpassword", "api_token"]
)


def url_with_userinfo(scheme: str, user: str, password: str, rest: str) -> str:
    return f"{scheme}://{user}:{password}@host{rest}"


BEFORE_A_HOST = st.builds(url_with_userinfo, SCHEMES, USERS, PASSWORDS, REST)
IN_A_QUERY = st.builds(
    "{}://{}/db?{}{}={}{}".format,
    SCHEMES,
    st.sampled_from(["host", "host:5432", "u@host", "me@corp@host:5432"]),
    st.sampled_from(["", "a=b&", "a=me@x&"]),
    KEYS,
    PASSWORDS.map(lambda text: text.replace("&", "%26")),
    st.sampled_from(["", "&sslmode=require", "&mail=me@x"]),
)


@pytest.mark.parametrize("show", PLACES)
@given(url=st.one_of(BEFORE_A_HOST, IN_A_QUERY))
@example("postgresql://me:«p/ss»@h/db")
@example("postgresql://me:«p@ss#w0rd»@h/db")
@example("postgresql://me:«pa ss»@h/db")
@example("postgresql://me:«a://b»@h/db")
@example("postgresql://me@corp:«»@host/db")
@example("postgresql://u:«@?:#»@host:5432/db")
@example("http://u:«?token=x»@host/#f")
@example("https://h/x?token=«abcdef123»")
@example("mssql+pyodbc://me@h/db?pwd=«hunter22»")
@example("mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BX%7D%3BPWD%3D«hunter22»")
@example("postgresql://u@host:5432/db?password=«@#»")
def test_no_place_shows_a_password(show: Show, url: str) -> None:
    shown = show(url)

    assert "«" not in shown
    assert "»" not in shown
    assert "***" in shown


@given(SCHEMES, USERS, PASSWORDS, REST)
def test_server_and_account_are_shown_and_hiding_twice_is_hiding_once(
    scheme: str, user: str, password: str, rest: str
) -> None:
    shown = without_password(url_with_userinfo(scheme, user, password, rest))

    assert shown.startswith(f"{scheme}://{user}:***")
    assert without_password(shown) == shown


@given(st.text(min_size=1).map("«a{}b»".format))
@example("«a'\"\\b»")
def test_known_password_is_hidden_in_any_spelling(password: str) -> None:
    spellings = (password, quote(password, safe=""), repr(password)[1:-1])

    for url in (f"postgresql://me:{spelt}@host/db" for spelt in spellings[:2]):
        for spelt in spellings:
            assert spelt not in without_secrets(f"{spelt} is wrong", url)


def test_part_of_a_password_that_was_taken_for_a_host_is_hidden() -> None:
    for sign in "@/?#:":
        url = f"postgresql://me:letmein{sign}gate7@127.0.0.1/db"

        shown = without_secrets("no host named gate7, port 'letmein' is no number", url)

        assert shown == "no host named ***, port '***' is no number"


@given(user=st.text("abcxyz", min_size=1), password=st.text(min_size=1))
def test_what_sqlalchemy_renders_hides_its_password(user: str, password: str) -> None:
    url = sqlalchemy.URL.create("postgresql", user, password, "host", 5432, "db")

    shown = without_password(url.render_as_string(hide_password=False))

    assert shown == url.render_as_string(hide_password=True)


def test_url_without_a_password_is_shown_as_it_is() -> None:
    for url in (
        "sqlite:////home/me/runs/optuna.db",
        "sqlite:////home/a:b@c/optuna.db",
        "sqlite:///relative.db?timeout=5",
        "http://127.0.0.1:5000",
        "https://mlflow.example.org/base/path?x=1#y",
        "postgresql://user@host:5432/db",
        "postgresql://user:@host/db",
        "databricks",
        "",
    ):
        assert without_password(url) == url
