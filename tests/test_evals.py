"""The everyday suite can be passed and cannot be passed by doing nothing; what a suite measures is true."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from click.testing import Result as Ran
from scripted import Call, Fill, Reply, Request, Say, ScriptedModel, Stall

from orchestrator.cli.evals import evals
from orchestrator.errors import ConfigError, OrcError, UsageError
from orchestrator.evaluate import (
    Case,
    Conditions,
    Result,
    figures,
    find_suite,
    load_suite,
    run_case,
    run_suite,
    suite_files,
)
from orchestrator.evaluate.checks import says
from orchestrator.sandbox.detect import detect
from orchestrator.workspace.folders import builtin_folder
from orchestrator.workspace.trust import trust

SUITE = load_suite(builtin_folder("evals") / "everyday.yaml")
MEMORY = Path("/dev/shm")
IDS = [case.id for case in SUITE.cases]


class Player:
    """Plays solutions: tells the model's replies for the case whose request it is asked."""

    def __init__(self, cases: list[Case], *, does_nothing: bool = False) -> None:
        self.by_request = {" ".join(case.request.split()): case for case in cases}
        self.does_nothing = does_nothing
        self.case: Case | None = None
        self.calls: Iterator[Call] = iter(())
        self.last = ""
        self.answers = False

    def __call__(self, request: Request) -> Reply:
        asked = " ".join(" ".join(request.texts).split())
        if request.wants == "RouteChoice":
            return Fill({"agent": "coder", "why": "scripted"})
        if request.wants == "Draft":
            return Fill({"steps": [{"agent": "coder", "goal": self.found(asked).request}]})
        case = self.found(asked)
        if case is not self.case:
            self.case, self.answers, self.last = case, False, ""
            self.calls = iter([Call(call.tool, **call.arguments) for call in case.solution.calls])
        elif not self.answers:
            self.last = request.last
        if self.does_nothing:
            return Say("All done.")
        following = next(self.calls, None)
        if following is not None:
            return following
        self.answers = True
        return Say(case.solution.answer.replace("{last}", self.last))

    def found(self, asked: str) -> Case:
        return next(case for request, case in self.by_request.items() if request in asked)


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings, keys or trust of the person who runs the tests."""
    for kind in ("CONFIG", "DATA", "CACHE"):
        monkeypatch.setenv(f"ORC_{kind}_DIR", str(tmp_path / kind.lower()))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)


def conditions(**changes: Any) -> Conditions:
    from orchestrator.session import Options, Session

    async def work(root: Path, request: str) -> object:
        return await Session(root, Options(approves=True, model="scripted")).run(f"@coder {request}")

    return Conditions(**{"work": work, "sandbox": detect(), **changes})


def played(cases: list[Case], *, does_nothing: bool = False) -> dict[str, Result]:
    results: list[Result] = []
    with (
        ScriptedModel(Player(cases, does_nothing=does_nothing)) as model,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("OPENAI_BASE_URL", model.base_url)
        patch.setenv("OPENAI_API_KEY", "a-key-for-nobody")
        patch.setattr(tempfile, "tempdir", str(MEMORY) if os.access(MEMORY, os.W_OK) else None)
        asyncio.run(run_suite(cases, conditions(), results.append))
    return {result.case: result for result in results}


# --- the everyday suite


def test_every_solution_passes() -> None:
    results = played(SUITE.cases)
    assert {name: result.why for name, result in results.items()} == dict.fromkeys(IDS, "")


def test_doing_nothing_passes_no_case() -> None:
    results = played(SUITE.cases, does_nothing=True)
    assert [name for name, result in results.items() if result.passed] == []


def test_each_kind_has_at_least_four_cases() -> None:
    kinds = [case.kind for case in SUITE.cases]
    assert len(set(kinds)) == 6
    assert min(kinds.count(kind) for kind in kinds) >= 4


# --- one case


def case(**changes: Any) -> Case:
    given = {
        "id": "one",
        "kind": "file",
        "request": "write a.txt",
        "checks": [{"file": {"path": "a.txt", "equals": "x"}}],
        "solution": {"calls": [{"tool": "write_file", "arguments": {"path": "a.txt", "content": "x"}}]},
    }
    given["solution"]["answer"] = "a.txt is written"  # type: ignore[index]
    return Case.model_validate({**given, **changes})


def ended(work: Any, **changes: Any) -> Result:
    return asyncio.run(run_case(case(**changes), conditions(work=work)))


async def _writes(root: Path, request: str) -> None:
    (root / "a.txt").write_text("x\n", encoding="utf-8")


def test_calls_tokens_and_status_are_counted_from_the_journal() -> None:
    result = played([case()])["one"]
    assert (result.passed, result.status, result.model_calls, result.tool_calls) == (True, "done", 2, 1)
    assert result.input_tokens > result.output_tokens > 0
    assert 0 < result.seconds < 30


def test_a_crash_fails_its_case_and_not_the_suite() -> None:
    async def crashes(root: Path, request: str) -> None:
        if not (root / "fine").exists():
            raise ZeroDivisionError("oh")
        await _writes(root, request)

    results: list[Result] = []
    cases = [case(), case(id="two", files={"fine": ""})]
    asyncio.run(run_suite(cases, conditions(work=crashes), results.append))
    assert [(r.passed, r.status, r.why) for r in results] == [
        (False, "crashed", "ZeroDivisionError: oh"),
        (True, "", ""),
    ]


def test_a_case_that_takes_too_long_is_stopped() -> None:
    async def waits(root: Path, request: str) -> None:
        await asyncio.sleep(30)

    started = time.monotonic()
    result = ended(waits, seconds=0.05)
    assert (result.passed, result.status, result.why) == (
        False,
        "time-out",
        "it took too long and was stopped",
    )
    assert time.monotonic() - started < 5


def test_a_run_that_waits_for_the_model_too_long_keeps_its_measures() -> None:
    with ScriptedModel([Call("list_files"), Stall(20)]) as model, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", model.base_url)
        patch.setenv("OPENAI_API_KEY", "a-key-for-nobody")
        result = asyncio.run(run_case(case(seconds=3), conditions()))
    assert (result.status, result.tool_calls) == ("time-out", 1)
    assert result.model_calls >= 1


def test_an_error_of_the_run_is_the_reason() -> None:
    async def fails(root: Path, request: str) -> None:
        raise OrcError("the model is asleep")

    assert ended(fails).why == "the model is asleep"


def test_only_the_workspaces_of_failed_cases_are_kept() -> None:
    async def nothing(root: Path, request: str) -> None:
        places.append(root)

    async def writes(root: Path, request: str) -> None:
        places.append(root)
        await _writes(root, request)

    places: list[Path] = []
    failed = asyncio.run(run_case(case(), conditions(work=nothing, keeps=True)))
    passed = asyncio.run(run_case(case(), conditions(work=writes, keeps=True)))
    assert failed.workspace == str(places[0])
    assert [place.exists() for place in places] == [True, False]
    assert not passed.workspace
    places[0].rmdir()


def test_files_are_laid_out_with_mode_bytes_and_age() -> None:
    seen: list[Any] = []

    async def looks(root: Path, request: str) -> None:
        status = (root / "bin/tool").stat()
        seen.extend([oct(status.st_mode)[-3:], (root / "raw").read_bytes()])
        seen.append(round((time.time() - status.st_mtime) / 86_400))

    files = {"bin/tool": {"text": "x", "mode": "750", "days_old": 9}, "raw": {"base64": "AP8="}}
    ended(looks, files=files)
    assert seen == ["750", b"\x00\xff", 9]


# --- checks


@pytest.mark.parametrize(
    ("check", "why"),
    [
        ({"file": {"path": "b.txt", "equals": "x"}}, "b.txt is not there"),
        ({"file": {"path": "a.txt", "equals": "y"}}, "a.txt is 'x', not 'y'"),
        ({"file": {"path": "a.txt", "contains": "z"}}, "a.txt does not contain 'z': 'x'"),
        ({"file": {"path": "a.txt", "matches": "^y"}}, "a.txt does not match ^y: 'x'"),
        ({"file": {"path": "a.txt", "lines": 2}}, "a.txt has 1 lines, not 2"),
        ({"file": {"path": "a.txt", "absent": True}}, "a.txt is still there"),
        ({"file": {"path": "a.txt", "unchanged": True}}, "a.txt was changed"),
        ({"files": {"glob": "**/*.txt", "count": 2}}, "1 files are **/*.txt, not 2: 'a.txt'"),
        ({"answer": {"contains": "4"}}, "the answer does not say '4': ''"),
        ({"answer": {"matches": "4"}}, "the answer does not match 4: ''"),
        ({"answer": {"any_of": ["4", "four"]}}, "the answer says none of 4, four: ''"),
        ({"answer_from": "printf '4\\nfour\\n'"}, "the answer says none of '4, four': ''"),
        (
            {"run": {"command": "echo no >&2; exit 4"}},
            "`echo no >&2; exit 4` ended with exit code 4, not 0: 'no'",
        ),
        ({"run": {"command": "cat a.txt", "stdout_contains": "y"}}, "`cat a.txt` does not print 'y': 'x'"),
    ],
)
def test_what_does_not_hold_is_told(check: dict[str, Any], why: str) -> None:
    assert ended(_writes, checks=[check]).why == why


@pytest.mark.parametrize(
    "check",
    [
        {"file": {"path": "a.txt", "equals": "x", "contains": ["x"], "matches": "x$", "lines": 1}},
        {"file": {"path": "b.txt", "absent": True}},
        {"file": {"path": "kept/k.txt", "unchanged": True}},
        {"files": {"glob": "*.txt", "count": 1}},
        {"files": {"glob": "**/*.txt", "count": 2}},
        {"run": {"command": "rm -r kept; cat a.txt; exit 3", "exit": 3, "stdout_contains": "x"}},
    ],
)
def test_what_holds_passes(check: dict[str, Any]) -> None:
    assert ended(_writes, files={"kept/k.txt": "k"}, checks=[check]).why == ""


def test_never_events_fail_a_case_whose_checks_hold() -> None:
    async def spoils(root: Path, request: str) -> None:
        await _writes(root, request)
        (root / "docs/one.md").write_text("!", encoding="utf-8")
        (root / "docs/two.md").unlink(missing_ok=True)

    files = {"docs/one.md": "1", "docs/two.md": "2"}
    assert ended(spoils, files=files).passed
    assert (
        ended(spoils, files=files, never={"file_changed": ["docs/*"]}).why == "never: docs/one.md was changed"
    )
    assert ended(spoils, files=files, never={"file_absent": ["docs/*"]}).why == "never: docs/two.md is gone"


@pytest.mark.parametrize(
    ("answer", "text", "holds"),
    [
        ("There are 4 files.", "4", True),
        ("There are 4.", "4", True),
        ("There are 14 files", "4", False),
        ("It is 4.5 GB", "4", False),
        ("It is 2.4", "4", False),
        ("It holds 16,384 kB", "16384", True),
        ("**Root** is it", "root", True),
        ("rooted", "root", False),
        ("port 22, and 80", "22", True),
        ("two   words", "Two words", True),
        ("kernel 6.1.0-18-amd64", "6.1.0-18", True),
    ],
)
def test_an_answer_says_whole_words_and_numbers(answer: str, text: str, holds: bool) -> None:
    assert says(answer, text) is holds


# --- suite files


def written(folder: Path, *cases: dict[str, Any], **top: Any) -> Path:
    path = folder / "mine.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"description": "Mine.", "cases": [*cases], **top}
    path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return path


def plain(**changes: Any) -> dict[str, Any]:
    return {**case().model_dump(mode="json", exclude_unset=True), **changes}


def test_all_problems_of_a_suite_are_told_with_their_place(tmp_path: Path) -> None:
    bad = plain(checks=[{"file": {"path": "../x", "equals": "x"}}, {"run": {"comand": "true"}}], kinds="file")
    bad["files"] = {"a": {"mode": "999", "text": ""}}
    path = written(tmp_path, bad)
    with pytest.raises(ConfigError) as caught:
        load_suite(path)
    text = str(caught.value)
    for part in (
        "must be a path below the workspace",
        "unknown key; did you mean 'command'?",
        "unknown key; did you mean 'kind'?",
        "must match ^[0-7]{3,4}$",
    ):
        assert part in text
    assert all(
        f"{path}:{problem.line}:{problem.column}: cases.0." in text for problem in caught.value.problems
    )


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"checks": [{}]}, "needs exactly one of file, files"),
        ({"checks": [{"file": {"path": "a"}}]}, "needs one of equals"),
        ({"checks": [{"answer": {}}]}, "needs one of contains"),
        ({"checks": [{"answer": {"matches": "("}}]}, "is no regular expression"),
        ({"files": {"a": {"base64": "?"}}}, "is not base64"),
        ({"files": {"a": {"mode": "644"}}}, "needs either `text` or `base64`"),
        ({"files": {".orc/state.db": ""}}, "must be a path below the workspace"),
        ({"solution": {"calls": [{"tool": "read_fil"}], "answer": ""}}, "did you mean 'read_file'?"),
    ],
)
def test_a_wrong_case_is_refused(tmp_path: Path, changes: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=r"cases\.0") as caught:
        load_suite(written(tmp_path, plain(**changes)))
    assert part in str(caught.value)


def test_an_id_is_used_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cases\.1\.id: 'one' is case 1 already"):
        load_suite(written(tmp_path, plain(), plain()))


def test_a_folders_own_suite_wants_trust_and_then_replaces_the_built_in_one(tmp_path: Path) -> None:
    own = written(tmp_path / "evals", plain()).rename(tmp_path / "evals" / "everyday.yaml")
    with pytest.raises(UsageError, match="is not trusted"):
        find_suite("everyday", tmp_path)
    assert find_suite(str(own), tmp_path) == own
    trust(tmp_path)
    assert find_suite("everyday", tmp_path) == own
    assert suite_files(tmp_path)["everyday"] == own


def test_a_misspelt_suite_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'everyday'"):
        find_suite("everday", tmp_path)


def test_figures_of_nothing_are_zero() -> None:
    assert figures([]).share == 0
    results = [Result("a", "k", True, "", 1.0), Result("b", "k", False, "x", 9.0, is_measured=False)]
    assert (figures(results).share, figures(results).median_seconds) == (0.5, 1.0)


# --- the command


def orc_evals(*words: str) -> Ran:
    result = CliRunner().invoke(evals, list(words))
    if result.exception and not isinstance(result.exception, SystemExit | OrcError):
        raise result.exception
    return result


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A suite of two cases, one of which the model passes."""
    root = tmp_path / "here"
    good = plain(request="@coder write a.txt")
    bad = plain(id="two", kind="other", request="@coder write b.txt")
    path = written(root, good, bad)
    monkeypatch.chdir(root)
    cases = [Case.model_validate({**good, "request": "write a.txt"})]
    wrong = case(request="write b.txt", solution={"calls": [{"tool": "list_files"}], "answer": "no"})
    with ScriptedModel(Player([*cases, wrong])) as model:
        monkeypatch.setenv("OPENAI_API_KEY", "a-key-for-nobody")
        settings = {"models": {"default": {"model": "scripted", "base_url": model.base_url}}}
        (root / "orchestrator.yaml").write_text(json.dumps(settings), encoding="utf-8")
        yield str(path)


