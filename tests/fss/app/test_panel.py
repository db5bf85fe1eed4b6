"""The steps beside the editor."""

import pytest

from fss.app import panel


class Button:
    """Stands for a button of the page, which needs a browser."""

    is_deleted = False
    loading = False

    def props(self, add: str = "", *, remove: str = "") -> None:
        assert "loading" in (add, remove)
        self.loading = add == "loading"


@pytest.mark.parametrize("deleted", [False, True])
def test_a_failure_is_told_and_ends_the_work_of_a_button(deleted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(panel.ui, "notify", lambda text, **_: told.append(text))
    button = Button()
    button.is_deleted = deleted
    for error in (OSError(28, "No space left on device", "/masks"), ValueError("no mask yet")):
        with panel._working(button):  # type: ignore[arg-type]
            assert button.loading
            raise error
        assert not button.loading
    lines = ["no space left for /masks; free some space and run it again", "no mask yet"]
    assert told == ([] if deleted else lines), "a tab that is closed is told nothing"