def test_the_workspaces_own_model_is_measured_and_the_share_decides(suite: str) -> None:
    result = orc_evals("run", suite, "--at-least", "0.6")
    assert result.exit_code == 1
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[:3] for row in rows] == [["one", "file", "yes"], ["two", "other", "no"]]
    assert "passed 1 of 2 (50%)" in result.stderr
    assert "scripted, sandbox" in result.stderr
    assert "50.0% is less than --at-least 60.0%" in result.stderr
    assert os.environ["ORC_CONFIG_DIR"].endswith("config")


def test_the_workspaces_own_agents_work_on_the_cases(suite: str, tmp_path: Path) -> None:
    (tmp_path / "here" / "agents").mkdir()
    (tmp_path / "here" / "agents" / "coder.md").write_text(
        "---\ndescription: Only looks.\ntools: [read_file, finish]\n---\nYou look.\n", encoding="utf-8"
    )
    trust(tmp_path / "here")
    assert "passed 0 of 1" in orc_evals("run", suite, "--case", "one").stderr


def test_json_has_every_result_and_the_conditions(suite: str) -> None:
    result = orc_evals("run", suite, "--json", "--case", "one", "--at-least", "1")
    assert result.exit_code == 0
    whole = json.loads(result.stdout)
    assert (whole["model"], whole["sandbox"], whole["asked"]) == ("scripted", detect().name, 1)
    assert whole["summary"]["share"] == 1
    assert whole["cases"][0]["tool_calls"] == 1


def test_a_case_or_kind_that_is_not_there_is_a_usage_error(suite: str) -> None:
    with pytest.raises(UsageError, match="there is no case 'on'; did you mean 'one'"):
        raise orc_evals("run", suite, "--case", "on").exception  # type: ignore[misc]
    with pytest.raises(UsageError, match="there is no kind 'x'; there are: file, other"):
        raise orc_evals("run", suite, "--kind", "x").exception  # type: ignore[misc]


def test_nothing_is_measured_when_the_endpoint_refuses_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scripted import Status

    path = written(tmp_path, plain(request="@coder write a.txt"))
    with ScriptedModel(lambda _: Status(401)) as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "a-wrong-key")
        result = orc_evals("run", str(path), "--model", "scripted")
    assert result.exit_code == 3
    assert "nothing was measured" in result.stderr


def test_ctrl_c_prints_what_was_measured_and_exits_130(suite: str) -> None:
    orc = subprocess.Popen(
        [sys.executable, "-c", "from orchestrator.cli import main; main()", "evals", "run", suite, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert orc.stderr is not None
    for line in orc.stderr:
        if line.startswith("[1/2]"):
            break
    orc.send_signal(signal.SIGINT)
    out, _ = orc.communicate(timeout=20)
    assert orc.returncode == 130
    assert [item["case"] for item in json.loads(out)["cases"]] == ["one"]


def test_list_and_check_show_the_built_in_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = json.loads(orc_evals("list", "--json").stdout)
    assert [(row["name"], row["cases"]) for row in listed] == [("everyday", len(IDS))]
    assert f"1 suites with {len(IDS)} cases, no problems" in orc_evals("check").stdout
    wrong = orc_evals("check", str(written(tmp_path, plain(kind="No Kind"))))
    assert "cases.0.kind" in str(wrong.exception)
